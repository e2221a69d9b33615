/* The vocabulary: the bytes that every token stands for, and the way back from plain text to a token. */
#ifndef RASURE_RUNTIME_TOKENIZER_VOCAB_H
#define RASURE_RUNTIME_TOKENIZER_VOCAB_H

#include "runtime/gguf.h"

enum {
    RS_MAX_VOCAB = 1 << 20,
    RS_MAX_PIECE_BYTES = 65535,
    RS_MAX_SPECIAL_BYTES = 255, /* bounds the work that a special token costs at every byte of a text */
};

/* Values of tokenizer.ggml.token_type. */
typedef enum rs_token_kind {
    RS_TOKEN_UNDEFINED = 0,
    RS_TOKEN_NORMAL = 1,
    RS_TOKEN_UNKNOWN = 2,
    RS_TOKEN_CONTROL = 3,
    RS_TOKEN_USER_DEFINED = 4,
    RS_TOKEN_UNUSED = 5,
    RS_TOKEN_BYTE = 6,
} rs_token_kind;

typedef struct rs_vocab {
    void *memory; /* of all arrays below */
    uint32_t n_tokens;
    uint32_t *begin; /* n_tokens + 1 offsets into text */
    unsigned char *kind;
    char *text;      /* what the tokens stand for, not how the file spells it */
    uint32_t *slots; /* open addressing: token + 1, and bits of the hash above it; 0: empty */
    uint64_t slot_mask;
    size_t longest;    /* bytes of the longest token */
    int32_t byte[256]; /* token of a single byte; -1: none */
} rs_vocab;

/* Undoes the spelling of one piece: writes at most `bytes` bytes. False: not a piece in that spelling. */
typedef bool (*rs_spelling_fn)(const char *piece, size_t bytes, char *text, size_t *text_bytes);

/*
 * Reads tokenizer.ggml.tokens and tokenizer.ggml.token_type, of which there must be `n_rows`. Control,
 * unknown and user-defined tokens and pieces that `spelling` refuses stand for their text as it is; byte
 * tokens for their byte. The markers of the known chat templates are control tokens whatever the file says.
 */
rs_status rs_vocab_open(const rs_gguf *gguf, uint64_t n_rows, rs_spelling_fn spelling, rs_vocab *vocab,
                        rs_error *error);
void rs_vocab_close(rs_vocab *vocab);

static inline rs_string rs_vocab_text(const rs_vocab *vocab, uint32_t token) {
    return (rs_string){vocab->text + vocab->begin[token], vocab->begin[token + 1] - vocab->begin[token]};
}

/* Tokens that stand for markup rather than for text: only found where the caller asked for them. */
static inline bool rs_vocab_is_control(const rs_vocab *vocab, uint32_t token) {
    return vocab->kind[token] == RS_TOKEN_CONTROL || vocab->kind[token] == RS_TOKEN_UNKNOWN;
}

/*
 * The token that stands for exactly this text, the first of several; -1: none. Never a control, unknown or
 * byte token, so that no plain text can become one; a user-defined token only after
 * rs_vocab_add_user_defined.
 */
int32_t rs_vocab_find(const rs_vocab *vocab, const char *text, size_t bytes);

/* Lets rs_vocab_find see user-defined tokens whose text no other token has. */
rs_status rs_vocab_add_user_defined(rs_vocab *vocab, rs_error *error);

#endif
