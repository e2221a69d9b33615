/* SPM: characters merge into the pieces with the highest score; what is no piece is spelled out in bytes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/status.h"
#include "runtime/tokenizer/internal.h"
#include "runtime/tokenizer/utf8.h"

static const char scores_key[] = "tokenizer.ggml.scores";

bool rs_spm_spelling(const char *piece, size_t bytes, char *text, size_t *text_bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; n++) {
        const bool space = bytes - i >= 3 && memcmp(piece + i, "\xe2\x96\x81", 3) == 0;
        text[n] = space ? ' ' : piece[i];
        i += space ? 3 : 1;
    }
    *text_bytes = n;
    return true;
}

/* Floats as integers that sort the other way round. */
static uint32_t order_of_score(float score) {
    uint32_t bits;
    score += 0.0f; /* -0 and 0 are equals */
    memcpy(&bits, &score, sizeof bits);
    return bits >> 31 != 0 ? bits : 0x7fffffff - bits;
}

rs_status rs_spm_open(const rs_gguf *gguf, const rs_vocab *vocab, rs_spm *spm, rs_error *error) {
    *spm = (rs_spm){.vocab = vocab, .space_prefix = true};
    RS_TRY(rs_gguf_bool_or(gguf, "tokenizer.ggml.add_space_prefix", &spm->space_prefix, error));
    rs_gguf_array scores;
    RS_TRY(rs_gguf_get_array(gguf, scores_key, RS_GGUF_F32, &scores, error));
    if (scores.count != vocab->n_tokens)
        return rs_fail(error, RS_BAD_FILE, "%s: %llu scores for %u tokens", scores_key,
                       (unsigned long long)scores.count, vocab->n_tokens);
    spm->order = malloc(vocab->n_tokens * sizeof *spm->order);
    if (spm->order == NULL)
        return rs_fail(error, RS_NO_MEMORY, "no memory for the scores of %u tokens", vocab->n_tokens);
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        const float score = rs_gguf_array_f32(&scores, i);
        if (isnan(score)) {
            rs_spm_close(spm);
            return rs_fail(error, RS_BAD_FILE, "%s: the score of token %u is not a number", scores_key, i);
        }
        spm->order[i] = order_of_score(score);
    }
    return RS_OK;
}

void rs_spm_close(rs_spm *spm) {
    free(spm->order);
    *spm = (rs_spm){0};
}

static bool merge_pair(const void *model, const char *text, const rs_symbol *left, const rs_symbol *right,
                       uint32_t *order, int32_t *token) {
    const rs_spm *spm = model;
    *token = rs_vocab_find(spm->vocab, text, (size_t)left->bytes + right->bytes);
    if (*token < 0) return false;
    *order = spm->order[*token];
    return true;
}

static rs_status encode_merged(const rs_spm *spm, rs_encoding *e, const char *text, size_t bytes,
                               rs_error *error) {
    RS_TRY(rs_merger_reserve(&e->merger, bytes, error));
    rs_symbol *symbols = e->merger.symbols;
    for (uint32_t i = 0, before = 0; i < bytes;) {
        size_t n = rs_utf8_character(text + i, bytes - i);
        if (n == 0) n = 1; /* a byte that is not UTF-8 */
        symbols[i] = (rs_symbol){(uint32_t)n, before, rs_vocab_find(spm->vocab, text + i, n)};
        before = i;
        i += (uint32_t)n;
    }
    rs_merge(&e->merger, text, bytes, merge_pair, spm);
    for (uint32_t i = 0; i < bytes; i += symbols[i].bytes) {
        if (symbols[i].token >= 0) {
            e->tokens[e->count++] = symbols[i].token;
            continue;
        }
        for (uint32_t b = i; b < i + symbols[i].bytes; b++) {
            const int32_t token = spm->vocab->byte[(unsigned char)text[b]];
            if (token < 0) return rs_no_token_for_byte((unsigned char)text[b], error);
            e->tokens[e->count++] = token;
        }
    }
    return RS_OK;
}

rs_status rs_spm_encode(const rs_spm *spm, rs_encoding *e, const char *text, size_t bytes, bool continues,
                        rs_error *error) {
    if (continues || !spm->space_prefix) return encode_merged(spm, e, text, bytes, error);
    char *spaced = malloc(bytes + 1);
    if (spaced == NULL) return rs_fail(error, RS_NO_MEMORY, "no memory to tokenize %zu bytes", bytes);
    spaced[0] = ' ';
    memcpy(spaced + 1, text, bytes);
    const rs_status status = encode_merged(spm, e, spaced, bytes + 1, error);
    free(spaced);
    return status;
}
