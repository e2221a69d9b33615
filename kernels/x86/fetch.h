/*
 * Weights are fetched ahead of their use: sixteen rows are read column by column, which the hardware does not
 * foresee. A single activation row's kernels ask for what follows while they read; where there are several
 * rows the product of a panel asks for the source of the next one, as memory would else be idle meanwhile.
 */
#ifndef RASURE_KERNELS_X86_FETCH_H
#define RASURE_KERNELS_X86_FETCH_H

#include <immintrin.h>

#include "kernels/inline.h"
#include "kernels/kernels.h"

enum {
    RS_FETCH_LINE = 64,
    RS_FETCH_AHEAD = 8192, /* bytes: memory takes longer to answer than a small panel to multiply */
    RS_FETCH_ROWS = 16,    /* share a panel's fetching: asked for much at once, memory keeps a tile waiting */
};

/* Where reading rows asks for more, `behind` being what follows them; NULL: nowhere, as the product of their
 * panel will. `panel` NULL: they go into no panel. */
RS_INLINE const uint8_t *rs_fetch_begin(const rs_panel *panel, const uint8_t *behind) {
    return panel != NULL && panel->next != NULL ? NULL : behind + RS_FETCH_AHEAD;
}

/* Asks for `bytes` at *at, and moves on. Into the second cache: the first can wait for few lines at once. */
RS_INLINE void rs_fetch_ahead(const uint8_t **at, size_t bytes) {
    if (*at == NULL) return;
    for (size_t i = 0; i < bytes; i += RS_FETCH_LINE) _mm_prefetch((const void *)(*at + i), _MM_HINT_T1);
    *at += bytes;
}

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
