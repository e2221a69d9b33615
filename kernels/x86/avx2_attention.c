/* Attention over one KV page, AVX2: int8 keys against int8 queries, a streaming softmax, values to float. */
#include <math.h>
#include <string.h>

#include "kernels/ref/math.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/avx2_math.h"

float rs_avx2_quantize_head(const float *x, int8_t *q, size_t n) {
    __m256 top = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 8) top = _mm256_max_ps(top, rs_avx2_abs(_mm256_loadu_ps(x + i)));
    const float max = rs_avx2_max(top);
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
        const __m256 x = _mm256_maskload_ps(score + even, rest);
        top_lanes = _mm256_max_ps(top_lanes, _mm256_blendv_ps(top_lanes, x, _mm256_castsi256_ps(rest)));
    }
    const float top = rs_avx2_max(top_lanes);
    if (top == -INFINITY) { /* nothing visible so far: there is no maximum to subtract */
        memset(score, 0, n * sizeof *score);
        return 1.0f;
    }
    const float factor = top > *max ? rs_exp(*max - top) : 1.0f;
    const __m256 top_all = _mm256_set1_ps(top);
    __m256 total = _mm256_setzero_ps();
    for (size_t i = 0; i < even; i += 8) {
        const __m256 p = rs_avx2_exp(_mm256_sub_ps(_mm256_loadu_ps(score + i), top_all));
        _mm256_storeu_ps(score + i, p);
        total = _mm256_add_ps(total, p);
    }
    if (even < n) {
        const __m256 p = rs_avx2_exp(_mm256_sub_ps(_mm256_maskload_ps(score + even, rest), top_all));
        _mm256_maskstore_ps(score + even, rest, p);
        total = _mm256_add_ps(total, _mm256_and_ps(p, _mm256_castsi256_ps(rest)));
    }
    *sum = *sum * factor + rs_avx2_sum(total);
    *max = top;
    return factor;
}
