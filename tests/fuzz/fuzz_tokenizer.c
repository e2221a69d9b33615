/*
 * Fuzz target: the first byte chooses. Below 128, the rest is text, which a small vocabulary encodes and must
 * give back. From 128 on, the rest is a vocabulary, which is opened and, where that succeeds, encodes its own
 * description.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/internal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/gguf_builder.h"

enum { MAX_TOKENS = 512, BYTE_TOKENS = 256 };

typedef struct vocabulary {
    rs_string tokens[MAX_TOKENS], merges[MAX_TOKENS];
    int32_t kinds[MAX_TOKENS];
    float scores[MAX_TOKENS];
    size_t n, n_merges;
} vocabulary;

static void add(vocabulary *v, rs_string text, int32_t kind, float score) {
    if (v->n == MAX_TOKENS) return;
    v->tokens[v->n] = text;
    v->kinds[v->n] = kind;
    v->scores[v->n++] = score;
}

static rs_tokenizer *open_vocabulary(const vocabulary *v, const char *model, const char *pre) {
    gguf_builder *builder = gguf_builder_new();
    gguf_add_string(builder, "tokenizer.ggml.model", model);
    gguf_add_string(builder, "tokenizer.ggml.pre", pre);
    gguf_add_bool(builder, "tokenizer.ggml.add_space_prefix", false);
    gguf_add_strings(builder, "tokenizer.ggml.tokens", v->tokens, v->n);
    gguf_add_i32s(builder, "tokenizer.ggml.token_type", v->kinds, v->n);
    gguf_add_f32s(builder, "tokenizer.ggml.scores", v->scores, v->n);
    gguf_add_strings(builder, "tokenizer.ggml.merges", v->merges, v->n_merges);
    gguf_add_u32(builder, "tokenizer.ggml.bos_token_id", 0);

    size_t bytes;
    rs_gguf *gguf;
    rs_tokenizer *tokenizer;
    rs_error error = {RS_OK, ""};
    const void *data = gguf_build(builder, &bytes);
    if (rs_gguf_open(data, bytes, &gguf, &error) != RS_OK) abort();
    const rs_status status = rs_tokenizer_open(gguf, v->n, &tokenizer, &error);
    if ((status == RS_OK) != (tokenizer != NULL) || (status != RS_OK && error.message[0] == '\0')) abort();
    rs_gguf_close(gguf);
    gguf_builder_free(builder);
    return tokenizer;
}

/* Every byte as a token of its own, in both spellings. */
static rs_tokenizer *open_small(bool spm, const char *pre) {
    static const char *const words[] = {"he", "ll", "hell", "hello", "aa", "aaaa", "'s", "12"};
    static const char *const merges[] = {"h e", "l l", "he ll", "hell o", "a a", "aa aa", "' s", "1 2"};
    char spelled[BYTE_TOKENS][8];
    vocabulary *v = calloc(1, sizeof *v);
    if (v == NULL) abort();
    for (unsigned b = 0, others = 0; b < BYTE_TOKENS; b++) {
        const bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        const unsigned character = printable ? b : 256 + others++;
        if (spm) (void)snprintf(spelled[b], sizeof spelled[b], "<0x%02X>", b);
        else if (character < 0x80) (void)snprintf(spelled[b], sizeof spelled[b], "%c", (char)character);
        else
            (void)snprintf(spelled[b], sizeof spelled[b], "%c%c", (char)(0xc0 | character >> 6),
                           (char)(0x80 | (character & 0x3f)));
        add(v, (rs_string){spelled[b], strlen(spelled[b])}, spm ? RS_TOKEN_BYTE : RS_TOKEN_NORMAL, 0);
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        add(v, (rs_string){words[i], strlen(words[i])}, RS_TOKEN_NORMAL, -(float)i);
        v->merges[v->n_merges++] = (rs_string){merges[i], strlen(merges[i])};
    }
    add(v, (rs_string){"\xe2\x96\x81", 3}, RS_TOKEN_NORMAL, -50);
    add(v, (rs_string){"\xe2\x96\x81he", 5}, RS_TOKEN_NORMAL, 1);
    add(v, (rs_string){"\n\n", 2}, RS_TOKEN_USER_DEFINED, 0);
    add(v, (rs_string){"<|im_end|>", 10}, RS_TOKEN_CONTROL, 0);
    rs_tokenizer *tokenizer = open_vocabulary(v, spm ? "llama" : "gpt2", pre);
    if (tokenizer == NULL) abort();
    free(v);
    return tokenizer;
}

/* Where there is a token for every byte, `must`, encoding succeeds. */
static void round_trip(const rs_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t flags,
                       bool must) {
    int32_t *tokens = malloc((bytes + 1) * sizeof *tokens);
    char *back = malloc(bytes + 1);
    if (tokens == NULL || back == NULL) abort();
    size_t count, counted, back_bytes;
    rs_error error;
    const rs_status status =
        rs_tokenizer_encode(tokenizer, text, bytes, flags, tokens, bytes, &count, &error);
    if (status != RS_OK && (must || status != RS_UNSUPPORTED)) abort();
    if (status == RS_OK) {
        if (rs_tokenizer_encode(tokenizer, text, bytes, flags, NULL, 0, &counted, &error) != RS_OK) abort();
        if (counted != count) abort();
        if (rs_tokenizer_decode(tokenizer, tokens, count, true, back, bytes, &back_bytes, &error) != RS_OK)
            abort();
        if (back_bytes != bytes || (bytes > 0 && memcmp(back, text, bytes) != 0)) abort();
    }
    free(tokens);
    free(back);
}

/* Tokens are a length, a type and that many bytes; every fourth description is a merge. */
static void open_described(const uint8_t *data, size_t size, uint8_t choice) {
    vocabulary *v = calloc(1, sizeof *v);
    if (v == NULL) abort();
    for (size_t at = 0, n = 0; at + 2 <= size; n++) {
        const uint8_t length = data[at] % 16, kind = data[at + 1];
        at += 2;
        const rs_string text = {(const char *)data + at, length < size - at ? length : size - at};
        at += text.bytes;
        if (n % 4 != 3) add(v, text, kind % 16 == 15 ? kind : kind % 8, (float)kind);
        else if (v->n_merges < MAX_TOKENS) v->merges[v->n_merges++] = text;
    }
    rs_tokenizer *tokenizer =
        open_vocabulary(v, choice % 2 == 0 ? "gpt2" : "llama", choice % 4 < 2 ? "llama-bpe" : "smollm");
    if (tokenizer != NULL) {
        round_trip(tokenizer, (const char *)data, size, 0, false);
        round_trip(tokenizer, (const char *)data, size, RS_TOKENIZE_SPECIAL, false);
    }
    rs_tokenizer_close(tokenizer);
    free(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const pres[] = {"smollm", "gpt-2", "qwen2", "llama-bpe"};
    static rs_tokenizer *small[5];
    if (small[0] == NULL) {
        for (size_t i = 0; i < 4; i++) small[i] = open_small(false, pres[i]);
        small[4] = open_small(true, "default");
    }
    if (size == 0) return 0;
    if (data[0] >= 128) open_described(data + 1, size - 1, data[0]);
    else
        round_trip(small[data[0] % 5], (const char *)data + 1, size - 1,
                   data[0] >= 64 ? RS_TOKENIZE_SPECIAL : 0, true);
    return 0;
}
