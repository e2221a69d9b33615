/* What the files of the tokenizer share, and what its tests reach that others must not. */
#ifndef RASURE_RUNTIME_TOKENIZER_INTERNAL_H
#define RASURE_RUNTIME_TOKENIZER_INTERNAL_H

#include "runtime/tokenizer/merge.h"
#include "runtime/tokenizer/pretokenize.h"
#include "runtime/tokenizer/special.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/vocab.h"

/* rs_tokenizer_open with another pre-tokenizer than the file's; NULL: the file's. */
rs_status rs_tokenizer_open_as(const rs_gguf *gguf, uint64_t n_embd_rows, const char *pre_name,
                               rs_tokenizer **tokenizer, rs_error *error);

/* A text being encoded: tokens so far, and memory that the pieces of the text use one after the other. */
typedef struct rs_encoding {
    int32_t *tokens; /* room for all that the text can need */
    size_t count;
    rs_merger merger;
    rs_pretokens *pretokens;
} rs_encoding;

/* ------------------------------------------------------------------------------------- byte-level BPE -- */

typedef struct rs_bpe_merge {
    int32_t left, right, token; /* the last stands for both together */
} rs_bpe_merge;

typedef struct rs_bpe {
    rs_bpe_merge *merges; /* by rank */
    uint32_t *slots;      /* open addressing: rank + 1, and bits of the hash above it; 0: empty */
    uint64_t slot_mask;
    const rs_vocab *vocab;
    rs_pretokenizer *pre;
} rs_bpe;

/* The spelling of byte-level BPE, where every byte is a printable character. */
bool rs_bpe_spelling(const char *piece, size_t bytes, char *text, size_t *text_bytes);
rs_status rs_bpe_open(const rs_gguf *gguf, rs_vocab *vocab, const char *pre_name, rs_bpe *bpe,
                      rs_error *error);
void rs_bpe_close(rs_bpe *bpe);
/* Appends the tokens of plain text. RS_UNSUPPORTED: the vocabulary has no token for one of its bytes. */
rs_status rs_bpe_encode(const rs_bpe *bpe, rs_encoding *encoding, const char *text, size_t bytes,
                        rs_error *error);

/* ------------------------------------------------------------------------------------------------ SPM -- */

typedef struct rs_spm {
    uint32_t *order; /* of every token: the higher its score, the lower */
    const rs_vocab *vocab;
    bool space_prefix; /* a space goes before text: at its beginning, and after each special token */
} rs_spm;

/* The spelling of SPM, where a space is U+2581. */
bool rs_spm_spelling(const char *piece, size_t bytes, char *text, size_t *text_bytes);
rs_status rs_spm_open(const rs_gguf *gguf, const rs_vocab *vocab, rs_spm *spm, rs_error *error);
void rs_spm_close(rs_spm *spm);
/* As rs_bpe_encode; only characters that are no token themselves are encoded by their bytes. `continues`: no
 * space goes before the text. */
rs_status rs_spm_encode(const rs_spm *spm, rs_encoding *encoding, const char *text, size_t bytes,
                        bool continues, rs_error *error);

/* ------------------------------------------------------------------------------------------- messages -- */

/* The failure of a text that needs a byte for which there is no token. */
rs_status rs_no_token_for_byte(unsigned char byte, rs_error *error);

#endif
