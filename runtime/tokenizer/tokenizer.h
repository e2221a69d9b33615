/* Text to token ids and back: byte-level BPE and SPM vocabularies from a GGUF file. Immutable once open. */
#ifndef RASURE_RUNTIME_TOKENIZER_TOKENIZER_H
#define RASURE_RUNTIME_TOKENIZER_TOKENIZER_H

#include "runtime/gguf.h"

typedef struct rs_tokenizer rs_tokenizer;

/* Keeps nothing of the GGUF's memory.
 * `n_embd_rows`: rows of the embedding table; a vocabulary of another size is RS_BAD_FILE.
 * RS_UNSUPPORTED names a tokenizer model or pre-tokenizer that is not known. */
rs_status rs_tokenizer_open(const rs_gguf *gguf, uint64_t n_embd_rows, rs_tokenizer **tokenizer,
                            rs_error *error);
void rs_tokenizer_close(rs_tokenizer *tokenizer);

/* Contracts of rs_tokenize and rs_detokenize in rasure.h. A vocabulary that has no token for a byte of the
 * text: RS_UNSUPPORTED, naming the byte. User-defined tokens are part of plain text (as runs of line ends and
 * spaces are with Gemma); only control tokens wait for RS_TOKENIZE_SPECIAL. A text has at most 2^31 - 2
 * bytes. */
rs_status rs_tokenizer_encode(const rs_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t flags,
                              int32_t *tokens, size_t capacity, size_t *count, rs_error *error);
rs_status rs_tokenizer_decode(const rs_tokenizer *tokenizer, const int32_t *tokens, size_t count,
                              bool special, char *text, size_t capacity, size_t *bytes, rs_error *error);

uint32_t rs_tokenizer_size(const rs_tokenizer *tokenizer);
int32_t rs_tokenizer_bos(const rs_tokenizer *tokenizer); /* -1: none */
int32_t rs_tokenizer_eos(const rs_tokenizer *tokenizer);
bool rs_tokenizer_wants_bos(const rs_tokenizer *tokenizer);
/* EOS, EOT and the like: tokens at which generation ends. */
bool rs_tokenizer_is_end(const rs_tokenizer *tokenizer, int32_t token);
/* Id of a control or user-defined token by its exact text; -1: none. */
int32_t rs_tokenizer_special(const rs_tokenizer *tokenizer, const char *text);

/* Longest piece in bytes that rs_tokenizer_decode gives for one token. */
size_t rs_tokenizer_max_piece(const rs_tokenizer *tokenizer);

#endif
