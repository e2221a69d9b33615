/* Norms and activation functions, AVX2. */
#include <math.h>

#include "kernels/x86/avx2.h"
#include "kernels/x86/avx2_math.h"

/* Squares of eight floats onto sums in double. */
RS_INLINE __m256d add_squares(__m256d sums, __m256 x) {
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(x));
    const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1));
    return _mm256_fmadd_pd(high, high, _mm256_fmadd_pd(low, low, sums));
}

void rs_avx2_rms_norm(const float *x, const float *w, float eps, size_t n, float *out) {
    const size_t even = n / 8 * 8;
    const __m256i rest = rs_avx2_first(n - even);
    __m256d sums = _mm256_setzero_pd();
    for (size_t i = 0; i < even; i += 8) sums = add_squares(sums, _mm256_loadu_ps(x + i));
    if (even < n) sums = add_squares(sums, _mm256_maskload_ps(x + even, rest));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(sums), _mm256_extractf128_pd(sums, 1));
    const double squares = _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));

    const __m256 scale = _mm256_set1_ps((float)(1.0 / sqrt(squares / (double)n + (double)eps)));
    for (size_t i = 0; i < even; i += 8) {
        const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i), scale);
        _mm256_storeu_ps(out + i, _mm256_mul_ps(scaled, _mm256_loadu_ps(w + i)));
    }
    if (even < n) {
        const __m256 scaled = _mm256_mul_ps(_mm256_maskload_ps(x + even, rest), scale);
        _mm256_maskstore_ps(out + even, rest, _mm256_mul_ps(scaled, _mm256_maskload_ps(w + even, rest)));
    }
}

/* x / (1 + exp(exponent)) * up */
RS_INLINE __m256 gated(__m256 x, __m256 exponent, __m256 up) {
    const __m256 divisor = _mm256_add_ps(_mm256_set1_ps(1.0f), rs_avx2_exp(exponent));
    return _mm256_mul_ps(_mm256_div_ps(x, divisor), up);
}

RS_INLINE __m256 silu_gated(__m256 x, __m256 up) {
    return gated(x, _mm256_xor_ps(x, _mm256_set1_ps(-0.0f)), up);
}

/* The exponent is -2 sqrt(2 / pi) (x + 0.044715 x^3), as in kernels/ref/elementwise.c. */
RS_INLINE __m256 gelu_gated(__m256 x, __m256 up) {
    const __m256 cube = _mm256_mul_ps(_mm256_mul_ps(x, x), x);
    const __m256 inner = _mm256_fmadd_ps(_mm256_set1_ps(0.044715f), cube, x);
    return gated(x, _mm256_mul_ps(_mm256_set1_ps(-1.5957691216057308f), inner), up);
}

void rs_avx2_swiglu(float *gate, const float *up, size_t n) {
    const size_t even = n / 8 * 8;
    for (size_t i = 0; i < even; i += 8) {
        _mm256_storeu_ps(gate + i, silu_gated(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
    }
    if (even < n) {
        const __m256i rest = rs_avx2_first(n - even);
        const __m256 x = _mm256_maskload_ps(gate + even, rest);
        _mm256_maskstore_ps(gate + even, rest, silu_gated(x, _mm256_maskload_ps(up + even, rest)));
    }
}

void rs_avx2_geglu(float *gate, const float *up, size_t n) {
    const size_t even = n / 8 * 8;
    for (size_t i = 0; i < even; i += 8) {
        _mm256_storeu_ps(gate + i, gelu_gated(_mm256_loadu_ps(gate + i), _mm256_loadu_ps(up + i)));
    }
    if (even < n) {
        const __m256i rest = rs_avx2_first(n - even);
        const __m256 x = _mm256_maskload_ps(gate + even, rest);
        _mm256_maskstore_ps(gate + even, rest, gelu_gated(x, _mm256_maskload_ps(up + even, rest)));
    }
}
