/* Merging adjoining symbols, the best pair first: what byte-level BPE and SPM have in common. */
#ifndef RASURE_RUNTIME_TOKENIZER_MERGE_H
#define RASURE_RUNTIME_TOKENIZER_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rasure/rasure.h"

/* A symbol lives at the index of its first byte in the text. */
typedef struct rs_symbol {
    uint32_t bytes;
    uint32_t before; /* index of the symbol to the left; index 0 has none */
    int32_t token;   /* -1: none stands for it */
} rs_symbol;

typedef struct rs_candidate rs_candidate;

/* Grows to the longest text it is used for: 44 bytes for each of its bytes. */
typedef struct rs_merger {
    rs_symbol *symbols;
    rs_candidate *heap;
    size_t capacity; /* bytes of text */
} rs_merger;

/*
 * Whether the symbols `left` and `right`, whose text together begins at `text`, may merge, into which token,
 * and when: lower orders first, and the leftmost of equal ones. The answer MUST depend on nothing but its
 * arguments.
 */
typedef bool (*rs_pair_fn)(const void *model, const char *text, const rs_symbol *left, const rs_symbol *right,
                           uint32_t *order, int32_t *token);

/* Makes room for a text of up to 2^31 - 1 bytes; merger->symbols is then the caller's to fill. */
rs_status rs_merger_reserve(rs_merger *merger, size_t bytes, rs_error *error);
void rs_merger_close(rs_merger *merger);

/*
 * Merges until no pair may, in n log n steps. Before the call, merger->symbols holds symbols that together
 * cover the text; afterwards, those that are left: from index 0 on, symbols[i].bytes leads from one to the
 * next.
 */
void rs_merge(rs_merger *merger, const char *text, size_t bytes, rs_pair_fn pair, const void *model);

#endif
