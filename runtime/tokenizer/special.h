/* Tokens that are found in a text by their spelling, before anything else looks at it. */
#ifndef RASURE_RUNTIME_TOKENIZER_SPECIAL_H
#define RASURE_RUNTIME_TOKENIZER_SPECIAL_H

#include "runtime/tokenizer/vocab.h"

typedef struct rs_special {
    const char *text;
    uint32_t bytes;
    int32_t token;
    bool control; /* found only on request; a user-defined token always is */
} rs_special;

typedef struct rs_specials {
    rs_special *sorted; /* by text; one of each */
    size_t first[257];  /* where the texts that begin with a byte are: [first[c], first[c + 1]) */
} rs_specials;

/* Points into the vocabulary, which MUST outlive *specials. */
rs_status rs_specials_open(const rs_vocab *vocab, rs_specials *specials, rs_error *error);
void rs_specials_close(rs_specials *specials);

/* The longest special token that `text` begins with, and its length; -1: none. */
int32_t rs_specials_match(const rs_specials *specials, const char *text, size_t bytes, bool control,
                          size_t *matched);

#endif
