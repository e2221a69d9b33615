/* Attention over one KV page, AVX2: int8 keys against int8 queries, a streaming softmax, values to float. */
#include <math.h>
#include <string.h>

#include "kernels/ref/math.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/avx2_math.h"

static inline __m256i load32(const int8_t *bytes) {
    return _mm256_loadu_si256((const __m256i *)(const void *)bytes);
}

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

/* `tile` queries against the 16 keys. As in dot_tile: |k| times q with the sign of k, exact in integers. */
RS_INLINE void keys_tile(size_t tile, const int8_t *q, const float *q_scale, const rs_page_view *page,
                         size_t head_dim, float *score, size_t score_stride) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i dot[4][2];
    for (size_t r = 0; r < tile; r++) dot[r][0] = dot[r][1] = _mm256_setzero_si256();

    for (size_t d = 0; d < head_dim; d += 4) {
        const __m256i k0 = load32(page->k + d * RS_PAGE_ENTRIES),
                      k1 = load32(page->k + d * RS_PAGE_ENTRIES + 32);
        const __m256i abs0 = _mm256_abs_epi8(k0), abs1 = _mm256_abs_epi8(k1);
        for (size_t r = 0; r < tile; r++) {
            int32_t four;
            memcpy(&four, q + r * head_dim + d, sizeof four);
            const __m256i query = _mm256_set1_epi32(four);
            const __m256i pairs0 = _mm256_maddubs_epi16(abs0, _mm256_sign_epi8(query, k0));
            const __m256i pairs1 = _mm256_maddubs_epi16(abs1, _mm256_sign_epi8(query, k1));
            dot[r][0] = _mm256_add_epi32(dot[r][0], _mm256_madd_epi16(pairs0, ones));
            dot[r][1] = _mm256_add_epi32(dot[r][1], _mm256_madd_epi16(pairs1, ones));
        }
    }
    for (size_t r = 0; r < tile; r++) {
        const __m256 scale = _mm256_set1_ps(q_scale[r]);
        for (size_t h = 0; h < 2; h++) {
            const __m256 both = _mm256_mul_ps(scale, _mm256_loadu_ps(page->k_scale + 8 * h));
            _mm256_storeu_ps(score + r * score_stride + 8 * h,
                             _mm256_mul_ps(both, _mm256_cvtepi32_ps(dot[r][h])));
        }
    }
}

void rs_avx2_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *page,
                         size_t head_dim, float *score, size_t score_stride) {
    for (; rows >= 4; rows -= 4, q += 4 * head_dim, q_scale += 4, score += 4 * score_stride) {
        keys_tile(4, q, q_scale, page, head_dim, score, score_stride);
    }
    if (rows == 3) keys_tile(3, q, q_scale, page, head_dim, score, score_stride);
    if (rows == 2) keys_tile(2, q, q_scale, page, head_dim, score, score_stride);
    if (rows == 1) keys_tile(1, q, q_scale, page, head_dim, score, score_stride);
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

/*
 * `tile` rows of probabilities times the 16 values. Eight dimensions at a time: each 32-bit lane holds one
 * dimension of four entries, which are taken out byte by byte and turned to float once for all rows. Entries
 * add up in order.
 */
RS_INLINE void values_tile(size_t tile, const float *p, size_t p_stride, const rs_page_view *page,
                           size_t head_dim, float *acc) {
    float weight[4][RS_PAGE_ENTRIES];
    for (size_t r = 0; r < tile; r++) {
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) weight[r][e] = p[r * p_stride + e] * page->v_scale[e];
    }
    for (size_t d = 0; d < head_dim; d += 8) {
        __m256 total[4];
        for (size_t r = 0; r < tile; r++) total[r] = _mm256_loadu_ps(acc + r * head_dim + d);
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e += 4) {
            const __m256i four = load32(page->v + e * head_dim + 4 * d);
            const __m256 v[4] = {
                _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(four, 24), 24)),
                _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(four, 16), 24)),
                _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(four, 8), 24)),
                _mm256_cvtepi32_ps(_mm256_srai_epi32(four, 24)),
            };
            for (size_t c = 0; c < 4; c++) {
                for (size_t r = 0; r < tile; r++) {
                    total[r] = _mm256_fmadd_ps(_mm256_set1_ps(weight[r][e + c]), v[c], total[r]);
                }
            }
        }
        for (size_t r = 0; r < tile; r++) _mm256_storeu_ps(acc + r * head_dim + d, total[r]);
    }
}

void rs_avx2_attend_values(const float *p, size_t p_stride, size_t rows, const rs_page_view *page,
                           size_t head_dim, float *acc) {
    for (; rows >= 4; rows -= 4, p += 4 * p_stride, acc += 4 * head_dim) {
        values_tile(4, p, p_stride, page, head_dim, acc);
    }
    if (rows == 3) values_tile(3, p, p_stride, page, head_dim, acc);
    if (rows == 2) values_tile(2, p, p_stride, page, head_dim, acc);
    if (rows == 1) values_tile(1, p, p_stride, page, head_dim, acc);
}
