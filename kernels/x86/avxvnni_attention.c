/* Attention over blocks of KV pages, AVX-VNNI. */
#include "kernels/x86/attention256.h"
#include "kernels/x86/avxvnni.h"
#include "kernels/x86/avxvnni_dot.h"

static inline __m256i add_unsigned(__m256i sums, __m256i weights, __m256i values) {
    return _mm256_dpbusd_avx_epi32(sums, weights, values);
}

static inline __m256i add_biased(__m256i sums, __m256i keys, __m256i queries) {
    return rs_avxvnni_add_biased(sums, keys, queries);
}

void rs_avxvnni_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                            size_t n_pages, size_t head_dim, float *score, size_t score_stride) {
    const rs_attend256 with = {add_biased, add_unsigned, 1};
    rs_attend_keys256(with, q, q_scale, rows, pages, n_pages, head_dim, score, score_stride);
}

void rs_avxvnni_attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                              const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc) {
    const rs_attend256 with = {add_biased, add_unsigned, 1};
    rs_attend_values256(with, prob, stride, factor, rows, pages, n_pages, head_dim, acc);
}
