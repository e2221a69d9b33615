/* rotate_keys and turn_keys, with a page's sixteen entries as lanes: for compilers to make vector code of, at
 * every level. */
#ifndef RASURE_KERNELS_ROTATE_KEYS_H
#define RASURE_KERNELS_ROTATE_KEYS_H

#include <math.h>

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

/* The same for the longest pair, and what is past dim. */
RS_INLINE void rs_longest_of_lanes(const rs_key_lanes *lanes, size_t head_dim, size_t dim, int interleaved,
                                   float *longest) {
    float top[RS_PAGE_ENTRIES] = {0};
    for (size_t i = 0; i < dim / 2; i++) {
        const size_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + dim / 2;
        RS_KEEP_LOOP
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
            const float square = lanes->x[a][e] * lanes->x[a][e] + lanes->x[b][e] * lanes->x[b][e];
            top[e] = square > top[e] ? square : top[e];
        }
    }
    for (size_t d = dim; d < head_dim; d++) {
        RS_KEEP_LOOP
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
            const float square = lanes->x[d][e] * lanes->x[d][e];
            top[e] = square > top[e] ? square : top[e];
        }
    }
    for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) longest[e] = sqrtf(top[e]);
}

/* Words of a page's entries, all ones for those that stay. */
RS_INLINE void rs_words_to_keep(uint32_t which, uint32_t *keep) {
    for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) keep[e] = which >> e & 1 ? 0 : UINT32_MAX;
}

RS_INLINE void rs_store_words(int8_t *k, uint32_t *word, const uint32_t *keep) {
    uint32_t old[RS_PAGE_ENTRIES];
    memcpy(old, k, sizeof old);
    RS_KEEP_LOOP
    for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) word[e] = (old[e] & keep[e]) | (word[e] & ~keep[e]);
    memcpy(k, word, sizeof old);
}

/* Rounded to nearest. */
RS_INLINE void rs_store_keys(const rs_key_lanes *lanes, const float *inverse, const uint32_t *keep, int8_t *k,
                             size_t head_dim) {
    for (size_t d = 0; d < head_dim; d += 4) {
        uint32_t word[RS_PAGE_ENTRIES] = {0};
        for (size_t i = 0; i < 4; i++) {
            RS_KEEP_LOOP
            for (size_t e = 0; e < RS_PAGE_ENTRIES; e++)
                word[e] |= (rs_float_bits(lanes->x[d + i][e] * inverse[e] + 0x1.8p23f) & 0xffu) << 8 * i;
        }
        rs_store_words(k + d * RS_PAGE_ENTRIES, word, keep);
    }
}

RS_INLINE void rs_rotate_keys_in_lanes(const rs_page_view *page, uint32_t which, const float *cosine,
                                       const float *sine, size_t head_dim, size_t dim, int interleaved,
                                       int room) {
    const float most = room ? RS_TURN_RADIUS : 127.0f;
    rs_key_lanes lanes;
    float largest[RS_PAGE_ENTRIES], inverse[RS_PAGE_ENTRIES];
    uint32_t keep[RS_PAGE_ENTRIES];
    rs_load_keys(&lanes, page->k, head_dim);
    for (size_t i = 0; i < dim / 2; i++) {
        const size_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + dim / 2;
        rs_rotate_lanes(lanes.x[a], lanes.x[b], cosine[i], sine[i]);
    }
    if (room) rs_longest_of_lanes(&lanes, head_dim, dim, interleaved, largest);
    else rs_largest_of_lanes(&lanes, head_dim, largest);
    rs_words_to_keep(which, keep);
    for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
        inverse[e] = largest[e] > 0 ? most / largest[e] : 0;
        if (!keep[e]) page->k_scale[e] *= largest[e] / most;
    }
    rs_store_keys(&lanes, inverse, keep, page->k, head_dim);
}

typedef struct rs_turn_lanes {
    int16_t x[RS_HEAD_DIM_MAX][RS_PAGE_ENTRIES];
} rs_turn_lanes;

RS_INLINE void rs_load_turned(rs_turn_lanes *lanes, const int8_t *k, size_t head_dim) {
    for (size_t d = 0; d < head_dim; d += 4) {
        uint32_t word[RS_PAGE_ENTRIES];
        memcpy(word, k + d * RS_PAGE_ENTRIES, sizeof word);
        for (size_t i = 0; i < 4; i++) {
            RS_KEEP_LOOP
            for (size_t e = 0; e < RS_PAGE_ENTRIES; e++)
                lanes->x[d + i][e] = (int16_t)((int32_t)(word[e] << (24 - 8 * i)) >> 24);
        }
    }
}

/* What leaves [-127, 127], of keys without room, stops there. */
RS_INLINE void rs_store_turned(const rs_turn_lanes *lanes, const uint32_t *keep, int8_t *k, size_t head_dim) {
    for (size_t d = 0; d < head_dim; d += 4) {
        uint32_t word[RS_PAGE_ENTRIES] = {0};
        for (size_t i = 0; i < 4; i++) {
            RS_KEEP_LOOP
            for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
                const int16_t x = lanes->x[d + i][e], least = x > -127 ? x : -127;
                word[e] |= ((uint32_t)(least < 127 ? least : 127) & 0xffu) << 8 * i;
            }
        }
        rs_store_words(k + d * RS_PAGE_ENTRIES, word, keep);
    }
}

/* factor * b to nearest: what pmulhrsw gives. */
RS_INLINE int16_t rs_shear_of(int16_t b, int16_t factor) {
    return (int16_t)(((((int32_t)b * factor) >> 14) + 1) >> 1);
}

/* a += factor * b */
RS_INLINE void rs_shear_lanes(int16_t *a, const int16_t *b, int16_t factor) {
    RS_KEEP_LOOP
    for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) a[e] = (int16_t)(a[e] + rs_shear_of(b[e], factor));
}

/* The same, taken back. */
RS_INLINE void rs_unshear_lanes(int16_t *a, const int16_t *b, int16_t factor) {
    RS_KEEP_LOOP
    for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) a[e] = (int16_t)(a[e] - rs_shear_of(b[e], factor));
}

RS_INLINE void rs_turn_quarters(int16_t *a, int16_t *b, unsigned quarters) {
    if (quarters & 2) {
        RS_KEEP_LOOP
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
            a[e] = (int16_t)-a[e];
            b[e] = (int16_t)-b[e];
        }
    }
    if (quarters & 1) {
        RS_KEEP_LOOP
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
            const int16_t x = a[e];
            a[e] = (int16_t)-b[e];
            b[e] = x;
        }
    }
}

RS_INLINE void rs_turn_keys_in_lanes(const rs_page_view *page, uint32_t which, const rs_turn *back,
                                     const rs_turn *turn, size_t head_dim, size_t dim, int interleaved) {
    rs_turn_lanes lanes;
    uint32_t keep[RS_PAGE_ENTRIES];
    rs_load_turned(&lanes, page->k, head_dim);
    for (size_t i = 0; i < dim / 2; i++) {
        int16_t *a = lanes.x[interleaved ? 2 * i : i], *b = lanes.x[interleaved ? 2 * i + 1 : i + dim / 2];
        if (back != NULL) {
            rs_unshear_lanes(a, b, (int16_t)-back->tangent[i]);
            rs_unshear_lanes(b, a, back->sine[i]);
            rs_unshear_lanes(a, b, (int16_t)-back->tangent[i]);
            rs_turn_quarters(a, b, 4u - back->quarters[i]);
        }
        rs_turn_quarters(a, b, turn->quarters[i]);
        rs_shear_lanes(a, b, (int16_t)-turn->tangent[i]);
        rs_shear_lanes(b, a, turn->sine[i]);
        rs_shear_lanes(a, b, (int16_t)-turn->tangent[i]);
    }
    rs_words_to_keep(which, keep);
    rs_store_turned(&lanes, keep, page->k, head_dim);
}

#endif
