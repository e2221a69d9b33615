/* The tokenizer on small vocabularies built in memory: what it encodes, what it gives back, what it refuses.
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/tokenizer/internal.h"
#include "tests/support/gguf_builder.h"

/* ------------------------------------------------------------------------------------- vocabularies -- */

enum { MAX_WORDS = 2048, BIG = 1 << 20 };

/* A vocabulary on its way into a file. Fields that a test sets to something odd end up in the file as they
 * are. */
typedef struct words {
    const char *model, *pre; /* NULL: no key */
    char pool[MAX_WORDS * 24];
    size_t pool_used;
    rs_string tokens[MAX_WORDS], merges[MAX_WORDS];
    int32_t kinds[MAX_WORDS];
    float scores[MAX_WORDS];
    size_t n, n_kinds, n_scores, n_merges;
    uint64_t n_rows;
    int64_t bos, eos, eot, eom; /* -1: no key */
    int add_bos, add_prefix;    /* -1: no key */
} words;

static rs_string keep(words *w, const char *data, size_t bytes) {
    assert_true(bytes <= sizeof w->pool - w->pool_used);
    char *copy = w->pool + w->pool_used;
    memcpy(copy, data, bytes);
    w->pool_used += bytes;
    return (rs_string){copy, bytes};
}

static int32_t add_word(words *w, const char *text, size_t bytes, rs_token_kind kind, float score) {
    assert_true(w->n < MAX_WORDS);
    w->tokens[w->n] = keep(w, text, bytes);
    w->kinds[w->n] = (int32_t)kind;
    w->scores[w->n] = score;
    w->n_kinds = w->n_scores = w->n + 1;
    w->n_rows = w->n + 1;
    return (int32_t)w->n++;
}

static int32_t add(words *w, const char *text, rs_token_kind kind, float score) {
    return add_word(w, text, strlen(text), kind, score);
}

/* "h e": adds the merge and, unless it is there, the token it makes. */
static int32_t add_merge(words *w, const char *merge) {
    char both[64];
    const char *space = strchr(merge, ' ');
    (void)snprintf(both, sizeof both, "%.*s%s", (int)(space - merge), merge, space + 1);
    w->merges[w->n_merges++] = keep(w, merge, strlen(merge));
    for (size_t i = 0; i < w->n; i++)
        if (rs_string_is(w->tokens[i], both)) return (int32_t)i;
    return add(w, both, RS_TOKEN_NORMAL, 0);
}

/* How byte-level BPE spells a byte, by the rule of GPT-2: printable Latin-1 stays, the rest is numbered from
 * 256. */
static size_t spell(unsigned byte, char text[2]) {
    unsigned character = byte, others = 0;
    for (unsigned b = 0; b <= byte; b++) {
        const bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        if (!printable) character = b == byte ? 256 + others : character;
        others += !printable;
    }
    if (character < 0x80) {
        text[0] = (char)character;
        return 1;
    }
    text[0] = (char)(0xc0 | character >> 6);
    text[1] = (char)(0x80 | (character & 0x3f));
    return 2;
}

static void init_words(words *w, const char *model, const char *pre) {
    memset(w, 0, sizeof *w);
    w->model = model;
    w->pre = pre;
    w->bos = w->eos = w->eot = w->eom = -1;
    w->add_bos = w->add_prefix = -1;
}

/* Token b is byte b. Spaces are spelled with "\u0120", U+0120. */
static void init_bpe(words *w, const char *pre) {
    init_words(w, "gpt2", pre);
    for (unsigned b = 0; b < 256; b++) {
        char text[2];
        const size_t bytes = spell(b, text);
        add_word(w, text, bytes, RS_TOKEN_NORMAL, 0);
    }
}

enum {
    BPE_HE = 256,
    BPE_LL,
    BPE_HELL,
    BPE_HELLO,
    BPE_SPACE_T,
    BPE_SPACE_THE,
    BPE_AA,
    BPE_AAAA,
    BPE_SPACES,
    BPE_BOS,
    BPE_END,
    BPE_ENDS,
    BPE_USER,
    BPE_LAST
};

static void init_small_bpe(words *w, const char *pre) {
    init_bpe(w, pre);
    assert_int_equal(add_merge(w, "h e"), BPE_HE);
    assert_int_equal(add_merge(w, "l l"), BPE_LL);
    assert_int_equal(add_merge(w, "he ll"), BPE_HELL);
    assert_int_equal(add_merge(w, "hell o"), BPE_HELLO);
    assert_int_equal(add_merge(w, "\u0120 t"), BPE_SPACE_T);
    assert_int_equal(add_merge(w, "\u0120t he"), BPE_SPACE_THE);
    assert_int_equal(add_merge(w, "a a"), BPE_AA);
    assert_int_equal(add_merge(w, "aa aa"), BPE_AAAA);
    assert_int_equal(add_merge(w, "\u0120 \u0120"), BPE_SPACES);
    assert_int_equal(add(w, "<|im_start|>", RS_TOKEN_CONTROL, 0), BPE_BOS);
    assert_int_equal(add(w, "<|im_end|>", RS_TOKEN_NORMAL, 0),
                     BPE_END); /* a marker, whatever the file says */
    assert_int_equal(add(w, "<|im_end|>!", RS_TOKEN_CONTROL, 0), BPE_ENDS);
    assert_int_equal(add(w, "<tool x>", RS_TOKEN_USER_DEFINED, 0), BPE_USER);
    w->bos = BPE_BOS;
    w->eos = BPE_END;
}

enum {
    SPM_UNK = 0,
    SPM_BOS,
    SPM_EOS,
    SPM_BYTES,
    SPM_SPACE = SPM_BYTES + 256,
    SPM_A,
    SPM_B,
    SPM_AB,
    SPM_SPACE_A,
    SPM_BA,
    SPM_EE,
    SPM_E,
    SPM_LINES,
    SPM_SPACES,
    SPM_TURN,
    SPM_AAB,
    SPM_LAST
};

static void init_small_spm(words *w) {
    init_words(w, "llama", "default");
    add(w, "<unk>", RS_TOKEN_UNKNOWN, 0);
    add(w, "<s>", RS_TOKEN_CONTROL, 0);
    add(w, "</s>", RS_TOKEN_CONTROL, 0);
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        (void)snprintf(text, sizeof text, "<0x%02X>", b);
        add(w, text, RS_TOKEN_BYTE, 0);
    }
    assert_int_equal(add(w, "\u2581", RS_TOKEN_NORMAL, -100), SPM_SPACE);
    assert_int_equal(add(w, "a", RS_TOKEN_NORMAL, -100), SPM_A);
    assert_int_equal(add(w, "b", RS_TOKEN_NORMAL, -100), SPM_B);
    assert_int_equal(add(w, "ab", RS_TOKEN_NORMAL, -2), SPM_AB);
    assert_int_equal(add(w, "\u2581a", RS_TOKEN_NORMAL, -1), SPM_SPACE_A);
    assert_int_equal(add(w, "ba", RS_TOKEN_NORMAL, -2), SPM_BA);
    assert_int_equal(add(w, "\u00e9\u00e9", RS_TOKEN_NORMAL, -3), SPM_EE);
    assert_int_equal(add(w, "e", RS_TOKEN_NORMAL, -100), SPM_E);
    assert_int_equal(add(w, "\n\n", RS_TOKEN_USER_DEFINED, -1000), SPM_LINES);
    assert_int_equal(add(w, "  ", RS_TOKEN_USER_DEFINED, -1000), SPM_SPACES);
    assert_int_equal(add(w, "<start_of_turn>", RS_TOKEN_CONTROL, 0), SPM_TURN);
    assert_int_equal(add(w, "aab", RS_TOKEN_NORMAL, -4), SPM_AAB);
    w->bos = SPM_BOS;
    w->eos = SPM_EOS;
    w->add_prefix = 0;
}

static void add_id(gguf_builder *builder, const char *key, int64_t id) {
    if (id >= 0) gguf_add_u32(builder, key, (uint32_t)id);
}

static gguf_builder *file_of(const words *w) {
    gguf_builder *builder = gguf_builder_new();
    if (w->model != NULL) gguf_add_string(builder, "tokenizer.ggml.model", w->model);
    if (w->pre != NULL) gguf_add_string(builder, "tokenizer.ggml.pre", w->pre);
    gguf_add_strings(builder, "tokenizer.ggml.tokens", w->tokens, w->n);
    gguf_add_i32s(builder, "tokenizer.ggml.token_type", w->kinds, w->n_kinds);
    gguf_add_f32s(builder, "tokenizer.ggml.scores", w->scores, w->n_scores);
    gguf_add_strings(builder, "tokenizer.ggml.merges", w->merges, w->n_merges);
    add_id(builder, "tokenizer.ggml.bos_token_id", w->bos);
    add_id(builder, "tokenizer.ggml.eos_token_id", w->eos);
    add_id(builder, "tokenizer.ggml.eot_token_id", w->eot);
    add_id(builder, "tokenizer.ggml.eom_token_id", w->eom);
    if (w->add_bos >= 0) gguf_add_bool(builder, "tokenizer.ggml.add_bos_token", w->add_bos != 0);
    if (w->add_prefix >= 0) gguf_add_bool(builder, "tokenizer.ggml.add_space_prefix", w->add_prefix != 0);
    return builder;
}

static rs_status open_file(gguf_builder *builder, uint64_t n_rows, rs_tokenizer **tokenizer,
                           rs_error *error) {
    size_t bytes;
    rs_gguf *gguf;
    const void *data = gguf_build(builder, &bytes);
    assert_int_equal(rs_gguf_open(data, bytes, &gguf, error), RS_OK);
    const rs_status status = rs_tokenizer_open(gguf, n_rows, tokenizer, error);
    rs_gguf_close(gguf);
    gguf_builder_free(builder); /* an open tokenizer needs nothing of the file */
    return status;
}

static rs_tokenizer *open_words(const words *w) {
    rs_tokenizer *tokenizer;
    rs_error error;
    if (open_file(file_of(w), w->n_rows, &tokenizer, &error) != RS_OK) fail_msg("%s", error.message);
    return tokenizer;
}

static rs_tokenizer *open_small_bpe(const char *pre) {
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    init_small_bpe(w, pre);
    rs_tokenizer *tokenizer = open_words(w);
    free(w);
    return tokenizer;
}

static rs_tokenizer *open_small_spm(void) {
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    init_small_spm(w);
    rs_tokenizer *tokenizer = open_words(w);
    free(w);
    return tokenizer;
}

/* ------------------------------------------------------------------------------------------- checks -- */

/* Encodes and expects these tokens, and the text back. */
static void check_bytes(const rs_tokenizer *t, const char *text, size_t bytes, uint32_t flags,
                        const int32_t *expected, size_t n) {
    int32_t tokens[256];
    char back[512];
    size_t count, back_bytes;
    rs_error error;
    if (rs_tokenizer_encode(t, text, bytes, flags, tokens, 256, &count, &error) != RS_OK)
        fail_msg("'%s': %s", text, error.message);
    if (count != n || memcmp(tokens, expected, n * sizeof *tokens) != 0) {
        char got[512] = "";
        for (size_t i = 0; i < count && strlen(got) < 500; i++)
            (void)snprintf(got + strlen(got), sizeof got - strlen(got), " %d", tokens[i]);
        fail_msg("'%s' became%s", text, got);
    }
    assert_int_equal(rs_tokenizer_decode(t, tokens, count, true, back, sizeof back, &back_bytes, &error),
                     RS_OK);
    if ((flags & RS_TOKENIZE_BOS) != 0) return;
    assert_int_equal(back_bytes, bytes);
    assert_memory_equal(back, text, bytes);
}

#define CHECK(t, text, flags, ...)                                                                           \
    check_bytes(t, text, sizeof text - 1, flags, (const int32_t[]){__VA_ARGS__},                             \
                sizeof(const int32_t[]){__VA_ARGS__} / sizeof(int32_t))

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

/* Encodes text of any size and expects it back. */
static void check_round_trip(const rs_tokenizer *t, const char *text, size_t bytes, uint32_t flags) {
    size_t count, again, back_bytes;
    rs_error error;
    int32_t *tokens = malloc((bytes + 1) * sizeof *tokens);
    char *back = malloc(bytes + 1);
    assert_non_null(tokens);
    assert_non_null(back);
    if (rs_tokenizer_encode(t, text, bytes, flags, tokens, bytes + 1, &count, &error) != RS_OK)
        fail_msg("%s", error.message);
    assert_int_equal(rs_tokenizer_encode(t, text, bytes, flags, NULL, 0, &again, &error), RS_OK);
    assert_int_equal(count, again);
    assert_int_equal(rs_tokenizer_decode(t, tokens, count, true, back, bytes, &back_bytes, &error), RS_OK);
    assert_int_equal(back_bytes, bytes);
    assert_memory_equal(back, text, bytes);
    free(tokens);
    free(back);
}

/* -------------------------------------------------------------------------------------------- tests -- */

static void bpe_merges_by_rank(void **state) {
    (void)state;
    rs_tokenizer *t = open_small_bpe("gpt-2");
    CHECK(t, "hello", 0, BPE_HELLO);
    CHECK(t, "hell", 0, BPE_HELL);
    CHECK(t, "hel", 0, BPE_HE, 'l');
    CHECK(t, "lll", 0, BPE_LL, 'l');
    CHECK(t, "aaaaaaa", 0, BPE_AAAA, BPE_AA, 'a');
    CHECK(t, "hello the", 0, BPE_HELLO, BPE_SPACE_THE);
    CHECK(t, "hello   the", 0, BPE_HELLO, BPE_SPACES, BPE_SPACE_THE);
    CHECK(t, "l1l", 0, 'l', '1', 'l');
    CHECK(t, "\xc3\xa9\xff\0\x80", 0, 0xc3, 0xa9, 0xff, 0, 0x80);
    check_bytes(t, "", 0, 0, (const int32_t[]){0}, 0);
    rs_tokenizer_close(t);
}

static void pre_tokenizers_differ(void **state) {
    (void)state;
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    init_bpe(w, "gpt-2");
    const int32_t twelve = add_merge(w, "1 2"), pair = add_merge(w, "\u0120 1"), three = add_merge(w, "12 3");
    const int32_t word = add(w, "xyz", RS_TOKEN_NORMAL, 0); /* no merge leads there */
    const int32_t quote = add_merge(w, "' S");
    rs_tokenizer *t = open_words(w);
    CHECK(t, " 1", 0, pair);
    CHECK(t, "123", 0, three);
    CHECK(t, "xyz", 0, 'x', 'y', 'z');
    CHECK(t, "x'S", 0, 'x', '\'', 'S');
    rs_tokenizer_close(t);

    w->pre = "smollm";
    t = open_words(w);
    CHECK(t, " 1", 0, ' ', '1');
    CHECK(t, "123", 0, '1', '2', '3');
    rs_tokenizer_close(t);

    static const char *const qwen2[] = {"qwen2", "deepseek-r1-qwen"};
    for (size_t i = 0; i < sizeof qwen2 / sizeof qwen2[0]; i++) {
        w->pre = qwen2[i];
        t = open_words(w);
        CHECK(t, "123", 0, '1', '2', '3');
        CHECK(t, "xyz", 0, 'x', 'y', 'z');
        CHECK(t, "x'S", 0, 'x', quote);
        rs_tokenizer_close(t);
    }

    static const char *const llama3[] = {"llama-bpe", "llama3", "llama-v3", "falcon3"};
    for (size_t i = 0; i < sizeof llama3 / sizeof llama3[0]; i++) {
        w->pre = llama3[i];
        t = open_words(w);
        CHECK(t, " 1", 0, ' ', '1');
        CHECK(t, "12312", 0, three, twelve);
        CHECK(t, "xyz", 0, word);
        rs_tokenizer_close(t);
    }
    free(w);
}

static void pieces_in_no_spelling(void **state) {
    (void)state;
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    init_small_bpe(w, "llama-bpe");
    static const char *const pieces[] = {"\u0430", "\u0144", "a b", "\u00ad", "\xc3", "\xe2\x96\x81"};
    const int32_t first = (int32_t)w->n;
    for (size_t i = 0; i < 6; i++) add(w, pieces[i], RS_TOKEN_NORMAL, 0);
    rs_tokenizer *t = open_words(w);
    for (size_t i = 0; i < 6; i++) { /* they stand for themselves, and no text becomes one */
        char text[8];
        size_t bytes;
        int32_t tokens[8];
        assert_int_equal(
            rs_tokenizer_decode(t, &(int32_t){first + (int32_t)i}, 1, false, text, 8, &bytes, NULL), RS_OK);
        assert_int_equal(bytes, strlen(pieces[i]));
        assert_memory_equal(text, pieces[i], bytes);
        assert_int_equal(rs_tokenizer_encode(t, pieces[i], bytes, 0, tokens, 8, &bytes, NULL), RS_OK);
        for (size_t k = 0; k < bytes; k++) assert_true(tokens[k] < first);
    }
    rs_tokenizer_close(t);
    free(w);
}

/* A merge may go by way of a token that is user-defined; the text of that token still comes first. */
static void user_defined_in_merges(void **state) {
    (void)state;
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    init_small_bpe(w, "gpt-2");
    w->kinds[BPE_HE] = RS_TOKEN_USER_DEFINED;
    rs_tokenizer *t = open_words(w);
    CHECK(t, "hell the", 0, BPE_HE, BPE_LL, BPE_SPACE_T, BPE_HE);
    rs_tokenizer_close(t);
    free(w);
}

static void special_tokens_only_on_request(void **state) {
    (void)state;
    rs_tokenizer *t = open_small_bpe("qwen2");
    CHECK(t, "a<|im_end|>", 0, 'a', '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|', '>');
    CHECK(t, "a<|im_end|>", RS_TOKENIZE_SPECIAL, 'a', BPE_END);
    CHECK(t, "<|im_end|>!", RS_TOKENIZE_SPECIAL, BPE_ENDS); /* the longest */
    CHECK(t, "<|im_end|<|im_end|>?", RS_TOKENIZE_SPECIAL, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|',
          BPE_END, '?');
    CHECK(t, "<tool x>a", 0, BPE_USER, 'a'); /* user-defined: part of plain text */
    CHECK(t, "<tool x", 0, '<', 't', 'o', 'o', 'l', ' ', 'x');

    assert_int_equal(rs_tokenizer_special(t, "<|im_end|>"), BPE_END);
    assert_int_equal(rs_tokenizer_special(t, "<tool x>"), BPE_USER);
    assert_int_equal(rs_tokenizer_special(t, "<|im_end|"), -1);
    assert_int_equal(rs_tokenizer_special(t, "<|im_end|>!!"), -1);
    assert_int_equal(rs_tokenizer_special(t, "hello"), -1);
    assert_int_equal(rs_tokenizer_special(t, ""), -1);

    /* Decoding gives control tokens on request only, user-defined ones always. */
    const int32_t tokens[] = {BPE_BOS, BPE_HE, BPE_USER, BPE_END};
    char text[64];
    size_t bytes;
    assert_int_equal(rs_tokenizer_decode(t, tokens, 4, false, text, sizeof text, &bytes, NULL), RS_OK);
    assert_int_equal(bytes, 10);
    assert_memory_equal(text, "he<tool x>", 10);
    assert_int_equal(rs_tokenizer_decode(t, tokens, 4, true, text, sizeof text, &bytes, NULL), RS_OK);
    assert_int_equal(bytes, 32);
    assert_memory_equal(text, "<|im_start|>he<tool x><|im_end|>", 32);
    rs_tokenizer_close(t);
}

static void spm_merges_by_score(void **state) {
    (void)state;
    rs_tokenizer *t = open_small_spm();
    CHECK(t, "ab", 0, SPM_AB);
    CHECK(t, " ab", 0, SPM_SPACE_A, SPM_B); /* the higher score first */
    CHECK(t, "aba", 0, SPM_AB, SPM_A);      /* the leftmost of equal scores */
    CHECK(t, "bab", 0, SPM_BA, SPM_B);
    CHECK(t, "aab", 0, SPM_AAB);
    CHECK(t, "\u00e9\u00e9", 0, SPM_EE); /* of characters that are no tokens themselves */
    CHECK(t, "\u00e9", 0, SPM_BYTES + 0xc3, SPM_BYTES + 0xa9);
    CHECK(t, "z\xff\0", 0, SPM_BYTES + 'z', SPM_BYTES + 0xff, SPM_BYTES);
    CHECK(t,
          "\xff"
          "ab",
          0, SPM_BYTES + 0xff, SPM_AB);
    CHECK(t, "\n\n\na", 0, SPM_LINES, SPM_BYTES + '\n', SPM_A);
    CHECK(t, "   a", 0, SPM_SPACES, SPM_SPACE_A); /* user-defined before all merges */
    /* The text of a byte token, a control token or a space's own spelling is not that token. */
    CHECK(t, "\u2581", 0, SPM_BYTES + 0xe2, SPM_BYTES + 0x96, SPM_BYTES + 0x81);
    CHECK(t, "<0x", 0, SPM_BYTES + '<', SPM_BYTES + '0', SPM_BYTES + 'x');
    CHECK(t, "<s>", 0, SPM_BYTES + '<', SPM_BYTES + 's', SPM_BYTES + '>');
    CHECK(t, "<s>", RS_TOKENIZE_SPECIAL, SPM_BOS);
    CHECK(t, "<unk>", RS_TOKENIZE_SPECIAL, SPM_UNK);
    rs_tokenizer_close(t);
}

static void spm_space_prefix(void **state) {
    (void)state;
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    init_small_spm(w);
    const int32_t expected[] = {SPM_SPACE_A, SPM_B, SPM_EOS,   SPM_SPACE_A, SPM_LINES,
                                SPM_SPACE_A, SPM_B, SPM_LINES, SPM_SPACE,   SPM_SPACE};
    const char text[] = "ab</s>a\n\nab\n\n ";
    for (int key = -1; key <= 1; key += 2) { /* missing means true */
        w->add_prefix = key;
        rs_tokenizer *t = open_words(w);
        int32_t tokens[16];
        size_t count;
        assert_int_equal(
            rs_tokenizer_encode(t, text, strlen(text), RS_TOKENIZE_SPECIAL, tokens, 16, &count, NULL), RS_OK);
        assert_int_equal(count, 10);
        assert_memory_equal(tokens, expected, sizeof expected);
        assert_int_equal(rs_tokenizer_encode(t, "", 0, 0, tokens, 16, &count, NULL), RS_OK);
        assert_int_equal(count, 0);
        CHECK(t, "ab", RS_TOKENIZE_CONTINUES, SPM_AB);
        /* The space after a special token is still put there. */
        assert_int_equal(rs_tokenizer_encode(t, "ab</s>ab", 8, RS_TOKENIZE_SPECIAL | RS_TOKENIZE_CONTINUES,
                                             tokens, 16, &count, NULL),
                         RS_OK);
        const int32_t continued[] = {SPM_AB, SPM_EOS, SPM_SPACE_A, SPM_B};
        assert_int_equal(count, 4);
        assert_memory_equal(tokens, continued, sizeof continued);
        rs_tokenizer_close(t);
    }
    free(w);
}

/* Unknown tokens are markup, as control tokens are. */
static void unknown_tokens_only_on_request(void **state) {
    (void)state;
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    init_small_spm(w);
    w->kinds[SPM_AB] = RS_TOKEN_UNKNOWN;
    rs_tokenizer *t = open_words(w);
    CHECK(t, "ab", 0, SPM_A, SPM_B);
    CHECK(t, "ab", RS_TOKENIZE_SPECIAL, SPM_AB);
    rs_tokenizer_close(t);
    free(w);
}

static void byte_without_a_token(void **state) {
    (void)state;
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    rs_error error;
    size_t count = 77;
    init_small_spm(w);
    w->kinds[SPM_BYTES + 0xff] = RS_TOKEN_UNUSED;
    rs_tokenizer *t = open_words(w);
    assert_int_equal(rs_tokenizer_encode(t, "ab\xff", 3, 0, NULL, 0, &count, &error), RS_UNSUPPORTED);
    assert_non_null(strstr(error.message, "0xFF"));
    assert_int_equal(count, 77);
    CHECK(t, "ab\xfe", 0, SPM_AB, SPM_BYTES + 0xfe);
    rs_tokenizer_close(t);

    init_small_bpe(w, "gpt-2");
    w->kinds['z'] = RS_TOKEN_CONTROL;
    t = open_words(w);
    assert_int_equal(rs_tokenizer_encode(t, "hello z", 7, 0, NULL, 0, &count, &error), RS_UNSUPPORTED);
    assert_non_null(strstr(error.message, "0x7A"));
    CHECK(t, "hello", 0, BPE_HELLO);
    rs_tokenizer_close(t);
    free(w);
}

static void bos_when_the_file_asks(void **state) {
    (void)state;
    static const struct {
        const char *model, *pre;
        int add_bos;
        bool wants;
    } cases[] = {
        {"gpt2", "gpt-2", -1, false},  {"gpt2", "gpt-2", 0, false},     {"gpt2", "gpt-2", 1, true},
        {"gpt2", "qwen2", -1, false},  {"gpt2", "llama-bpe", -1, true}, {"gpt2", "llama-bpe", 0, false},
        {"gpt2", "falcon3", -1, true}, {"llama", NULL, -1, true},       {"llama", NULL, 0, false},
        {"llama", NULL, 1, true},
    };
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (cases[i].pre == NULL) init_small_spm(w);
        else init_small_bpe(w, cases[i].pre);
        w->add_bos = cases[i].add_bos;
        rs_tokenizer *t = open_words(w);
        const int32_t first = cases[i].pre == NULL ? SPM_BYTES + '!' : '!';
        assert_int_equal(rs_tokenizer_wants_bos(t), cases[i].wants);
        CHECK(t, "!", 0, first);
        if (cases[i].wants) {
            CHECK(t, "!", RS_TOKENIZE_BOS, (int32_t)w->bos, first);
        } else {
            CHECK(t, "!", RS_TOKENIZE_BOS, first);
        }
        rs_tokenizer_close(t);
    }
    w->bos = -1; /* nothing to begin with */
    rs_tokenizer *t = open_words(w);
    assert_int_equal(rs_tokenizer_bos(t), -1);
    assert_false(rs_tokenizer_wants_bos(t));
    rs_tokenizer_close(t);
    free(w);
}

static void ends_of_generation(void **state) {
    (void)state;
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    init_small_bpe(w, "qwen2");
    w->eos = BPE_HE;
    w->eot = BPE_LL;
    w->eom = BPE_AA;
    const int32_t message = add(w, "<|eom_id|>", RS_TOKEN_NORMAL, 0);
    const int32_t turn = add(w, "<end_of_turn>", RS_TOKEN_CONTROL, 0);
    const int32_t header = add(w, "<|start_header_id|>", RS_TOKEN_CONTROL, 0);
    rs_tokenizer *t = open_words(w);
    assert_int_equal(rs_tokenizer_size(t), w->n);
    assert_int_equal(rs_tokenizer_eos(t), BPE_HE);
    assert_int_equal(rs_tokenizer_bos(t), BPE_BOS);
    assert_true(rs_tokenizer_is_end(t, BPE_HE));
    assert_true(rs_tokenizer_is_end(t, BPE_LL));
    assert_true(rs_tokenizer_is_end(t, BPE_AA));
    assert_true(rs_tokenizer_is_end(t, message));
    assert_true(rs_tokenizer_is_end(t, BPE_END));
    assert_true(rs_tokenizer_is_end(t, turn));
    assert_false(rs_tokenizer_is_end(t, header));
    assert_false(rs_tokenizer_is_end(t, BPE_BOS));
    assert_false(rs_tokenizer_is_end(t, -1));
    assert_int_equal(rs_tokenizer_max_piece(t), strlen("<|start_header_id|>"));
    rs_tokenizer_close(t);
    free(w);
}

static void counts_and_capacities(void **state) {
    (void)state;
    rs_tokenizer *t = open_small_bpe("gpt-2");
    int32_t tokens[4] = {-7, -7, -7, -7};
    char text[8] = "#######";
    size_t count = 99;
    rs_error error;
    assert_int_equal(rs_tokenizer_encode(t, "xhex", 4, 0, NULL, 0, &count, &error), RS_OK);
    assert_int_equal(count, 3);
    assert_int_equal(rs_tokenizer_encode(t, "xhex", 4, 0, tokens, 2, &count, &error), RS_NO_SPACE);
    assert_int_equal(count, 3);
    assert_int_equal(tokens[0], -7);
    assert_int_equal(rs_tokenizer_encode(t, "xhex", 4, 0, tokens, 0, &count, &error), RS_NO_SPACE);
    assert_int_equal(rs_tokenizer_encode(t, "xhex", 4, 0, tokens, 3, &count, &error), RS_OK);
    assert_int_equal(tokens[1], BPE_HE);
    assert_int_equal(tokens[3], -7);
    assert_int_equal(rs_tokenizer_encode(t, NULL, 0, RS_TOKENIZE_SPECIAL, NULL, 0, &count, &error), RS_OK);
    assert_int_equal(count, 0);

    assert_int_equal(rs_tokenizer_decode(t, tokens, 3, false, NULL, 0, &count, &error), RS_OK);
    assert_int_equal(count, 4);
    assert_int_equal(rs_tokenizer_decode(t, tokens, 3, false, text, 3, &count, &error), RS_NO_SPACE);
    assert_int_equal(count, 4);
    assert_string_equal(text, "#######");
    assert_int_equal(rs_tokenizer_decode(t, tokens, 3, false, text, 4, &count, &error), RS_OK);
    assert_string_equal(text, "xhex###");
    assert_int_equal(rs_tokenizer_decode(t, NULL, 0, false, NULL, 0, &count, &error), RS_OK);
    assert_int_equal(count, 0);

    assert_int_equal(rs_tokenizer_encode(t, NULL, 1, 0, NULL, 0, &count, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_tokenizer_encode(t, "x", 1, 0, NULL, 1, &count, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_tokenizer_encode(t, "x", 1, 0, NULL, 0, NULL, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_tokenizer_encode(t, "x", 1, 8, NULL, 0, &count, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_tokenizer_encode(t, "x", (size_t)1 << 31, 0, NULL, 0, &count, &error),
                     RS_INVALID_ARGUMENT);
    assert_int_equal(rs_tokenizer_decode(t, NULL, 1, false, NULL, 0, &count, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_tokenizer_decode(t, tokens, 1, false, NULL, 1, &count, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_tokenizer_decode(t, tokens, 1, false, NULL, 0, NULL, &error), RS_INVALID_ARGUMENT);

    const int32_t wrong[] = {-1, BPE_LAST, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < 4; i++) {
        tokens[1] = wrong[i];
        assert_int_equal(rs_tokenizer_decode(t, tokens, 3, false, text, 8, &count, &error), RS_OUT_OF_RANGE);
        assert_non_null(strstr(error.message, "token 1"));
        assert_string_equal(text, "xhex###");
    }
    rs_tokenizer_close(t);
    rs_tokenizer_close(NULL);
}

static void random_bytes_come_back(void **state) {
    (void)state;
    static const char *const pieces[] = {"hello",        " the", "aaaa", "  ",         "\n\n",     "\u00e9",
                                         "\xe2\x96\x81", "12",   "'s",   "<|im_end|>", "<tool x>", "<0x41>",
                                         "\xe2\x96",     "\xff", "",     "ab"};
    static const char *const pres[] = {"smollm", "gpt-2", "qwen2", "llama-bpe", "llama3", NULL};
    uint64_t seed = 88172645463325252u;
    for (size_t p = 0; p < 6; p++) {
        rs_tokenizer *t = pres[p] == NULL ? open_small_spm() : open_small_bpe(pres[p]);
        for (int round = 0; round < 1000; round++) {
            char text[256];
            size_t bytes = 0;
            const size_t length = (size_t)(next_random(&seed) % 200);
            while (bytes < length)
                if (next_random(&seed) % 2 == 0) {
                    text[bytes++] = (char)next_random(&seed);
                } else {
                    const char *piece = pieces[next_random(&seed) % (sizeof pieces / sizeof pieces[0])];
                    memcpy(text + bytes, piece, strlen(piece) + 1);
                    bytes += strlen(piece) == 0 ? 1 : strlen(piece);
                }
            check_round_trip(t, text, bytes, 0);
            check_round_trip(t, text, bytes, RS_TOKENIZE_SPECIAL);
        }
        rs_tokenizer_close(t);
    }
}

/* ---------------------------------------------------------------------------------- hostile vocabularies --
 */

static void refuse_file(gguf_builder *builder, uint64_t n_rows, rs_status expected, const char *part) {
    rs_tokenizer *t;
    rs_error error;
    const rs_status status = open_file(builder, n_rows, &t, &error);
    if (status != expected || t != NULL)
        fail_msg("%s instead of %s: %s", rs_status_name(status), rs_status_name(expected), part);
    if (strstr(error.message, part) == NULL) fail_msg("'%s' does not say '%s'", error.message, part);
}

static void refuse(const words *w, rs_status expected, const char *part) {
    refuse_file(file_of(w), w->n_rows, expected, part);
}

static void refuses_hostile_bpe(void **state) {
    (void)state;
    words *w = malloc(sizeof *w);
    assert_non_null(w);
#define HOSTILE(change, status, part)                                                                        \
    do {                                                                                                     \
        init_small_bpe(w, "gpt-2");                                                                          \
        change;                                                                                              \
        refuse(w, status, part);                                                                             \
    } while (0)
    HOSTILE(w->model = NULL, RS_BAD_FILE, "tokenizer.ggml.model");
    HOSTILE(w->model = "bert\x1b[31m", RS_UNSUPPORTED, "'bert?[31m'");
    HOSTILE(w->pre = NULL, RS_UNSUPPORTED, "tokenizer.ggml.pre is missing");
    HOSTILE(w->pre = "default", RS_UNSUPPORTED, "llama-bpe");
    HOSTILE(w->pre = "a name that goes on and on and on and on and on and on and on and on and on and on and "
                     "on and on and on and on",
            RS_UNSUPPORTED, "...'");
    HOSTILE(w->n_rows++, RS_BAD_FILE, "269 tokens for 270 rows");
    HOSTILE((w->n = 0, w->n_rows = 0), RS_BAD_FILE, "0 tokens");
    HOSTILE(w->n_kinds--, RS_BAD_FILE, "268 types for 269 tokens");
    HOSTILE(w->kinds[7] = 7, RS_BAD_FILE, "token 7 is of type 7");
    HOSTILE(w->kinds[7] = -1, RS_BAD_FILE, "token 7 is of type -1");
    HOSTILE(w->kinds[7] = RS_TOKEN_BYTE, RS_BAD_FILE, "byte token 7");
    HOSTILE(w->bos = (int64_t)w->n, RS_BAD_FILE, "bos_token_id");
    HOSTILE(w->eos = INT32_MAX, RS_BAD_FILE, "eos_token_id");
    HOSTILE(w->eot = (int64_t)w->n, RS_BAD_FILE, "eot_token_id");
    HOSTILE(w->eom = (int64_t)w->n, RS_BAD_FILE, "eom_token_id");
    HOSTILE(w->merges[2] = keep(w, "hell", 4), RS_BAD_FILE, "merge 2 'hell'");
    HOSTILE(w->merges[2] = keep(w, " ", 1), RS_BAD_FILE, "merge 2");
    HOSTILE(w->merges[2] = keep(w, "he ", 3), RS_BAD_FILE, "merge 2");
    HOSTILE(w->merges[2] = keep(w, "", 0), RS_BAD_FILE, "merge 2");
    HOSTILE(w->merges[2] = keep(w, "he l l", 6), RS_BAD_FILE, "merge 2");
    HOSTILE(w->merges[2] = keep(w, "he xx", 5), RS_BAD_FILE, "merge 2 'he xx' names");
    HOSTILE(w->merges[2] = keep(w, "x y", 3), RS_BAD_FILE, "merge 2 'x y' names or makes");
    HOSTILE(w->merges[2] = keep(w, "\xff \xff", 3), RS_BAD_FILE, "merge 2 '? ?'");
    /* No merge may lead to a control token. */
    HOSTILE(w->kinds[BPE_HELL] = RS_TOKEN_CONTROL, RS_BAD_FILE, "merge 2 'he ll' names or makes");
#undef HOSTILE

    char *longest = malloc(RS_MAX_PIECE_BYTES + 1);
    assert_non_null(longest);
    memset(longest, 'x', RS_MAX_PIECE_BYTES + 1);
    init_small_bpe(w, "gpt-2");
    w->tokens[5] = (rs_string){longest, RS_MAX_PIECE_BYTES + 1};
    refuse(w, RS_BAD_FILE, "token 5 has 65536 bytes");
    w->tokens[5].bytes = RS_MAX_SPECIAL_BYTES + 1;
    w->kinds[5] = RS_TOKEN_CONTROL;
    refuse(w, RS_UNSUPPORTED, "special token 5");
    w->kinds[5] = RS_TOKEN_NORMAL; /* fine: long, and without the byte it was */
    w->tokens[5].bytes = RS_MAX_PIECE_BYTES;
    rs_tokenizer *t = open_words(w);
    assert_int_equal(rs_tokenizer_max_piece(t), RS_MAX_PIECE_BYTES);
    rs_tokenizer_close(t);
    free(longest);
    free(w);
}

static void refuses_hostile_spm(void **state) {
    (void)state;
    static const char *const byte_spellings[] = {"<0x4>",  "<0x41> ", "<0X41>", "<0x4g>",
                                                 "<0x+4>", "<0xfe>",  ""};
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    for (size_t i = 0; i < sizeof byte_spellings / sizeof byte_spellings[0]; i++) {
        init_small_spm(w);
        w->tokens[SPM_BYTES] = keep(w, byte_spellings[i], strlen(byte_spellings[i]));
        refuse(w, RS_BAD_FILE, "byte token 3");
    }
    init_small_spm(w);
    w->scores[SPM_AB] = NAN;
    refuse(w, RS_BAD_FILE, "score of token");
    init_small_spm(w);
    w->n_scores--;
    refuse(w, RS_BAD_FILE, "scores for");

    init_small_spm(w); /* infinite scores have an order */
    w->scores[SPM_BA] = INFINITY;
    w->scores[SPM_AB] = -INFINITY;
    rs_tokenizer *t = open_words(w);
    CHECK(t, "aba", 0, SPM_A, SPM_BA);
    rs_tokenizer_close(t);
    w->scores[SPM_BA] = 2; /* so have positive ones */
    w->scores[SPM_AB] = 1;
    t = open_words(w);
    CHECK(t, "aba", 0, SPM_A, SPM_BA);
    rs_tokenizer_close(t);
    w->scores[SPM_BA] = 0; /* and the two zeros are equals: the leftmost merges */
    w->scores[SPM_AB] = -0.0f;
    t = open_words(w);
    CHECK(t, "aba", 0, SPM_AB, SPM_A);
    rs_tokenizer_close(t);
    free(w);
}

/* A file whose keys are of another type than they should be. */
static void refuses_wrong_types(void **state) {
    (void)state;
    static const rs_string strings[] = {{"a", 1}};
    static const int32_t kinds[] = {1};
    static const float scores[] = {0};
    for (int wrong = 0; wrong < 8; wrong++) {
        const bool spm = wrong == 4 || wrong == 5;
        gguf_builder *b = gguf_builder_new();
        const char *key = "";
        if (wrong == 0) gguf_add_u32(b, key = "tokenizer.ggml.model", 1);
        else gguf_add_string(b, "tokenizer.ggml.model", spm ? "llama" : "gpt2");
        gguf_add_string(b, "tokenizer.ggml.pre", "gpt-2");
        if (wrong == 1) gguf_add_i32s(b, key = "tokenizer.ggml.tokens", kinds, 1);
        else gguf_add_strings(b, "tokenizer.ggml.tokens", strings, 1);
        if (wrong == 2) gguf_add_f32s(b, key = "tokenizer.ggml.token_type", scores, 1);
        else gguf_add_i32s(b, "tokenizer.ggml.token_type", kinds, 1);
        if (wrong == 3) gguf_add_i32s(b, key = "tokenizer.ggml.merges", kinds, 1);
        else gguf_add_strings(b, "tokenizer.ggml.merges", strings, 0);
        if (wrong == 4) gguf_add_i32s(b, key = "tokenizer.ggml.scores", kinds, 1);
        else gguf_add_f32s(b, "tokenizer.ggml.scores", scores, 1);
        if (wrong == 5) gguf_add_u32(b, key = "tokenizer.ggml.add_space_prefix", 1);
        if (wrong == 6) gguf_add_string(b, key = "tokenizer.ggml.add_bos_token", "true");
        if (wrong == 7) gguf_add_string(b, key = "tokenizer.ggml.eos_token_id", "0");
        refuse_file(b, 1, RS_BAD_FILE, key);
    }
}

static void refuses_too_many_tokens(void **state) {
    (void)state;
    const size_t n = RS_MAX_VOCAB + 1;
    rs_string *tokens = calloc(n, sizeof *tokens);
    int32_t *kinds = calloc(n, sizeof *kinds);
    assert_non_null(tokens);
    assert_non_null(kinds);
    for (size_t i = 0; i < n; i++) tokens[i].data = "";
    for (size_t less = 0; less < 2; less++) {
        gguf_builder *b = gguf_builder_new();
        gguf_add_string(b, "tokenizer.ggml.model", "gpt2");
        gguf_add_string(b, "tokenizer.ggml.pre", "gpt-2");
        gguf_add_strings(b, "tokenizer.ggml.tokens", tokens, n - less);
        gguf_add_i32s(b, "tokenizer.ggml.token_type", kinds, n - less);
        gguf_add_strings(b, "tokenizer.ggml.merges", NULL, 0);
        if (less == 0) {
            refuse_file(b, n, RS_BAD_FILE, "1048577 tokens");
            continue;
        }
        rs_tokenizer *t; /* a million empty tokens are useless, not harmful */
        rs_error error;
        assert_int_equal(open_file(b, n - 1, &t, &error), RS_OK);
        assert_int_equal(rs_tokenizer_encode(t, "a", 1, 0, NULL, 0, &(size_t){0}, &error), RS_UNSUPPORTED);
        rs_tokenizer_close(t);
    }
    free(tokens);
    free(kinds);
}

/* Tokens whose hashes all begin at one slot of the vocabulary's table of 4,096. */
static void refuses_tokens_that_collide(void **state) {
    (void)state;
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    init_words(w, "gpt2", "gpt-2");
    for (unsigned i = 0; w->n < 1200; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%u", i);
        uint64_t hash = 0xcbf29ce484222325;
        for (const char *c = text; *c != '\0'; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3;
        hash ^= hash >> 29;
        if ((hash & 4095) == 0) add(w, text, RS_TOKEN_NORMAL, 0);
    }
    refuse(w, RS_BAD_FILE, "collides");
    free(w);
}

static void first_of_equals(void **state) {
    (void)state;
    words *w = malloc(sizeof *w);
    assert_non_null(w);
    init_small_bpe(w, "gpt-2");
    add(w, "hello", RS_TOKEN_NORMAL, 0);
    add(w, "<|im_end|>", RS_TOKEN_CONTROL, 0);
    add(w, "<tool x>", RS_TOKEN_USER_DEFINED, 0);
    rs_tokenizer *t = open_words(w);
    CHECK(t, "hello<tool x><|im_end|>", RS_TOKENIZE_SPECIAL, BPE_HELLO, BPE_USER, BPE_END);
    CHECK(t, "<|im_end|>!", RS_TOKENIZE_SPECIAL, BPE_ENDS); /* found behind the two equal ones */
    rs_tokenizer_close(t);
    init_bpe(w, "gpt-2");
    const int32_t both = add_merge(w, "a b");
    add_merge(w, "b c");
    add_merge(w, "a b");
    t = open_words(w);
    CHECK(t, "abc", 0, both, 'c');
    rs_tokenizer_close(t);
    init_small_spm(w);
    add(w, "ab", RS_TOKEN_NORMAL, 100);
    add(w, "<0x41>", RS_TOKEN_BYTE, 0);
    t = open_words(w);
    CHECK(t, " abA", 0, SPM_SPACE_A, SPM_B, SPM_BYTES + 'A');
    rs_tokenizer_close(t);
    free(w);
}

/* --------------------------------------------------------------------------------------- much work -- */

/* Any two symbols merge, by turns early and late; counts how often it is asked. */
static bool merge_all(const void *model, const char *text, const rs_symbol *left, const rs_symbol *right,
                      uint32_t *order, int32_t *token) {
    size_t *asked = *(size_t *const *)model;
    ++*asked;
    *order = (left->bytes * 2654435761u) ^ right->bytes ^ (unsigned char)*text;
    *token = 0;
    return true;
}

static void merging_asks_three_times_a_byte(void **state) {
    (void)state;
    rs_merger merger = {0};
    char *text = malloc(BIG);
    assert_non_null(text);
    uint64_t seed = 3;
    size_t asked = 0, *counter = &asked;
    assert_int_equal(rs_merger_reserve(&merger, BIG, NULL), RS_OK);
    for (uint32_t i = 0; i < BIG; i++) {
        text[i] = (char)next_random(&seed);
        merger.symbols[i] = (rs_symbol){1, i - 1, -1};
    }
    rs_merge(&merger, text, BIG, merge_all, &counter);
    assert_int_equal(merger.symbols[0].bytes, BIG);
    assert_in_range(asked, BIG, 3 * (size_t)BIG);
    rs_merger_close(&merger);
    free(text);
}

/* Not timed: with anything quadratic in it, this would take hours. */
static void long_lines(void **state) {
    (void)state;
    static const char *const patterns[] = {"a",      " ",   "\n", "1",      "\xff", "<",
                                           "<tool ", " \n", "ab", "\u00e9", "he"};
    const size_t n_patterns = sizeof patterns / sizeof patterns[0];
    char *text = malloc(BIG);
    assert_non_null(text);
    uint64_t seed = 5;
    static const char *const pres[] = {"llama-bpe", NULL};
    for (size_t p = 0; p < 2; p++) {
        rs_tokenizer *t = pres[p] == NULL ? open_small_spm() : open_small_bpe(pres[p]);
        for (size_t kind = 0; kind < n_patterns + 3; kind++) {
            const size_t length = kind < n_patterns ? strlen(patterns[kind]) : 0;
            for (size_t i = 0; i < BIG; i++) {
                const uint64_t r = next_random(&seed);
                if (kind < n_patterns) text[i] = patterns[kind][i % length];
                else if (kind == n_patterns) text[i] = (char)('a' + r % 26); /* one word */
                else text[i] = kind == n_patterns + 1 ? (char)r : " \n\t"[r % 3];
            }
            check_round_trip(t, text, BIG, RS_TOKENIZE_SPECIAL);
        }
        rs_tokenizer_close(t);
    }
    free(text);
}

/* ------------------------------------------------------------------------------------------- threads -- */

enum { THREADS = 4, ROUNDS = 200, TEXT = 300 };

typedef struct job {
    const rs_tokenizer *tokenizer;
    uint64_t seed;
    uint64_t sum; /* of all tokens, in order */
    bool failed;
} job;

static void *encode_texts(void *argument) {
    job *j = argument;
    uint64_t seed = j->seed;
    for (int round = 0; round < ROUNDS; round++) {
        char text[TEXT];
        int32_t tokens[TEXT];
        size_t count;
        for (size_t i = 0; i < TEXT; i++) text[i] = "he llo 12\n<tool x>a\xc3\xa9'"[next_random(&seed) % 22];
        if (rs_tokenizer_encode(j->tokenizer, text, TEXT, 0, tokens, TEXT, &count, NULL) != RS_OK)
            j->failed = true;
        for (size_t i = 0; i < count; i++) j->sum = j->sum * 31 + (uint64_t)tokens[i];
    }
    return NULL;
}

static void threads_share_a_tokenizer(void **state) {
    (void)state;
    for (int spm = 0; spm < 2; spm++) {
        rs_tokenizer *t = spm ? open_small_spm() : open_small_bpe("llama-bpe");
        job alone[THREADS], together[THREADS];
        pthread_t threads[THREADS];
        for (size_t i = 0; i < THREADS; i++) {
            alone[i] = together[i] = (job){t, 1000 + i, 0, false};
            encode_texts(&alone[i]);
        }
        for (size_t i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, encode_texts, &together[i]), 0);
        for (size_t i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
        for (size_t i = 0; i < THREADS; i++) {
            assert_false(alone[i].failed || together[i].failed);
            assert_true(alone[i].sum == together[i].sum);
        }
        rs_tokenizer_close(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe_merges_by_rank),
        cmocka_unit_test(pre_tokenizers_differ),
        cmocka_unit_test(pieces_in_no_spelling),
        cmocka_unit_test(user_defined_in_merges),
        cmocka_unit_test(special_tokens_only_on_request),
        cmocka_unit_test(spm_merges_by_score),
        cmocka_unit_test(spm_space_prefix),
        cmocka_unit_test(unknown_tokens_only_on_request),
        cmocka_unit_test(byte_without_a_token),
        cmocka_unit_test(bos_when_the_file_asks),
        cmocka_unit_test(ends_of_generation),
        cmocka_unit_test(counts_and_capacities),
        cmocka_unit_test(random_bytes_come_back),
        cmocka_unit_test(refuses_hostile_bpe),
        cmocka_unit_test(refuses_hostile_spm),
        cmocka_unit_test(refuses_wrong_types),
        cmocka_unit_test(refuses_too_many_tokens),
        cmocka_unit_test(refuses_tokens_that_collide),
        cmocka_unit_test(first_of_equals),
        cmocka_unit_test(merging_asks_three_times_a_byte),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
