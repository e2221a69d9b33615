/* Activation quantisation, norms, rotations and activation functions, AVX2. */
#include <math.h>

#include "kernels/ref/math.h"
#include "kernels/rotate_keys.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/avx2_math.h"

/* x[i] = f(x[i], y[i]) */
RS_INLINE void combine(float *x, const float *y, size_t n, __m256 (*f)(__m256, __m256)) {
    const size_t even = n / 8 * 8, rest = n - even;
    for (size_t i = 0; i < even; i += 8)
        _mm256_storeu_ps(x + i, f(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
    if (rest > 0) {
        const __m256 value = f(rs_avx2_load_some(x + even, rest), rs_avx2_load_some(y + even, rest));
        _mm256_maskstore_ps(x + even, rs_avx2_first(rest), value);
    }
}

void rs_avx2_quantize_acts(const float *x, rs_acts *acts, size_t rows, size_t n) {
    for (size_t b = 0; b < rows * n / RS_ACT_BLOCK; b++) {
        __m256 v[4];
        for (size_t i = 0; i < 4; i++) v[i] = _mm256_loadu_ps(x + b * RS_ACT_BLOCK + 8 * i);
        const __m256 max_low = rs_avx2_larger(rs_avx2_abs(v[0]), rs_avx2_abs(v[1]));
        const __m256 max_high = rs_avx2_larger(rs_avx2_abs(v[2]), rs_avx2_abs(v[3]));
        const float max = rs_avx2_largest_magnitude(rs_avx2_larger(max_low, max_high));
        const float scale = max < RS_QUANTIZE_MIN ? 0.0f : max / 127.0f;
        const __m256i q = rs_avx2_round32(v, _mm256_set1_ps(scale == 0.0f ? 0.0f : 127.0f / max));
        _mm256_storeu_si256((__m256i *)(void *)(acts->q + b * RS_ACT_BLOCK), q);

        /* Lanes 0 to 3 sum up elements 0 to 15, lanes 4 to 7 the others. */
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
        __m256i sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0x4e));
        sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0xb1));
        const int low = _mm256_extract_epi32(sums, 0), high = _mm256_extract_epi32(sums, 4);
        acts->scale[b] = scale;
        acts->sum[b] = scale * (float)(low + high);
        acts->half_sum[2 * b] = scale * (float)low;
        acts->half_sum[2 * b + 1] = scale * (float)high;
    }
}

RS_INLINE void dot_f32_tile(size_t tile, const float *w, const float *x, size_t n, float *out,
                            size_t out_stride) {
    __m256 acc[4][2];
    for (size_t r = 0; r < tile; r++) acc[r][0] = acc[r][1] = _mm256_setzero_ps();

    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const __m256 w0 = _mm256_loadu_ps(w + i), w1 = _mm256_loadu_ps(w + i + 8);
        for (size_t r = 0; r < tile; r++) {
            acc[r][0] = _mm256_fmadd_ps(w0, _mm256_loadu_ps(x + r * n + i), acc[r][0]);
            acc[r][1] = _mm256_fmadd_ps(w1, _mm256_loadu_ps(x + r * n + i + 8), acc[r][1]);
        }
    }
    for (; i < n; i += 8) {
        const size_t some = n - i < 8 ? n - i : 8;
        const __m256 w0 = rs_avx2_load_some(w + i, some);
        for (size_t r = 0; r < tile; r++) {
            acc[r][0] = _mm256_fmadd_ps(w0, rs_avx2_load_some(x + r * n + i, some), acc[r][0]);
        }
    }
    for (size_t r = 0; r < tile; r++) out[r * out_stride] = rs_avx2_sum(_mm256_add_ps(acc[r][0], acc[r][1]));
}

void rs_avx2_dot_f32(const float *w, const float *x, size_t rows, size_t n, float *out, size_t out_stride) {
    for (; rows >= 4; rows -= 4, x += 4 * n, out += 4 * out_stride) dot_f32_tile(4, w, x, n, out, out_stride);
    if (rows == 3) dot_f32_tile(3, w, x, n, out, out_stride);
    if (rows == 2) dot_f32_tile(2, w, x, n, out, out_stride);
    if (rows == 1) dot_f32_tile(1, w, x, n, out, out_stride);
}

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
    if (even < n) sums = add_squares(sums, rs_avx2_load_some(x + even, n - even));
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(sums), _mm256_extractf128_pd(sums, 1));
    const double squares = _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));

    const __m256 scale = _mm256_set1_ps((float)(1.0 / sqrt(squares / (double)n + (double)eps)));
    for (size_t i = 0; i < even; i += 8) {
        const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i), scale);
        _mm256_storeu_ps(out + i, _mm256_mul_ps(scaled, _mm256_loadu_ps(w + i)));
    }
    if (even < n) {
        const __m256 scaled = _mm256_mul_ps(rs_avx2_load_some(x + even, n - even), scale);
        _mm256_maskstore_ps(out + even, rest, _mm256_mul_ps(scaled, rs_avx2_load_some(w + even, n - even)));
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

RS_INLINE __m256 sum(__m256 x, __m256 y) {
    return _mm256_add_ps(x, y);
}

void rs_avx2_swiglu(float *gate, const float *up, size_t n) {
    combine(gate, up, n, silu_gated);
}

void rs_avx2_geglu(float *gate, const float *up, size_t n) {
    combine(gate, up, n, gelu_gated);
}

void rs_avx2_add(float *x, const float *y, size_t n) {
    combine(x, y, n, sum);
}

static void rotate_halves(float *x, const float *cosine, const float *sine, size_t half) {
    const size_t even = half / 8 * 8;
    for (size_t i = 0; i < even; i += 8) {
        const __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + half + i);
        const __m256 c = _mm256_loadu_ps(cosine + i), s = _mm256_loadu_ps(sine + i);
        _mm256_storeu_ps(x + i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        _mm256_storeu_ps(x + half + i, _mm256_fmadd_ps(a, s, _mm256_mul_ps(b, c)));
    }
    for (size_t i = even; i < half; i++) {
        const float a = x[i], b = x[half + i];
        x[i] = a * cosine[i] - b * sine[i];
        x[half + i] = a * sine[i] + b * cosine[i];
    }
}

/* Four pairs at a time: a c - b s in even lanes, b c + a s in odd ones. */
static void rotate_pairs(float *x, const float *cosine, const float *sine, size_t half) {
    const size_t even = half / 4 * 4;
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    for (size_t i = 0; i < even; i += 4) {
        const __m256 v = _mm256_loadu_ps(x + 2 * i);
        const __m256 c = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(cosine + i)), twice);
        const __m256 s = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(sine + i)), twice);
        const __m256 swapped = _mm256_mul_ps(_mm256_permute_ps(v, 0xb1), s);
        _mm256_storeu_ps(x + 2 * i, _mm256_fmaddsub_ps(v, c, swapped));
    }
    for (size_t i = even; i < half; i++) {
        const float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * sine[i];
        x[2 * i + 1] = a * sine[i] + b * cosine[i];
    }
}

void rs_avx2_rope(float *x, const float *cosine, const float *sine, size_t dim, int interleaved) {
    (interleaved ? rotate_pairs : rotate_halves)(x, cosine, sine, dim / 2);
}

void rs_avx2_rotate_keys(const rs_page_view *page, uint32_t which, const float *cosine, const float *sine,
                         size_t head_dim, size_t dim, int interleaved, int room) {
    rs_rotate_keys_in_lanes(page, which, cosine, sine, head_dim, dim, interleaved, room);
}

void rs_avx2_turn_keys(const rs_page_view *page, uint32_t which, const rs_turn *back, const rs_turn *turn,
                       size_t head_dim, size_t dim, int interleaved) {
    rs_turn_keys_in_lanes(page, which, back, turn, head_dim, dim, interleaved);
}

size_t rs_avx2_largest(const float *x, size_t n) {
    const size_t even = n / 8 * 8;
    const __m256i exponent = _mm256_set1_epi32(0x7f800000);
    __m256 top_lanes = _mm256_set1_ps(-INFINITY);
    __m256i bad = _mm256_setzero_si256();
    for (size_t i = 0; i < even; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        const __m256i bits = _mm256_and_si256(_mm256_castps_si256(v), exponent);
        bad = _mm256_or_si256(bad, _mm256_cmpeq_epi32(bits, exponent));
        top_lanes = _mm256_max_ps(top_lanes, v);
    }
    if (_mm256_movemask_epi8(bad) != 0) return n;
    float top = rs_avx2_max(top_lanes);
    for (size_t i = even; i < n; i++) {
        if ((rs_float_bits(x[i]) & 0x7f800000u) == 0x7f800000u) return n;
        top = x[i] > top ? x[i] : top;
    }
    const __m256 all = _mm256_set1_ps(top);
    for (size_t i = 0; i < even; i += 8) {
        const int found = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), all, _CMP_EQ_OQ));
        if (found != 0) return i + (size_t)__builtin_ctz((unsigned)found);
    }
    size_t at = even;
    while (x[at] != top) at++;
    return at;
}
