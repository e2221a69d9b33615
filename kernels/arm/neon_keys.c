/* Turning keys in place, NEON: a page's sixteen entries are lanes, which vld4q takes apart. */
#include <arm_neon.h>

#include "kernels/arm/neon.h"
#include "kernels/inline.h"

enum { HALF = RS_PAGE_ENTRIES / 2 }; /* lanes of a vector of int16 */

typedef struct key_lanes {
    int16_t x[RS_HEAD_DIM_MAX][RS_PAGE_ENTRIES];
} key_lanes;

static void load_keys(key_lanes *lanes, const int8_t *k, size_t head_dim) {
    for (size_t d = 0; d < head_dim; d += 4) {
        const int8x16x4_t four = vld4q_s8(k + d * RS_PAGE_ENTRIES);
        for (size_t i = 0; i < 4; i++) {
            vst1q_s16(lanes->x[d + i], vmovl_s8(vget_low_s8(four.val[i])));
            vst1q_s16(lanes->x[d + i] + HALF, vmovl_s8(vget_high_s8(four.val[i])));
        }
    }
}

/* What leaves [-127, 127], of keys without room, stops there. */
static void store_keys(const key_lanes *lanes, uint8x16_t keep, int8_t *k, size_t head_dim) {
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
    uint8_t keep[RS_PAGE_ENTRIES];
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
    for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) keep[e] = which >> e & 1 ? 0 : UINT8_MAX;
    store_keys(&lanes, vld1q_u8(keep), page->k, head_dim);
}
