/* Blocks of KV pages in guarded buffers, as attention is given them. */
#ifndef RASURE_TESTS_KERNELS_PAGES_H
#define RASURE_TESTS_KERNELS_PAGES_H

#include <stdint.h>

#include "kernels/kernels.h"
#include "tests/kernels/guard.h"

typedef struct guarded_page {
    guard k, v, k_scale, v_scale;
    rs_page_view view;
} guarded_page;

/* Which pages of a block have no view. */
typedef enum gaps { NO_GAPS, ODD_GAPS, ALL_BUT_ONE, ALL_GAPS, N_GAPS } gaps;

/* A block of pages and their views. Views of pages that are not there hold nothing but NULL. */
typedef struct guarded_block {
    size_t count;
    guarded_page page[RS_ATTEND_PAGES];
    guard views;
    rs_page_view *view;
} guarded_block;

/* Keys and values in [low, high]; scales of values are not negative. */
guarded_block alloc_block(size_t count, gaps missing, size_t head_dim, guard_side side, int low, int high,
                          uint64_t *seed);
void free_block(guarded_block *block);

#endif
