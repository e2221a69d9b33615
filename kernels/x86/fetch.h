/* What is fetched into cache while a panel is multiplied: the source of the next one. */
#ifndef RASURE_KERNELS_X86_FETCH_H
#define RASURE_KERNELS_X86_FETCH_H

#include <immintrin.h>

#include "kernels/inline.h"
#include "kernels/kernels.h"

/* Rows of activations that share the fetching: memory that is asked for too much at once keeps a tile
 * waiting. */
enum { RS_FETCH_ROWS = 16, RS_FETCH_LINE = 64 };

/* A tile's part: `step` bytes with each group of weights, from `begin` on. */
typedef struct rs_fetch {
    const unsigned char *next;
    size_t begin, step;
} rs_fetch;

/* The part of `tile` rows from `row` on, of `rows` in all. */
RS_INLINE rs_fetch rs_fetch_of(const rs_panel *panel, size_t rows, size_t row, size_t tile, size_t groups) {
    const size_t sharing = rows < RS_FETCH_ROWS ? rows : RS_FETCH_ROWS;
    const size_t share = (panel->next_bytes + sharing - 1) / sharing;
    return (rs_fetch){panel->next, row * share, row < sharing ? (tile * share + groups - 1) / groups : 0};
}

RS_INLINE void rs_fetch_step(rs_fetch part, size_t g) {
    const size_t at = part.begin + g * part.step;
    for (size_t i = 0; i < part.step; i += RS_FETCH_LINE)
        _mm_prefetch((const void *)(part.next + at + i), _MM_HINT_T0);
}

#endif
