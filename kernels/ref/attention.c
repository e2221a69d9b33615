/* Attention over one KV page in portable C: int8 keys against int8 queries, a streaming softmax, values to
 * float. */
#include <math.h>

#include "kernels/inline.h"
#include "kernels/ref/math.h"
#include "kernels/ref/ref.h"

enum { LANES = 8 };

float rs_ref_quantize_head(const float *x, int8_t *q, size_t n) {
    return rs_quantize(x, q, n);
}

static void keys_of_page(const int8_t *q, float q_scale, const rs_page_view *page, size_t head_dim,
                         float *score) {
    int32_t dot[RS_PAGE_ENTRIES] = {0};
    for (size_t d = 0; d < head_dim; d += 4) {
        const int8_t *k = page->k + d * RS_PAGE_ENTRIES;
        RS_KEEP_LOOP
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
            dot[e] +=
                q[d] * k[4 * e] + q[d + 1] * k[4 * e + 1] + q[d + 2] * k[4 * e + 2] + q[d + 3] * k[4 * e + 3];
        }
    }
    for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) score[e] = q_scale * page->k_scale[e] * (float)dot[e];
}

void rs_ref_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                        size_t n_pages, size_t head_dim, float *score, size_t score_stride) {
    for (size_t p = 0; p < n_pages; p++) {
        if (pages[p].k == NULL) continue;
        for (size_t r = 0; r < rows; r++) {
            keys_of_page(q + r * head_dim, q_scale[r], &pages[p], head_dim,
                         score + r * score_stride + p * RS_PAGE_ENTRIES);
        }
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

    if (top == -INFINITY) return rs_softmax_of_none(score, n, max, sum);
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

/* A row's weights in fourteen bits, upper and lower seven apart; returns what 1 stands for, 0 when there is
 * nothing to add. */
static float split_weights(const float *prob, const rs_page_view *pages, size_t n_pages,
                           int8_t upper[RS_ATTEND_PAGES * RS_PAGE_ENTRIES],
                           int8_t lower[RS_ATTEND_PAGES * RS_PAGE_ENTRIES]) {
    float weight[RS_ATTEND_PAGES * RS_PAGE_ENTRIES];
    uint32_t top = 0; /* of magnitudes' bits: NaN above all, so that it is not lost */
    const size_t n = n_pages * RS_PAGE_ENTRIES;
    for (size_t i = 0; i < n; i++) {
        const rs_page_view *page = &pages[i / RS_PAGE_ENTRIES];
        weight[i] = page->v != NULL ? prob[i] * page->v_scale[i % RS_PAGE_ENTRIES] : 0.0f;
        const uint32_t magnitude = rs_float_bits(weight[i]) & 0x7fffffffu;
        top = magnitude > top ? magnitude : top;
    }
    const float max = rs_bits_float(top);
    if (max < RS_WEIGHT_MIN) return 0.0f;
    const float inverse = RS_WEIGHT_STEPS / max;
    for (size_t i = 0; i < n; i++) {
        const uint32_t steps = rs_float_bits(weight[i] * inverse + 0x1p23f) & 0x3fff;
        upper[i] = (int8_t)(steps >> 7);
        lower[i] = (int8_t)(steps & 127);
    }
    return max / RS_WEIGHT_STEPS;
}

/* sum[d] = sum over the entries of weight * v; exact: 128 products of less than 2^14. */
static void sum_values(const int8_t *weight, const rs_page_view *pages, size_t n_pages, size_t head_dim,
                       int32_t *sum) {
    memset(sum, 0, head_dim * sizeof *sum);
    for (size_t p = 0; p < n_pages; p++) {
        for (size_t e = 0; e < RS_PAGE_ENTRIES && pages[p].v != NULL; e += 4) {
            const int8_t *w = weight + p * RS_PAGE_ENTRIES + e, *v = pages[p].v + e * head_dim;
            for (size_t d = 0; d < head_dim; d++) {
                sum[d] += w[0] * v[4 * d] + w[1] * v[4 * d + 1] + w[2] * v[4 * d + 2] + w[3] * v[4 * d + 3];
            }
        }
    }
}

void rs_ref_attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                          const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc) {
    int8_t upper[RS_ATTEND_PAGES * RS_PAGE_ENTRIES], lower[RS_ATTEND_PAGES * RS_PAGE_ENTRIES];
    int32_t upper_sum[RS_HEAD_DIM_MAX], lower_sum[RS_HEAD_DIM_MAX];
    for (size_t r = 0; r < rows; r++, prob += stride, acc += head_dim) {
        const float unit = split_weights(prob, pages, n_pages, upper, lower);
        if (unit == 0.0f) {
            for (size_t d = 0; d < head_dim; d++) acc[d] *= factor[r];
            continue;
        }
        sum_values(upper, pages, n_pages, head_dim, upper_sum);
        sum_values(lower, pages, n_pages, head_dim, lower_sum);
        for (size_t d = 0; d < head_dim; d++) {
            acc[d] = acc[d] * factor[r] + unit * (float)(upper_sum[d] * 128 + lower_sum[d]);
        }
    }
}
