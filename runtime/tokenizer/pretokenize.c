/* Pre-tokenizers: the patterns of the original tokenizers, matched by PCRE2. */
#include "runtime/tokenizer/pretokenize.h"

#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "runtime/status.h"
#include "runtime/tokenizer/internal.h"
#include "runtime/tokenizer/utf8.h"

/* Unicode's White_Space, spelled out: \s of PCRE2 has U+180E as well, the original tokenizers have not. */
#define SPACE                                                                                                \
    "\\x{9}-\\x{d} \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

#define GPT2_WORDS "'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+"
#define GPT2_OTHERS " ?[^" SPACE "\\p{L}\\p{N}]+"
#define LLAMA3(DIGITS)                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" DIGITS "|" GPT2_OTHERS "[\\r\\n]*|"        \
    "[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"

static const struct definition {
    const char *name, *pattern;
    bool takes_whole, wants_bos;
} definitions[] = {
    /* Digits stand alone, and what is between them is cut as by gpt-2: there a text ends before a digit. */
    {"smollm", "\\p{N}|" GPT2_WORDS "|" GPT2_OTHERS "|[" SPACE "]+(?![^" SPACE "\\p{N}])|[" SPACE "]+", false,
     false},
    {"gpt-2", GPT2_WORDS "| ?\\p{N}+|" GPT2_OTHERS "|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+", false,
     false},
    {"qwen2", LLAMA3("\\p{N}"), false, false},
    {"deepseek-r1-qwen", LLAMA3("\\p{N}"), false, false},
    {"llama-bpe", LLAMA3("\\p{N}{1,3}"), true, true},
    {"llama3", LLAMA3("\\p{N}{1,3}"), true, true},
    {"llama-v3", LLAMA3("\\p{N}{1,3}"), true, true},
    {"falcon3", LLAMA3("\\p{N}{1,3}"), true, true},
};

struct rs_pretokenizer {
    const struct definition *definition;
    pcre2_code *code;
    pcre2_match_context *limits;
};

struct rs_pretokens {
    const rs_pretokenizer *pre;
    pcre2_match_data *match;
    const char *at, *end; /* what is left of the text */
    const char *run_end;  /* at <= run_end <= end: UTF-8 up to there */
};

rs_status rs_pretokenizer_open(rs_string name, rs_pretokenizer **pre, rs_error *error) {
    const struct definition *definition = NULL;
    for (size_t i = 0; i < sizeof definitions / sizeof definitions[0]; i++)
        if (rs_string_is(name, definitions[i].name)) definition = &definitions[i];
    char text[RS_SHOWN_BYTES];
    if (definition == NULL)
        return rs_fail(error, RS_UNSUPPORTED,
                       "pre-tokenizer '%s' is not known, only smollm, gpt-2, qwen2, deepseek-r1-qwen, "
                       "llama-bpe, llama3, llama-v3 and falcon3 are",
                       rs_shown(name, text));

    *pre = calloc(1, sizeof **pre);
    if (*pre == NULL) return rs_fail(error, RS_NO_MEMORY, "no memory for the pre-tokenizer");
    (*pre)->definition = definition;
    int code;
    PCRE2_SIZE where;
    (*pre)->code = pcre2_compile((PCRE2_SPTR)definition->pattern, PCRE2_ZERO_TERMINATED,
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &where, NULL);
    (*pre)->limits = pcre2_match_context_create(NULL);
    if ((*pre)->code == NULL || (*pre)->limits == NULL) {
        const bool refused = (*pre)->code == NULL && code != PCRE2_ERROR_HEAP_FAILED;
        rs_pretokenizer_close(*pre);
        *pre = NULL;
        if (refused) /* a PCRE2 without Unicode, say */
            return rs_fail(error, RS_UNSUPPORTED, "PCRE2 refuses the pattern of %s (error %d)",
                           definition->name, code);
        return rs_fail(error, RS_NO_MEMORY, "no memory to compile the pattern of %s", definition->name);
    }
    /* A pattern goes back over a run of spaces once or twice and over nothing else: matching is linear in the
     * text, and PCRE2's own limit would only refuse runs that are merely long. */
    pcre2_set_match_limit((*pre)->limits, UINT32_MAX);
    /* Where there is no JIT, matching is slower, and that is all. */
    pcre2_jit_compile((*pre)->code, PCRE2_JIT_COMPLETE);
    return RS_OK;
}

void rs_pretokenizer_close(rs_pretokenizer *pre) {
    if (pre == NULL) return;
    pcre2_code_free(pre->code);
    pcre2_match_context_free(pre->limits);
    free(pre);
}

bool rs_pretokenizer_takes_whole(const rs_pretokenizer *pre) {
    return pre->definition->takes_whole;
}

bool rs_pretokenizer_wants_bos(const rs_pretokenizer *pre) {
    return pre->definition->wants_bos;
}

rs_status rs_pretokens_open(const rs_pretokenizer *pre, rs_pretokens **walk, rs_error *error) {
    *walk = calloc(1, sizeof **walk);
    if (*walk != NULL) (*walk)->match = pcre2_match_data_create(1, NULL);
    if (*walk == NULL || (*walk)->match == NULL) {
        free(*walk);
        *walk = NULL;
        return rs_fail(error, RS_NO_MEMORY, "no memory to match patterns");
    }
    (*walk)->pre = pre;
    return RS_OK;
}

void rs_pretokens_close(rs_pretokens *walk) {
    if (walk == NULL) return;
    pcre2_match_data_free(walk->match);
    free(walk);
}

void rs_pretokens_start(rs_pretokens *walk, const char *text, size_t bytes) {
    walk->at = walk->run_end = text;
    walk->end = text + bytes;
}

/* PCRE2 sees one run of valid UTF-8 at a time; checking the text once, here, keeps matching linear. */
static void find_run(rs_pretokens *walk) {
    size_t n;
    while ((n = rs_utf8_character(walk->run_end, (size_t)(walk->end - walk->run_end))) > 0)
        walk->run_end += n;
}

rs_status rs_pretokens_next(rs_pretokens *walk, rs_string *piece, rs_error *error) {
    if (walk->at == walk->run_end) find_run(walk);
    *piece = (rs_string){walk->at, walk->at < walk->end ? 1 : 0};
    if (walk->at == walk->run_end) { /* at the end, or at a byte that is not UTF-8 */
        walk->at += piece->bytes;
        walk->run_end = walk->at;
        return RS_OK;
    }
    const PCRE2_SIZE left = (PCRE2_SIZE)(walk->run_end - walk->at);
    const int matched = pcre2_match(walk->pre->code, (PCRE2_SPTR)walk->at, left, 0, PCRE2_NO_UTF_CHECK,
                                    walk->match, walk->pre->limits);
    if (matched < 0 && matched != PCRE2_ERROR_NOMATCH)
        return rs_fail(error, RS_NO_MEMORY, "no memory to match patterns (PCRE2 error %d)", matched);
    /* Every character has a pattern that matches it; still, a piece is never empty. */
    piece->bytes = matched > 0 ? pcre2_get_ovector_pointer(walk->match)[1] : 0;
    if (piece->bytes == 0) piece->bytes = rs_utf8_character(walk->at, left);
    walk->at += piece->bytes;
    return RS_OK;
}
