/* Attention over blocks of KV pages: the one source of both levels, as kernels/arm/dot.h. */
#ifndef RASURE_KERNELS_ARM_ATTENTION_H
#define RASURE_KERNELS_ARM_ATTENTION_H

#include "kernels/arm/dot.h"
#include "kernels/kernels.h"
#include "kernels/ref/math.h"

/* Queries, or seven-bit halves of rows of weights, against registers of four entries or dimensions. */
#if defined(__ARM_FEATURE_DOTPROD)
enum { RS_ARM_ATTEND_TILE = 4, RS_ARM_ATTEND_WIDTH = 4 };
#elif defined(__aarch64__)
enum { RS_ARM_ATTEND_TILE = 2, RS_ARM_ATTEND_WIDTH = 4 };
#else
enum { RS_ARM_ATTEND_TILE = 2, RS_ARM_ATTEND_WIDTH = 2 };
#endif

enum { RS_ARM_ENTRIES = RS_ATTEND_PAGES * RS_PAGE_ENTRIES };

/* `tile` queries against some of a page's keys. */
RS_INLINE void rs_arm_keys_tile(size_t tile, const int8_t *q, const float *q_scale, const int8_t *k,
                                const float *k_scale, size_t head_dim, float *score, size_t score_stride) {
    int32x4_t dot[RS_ARM_ROWS][RS_ARM_WIDTH];
    for (size_t r = 0; r < tile; r++) {
        for (size_t c = 0; c < RS_ARM_ATTEND_WIDTH; c++) dot[r][c] = vdupq_n_s32(0);
    }
    rs_arm_dot(tile, RS_ARM_ATTEND_WIDTH, RS_ARM_RUN_S8, k, 4 * RS_PAGE_ENTRIES, q, head_dim, head_dim / 4,
               dot);
    for (size_t r = 0; r < tile; r++) {
        for (size_t c = 0; c < RS_ARM_ATTEND_WIDTH; c++) {
            const float32x4_t scale = vmulq_f32(vdupq_n_f32(q_scale[r]), vld1q_f32(k_scale + 4 * c));
            vst1q_f32(score + r * score_stride + 4 * c, vmulq_f32(scale, vcvtq_f32_s32(dot[r][c])));
        }
    }
}

RS_INLINE void rs_arm_keys_of_pages(size_t tile, const int8_t *q, const float *q_scale,
                                    const rs_page_view *pages, size_t n_pages, size_t head_dim, float *score,
                                    size_t score_stride) {
    for (size_t p = 0; p < n_pages; p++) {
        if (pages[p].k == NULL) continue;
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e += 4 * RS_ARM_ATTEND_WIDTH) {
            rs_arm_keys_tile(tile, q, q_scale, pages[p].k + 4 * e, pages[p].k_scale + e, head_dim,
                             score + p * RS_PAGE_ENTRIES + e, score_stride);
        }
    }
}

RS_INLINE void rs_arm_attend_keys(const int8_t *q, const float *q_scale, size_t rows,
                                  const rs_page_view *pages, size_t n_pages, size_t head_dim, float *score,
                                  size_t score_stride) {
    while (rows > 0) {
        const size_t tile = rows >= RS_ARM_ATTEND_TILE ? RS_ARM_ATTEND_TILE : rows;
        if (tile == RS_ARM_ATTEND_TILE) {
            rs_arm_keys_of_pages(RS_ARM_ATTEND_TILE, q, q_scale, pages, n_pages, head_dim, score,
                                 score_stride);
        } else if (tile == 3) {
            rs_arm_keys_of_pages(3, q, q_scale, pages, n_pages, head_dim, score, score_stride);
        } else if (tile == 2) {
            rs_arm_keys_of_pages(2, q, q_scale, pages, n_pages, head_dim, score, score_stride);
        } else {
            rs_arm_keys_of_pages(1, q, q_scale, pages, n_pages, head_dim, score, score_stride);
        }
        q += tile * head_dim;
        q_scale += tile;
        score += tile * score_stride;
        rows -= tile;
    }
}

/* A row's weights, sixteen a page, in two times seven bits; returns what 1 stands for, 0 when there is
 * nothing to add (and then they are 0). */
RS_INLINE float rs_arm_split_weights(const float *prob, const rs_page_view *pages, size_t n_pages,
                                     int8_t *upper, int8_t *lower) {
    float weight[RS_ARM_ENTRIES];
    float32x4_t top = vdupq_n_f32(0.0f);
    for (size_t p = 0; p < n_pages; p++) {
        for (size_t e = p * RS_PAGE_ENTRIES; e < (p + 1) * RS_PAGE_ENTRIES; e += 4) {
            float32x4_t w = vdupq_n_f32(0.0f);
            if (pages[p].v != NULL)
                w = vmulq_f32(vld1q_f32(prob + e), vld1q_f32(pages[p].v_scale + e % RS_PAGE_ENTRIES));
            vst1q_f32(weight + e, w);
            top = vmaxq_f32(top, w);
        }
    }
    const float max = rs_neon_max(top);
    if (max < RS_WEIGHT_MIN) {
        memset(upper, 0, n_pages * RS_PAGE_ENTRIES);
        memset(lower, 0, n_pages * RS_PAGE_ENTRIES);
        return 0.0f;
    }
    const float32x4_t inverse = vdupq_n_f32(RS_WEIGHT_STEPS / max);
    for (size_t e = 0; e < n_pages * RS_PAGE_ENTRIES; e += 8) {
        const int32x4_t low = rs_neon_round(vmulq_f32(vld1q_f32(weight + e), inverse));
        const int32x4_t high = rs_neon_round(vmulq_f32(vld1q_f32(weight + e + 4), inverse));
        const int16x8_t steps = vcombine_s16(vmovn_s32(low), vmovn_s32(high));
        vst1_s8(upper + e, vshrn_n_s16(steps, 7));
        vst1_s8(lower + e, vand_s8(vmovn_s16(steps), vdup_n_s8(127)));
    }
    return max / RS_WEIGHT_STEPS;
}

/* `tile` rows, each of an upper and a lower half, times some dimensions of the values. */
RS_INLINE void rs_arm_values_tile(size_t tile, const int8_t *weights, const float *unit, const float *factor,
                                  const rs_page_view *pages, size_t n_pages, size_t head_dim, size_t d,
                                  float *acc) {
    int32x4_t dot[RS_ARM_ROWS][RS_ARM_WIDTH];
    for (size_t r = 0; r < 2 * tile; r++) {
        for (size_t c = 0; c < RS_ARM_ATTEND_WIDTH; c++) dot[r][c] = vdupq_n_s32(0);
    }
    for (size_t p = 0; p < n_pages; p++) {
        if (pages[p].v == NULL) continue;
        rs_arm_dot(2 * tile, RS_ARM_ATTEND_WIDTH, RS_ARM_RUN_S8, pages[p].v + 4 * d, 4 * head_dim,
                   weights + p * RS_PAGE_ENTRIES, RS_ARM_ENTRIES, RS_PAGE_ENTRIES / 4, dot);
    }
    for (size_t r = 0; r < tile; r++) {
        for (size_t c = 0; c < RS_ARM_ATTEND_WIDTH; c++) {
            float *at = acc + r * head_dim + d + 4 * c;
            const float32x4_t old = vmulq_f32(vld1q_f32(at), vdupq_n_f32(factor[r]));
            const int32x4_t sum = vaddq_s32(vshlq_n_s32(dot[2 * r][c], 7), dot[2 * r + 1][c]);
            vst1q_f32(at, vfmaq_f32(old, vcvtq_f32_s32(sum), vdupq_n_f32(unit[r])));
        }
    }
}

RS_INLINE void rs_arm_values_of_pages(size_t tile, const float *prob, size_t stride, const float *factor,
                                      const rs_page_view *pages, size_t n_pages, size_t head_dim,
                                      float *acc) {
    int8_t weights[RS_ARM_ATTEND_TILE][RS_ARM_ENTRIES];
    float unit[RS_ARM_ATTEND_TILE / 2];
    for (size_t r = 0; r < tile; r++)
        unit[r] = rs_arm_split_weights(prob + r * stride, pages, n_pages, weights[2 * r], weights[2 * r + 1]);
    for (size_t d = 0; d < head_dim; d += 4 * RS_ARM_ATTEND_WIDTH)
        rs_arm_values_tile(tile, weights[0], unit, factor, pages, n_pages, head_dim, d, acc);
}

RS_INLINE void rs_arm_attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                                    const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc) {
    const size_t tile = RS_ARM_ATTEND_TILE / 2;
    for (; rows >= tile; rows -= tile, prob += tile * stride, factor += tile, acc += tile * head_dim)
        rs_arm_values_of_pages(tile, prob, stride, factor, pages, n_pages, head_dim, acc);
    if (rows > 0) rs_arm_values_of_pages(1, prob, stride, factor, pages, n_pages, head_dim, acc);
}

#endif
