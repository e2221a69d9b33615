/* Linear layers, AVX2: activations to int8, and one weight row against many activation rows. */
#include <string.h>

#include "kernels/ref/math.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/avx2_math.h"

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
