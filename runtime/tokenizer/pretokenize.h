/* Cutting a text into the pieces that byte-level BPE never merges across. */
#ifndef RASURE_RUNTIME_TOKENIZER_PRETOKENIZE_H
#define RASURE_RUNTIME_TOKENIZER_PRETOKENIZE_H

#include "runtime/gguf.h"

/* A pre-tokenizer, its pattern compiled. Immutable. */
typedef struct rs_pretokenizer rs_pretokenizer;

/* `name` as in tokenizer.ggml.pre. RS_UNSUPPORTED if it is not known, naming those that are. */
rs_status rs_pretokenizer_open(rs_string name, rs_pretokenizer **pre, rs_error *error);
void rs_pretokenizer_close(rs_pretokenizer *pre);

/* Whether a piece that is a token is taken whole, though merges might not lead there. */
bool rs_pretokenizer_takes_whole(const rs_pretokenizer *pre);
/* Whether models that use it begin with a BOS if their file does not say. */
bool rs_pretokenizer_wants_bos(const rs_pretokenizer *pre);

/* A walk over the pieces of a text; holds memory of its own that serves any number of texts. */
typedef struct rs_pretokens rs_pretokens;

rs_status rs_pretokens_open(const rs_pretokenizer *pre, rs_pretokens **walk, rs_error *error);
void rs_pretokens_close(rs_pretokens *walk);
/* The text MUST outlive the walk over it. */
void rs_pretokens_start(rs_pretokens *walk, const char *text, size_t bytes);
/* The next piece, empty at the end. Pieces follow each other without a gap; bytes that are not UTF-8 are a
 * piece each. */
rs_status rs_pretokens_next(rs_pretokens *walk, rs_string *piece, rs_error *error);

#endif
