/* The tokenizer's front: opening, special tokens around plain text, and the way back to bytes. */
#include "runtime/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/checked.h"
#include "runtime/status.h"
#include "runtime/tokenizer/internal.h"

enum { MAX_ENDS = 9 };

struct rs_tokenizer {
    rs_vocab vocab;
    rs_specials specials;
    bool is_spm; /* which of the two is in use */
    rs_bpe bpe;
    rs_spm spm;
    int32_t bos, eos; /* -1: none */
    bool wants_bos;
    int32_t ends[MAX_ENDS];
    unsigned n_ends;
};

rs_status rs_no_token_for_byte(unsigned char byte, rs_error *error) {
    return rs_fail(error, RS_UNSUPPORTED,
                   "the text has a byte 0x%02X, for which the model's vocabulary has no token", byte);
}

/* --------------------------------------------------------------------------------------------- opening -- */

static rs_status read_token_id(const rs_gguf *gguf, const char *key, const rs_vocab *vocab, int32_t *token,
                               rs_error *error) {
    uint32_t value = UINT32_MAX; /* what files write for "none", too */
    *token = -1;
    RS_TRY(rs_gguf_u32_or(gguf, key, &value, error));
    if (value == UINT32_MAX) return RS_OK;
    if (value >= vocab->n_tokens)
        return rs_fail(error, RS_BAD_FILE, "%s: token %u of a vocabulary of %u", key, value, vocab->n_tokens);
    *token = (int32_t)value;
    return RS_OK;
}

static rs_status read_markers(const rs_gguf *gguf, rs_tokenizer *t, rs_error *error) {
    static const char *const end_texts[] = {"<|im_end|>",    "<|eot_id|>",    "<|eom_id|>",
                                            "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>"};
    const size_t n_texts = sizeof end_texts / sizeof end_texts[0];
    _Static_assert(sizeof end_texts / sizeof end_texts[0] + 3 <= MAX_ENDS, "with EOS, EOT and EOM");
    int32_t eot, eom;
    RS_TRY(read_token_id(gguf, "tokenizer.ggml.bos_token_id", &t->vocab, &t->bos, error));
    RS_TRY(read_token_id(gguf, "tokenizer.ggml.eos_token_id", &t->vocab, &t->eos, error));
    RS_TRY(read_token_id(gguf, "tokenizer.ggml.eot_token_id", &t->vocab, &eot, error));
    RS_TRY(read_token_id(gguf, "tokenizer.ggml.eom_token_id", &t->vocab, &eom, error));
    if (t->eos >= 0) t->ends[t->n_ends++] = t->eos;
    if (eot >= 0) t->ends[t->n_ends++] = eot;
    if (eom >= 0) t->ends[t->n_ends++] = eom;
    for (size_t i = 0; i < n_texts; i++) {
        const int32_t token = rs_tokenizer_special(t, end_texts[i]);
        if (token >= 0) t->ends[t->n_ends++] = token;
    }
    bool add_bos = t->is_spm || rs_pretokenizer_wants_bos(t->bpe.pre);
    RS_TRY(rs_gguf_bool_or(gguf, "tokenizer.ggml.add_bos_token", &add_bos, error));
    t->wants_bos = add_bos && t->bos >= 0;
    return RS_OK;
}

static rs_status open_into(rs_tokenizer *t, const rs_gguf *gguf, uint64_t n_embd_rows, const char *pre_name,
                           rs_error *error) {
    rs_string model;
    RS_TRY(rs_gguf_string(gguf, "tokenizer.ggml.model", &model, error));
    t->is_spm = rs_string_is(model, "llama");
    if (!t->is_spm && !rs_string_is(model, "gpt2")) {
        char text[RS_SHOWN_BYTES];
        return rs_fail(error, RS_UNSUPPORTED,
                       "tokenizer '%s' is not known, only gpt2 (byte-level BPE) and llama (SPM) are",
                       rs_shown(model, text));
    }
    RS_TRY(rs_vocab_open(gguf, n_embd_rows, t->is_spm ? rs_spm_spelling : rs_bpe_spelling, &t->vocab, error));
    if (t->is_spm) RS_TRY(rs_spm_open(gguf, &t->vocab, &t->spm, error));
    else RS_TRY(rs_bpe_open(gguf, &t->vocab, pre_name, &t->bpe, error));
    RS_TRY(rs_specials_open(&t->vocab, &t->specials, error));
    return read_markers(gguf, t, error);
}

rs_status rs_tokenizer_open_as(const rs_gguf *gguf, uint64_t n_embd_rows, const char *pre_name,
                               rs_tokenizer **tokenizer, rs_error *error) {
    *tokenizer = NULL;
    rs_tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL) return rs_fail(error, RS_NO_MEMORY, "no memory for the tokenizer");
    const rs_status status = open_into(t, gguf, n_embd_rows, pre_name, error);
    if (status != RS_OK) {
        rs_tokenizer_close(t);
        return status;
    }
    *tokenizer = t;
    return RS_OK;
}

rs_status rs_tokenizer_open(const rs_gguf *gguf, uint64_t n_embd_rows, rs_tokenizer **tokenizer,
                            rs_error *error) {
    return rs_tokenizer_open_as(gguf, n_embd_rows, NULL, tokenizer, error);
}

void rs_tokenizer_close(rs_tokenizer *t) {
    if (t == NULL) return;
    rs_specials_close(&t->specials);
    rs_bpe_close(&t->bpe);
    rs_spm_close(&t->spm);
    rs_vocab_close(&t->vocab);
    free(t);
}

/* -------------------------------------------------------------------------------------------- encoding -- */

static rs_status encode_plain(const rs_tokenizer *t, rs_encoding *e, const char *text, size_t begin,
                              size_t end, uint32_t flags, rs_error *error) {
    if (begin == end) return RS_OK;
    const bool continues = begin == 0 && (flags & RS_TOKENIZE_CONTINUES) != 0;
    return t->is_spm ? rs_spm_encode(&t->spm, e, text + begin, end - begin, continues, error)
                     : rs_bpe_encode(&t->bpe, e, text + begin, end - begin, error);
}

static rs_status encode(const rs_tokenizer *t, rs_encoding *e, const char *text, size_t bytes, uint32_t flags,
                        rs_error *error) {
    const bool control = (flags & RS_TOKENIZE_SPECIAL) != 0;
    if ((flags & RS_TOKENIZE_BOS) != 0 && t->wants_bos) e->tokens[e->count++] = t->bos;
    size_t plain = 0; /* text from here to `at` is not encoded yet */
    for (size_t at = 0; at < bytes;) {
        size_t matched;
        const int32_t token = rs_specials_match(&t->specials, text + at, bytes - at, control, &matched);
        if (token < 0) {
            at++;
            continue;
        }
        RS_TRY(encode_plain(t, e, text, plain, at, flags, error));
        e->tokens[e->count++] = token;
        plain = at += matched;
    }
    return encode_plain(t, e, text, plain, bytes, flags, error);
}

rs_status rs_tokenizer_encode(const rs_tokenizer *t, const char *text, size_t bytes, uint32_t flags,
                              int32_t *tokens, size_t capacity, size_t *count, rs_error *error) {
    if ((text == NULL && bytes > 0) || (tokens == NULL && capacity > 0) || count == NULL)
        return rs_fail(error, RS_INVALID_ARGUMENT, "tokenizing: a pointer is NULL");
    if ((flags & ~(uint32_t)(RS_TOKENIZE_SPECIAL | RS_TOKENIZE_BOS | RS_TOKENIZE_CONTINUES)) != 0)
        return rs_fail(error, RS_INVALID_ARGUMENT, "tokenizing: flags 0x%X are not known", flags);
    if (bytes > INT32_MAX - 1)
        return rs_fail(error, RS_INVALID_ARGUMENT, "tokenizing: a text of %zu bytes is too long", bytes);

    /* A token takes at least a byte, but for BOS and for the spaces that SPM puts before text. */
    size_t room;
    const size_t per_byte = (t->spm.space_prefix ? 2 : 1) * sizeof *tokens;
    rs_encoding e = {.count = 0};
    if (rs_mul_size(bytes + 1, per_byte, &room)) e.tokens = malloc(room);
    if (e.tokens == NULL) return rs_fail(error, RS_NO_MEMORY, "no memory to tokenize %zu bytes", bytes);
    rs_status status = encode(t, &e, text, bytes, flags, error);
    if (status == RS_OK) {
        *count = e.count;
        if (tokens != NULL && e.count > capacity)
            status = rs_fail(error, RS_NO_SPACE, "the text has %zu tokens, and there is room for %zu",
                             e.count, capacity);
        else if (tokens != NULL) memcpy(tokens, e.tokens, e.count * sizeof *tokens);
    }
    rs_pretokens_close(e.pretokens);
    rs_merger_close(&e.merger);
    free(e.tokens);
    return status;
}

/* -------------------------------------------------------------------------------------------- decoding -- */

rs_status rs_tokenizer_decode(const rs_tokenizer *t, const int32_t *tokens, size_t count, bool special,
                              char *text, size_t capacity, size_t *bytes, rs_error *error) {
    if ((tokens == NULL && count > 0) || (text == NULL && capacity > 0) || bytes == NULL)
        return rs_fail(error, RS_INVALID_ARGUMENT, "detokenizing: a pointer is NULL");
    size_t needed = 0;
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= t->vocab.n_tokens)
            return rs_fail(error, RS_OUT_OF_RANGE, "detokenizing: token %zu is %d, not 0 to %u", i, tokens[i],
                           t->vocab.n_tokens - 1);
        if (!special && rs_vocab_is_control(&t->vocab, (uint32_t)tokens[i])) continue;
        if (!rs_add_size(needed, rs_vocab_text(&t->vocab, (uint32_t)tokens[i]).bytes, &needed))
            return rs_fail(error, RS_INVALID_ARGUMENT, "detokenizing: the text of %zu tokens is too long",
                           count);
    }
    *bytes = needed;
    if (text == NULL) return RS_OK;
    if (needed > capacity)
        return rs_fail(error, RS_NO_SPACE, "the text has %zu bytes, and there is room for %zu", needed,
                       capacity);
    for (size_t i = 0; i < count; i++) {
        if (!special && rs_vocab_is_control(&t->vocab, (uint32_t)tokens[i])) continue;
        const rs_string piece = rs_vocab_text(&t->vocab, (uint32_t)tokens[i]);
        memcpy(text, piece.data, piece.bytes);
        text += piece.bytes;
    }
    return RS_OK;
}

/* ------------------------------------------------------------------------------------------- questions -- */

uint32_t rs_tokenizer_size(const rs_tokenizer *t) {
    return t->vocab.n_tokens;
}

int32_t rs_tokenizer_bos(const rs_tokenizer *t) {
    return t->bos;
}

int32_t rs_tokenizer_eos(const rs_tokenizer *t) {
    return t->eos;
}

bool rs_tokenizer_wants_bos(const rs_tokenizer *t) {
    return t->wants_bos;
}

bool rs_tokenizer_is_end(const rs_tokenizer *t, int32_t token) {
    for (unsigned i = 0; i < t->n_ends; i++)
        if (t->ends[i] == token) return true;
    return false;
}

int32_t rs_tokenizer_special(const rs_tokenizer *t, const char *text) {
    size_t matched;
    const int32_t token = rs_specials_match(&t->specials, text, strlen(text), true, &matched);
    return token >= 0 && matched == strlen(text) ? token : -1;
}

size_t rs_tokenizer_max_piece(const rs_tokenizer *t) {
    return t->vocab.longest;
}
