/* Attention over blocks of KV pages, sdot. */
#include "kernels/arm/attention.h"
#include "kernels/arm/dotprod.h"

void rs_dotprod_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                            size_t n_pages, size_t head_dim, float *score, size_t score_stride) {
    rs_arm_attend_keys(q, q_scale, rows, pages, n_pages, head_dim, score, score_stride);
}

void rs_dotprod_attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                              const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc) {
    rs_arm_attend_values(prob, stride, factor, rows, pages, n_pages, head_dim, acc);
}
