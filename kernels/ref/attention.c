/* Attention over one KV page in portable C: int8 keys against int8 queries, a streaming softmax, values to
 * float. */
#include <math.h>

#include "kernels/ref/math.h"
#include "kernels/ref/ref.h"

enum { LANES = 8 };

float rs_ref_quantize_head(const float *x, int8_t *q, size_t n) {
    return rs_quantize(x, q, n);
}

void rs_ref_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *page,
                        size_t head_dim, float *score, size_t score_stride) {
    for (size_t r = 0; r < rows; r++, q += head_dim, score += score_stride) {
        int32_t dot[RS_PAGE_ENTRIES] = {0};
        for (size_t d = 0; d < head_dim; d += 4) {
            const int8_t *k = page->k + d * RS_PAGE_ENTRIES;
            RS_KEEP_LOOP
            for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
                dot[e] += q[d] * k[4 * e] + q[d + 1] * k[4 * e + 1] + q[d + 2] * k[4 * e + 2] +
                          q[d + 3] * k[4 * e + 3];
            }
        }
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) score[e] = q_scale[r] * page->k_scale[e] * (float)dot[e];
    }
}

float rs_ref_softmax_step(float *score, size_t n, float *max, float *sum) {
    const size_t even = n / LANES * LANES;
    float top = *max, lane[LANES];
    for (size_t l = 0; l < LANES; l++) lane[l] = *max;
    for (size_t i = 0; i < even; i += LANES) {
        for (size_t l = 0; l < LANES; l++) lane[l] = score[i + l] > lane[l] ? score[i + l] : lane[l];
    }
    for (size_t l = 0; l < LANES; l++) top = lane[l] > top ? lane[l] : top;
    for (size_t i = even; i < n; i++) top = score[i] > top ? score[i] : top;

    if (top == -INFINITY) { /* nothing visible so far: there is no maximum to subtract */
        memset(score, 0, n * sizeof *score);
        return 1.0f;
    }
    const float factor = top > *max ? rs_exp(*max - top) : 1.0f;
    for (size_t i = 0; i < n; i++) score[i] = rs_exp(score[i] - top);

    for (size_t l = 0; l < LANES; l++) lane[l] = 0.0f;
    for (size_t i = 0; i < even; i += LANES) {
        for (size_t l = 0; l < LANES; l++) lane[l] += score[i + l];
    }
    float total = ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
    for (size_t i = even; i < n; i++) total += score[i];
    *sum = *sum * factor + total;
    *max = top;
    return factor;
}

void rs_ref_attend_values(const float *p, size_t p_stride, size_t rows, const rs_page_view *page,
                          size_t head_dim, float *acc) {
    for (size_t r = 0; r < rows; r++, p += p_stride, acc += head_dim) {
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e += 4) {
            const int8_t *v = page->v + e * head_dim;
            const float p0 = p[e] * page->v_scale[e], p1 = p[e + 1] * page->v_scale[e + 1];
            const float p2 = p[e + 2] * page->v_scale[e + 2], p3 = p[e + 3] * page->v_scale[e + 3];
            for (size_t d = 0; d < head_dim; d++) {
                acc[d] += p0 * v[4 * d] + p1 * v[4 * d + 1] + p2 * v[4 * d + 2] + p3 * v[4 * d + 3];
            }
        }
    }
}
