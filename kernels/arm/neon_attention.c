/* Attention over blocks of KV pages, NEON. */
#include <math.h>

#include "kernels/arm/attention.h"
#include "kernels/arm/neon.h"

float rs_neon_quantize_head(const float *x, int8_t *q, size_t n) {
    float32x4_t top = vdupq_n_f32(0.0f);
    for (size_t i = 0; i < n; i += 4) top = vmaxq_f32(top, vabsq_f32(vld1q_f32(x + i)));
    const float max = rs_neon_max(top);
    if (max < RS_NEON_QUANTIZE_MIN) return rs_quantize(x, q, n);
    for (size_t i = 0; i < n; i += 16) {
        const float32x4_t v[4] = {vld1q_f32(x + i), vld1q_f32(x + i + 4), vld1q_f32(x + i + 8),
                                  vld1q_f32(x + i + 12)};
        vst1q_s8(q + i, rs_neon_round16(v, 127.0f / max));
    }
    return max / 127.0f;
}

void rs_neon_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                         size_t n_pages, size_t head_dim, float *score, size_t score_stride) {
    rs_arm_attend_keys(q, q_scale, rows, pages, n_pages, head_dim, score, score_stride);
}

float rs_neon_softmax_step(float *score, size_t n, float *max, float *sum) {
    const size_t even = n / 4 * 4;
    float32x4_t top_lanes = vdupq_n_f32(*max);
    for (size_t i = 0; i < even; i += 4) top_lanes = vmaxq_f32(top_lanes, vld1q_f32(score + i));
    float top = rs_neon_max(top_lanes);
    for (size_t i = even; i < n; i++) top = score[i] > top ? score[i] : top;
    if (top == -INFINITY) return rs_softmax_of_none(score, n, max, sum);
    const float factor = top > *max ? rs_exp(*max - top) : 1.0f;
    float32x4_t total_lanes = vdupq_n_f32(0.0f);
    for (size_t i = 0; i < even; i += 4) {
        const float32x4_t p = rs_neon_exp(vsubq_f32(vld1q_f32(score + i), vdupq_n_f32(top)));
        vst1q_f32(score + i, p);
        total_lanes = vaddq_f32(total_lanes, p);
    }
    float total = rs_neon_sum(total_lanes);
    for (size_t i = even; i < n; i++) {
        score[i] = rs_exp(score[i] - top);
        total += score[i];
    }
    *sum = *sum * factor + total;
    *max = top;
    return factor;
}

void rs_neon_attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                           const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc) {
    rs_arm_attend_values(prob, stride, factor, rows, pages, n_pages, head_dim, acc);
}
