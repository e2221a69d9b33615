/* Reading a chunk: its entries, its pass, and what the policy then lets go. */
#ifndef RASURE_RUNTIME_CHUNK_H
#define RASURE_RUNTIME_CHUNK_H

#include "runtime/context.h"

typedef struct rs_chunk {
    uint32_t first, count; /* tokens of the list, which have positions and no entries; none behind them has */
    const int32_t *patch;  /* [n_patch] tokens that choose behind them and are no part of the text */
    uint32_t n_patch;      /* count + n_patch at most n_batch */
    bool logits;           /* of the last token are wanted; not with a patch */
    bool again;            /* recomputed, and no step: keys and values alone are wanted, unless */
    bool hidden;           /* scratch.x is wanted too */
} rs_chunk;

/* Fails only inside XNNPACK; the chunk's entries are then half-written. */
rs_status rs_chunk_read(rs_context *context, const rs_chunk *chunk);

#endif
