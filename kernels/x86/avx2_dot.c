/* Linear layers, AVX2: activations to int8, and one weight row against many activation rows. */
#include <string.h>

#include "kernels/ref/math.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/avx2_math.h"

static inline __m256i load_q(const int8_t *q) {
    return _mm256_loadu_si256((const __m256i *)(const void *)q);
}

void rs_avx2_quantize_acts(const float *x, rs_acts *acts, size_t rows, size_t n) {
    for (size_t b = 0; b < rows * n / RS_ACT_BLOCK; b++) {
        __m256 v[4];
        for (size_t i = 0; i < 4; i++) v[i] = _mm256_loadu_ps(x + b * RS_ACT_BLOCK + 8 * i);
        const __m256 max_low = _mm256_max_ps(rs_avx2_abs(v[0]), rs_avx2_abs(v[1]));
        const __m256 max_high = _mm256_max_ps(rs_avx2_abs(v[2]), rs_avx2_abs(v[3]));
        const float max = rs_avx2_max(_mm256_max_ps(max_low, max_high));
        const float scale = max < RS_QUANTIZE_MIN ? 0.0f : max / 127.0f;
        const __m256i q = rs_avx2_round32(v, _mm256_set1_ps(scale == 0.0f ? 0.0f : 127.0f / max));
        _mm256_storeu_si256((__m256i *)(void *)(acts->q + b * RS_ACT_BLOCK), q);

        /* Lanes 0 to 3 sum up elements 0 to 15, lanes 4 to 7 the others. */
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
        __m256i sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0x4e));
        sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0xb1));
        acts->scale[b] = scale;
        acts->sum[2 * b] = scale * (float)_mm256_extract_epi32(sums, 0);
        acts->sum[2 * b + 1] = scale * (float)_mm256_extract_epi32(sums, 4);
    }
}

/* A block's two weight scales: one for lanes 0 to 3, the other for lanes 4 to 7. */
static inline __m256 load_scale_pair(const float *pair) {
    int64_t both;
    memcpy(&both, pair, sizeof both);
    return _mm256_permutevar_ps(_mm256_castsi256_ps(_mm256_set1_epi64x(both)),
                                _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
}

/*
 * Adds block b of the weight row times that of `tile` activation rows. The 8-bit product instruction takes
 * unsigned times signed: |w| times x with the sign of w; |w| <= 128 and |x| <= 127 keep its sums of two below
 * 2^15. Lanes 0 to 3 are elements 0 to 15 of the block, lanes 4 to 7 the others.
 */
RS_INLINE void dot_block(size_t tile, const rs_row *w, const int8_t *q, const float *scale, size_t n,
                         size_t b, __m256 *acc) {
    const __m256 w_scale = load_scale_pair(w->scale + 2 * b);
    const __m256i w_q = load_q(w->q + b * RS_ACT_BLOCK);
    const __m256i w_abs = _mm256_abs_epi8(w_q);
    for (size_t r = 0; r < tile; r++) {
        const __m256i x_signed = _mm256_sign_epi8(load_q(q + r * n + b * RS_ACT_BLOCK), w_q);
        const __m256i dot = _mm256_madd_epi16(_mm256_maddubs_epi16(w_abs, x_signed), _mm256_set1_epi16(1));
        const __m256 both = _mm256_mul_ps(w_scale, _mm256_set1_ps(scale[r * (n / RS_ACT_BLOCK) + b]));
        acc[r] = _mm256_fmadd_ps(both, _mm256_cvtepi32_ps(dot), acc[r]);
    }
}

/* `tile` activation rows against the weight row, accumulators for each, so that an output is the same
 * whatever the tile. Even and odd blocks add up apart: one chain of additions would wait for itself. */
RS_INLINE void dot_tile(size_t tile, const rs_row *w, const int8_t *q, const float *scale, const float *sum,
                        size_t n, float *out, size_t out_stride) {
    const size_t blocks = n / RS_ACT_BLOCK, groups = n / RS_ROW_GROUP;
    __m256 even[4], odd[4];
    for (size_t r = 0; r < tile; r++) even[r] = odd[r] = _mm256_setzero_ps();

    size_t b = 0;
    for (; b + 2 <= blocks; b += 2) {
        dot_block(tile, w, q, scale, n, b, even);
        dot_block(tile, w, q, scale, n, b + 1, odd);
    }
    if (b < blocks) dot_block(tile, w, q, scale, n, b, even);

    if (w->has_min) {
        size_t g = 0;
        for (; g + 8 <= groups; g += 8) {
            const __m256 min = _mm256_loadu_ps(w->min + g);
            for (size_t r = 0; r < tile; r++) {
                odd[r] = _mm256_fmadd_ps(min, _mm256_loadu_ps(sum + r * groups + g), odd[r]);
            }
        }
        const __m256i rest = rs_avx2_first(groups - g);
        const __m256 min = _mm256_maskload_ps(w->min + g, rest);
        for (size_t r = 0; r < tile; r++) {
            even[r] = _mm256_fmadd_ps(min, _mm256_maskload_ps(sum + r * groups + g, rest), even[r]);
        }
    }
    for (size_t r = 0; r < tile; r++) out[r * out_stride] = rs_avx2_sum(_mm256_add_ps(even[r], odd[r]));
}

void rs_avx2_dot_acts(const rs_row *w, const rs_acts *acts, size_t rows, size_t n, float *out,
                      size_t out_stride) {
    const int8_t *q = acts->q;
    const float *scale = acts->scale, *sum = acts->sum;
    for (; rows >= 4; rows -= 4) {
        dot_tile(4, w, q, scale, sum, n, out, out_stride);
        q += 4 * n;
        scale += 4 * (n / RS_ACT_BLOCK);
        sum += 4 * (n / RS_ROW_GROUP);
        out += 4 * out_stride;
    }
    if (rows == 3) dot_tile(3, w, q, scale, sum, n, out, out_stride);
    if (rows == 2) dot_tile(2, w, q, scale, sum, n, out, out_stride);
    if (rows == 1) dot_tile(1, w, q, scale, sum, n, out, out_stride);
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
        const __m256i some = rs_avx2_first(n - i < 8 ? n - i : 8);
        const __m256 w0 = _mm256_maskload_ps(w + i, some);
        for (size_t r = 0; r < tile; r++) {
            acc[r][0] = _mm256_fmadd_ps(w0, _mm256_maskload_ps(x + r * n + i, some), acc[r][0]);
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
