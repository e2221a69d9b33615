/* Attention over blocks of KV pages, AVX-512 VNNI. */
#include <math.h>

#include "kernels/x86/avx512.h"
#include "kernels/x86/avx512_attend.h"

enum { TILE = 4, KEY_PAGES = 4, VALUE_WIDTH = 2 };

float rs_avx512_quantize_head(const float *x, int8_t *q, size_t n) {
    __m512i top = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 16)
        top = _mm512_max_epu32(top, rs_avx512_magnitude(_mm512_loadu_ps(x + i)));
    const float max = rs_avx512_largest_magnitude(top);
    if (max < RS_QUANTIZE_MIN) {
        memset(q, 0, n);
        return 0.0f;
    }
    const __m512 inverse = _mm512_set1_ps(127.0f / max);
    for (size_t i = 0; i < n; i += 16) {
        const __m512i wide = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), inverse));
        _mm_storeu_si128((__m128i *)(void *)(q + i), _mm512_cvtepi32_epi8(wide));
    }
    return max / 127.0f;
}

/* Minus 128 times the sum of a query: what keys that are made unsigned by adding 128 add too much. */
static int32_t excess(const int8_t *q, size_t head_dim) {
    __m128i sum = _mm_setzero_si128();
    for (size_t i = 0; i < head_dim; i += 16) {
        const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(q + i));
        sum = _mm_dpbusd_epi32(sum, _mm_set1_epi8(1), x);
    }
    return -128 * rs_avx512_sum_lanes(sum);
}

/* Adds the products of four dimensions, from d on. */
RS_INLINE void add_products(size_t tile, size_t n_pages, const int8_t *q, const rs_page_view *pages,
                            size_t head_dim, size_t d, __m512i dot[TILE][KEY_PAGES]) {
    __m512i k[KEY_PAGES];
    for (size_t p = 0; p < n_pages; p++) {
        _mm_prefetch((const void *)(pages[p].v + d * RS_PAGE_ENTRIES), _MM_HINT_T1);
        k[p] = _mm512_xor_si512(rs_avx512_load(pages[p].k + d * RS_PAGE_ENTRIES), _mm512_set1_epi8(-128));
    }
    for (size_t r = 0; r < tile; r++) {
        const __m512i spread = rs_avx512_spread(q + r * head_dim + d);
        for (size_t p = 0; p < n_pages; p++) dot[r][p] = _mm512_dpbusd_epi32(dot[r][p], k[p], spread);
    }
}

/* `tile` queries against the sixteen keys of each of `n_pages` pages that follow each other: what is loaded
 * of a query serves all of them. */
RS_INLINE void keys_tile(size_t tile, size_t n_pages, const int8_t *q, const float *q_scale,
                         const int32_t *start, const rs_page_view *pages, size_t head_dim, float *score,
                         size_t score_stride) {
    __m512i dot[TILE][KEY_PAGES];
    for (size_t r = 0; r < tile; r++)
        for (size_t p = 0; p < n_pages; p++) dot[r][p] = _mm512_set1_epi32(start[r]);
    for (size_t begin = 0; begin < head_dim; begin += RS_HEAD_DIM_UNIT) {
        RS_UNROLL
        for (size_t d = begin; d < begin + RS_HEAD_DIM_UNIT; d += 4)
            add_products(tile, n_pages, q, pages, head_dim, d, dot);
    }
    for (size_t p = 0; p < n_pages; p++) {
        const __m512 k_scale = _mm512_loadu_ps(pages[p].k_scale);
        for (size_t r = 0; r < tile; r++) {
            const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(q_scale[r]), k_scale);
            _mm512_storeu_ps(score + r * score_stride + p * RS_PAGE_ENTRIES,
                             _mm512_mul_ps(scale, _mm512_cvtepi32_ps(dot[r][p])));
        }
    }
}

RS_INLINE bool all_seen(const rs_page_view *pages, size_t n) {
    for (size_t p = 0; p < n; p++)
        if (pages[p].k == NULL) return false;
    return true;
}

RS_INLINE void keys_of_pages(size_t tile, const int8_t *q, const float *q_scale, const rs_page_view *pages,
                             size_t n_pages, size_t head_dim, float *score, size_t score_stride) {
    int32_t start[TILE];
    for (size_t r = 0; r < tile; r++) start[r] = excess(q + r * head_dim, head_dim);
    for (size_t p = 0; p < n_pages;) {
        float *at = score + p * RS_PAGE_ENTRIES;
        if (p + KEY_PAGES <= n_pages && all_seen(pages + p, KEY_PAGES)) {
            keys_tile(tile, KEY_PAGES, q, q_scale, start, pages + p, head_dim, at, score_stride);
            p += KEY_PAGES;
        } else {
            if (pages[p].k != NULL)
                keys_tile(tile, 1, q, q_scale, start, pages + p, head_dim, at, score_stride);
            p++;
        }
    }
}

void rs_avx512_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                           size_t n_pages, size_t head_dim, float *score, size_t score_stride) {
    for (; rows >= 4; rows -= 4, q += 4 * head_dim, q_scale += 4, score += 4 * score_stride)
        keys_of_pages(4, q, q_scale, pages, n_pages, head_dim, score, score_stride);
    if (rows == 3) keys_of_pages(3, q, q_scale, pages, n_pages, head_dim, score, score_stride);
    if (rows == 2) keys_of_pages(2, q, q_scale, pages, n_pages, head_dim, score, score_stride);
    if (rows == 1) keys_of_pages(1, q, q_scale, pages, n_pages, head_dim, score, score_stride);
}

float rs_avx512_softmax_step(float *score, size_t n, float *max, float *sum) {
    const size_t even = n / 16 * 16;
    const __mmask16 rest = rs_avx512_first(n - even);
    __m512 top_lanes = _mm512_set1_ps(*max);
    for (size_t i = 0; i < even; i += 16) top_lanes = _mm512_max_ps(top_lanes, _mm512_loadu_ps(score + i));
    if (even < n) {
        const __m512 x = _mm512_maskz_loadu_ps(rest, score + even);
        top_lanes = _mm512_mask_max_ps(top_lanes, rest, top_lanes, x);
    }
    const float top = _mm512_reduce_max_ps(top_lanes);
    if (top == -INFINITY) return rs_softmax_of_none(score, n, max, sum);
    const float factor = top > *max ? rs_exp(*max - top) : 1.0f;
    const __m512 top_all = _mm512_set1_ps(top);
    __m512 total = _mm512_setzero_ps();
    for (size_t i = 0; i < even; i += 16) {
        const __m512 p = rs_avx512_exp(_mm512_sub_ps(_mm512_loadu_ps(score + i), top_all));
        _mm512_storeu_ps(score + i, p);
        total = _mm512_add_ps(total, p);
    }
    if (even < n) {
        const __m512 x = _mm512_maskz_loadu_ps(rest, score + even);
        const __m512 p = rs_avx512_exp(_mm512_sub_ps(x, top_all));
        _mm512_mask_storeu_ps(score + even, rest, p);
        total = _mm512_mask_add_ps(total, rest, total, p);
    }
    *sum = *sum * factor + _mm512_reduce_add_ps(total);
    *max = top;
    return factor;
}

/* A row's weights in two parts, and what 1 stands for. */
typedef struct split {
    int8_t upper[RS_ATTEND_ENTRIES], lower[RS_ATTEND_ENTRIES];
    float unit;
} split;

/* `tile` rows of weights times `width` times sixteen dimensions of the values. */
RS_INLINE void values_tile(size_t tile, size_t width, const split *weights, const float *factor,
                           const rs_page_view *pages, size_t n_pages, size_t head_dim, size_t d, float *acc) {
    __m512i upper[TILE][VALUE_WIDTH], lower[TILE][VALUE_WIDTH];
    for (size_t r = 0; r < tile; r++)
        for (size_t w = 0; w < width; w++) upper[r][w] = lower[r][w] = _mm512_setzero_si512();
    for (size_t p = 0; p < n_pages; p++) {
        if (pages[p].v == NULL) continue;
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e += 4) {
            __m512i v[VALUE_WIDTH];
            for (size_t w = 0; w < width; w++)
                v[w] = rs_avx512_load(pages[p].v + e * head_dim + 4 * d + 64 * w);
            for (size_t r = 0; r < tile; r++) {
                const size_t at = p * RS_PAGE_ENTRIES + e;
                const __m512i up = rs_avx512_spread(weights[r].upper + at);
                for (size_t w = 0; w < width; w++) upper[r][w] = _mm512_dpbusd_epi32(upper[r][w], up, v[w]);
                const __m512i low = rs_avx512_spread(weights[r].lower + at);
                for (size_t w = 0; w < width; w++) lower[r][w] = _mm512_dpbusd_epi32(lower[r][w], low, v[w]);
            }
        }
    }
    for (size_t r = 0; r < tile; r++) {
        for (size_t w = 0; w < width; w++) {
            float *at = acc + r * head_dim + d + 16 * w;
            const __m512 old = _mm512_mul_ps(_mm512_loadu_ps(at), _mm512_set1_ps(factor[r]));
            const __m512i whole = _mm512_add_epi32(_mm512_slli_epi32(upper[r][w], 7), lower[r][w]);
            const __m512 unit = _mm512_set1_ps(weights[r].unit);
            _mm512_storeu_ps(at, _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), unit, old));
        }
    }
}

RS_INLINE void values_of_pages(size_t tile, const float *prob, size_t stride, const float *factor,
                               const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc) {
    split weights[TILE];
    for (size_t r = 0; r < tile; r++) {
        weights[r].unit =
            rs_avx512_split_weights(prob + r * stride, pages, n_pages, weights[r].upper, weights[r].lower);
    }
    rs_avx512_fetch_next(pages, n_pages, head_dim);
    size_t d = 0;
    for (; d + 16 * VALUE_WIDTH <= head_dim; d += 16 * VALUE_WIDTH)
        values_tile(tile, VALUE_WIDTH, weights, factor, pages, n_pages, head_dim, d, acc);
    for (; d < head_dim; d += 16) values_tile(tile, 1, weights, factor, pages, n_pages, head_dim, d, acc);
}

void rs_avx512_attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                             const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc) {
    for (; rows >= 4; rows -= 4, prob += 4 * stride, factor += 4, acc += 4 * head_dim)
        values_of_pages(4, prob, stride, factor, pages, n_pages, head_dim, acc);
    if (rows == 3) values_of_pages(3, prob, stride, factor, pages, n_pages, head_dim, acc);
    if (rows == 2) values_of_pages(2, prob, stride, factor, pages, n_pages, head_dim, acc);
    if (rows == 1) values_of_pages(1, prob, stride, factor, pages, n_pages, head_dim, acc);
}
