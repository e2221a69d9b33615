/* rotate_keys, with a page's sixteen entries as lanes: for compilers to make vector code of, at every level.
 */
#ifndef RASURE_KERNELS_ROTATE_KEYS_H
#define RASURE_KERNELS_ROTATE_KEYS_H

#include "kernels/inline.h"
#include "kernels/kernels.h"
#include "kernels/ref/math.h"

typedef struct rs_key_lanes {
    float x[RS_HEAD_DIM_MAX][RS_PAGE_ENTRIES]; /* what the scales are to be multiplied with */
} rs_key_lanes;

/* A word holds four neighbouring elements of an entry, the first in its lowest byte. */
RS_INLINE void rs_load_keys(rs_key_lanes *lanes, const int8_t *k, size_t head_dim) {
    for (size_t d = 0; d < head_dim; d += 4) {
        uint32_t word[RS_PAGE_ENTRIES];
        memcpy(word, k + d * RS_PAGE_ENTRIES, sizeof word);
        for (size_t i = 0; i < 4; i++) {
            RS_KEEP_LOOP
            for (size_t e = 0; e < RS_PAGE_ENTRIES; e++)
                lanes->x[d + i][e] = (float)((int32_t)(word[e] << (24 - 8 * i)) >> 24);
        }
    }
}

RS_INLINE void rs_rotate_lanes(float *a, float *b, float cosine, float sine) {
    RS_KEEP_LOOP
    for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
        const float x = a[e], y = b[e];
        a[e] = x * cosine - y * sine;
        b[e] = x * sine + y * cosine;
    }
}

/* Magnitudes order as integers do, which vectorises without -ffast-math. */
RS_INLINE void rs_largest_of_lanes(const rs_key_lanes *lanes, size_t head_dim, float *largest) {
    int32_t top[RS_PAGE_ENTRIES] = {0};
    for (size_t d = 0; d < head_dim; d++) {
        RS_KEEP_LOOP
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
            const int32_t bits = (int32_t)(rs_float_bits(lanes->x[d][e]) & 0x7fffffffu);
            top[e] = bits > top[e] ? bits : top[e];
        }
    }
    memcpy(largest, top, sizeof top);
}

/* Rounded to nearest; entries whose word of `keep` is all ones stay. */
RS_INLINE void rs_store_keys(const rs_key_lanes *lanes, const float *inverse, const uint32_t *keep, int8_t *k,
                             size_t head_dim) {
    for (size_t d = 0; d < head_dim; d += 4) {
        uint32_t word[RS_PAGE_ENTRIES], old[RS_PAGE_ENTRIES];
        memset(word, 0, sizeof word);
        memcpy(old, k + d * RS_PAGE_ENTRIES, sizeof old);
        for (size_t i = 0; i < 4; i++) {
            RS_KEEP_LOOP
            for (size_t e = 0; e < RS_PAGE_ENTRIES; e++)
                word[e] |= (rs_float_bits(lanes->x[d + i][e] * inverse[e] + 0x1.8p23f) & 0xffu) << 8 * i;
        }
        RS_KEEP_LOOP
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) word[e] = (old[e] & keep[e]) | (word[e] & ~keep[e]);
        memcpy(k + d * RS_PAGE_ENTRIES, word, sizeof word);
    }
}

RS_INLINE void rs_rotate_keys_in_lanes(const rs_page_view *page, uint32_t which, const float *cosine,
                                       const float *sine, size_t head_dim, size_t dim, int interleaved) {
    rs_key_lanes lanes;
    float largest[RS_PAGE_ENTRIES], inverse[RS_PAGE_ENTRIES];
    uint32_t keep[RS_PAGE_ENTRIES];
    rs_load_keys(&lanes, page->k, head_dim);
    for (size_t i = 0; i < dim / 2; i++) {
        const size_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + dim / 2;
        rs_rotate_lanes(lanes.x[a], lanes.x[b], cosine[i], sine[i]);
    }
    rs_largest_of_lanes(&lanes, head_dim, largest);
    for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
        keep[e] = which >> e & 1 ? 0 : UINT32_MAX;
        inverse[e] = largest[e] > 0 ? 127.0f / largest[e] : 0;
        if (!keep[e]) page->k_scale[e] *= largest[e] / 127.0f;
    }
    rs_store_keys(&lanes, inverse, keep, page->k, head_dim);
}

#endif
