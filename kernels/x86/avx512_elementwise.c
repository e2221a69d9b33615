/* Activation quantisation, norms, rotations and activation functions, AVX-512. */
#include <math.h>

#include "kernels/ref/math.h"
#include "kernels/rotate_keys.h"
#include "kernels/x86/avx512.h"
#include "kernels/x86/avx512_math.h"

/* x[i] = f(x[i], y[i]) */
RS_INLINE void combine(float *x, const float *y, size_t n, __m512 (*f)(__m512, __m512)) {
    const size_t even = n / 16 * 16;
    for (size_t i = 0; i < even; i += 16)
        _mm512_storeu_ps(x + i, f(_mm512_loadu_ps(x + i), _mm512_loadu_ps(y + i)));
    if (even < n) {
        const __mmask16 rest = rs_avx512_first(n - even);
        const __m512 value = f(_mm512_maskz_loadu_ps(rest, x + even), _mm512_maskz_loadu_ps(rest, y + even));
        _mm512_mask_storeu_ps(x + even, rest, value);
    }
}

void rs_avx512_quantize_acts(const float *x, rs_acts *acts, size_t rows, size_t n) {
    for (size_t b = 0; b < rows * n / RS_ACT_BLOCK; b++) {
        const __m512 low = _mm512_loadu_ps(x + b * RS_ACT_BLOCK);
        const __m512 high = _mm512_loadu_ps(x + b * RS_ACT_BLOCK + 16);
        const float max = rs_avx512_largest_magnitude(
            _mm512_max_epu32(rs_avx512_magnitude(low), rs_avx512_magnitude(high)));
        const float scale = max < RS_QUANTIZE_MIN ? 0.0f : max / 127.0f;
        const __m512 inverse = _mm512_set1_ps(scale == 0.0f ? 0.0f : 127.0f / max);
        const __m128i q_low = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(low, inverse)));
        const __m128i q_high = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(high, inverse)));
        _mm_storeu_si128((__m128i *)(void *)(acts->q + b * RS_ACT_BLOCK), q_low);
        _mm_storeu_si128((__m128i *)(void *)(acts->q + b * RS_ACT_BLOCK + 16), q_high);
        const __m128i ones = _mm_set1_epi8(1), zero = _mm_setzero_si128();
        const int sum_low = rs_avx512_sum_lanes(_mm_dpbusd_epi32(zero, ones, q_low));
        const int sum_high = rs_avx512_sum_lanes(_mm_dpbusd_epi32(zero, ones, q_high));
        acts->scale[b] = scale;
        acts->sum[b] = scale * (float)(sum_low + sum_high);
        acts->half_sum[2 * b] = scale * (float)sum_low;
        acts->half_sum[2 * b + 1] = scale * (float)sum_high;
    }
}

RS_INLINE void dot_f32_tile(size_t tile, const float *w, const float *x, size_t n, float *out,
                            size_t out_stride) {
    __m512 acc[4][2];
    for (size_t r = 0; r < tile; r++) acc[r][0] = acc[r][1] = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m512 w0 = _mm512_loadu_ps(w + i), w1 = _mm512_loadu_ps(w + i + 16);
        for (size_t r = 0; r < tile; r++) {
            acc[r][0] = _mm512_fmadd_ps(w0, _mm512_loadu_ps(x + r * n + i), acc[r][0]);
            acc[r][1] = _mm512_fmadd_ps(w1, _mm512_loadu_ps(x + r * n + i + 16), acc[r][1]);
        }
    }
    for (; i < n; i += 16) {
        const __mmask16 some = rs_avx512_first(n - i < 16 ? n - i : 16);
        const __m512 w0 = _mm512_maskz_loadu_ps(some, w + i);
        for (size_t r = 0; r < tile; r++)
            acc[r][0] = _mm512_fmadd_ps(w0, _mm512_maskz_loadu_ps(some, x + r * n + i), acc[r][0]);
    }
    for (size_t r = 0; r < tile; r++)
        out[r * out_stride] = _mm512_reduce_add_ps(_mm512_add_ps(acc[r][0], acc[r][1]));
}

void rs_avx512_dot_f32(const float *w, const float *x, size_t rows, size_t n, float *out, size_t out_stride) {
    for (; rows >= 4; rows -= 4, x += 4 * n, out += 4 * out_stride) dot_f32_tile(4, w, x, n, out, out_stride);
    if (rows == 3) dot_f32_tile(3, w, x, n, out, out_stride);
    if (rows == 2) dot_f32_tile(2, w, x, n, out, out_stride);
    if (rows == 1) dot_f32_tile(1, w, x, n, out, out_stride);
}

/* Squares of sixteen floats onto sums in double. */
RS_INLINE __m512d add_squares(__m512d sums, __m512 x) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1));
    return _mm512_fmadd_pd(high, high, _mm512_fmadd_pd(low, low, sums));
}

void rs_avx512_rms_norm(const float *x, const float *w, float eps, size_t n, float *out) {
    const size_t even = n / 16 * 16;
    const __mmask16 rest = rs_avx512_first(n - even);
    __m512d sums = _mm512_setzero_pd();
    for (size_t i = 0; i < even; i += 16) sums = add_squares(sums, _mm512_loadu_ps(x + i));
    if (even < n) sums = add_squares(sums, _mm512_maskz_loadu_ps(rest, x + even));
    const double mean = _mm512_reduce_add_pd(sums) / (double)n;

    const __m512 scale = _mm512_set1_ps((float)(1.0 / sqrt(mean + (double)eps)));
    for (size_t i = 0; i < even; i += 16) {
        const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x + i), scale);
        _mm512_storeu_ps(out + i, _mm512_mul_ps(scaled, _mm512_loadu_ps(w + i)));
    }
    if (even < n) {
        const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(rest, x + even), scale);
        _mm512_mask_storeu_ps(out + even, rest, _mm512_mul_ps(scaled, _mm512_maskz_loadu_ps(rest, w + even)));
    }
}

/* x / (1 + exp(exponent)) * up */
RS_INLINE __m512 gated(__m512 x, __m512 exponent, __m512 up) {
    const __m512 divisor = _mm512_add_ps(_mm512_set1_ps(1.0f), rs_avx512_exp(exponent));
    return _mm512_mul_ps(_mm512_div_ps(x, divisor), up);
}

RS_INLINE __m512 silu_gated(__m512 x, __m512 up) {
    return gated(x, _mm512_xor_ps(x, _mm512_set1_ps(-0.0f)), up);
}

/* The exponent is -2 sqrt(2 / pi) (x + 0.044715 x^3), as in kernels/ref/elementwise.c. */
RS_INLINE __m512 gelu_gated(__m512 x, __m512 up) {
    const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
    const __m512 inner = _mm512_fmadd_ps(_mm512_set1_ps(0.044715f), cube, x);
    return gated(x, _mm512_mul_ps(_mm512_set1_ps(-1.5957691216057308f), inner), up);
}

RS_INLINE __m512 sum(__m512 x, __m512 y) {
    return _mm512_add_ps(x, y);
}

void rs_avx512_swiglu(float *gate, const float *up, size_t n) {
    combine(gate, up, n, silu_gated);
}

void rs_avx512_geglu(float *gate, const float *up, size_t n) {
    combine(gate, up, n, gelu_gated);
}

void rs_avx512_add(float *x, const float *y, size_t n) {
    combine(x, y, n, sum);
}

RS_INLINE void rotate_halves(float *x, const float *cosine, const float *sine, size_t half) {
    for (size_t i = 0; i < half; i += 16) {
        const __mmask16 some = rs_avx512_first(half - i < 16 ? half - i : 16);
        const __m512 a = _mm512_maskz_loadu_ps(some, x + i), b = _mm512_maskz_loadu_ps(some, x + half + i);
        const __m512 c = _mm512_maskz_loadu_ps(some, cosine + i), s = _mm512_maskz_loadu_ps(some, sine + i);
        _mm512_mask_storeu_ps(x + i, some, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + half + i, some, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
    }
}

/* Eight pairs at a time: a c - b s in even lanes, b c + a s in odd ones. */
RS_INLINE void rotate_pairs(float *x, const float *cosine, const float *sine, size_t half) {
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    for (size_t i = 0; i < half; i += 8) {
        const size_t pairs = half - i < 8 ? half - i : 8;
        const __mmask16 some = rs_avx512_first(2 * pairs), some_angles = rs_avx512_first(pairs);
        const __m512 v = _mm512_maskz_loadu_ps(some, x + 2 * i);
        const __m512 c = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(some_angles, cosine + i));
        const __m512 s = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(some_angles, sine + i));
        const __m512 swapped = _mm512_mul_ps(_mm512_permute_ps(v, 0xb1), s);
        _mm512_mask_storeu_ps(x + 2 * i, some, _mm512_fmaddsub_ps(v, c, swapped));
    }
}

void rs_avx512_rope(float *x, const float *cosine, const float *sine, size_t dim, int interleaved) {
    (interleaved ? rotate_pairs : rotate_halves)(x, cosine, sine, dim / 2);
}

void rs_avx512_rotate_keys(const rs_page_view *page, uint32_t which, const float *cosine, const float *sine,
                           size_t head_dim, size_t dim, int interleaved, int room) {
    rs_rotate_keys_in_lanes(page, which, cosine, sine, head_dim, dim, interleaved, room);
}

void rs_avx512_turn_keys(const rs_page_view *page, uint32_t which, const rs_turn *back, const rs_turn *turn,
                         size_t head_dim, size_t dim, int interleaved) {
    rs_turn_keys_in_lanes(page, which, back, turn, head_dim, dim, interleaved);
}

size_t rs_avx512_largest(const float *x, size_t n) {
    const size_t even = n / 16 * 16;
    const __mmask16 rest = rs_avx512_first(n - even);
    const __m512i exponent = _mm512_set1_epi32(0x7f800000);
    __m512 top = _mm512_set1_ps(-INFINITY);
    __mmask16 bad = 0;
    for (size_t i = 0; i < even; i += 16) {
        const __m512 v = _mm512_loadu_ps(x + i);
        bad |= _mm512_cmpeq_epi32_mask(_mm512_and_si512(_mm512_castps_si512(v), exponent), exponent);
        top = _mm512_max_ps(top, v);
    }
    const __m512 last = _mm512_maskz_loadu_ps(rest, x + even);
    bad |= _mm512_cmpeq_epi32_mask(_mm512_and_si512(_mm512_castps_si512(last), exponent), exponent);
    top = _mm512_mask_max_ps(top, rest, top, last);
    if (bad) return n;
    const __m512 all = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    for (size_t i = 0; i < even; i += 16) {
        const __mmask16 found = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), all, _CMP_EQ_OQ);
        if (found) return i + (size_t)__builtin_ctz(found);
    }
    return even + (size_t)__builtin_ctz(_mm512_mask_cmp_ps_mask(rest, last, all, _CMP_EQ_OQ));
}
