/* Rotating and turning keys in place, NEON: a page's sixteen entries are lanes, which vld4q takes apart. */
#include <arm_neon.h>

#include "kernels/arm/neon.h"
#include "kernels/arm/neon_math.h"

enum {
    HALF = RS_PAGE_ENTRIES / 2, /* lanes of a vector of int16 */
    VECTORS = RS_PAGE_ENTRIES / 4,
};

typedef struct key_lanes {
    int16_t x[RS_HEAD_DIM_MAX][RS_PAGE_ENTRIES];
} key_lanes;

typedef struct float_lanes {
    float x[RS_HEAD_DIM_MAX][RS_PAGE_ENTRIES];
} float_lanes;

static void load_keys(key_lanes *lanes, const int8_t *k, size_t head_dim) {
    for (size_t d = 0; d < head_dim; d += 4) {
        const int8x16x4_t four = vld4q_s8(k + d * RS_PAGE_ENTRIES);
        for (size_t i = 0; i < 4; i++) {
            vst1q_s16(lanes->x[d + i], vmovl_s8(vget_low_s8(four.val[i])));
            vst1q_s16(lanes->x[d + i] + HALF, vmovl_s8(vget_high_s8(four.val[i])));
        }
    }
}

/* All ones for entries that stay. */
static uint8x16_t entries_to_keep(uint32_t which) {
    uint8_t keep[RS_PAGE_ENTRIES];
    for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) keep[e] = which >> e & 1 ? 0 : UINT8_MAX;
    return vld1q_u8(keep);
}

/* An element of all entries. */
typedef struct element {
    float32x4_t of[VECTORS];
} element;

RS_INLINE element to_floats(const int16_t *x) {
    element y;
    for (size_t v = 0; v < VECTORS; v++) y.of[v] = vcvtq_f32_s32(vmovl_s16(vld1_s16(x + 4 * v)));
    return y;
}

RS_INLINE void store_floats(float *x, element y) {
    for (size_t v = 0; v < VECTORS; v++) vst1q_f32(x + 4 * v, y.of[v]);
}

/* What a pair, or a single element with b = 0, makes of the largest length or size so far. Lengths are
 * squared. */
RS_INLINE element larger(element top, element a, element b, int room) {
    for (size_t v = 0; v < VECTORS; v++) {
        const float32x4_t here = room ? vfmaq_f32(vmulq_f32(a.of[v], a.of[v]), b.of[v], b.of[v])
                                      : vmaxq_f32(vabsq_f32(a.of[v]), vabsq_f32(b.of[v]));
        top.of[v] = vmaxq_f32(top.of[v], here);
    }
    return top;
}

/* Rotates into `lanes`; returns the largest of every entry. */
RS_INLINE element rotate(const key_lanes *keys, float_lanes *lanes, const float *cosine, const float *sine,
                         size_t head_dim, size_t dim, int interleaved, int room) {
    element zero, top;
    for (size_t v = 0; v < VECTORS; v++) zero.of[v] = vdupq_n_f32(0);
    top = zero;
    for (size_t i = 0; i < dim / 2; i++) {
        const size_t a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + dim / 2;
        element x = to_floats(keys->x[a]), y = to_floats(keys->x[b]);
        for (size_t v = 0; v < VECTORS; v++) {
            const rs_neon_pairs turned =
                rs_neon_rotate(x.of[v], y.of[v], vdupq_n_f32(cosine[i]), vdupq_n_f32(sine[i]));
            x.of[v] = turned.a;
            y.of[v] = turned.b;
        }
        store_floats(lanes->x[a], x);
        store_floats(lanes->x[b], y);
        top = larger(top, x, y, room);
    }
    for (size_t d = dim; d < head_dim; d++) {
        const element x = to_floats(keys->x[d]);
        store_floats(lanes->x[d], x);
        top = larger(top, x, zero, room);
    }
    if (room)
        for (size_t v = 0; v < VECTORS; v++) top.of[v] = rs_neon_sqrt(top.of[v]);
    return top;
}

/* Gives the entries of `which` the scales with which the largest is `most`; returns what elements are to be
 * multiplied with for that. */
static element rescale(float *scale, element top, float most, uint32_t which) {
    static const uint32_t bit[4] = {1, 2, 4, 8};
    element factor;
    for (size_t v = 0; v < VECTORS; v++, scale += 4, which >>= 4) {
        const uint32x4_t moves = vtstq_u32(vdupq_n_u32(which), vld1q_u32(bit));
        const uint32x4_t is_zero = vceqq_f32(top.of[v], vdupq_n_f32(0));
        const float32x4_t inverse = rs_neon_divide(vdupq_n_f32(most), top.of[v]), old = vld1q_f32(scale);
        const float32x4_t fresh = vmulq_f32(old, rs_neon_divide(top.of[v], vdupq_n_f32(most)));
        factor.of[v] = vbslq_f32(is_zero, vdupq_n_f32(0), inverse);
        vst1q_f32(scale, vbslq_f32(moves, fresh, old));
    }
    return factor;
}

/* Rounded to nearest. */
static void store_rotated(const float_lanes *lanes, element factor, uint8x16_t keep, int8_t *k,
                          size_t head_dim) {
    for (size_t d = 0; d < head_dim; d += 4) {
        int8x16x4_t four = vld4q_s8(k + d * RS_PAGE_ENTRIES);
        for (size_t i = 0; i < 4; i++) {
            element x;
            for (size_t v = 0; v < VECTORS; v++) x.of[v] = vld1q_f32(lanes->x[d + i] + 4 * v);
            four.val[i] = vbslq_s8(keep, four.val[i], rs_neon_round16_by(x.of, factor.of));
        }
        vst4q_s8(k + d * RS_PAGE_ENTRIES, four);
    }
}

void rs_neon_rotate_keys(const rs_page_view *page, uint32_t which, const float *cosine, const float *sine,
                         size_t head_dim, size_t dim, int interleaved, int room) {
    key_lanes keys;
    float_lanes lanes;
    load_keys(&keys, page->k, head_dim);
    const element top = room ? rotate(&keys, &lanes, cosine, sine, head_dim, dim, interleaved, 1)
                             : rotate(&keys, &lanes, cosine, sine, head_dim, dim, interleaved, 0);
    const element factor = rescale(page->k_scale, top, room ? RS_TURN_RADIUS : 127.0f, which);
    store_rotated(&lanes, factor, entries_to_keep(which), page->k, head_dim);
}

/* What leaves [-127, 127], of keys without room, stops there. */
static void store_turned(const key_lanes *lanes, uint8x16_t keep, int8_t *k, size_t head_dim) {
    for (size_t d = 0; d < head_dim; d += 4) {
        int8x16x4_t four = vld4q_s8(k + d * RS_PAGE_ENTRIES);
        for (size_t i = 0; i < 4; i++) {
            const int16_t *x = lanes->x[d + i];
            const int8x16_t narrow = vcombine_s8(vqmovn_s16(vld1q_s16(x)), vqmovn_s16(vld1q_s16(x + HALF)));
            four.val[i] = vbslq_s8(keep, four.val[i], vmaxq_s8(narrow, vdupq_n_s8(-127)));
        }
        vst4q_s8(k + d * RS_PAGE_ENTRIES, four);
    }
}

/* Two elements of eight entries. */
typedef struct pair {
    int16x8_t a, b;
} pair;

RS_INLINE pair turn_quarters(pair p, unsigned quarters) {
    if (quarters & 2) p = (pair){vnegq_s16(p.a), vnegq_s16(p.b)};
    return quarters & 1 ? (pair){vnegq_s16(p.b), p.a} : p;
}

RS_INLINE pair turn_on(pair p, const rs_turn *turn, size_t i) {
    p = turn_quarters(p, turn->quarters[i]);
    p.a = vaddq_s16(p.a, vqrdmulhq_n_s16(p.b, (int16_t)-turn->tangent[i]));
    p.b = vaddq_s16(p.b, vqrdmulhq_n_s16(p.a, turn->sine[i]));
    p.a = vaddq_s16(p.a, vqrdmulhq_n_s16(p.b, (int16_t)-turn->tangent[i]));
    return p;
}

RS_INLINE pair turn_back(pair p, const rs_turn *turn, size_t i) {
    p.a = vsubq_s16(p.a, vqrdmulhq_n_s16(p.b, (int16_t)-turn->tangent[i]));
    p.b = vsubq_s16(p.b, vqrdmulhq_n_s16(p.a, turn->sine[i]));
    p.a = vsubq_s16(p.a, vqrdmulhq_n_s16(p.b, (int16_t)-turn->tangent[i]));
    return turn_quarters(p, 4u - turn->quarters[i]);
}

void rs_neon_turn_keys(const rs_page_view *page, uint32_t which, const rs_turn *back, const rs_turn *turn,
                       size_t head_dim, size_t dim, int interleaved) {
    key_lanes lanes;
    load_keys(&lanes, page->k, head_dim);
    for (size_t i = 0; i < dim / 2; i++) {
        int16_t *a = lanes.x[interleaved ? 2 * i : i], *b = lanes.x[interleaved ? 2 * i + 1 : i + dim / 2];
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e += HALF) {
            pair p = {vld1q_s16(a + e), vld1q_s16(b + e)};
            if (back != NULL) p = turn_back(p, back, i);
            p = turn_on(p, turn, i);
            vst1q_s16(a + e, p.a);
            vst1q_s16(b + e, p.b);
        }
    }
    store_turned(&lanes, entries_to_keep(which), page->k, head_dim);
}
