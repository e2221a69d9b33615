/*
 * Attention over blocks of KV pages in registers of eight entries or dimensions: what AVX2 and AVX-VNNI have
 * in common.
 */
#ifndef RASURE_KERNELS_X86_ATTENTION256_H
#define RASURE_KERNELS_X86_ATTENTION256_H

#include "kernels/kernels.h"
#include "kernels/ref/math.h"
#include "kernels/x86/avx2_math.h"

enum { RS_ATTEND256_TILE = 4, RS_ATTEND256_ENTRIES = RS_ATTEND_PAGES * RS_PAGE_ENTRIES };

/* How a level adds the products of four bytes of `a` and four of `b` in each lane. */
typedef struct rs_attend256 {
    /* Keys times queries, both signed, the queries -127 to 127. */
    __m256i (*add_signed)(__m256i sums, __m256i keys, __m256i queries);
    /* Weights, 0 to 127, times values, signed. */
    __m256i (*add_unsigned)(__m256i sums, __m256i weights, __m256i values);
    int biased; /* add_signed multiplies keys + 128 */
} rs_attend256;

/* Minus 128 times the sum of a query: what biased keys add too much. */
RS_INLINE int32_t rs_excess256(const int8_t *q, size_t head_dim) {
    __m256i sum = _mm256_setzero_si256();
    for (size_t i = 0; i < head_dim; i += 16) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(q + i));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_cvtepi8_epi16(x), _mm256_set1_epi16(1)));
    }
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return -128 * _mm_cvtsi128_si32(four);
}

/* `tile` queries against the sixteen keys of a page. */
RS_INLINE void rs_keys_tile256(rs_attend256 with, size_t tile, const int8_t *q, const float *q_scale,
                               const int32_t *start, const rs_page_view *page, size_t head_dim, float *score,
                               size_t score_stride) {
    __m256i dot[RS_ATTEND256_TILE][2];
    for (size_t r = 0; r < tile; r++) dot[r][0] = dot[r][1] = _mm256_set1_epi32(start[r]);
    for (size_t d = 0; d < head_dim; d += 4) {
        _mm_prefetch((const void *)(page->v + d * RS_PAGE_ENTRIES), _MM_HINT_T1);
        const __m256i k0 = rs_avx2_load(page->k + d * RS_PAGE_ENTRIES);
        const __m256i k1 = rs_avx2_load(page->k + d * RS_PAGE_ENTRIES + 32);
        for (size_t r = 0; r < tile; r++) {
            const __m256i query = rs_avx2_spread(q + r * head_dim + d);
            dot[r][0] = with.add_signed(dot[r][0], k0, query);
            dot[r][1] = with.add_signed(dot[r][1], k1, query);
        }
    }
    for (size_t r = 0; r < tile; r++) {
        for (size_t h = 0; h < 2; h++) {
            const __m256 scale =
                _mm256_mul_ps(_mm256_set1_ps(q_scale[r]), _mm256_loadu_ps(page->k_scale + 8 * h));
            _mm256_storeu_ps(score + r * score_stride + 8 * h,
                             _mm256_mul_ps(scale, _mm256_cvtepi32_ps(dot[r][h])));
        }
    }
}

RS_INLINE void rs_keys_of_pages256(rs_attend256 with, size_t tile, const int8_t *q, const float *q_scale,
                                   const rs_page_view *pages, size_t n_pages, size_t head_dim, float *score,
                                   size_t score_stride) {
    int32_t start[RS_ATTEND256_TILE];
    for (size_t r = 0; r < tile; r++) start[r] = with.biased ? rs_excess256(q + r * head_dim, head_dim) : 0;
    for (size_t p = 0; p < n_pages; p++) {
        if (pages[p].k == NULL) continue;
        rs_keys_tile256(with, tile, q, q_scale, start, &pages[p], head_dim, score + p * RS_PAGE_ENTRIES,
                        score_stride);
    }
}

RS_INLINE void rs_attend_keys256(rs_attend256 with, const int8_t *q, const float *q_scale, size_t rows,
                                 const rs_page_view *pages, size_t n_pages, size_t head_dim, float *score,
                                 size_t score_stride) {
    for (; rows >= 4; rows -= 4, q += 4 * head_dim, q_scale += 4, score += 4 * score_stride)
        rs_keys_of_pages256(with, 4, q, q_scale, pages, n_pages, head_dim, score, score_stride);
    if (rows == 3) rs_keys_of_pages256(with, 3, q, q_scale, pages, n_pages, head_dim, score, score_stride);
    if (rows == 2) rs_keys_of_pages256(with, 2, q, q_scale, pages, n_pages, head_dim, score, score_stride);
    if (rows == 1) rs_keys_of_pages256(with, 1, q, q_scale, pages, n_pages, head_dim, score, score_stride);
}

/* A row's weights, sixteen a page, in two times seven bits. */
typedef struct rs_split256 {
    int8_t upper[RS_ATTEND256_ENTRIES], lower[RS_ATTEND256_ENTRIES];
    float unit; /* what 1 stands for; 0: nothing to add, and all weights are 0 */
} rs_split256;

/* Sixteen numbers of at most 127 as bytes. */
RS_INLINE void rs_store_bytes256(int8_t *bytes, __m256i low, __m256i high) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
    const __m128i packed = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)bytes, packed);
}

RS_INLINE void rs_split_weights256(const float *prob, const rs_page_view *pages, size_t n_pages,
                                   rs_split256 *s) {
    float weight[RS_ATTEND256_ENTRIES] = {0};
    __m256 top = _mm256_setzero_ps();
    for (size_t p = 0; p < n_pages; p++) {
        for (size_t e = 0; e < RS_PAGE_ENTRIES && pages[p].v != NULL; e += 8) {
            const size_t at = p * RS_PAGE_ENTRIES + e;
            const __m256 w = _mm256_mul_ps(_mm256_loadu_ps(prob + at), _mm256_loadu_ps(pages[p].v_scale + e));
            _mm256_storeu_ps(weight + at, w);
            top = rs_avx2_larger(top, rs_avx2_abs(w));
        }
    }
    const float max = rs_avx2_largest_magnitude(top);
    if (max < RS_WEIGHT_MIN) {
        memset(s, 0, sizeof *s);
        return;
    }
    const __m256 inverse = _mm256_set1_ps(RS_WEIGHT_STEPS / max);
    for (size_t p = 0; p < n_pages; p++) {
        __m256i upper[2], lower[2];
        for (size_t h = 0; h < 2; h++) {
            const __m256 w = _mm256_loadu_ps(weight + p * RS_PAGE_ENTRIES + 8 * h);
            const __m256i steps = _mm256_cvtps_epi32(_mm256_mul_ps(w, inverse));
            upper[h] = _mm256_srli_epi32(steps, 7);
            lower[h] = _mm256_and_si256(steps, _mm256_set1_epi32(127));
        }
        rs_store_bytes256(s->upper + p * RS_PAGE_ENTRIES, upper[0], upper[1]);
        rs_store_bytes256(s->lower + p * RS_PAGE_ENTRIES, lower[0], lower[1]);
    }
    s->unit = max / RS_WEIGHT_STEPS;
}

/* `tile` rows of weights times eight dimensions of the values. */
RS_INLINE void rs_values_tile256(rs_attend256 with, size_t tile, const rs_split256 *weights,
                                 const float *factor, const rs_page_view *pages, size_t n_pages,
                                 size_t head_dim, size_t d, float *acc) {
    __m256i upper[RS_ATTEND256_TILE], lower[RS_ATTEND256_TILE];
    for (size_t r = 0; r < tile; r++) upper[r] = lower[r] = _mm256_setzero_si256();
    for (size_t p = 0; p < n_pages; p++) {
        if (pages[p].v == NULL) continue;
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e += 4) {
            const __m256i v = rs_avx2_load(pages[p].v + e * head_dim + 4 * d);
            for (size_t r = 0; r < tile; r++) {
                const size_t at = p * RS_PAGE_ENTRIES + e;
                upper[r] = with.add_unsigned(upper[r], rs_avx2_spread(weights[r].upper + at), v);
                lower[r] = with.add_unsigned(lower[r], rs_avx2_spread(weights[r].lower + at), v);
            }
        }
    }
    for (size_t r = 0; r < tile; r++) {
        float *at = acc + r * head_dim + d;
        const __m256 old = _mm256_mul_ps(_mm256_loadu_ps(at), _mm256_set1_ps(factor[r]));
        const __m256 sum = _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_slli_epi32(upper[r], 7), lower[r]));
        _mm256_storeu_ps(at, _mm256_fmadd_ps(sum, _mm256_set1_ps(weights[r].unit), old));
    }
}

RS_INLINE void rs_values_of_pages256(rs_attend256 with, size_t tile, const float *prob, size_t stride,
                                     const float *factor, const rs_page_view *pages, size_t n_pages,
                                     size_t head_dim, float *acc) {
    rs_split256 weights[RS_ATTEND256_TILE];
    for (size_t r = 0; r < tile; r++) rs_split_weights256(prob + r * stride, pages, n_pages, &weights[r]);
    for (size_t p = 0; p < n_pages; p++) {
        for (size_t i = 0; pages[p].next != NULL && i < RS_PAGE_ENTRIES * head_dim; i += 64)
            _mm_prefetch((const void *)(pages[p].next + i), _MM_HINT_T1);
    }
    for (size_t d = 0; d < head_dim; d += 8)
        rs_values_tile256(with, tile, weights, factor, pages, n_pages, head_dim, d, acc);
}

RS_INLINE void rs_attend_values256(rs_attend256 with, const float *prob, size_t stride, const float *factor,
                                   size_t rows, const rs_page_view *pages, size_t n_pages, size_t head_dim,
                                   float *acc) {
    for (; rows >= 4; rows -= 4, prob += 4 * stride, factor += 4, acc += 4 * head_dim)
        rs_values_of_pages256(with, 4, prob, stride, factor, pages, n_pages, head_dim, acc);
    if (rows == 3) rs_values_of_pages256(with, 3, prob, stride, factor, pages, n_pages, head_dim, acc);
    if (rows == 2) rs_values_of_pages256(with, 2, prob, stride, factor, pages, n_pages, head_dim, acc);
    if (rows == 1) rs_values_of_pages256(with, 1, prob, stride, factor, pages, n_pages, head_dim, acc);
}

#endif
