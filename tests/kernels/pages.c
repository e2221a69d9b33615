#include "tests/kernels/pages.h"

#include <math.h>
#include <stdbool.h>

#include "tests/kernels/random.h"

static guarded_page alloc_page(size_t head_dim, guard_side side, int low, int high, uint64_t *seed) {
    guarded_page p;
    p.k = guard_alloc(RS_PAGE_ENTRIES * head_dim, side);
    p.v = guard_alloc(RS_PAGE_ENTRIES * head_dim, side);
    p.k_scale = guard_alloc(RS_PAGE_ENTRIES * sizeof(float), side);
    p.v_scale = guard_alloc(RS_PAGE_ENTRIES * sizeof(float), side);
    p.view =
        (rs_page_view){.k = p.k.data, .v = p.v.data, .k_scale = p.k_scale.data, .v_scale = p.v_scale.data};
    for (size_t i = 0; i < RS_PAGE_ENTRIES * head_dim; i++) {
        p.view.k[i] = random_int8(seed, low, high);
        p.view.v[i] = random_int8(seed, low, high);
    }
    fill_scales(p.view.k_scale, RS_PAGE_ENTRIES, seed);
    fill_scales(p.view.v_scale, RS_PAGE_ENTRIES, seed);
    for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) p.view.v_scale[e] = fabsf(p.view.v_scale[e]);
    return p;
}

static void free_page(guarded_page *p) {
    guard_free(&p->k);
    guard_free(&p->v);
    guard_free(&p->k_scale);
    guard_free(&p->v_scale);
}

guarded_block alloc_block(size_t count, gaps missing, size_t head_dim, guard_side side, int low, int high,
                          uint64_t *seed) {
    guarded_block block = {.count = count, .views = guard_alloc(count * sizeof(rs_page_view), side)};
    const size_t kept = (size_t)(next_random(seed) % count);
    block.view = block.views.data;
    for (size_t p = 0; p < count; p++) {
        const bool present[N_GAPS] = {true, p % 2 == kept % 2, p == kept, false};
        block.page[p] = alloc_page(head_dim, side, low, high, seed);
        block.view[p] = present[missing] ? block.page[p].view : (rs_page_view){.k = NULL};
        if (present[missing] && p > 0) block.view[p].next = block.page[p - 1].view.k;
    }
    return block;
}

void free_block(guarded_block *block) {
    for (size_t p = 0; p < block->count; p++) free_page(&block->page[p]);
    guard_free(&block->views);
}
