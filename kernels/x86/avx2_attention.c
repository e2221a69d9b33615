/* Attention over blocks of KV pages, AVX2. */
#include <math.h>
#include <string.h>

#include "kernels/ref/math.h"
#include "kernels/x86/attention256.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/avx2_math.h"

float rs_avx2_quantize_head(const float *x, int8_t *q, size_t n) {
    __m256 top = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8) top = rs_avx2_larger(top, rs_avx2_abs(_mm256_loadu_ps(x + i)));
    const float max = rs_avx2_largest_magnitude(top);
    if (max < RS_QUANTIZE_MIN) {
        memset(q, 0, n);
        return 0.0f;
    }
    const __m256 inverse = _mm256_set1_ps(127.0f / max);
    for (size_t i = 0; i < n; i += 16) {
        const __m256 v[4] = {_mm256_loadu_ps(x + i), _mm256_loadu_ps(x + i + 8), _mm256_setzero_ps(),
                             _mm256_setzero_ps()};
        _mm_storeu_si128((__m128i *)(void *)(q + i), _mm256_castsi256_si128(rs_avx2_round32(v, inverse)));
    }
    return max / 127.0f;
}

float rs_avx2_softmax_step(float *score, size_t n, float *max, float *sum) {
    const size_t even = n / 8 * 8;
    const __m256i rest = rs_avx2_first(n - even);
    __m256 top_lanes = _mm256_set1_ps(*max);
    for (size_t i = 0; i < even; i += 8) top_lanes = _mm256_max_ps(top_lanes, _mm256_loadu_ps(score + i));
    if (even < n) {
        const __m256 x = rs_avx2_load_some(score + even, n - even);
        top_lanes = _mm256_max_ps(top_lanes, _mm256_blendv_ps(top_lanes, x, _mm256_castsi256_ps(rest)));
    }
    const float top = rs_avx2_max(top_lanes);
    if (top == -INFINITY) return rs_softmax_of_none(score, n, max, sum);
    const float factor = top > *max ? rs_exp(*max - top) : 1.0f;
    const __m256 top_all = _mm256_set1_ps(top);
    __m256 total = _mm256_setzero_ps();
    for (size_t i = 0; i < even; i += 8) {
        const __m256 p = rs_avx2_exp(_mm256_sub_ps(_mm256_loadu_ps(score + i), top_all));
        _mm256_storeu_ps(score + i, p);
        total = _mm256_add_ps(total, p);
    }
    if (even < n) {
        const __m256 p = rs_avx2_exp(_mm256_sub_ps(rs_avx2_load_some(score + even, n - even), top_all));
        _mm256_maskstore_ps(score + even, rest, p);
        total = _mm256_add_ps(total, _mm256_and_ps(p, _mm256_castsi256_ps(rest)));
    }
    *sum = *sum * factor + rs_avx2_sum(total);
    *max = top;
    return factor;
}

/* Two products of at most 127 times 128 fit in 16 bits. */
static inline __m256i add_unsigned(__m256i sums, __m256i weights, __m256i values) {
    const __m256i pairs = _mm256_maddubs_epi16(weights, values);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static inline __m256i add_signed(__m256i sums, __m256i keys, __m256i queries) {
    return rs_avx2_add_signed(sums, keys, queries);
}

void rs_avx2_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                         size_t n_pages, size_t head_dim, float *score, size_t score_stride) {
    const rs_attend256 with = {add_signed, add_unsigned, 0};
    rs_attend_keys256(with, q, q_scale, rows, pages, n_pages, head_dim, score, score_stride);
}

void rs_avx2_attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                           const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc) {
    const rs_attend256 with = {add_signed, add_unsigned, 0};
    rs_attend_values256(with, prob, stride, factor, rows, pages, n_pages, head_dim, acc);
}
