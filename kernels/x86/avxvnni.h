/* The AVX-VNNI kernels, each under the name of its entry in rs_kernels. MUST NOT be called on a CPU that
 * lacks it or one of what AVX2 kernels need. Only these files are compiled for it. */
#ifndef RASURE_KERNELS_X86_AVXVNNI_H
#define RASURE_KERNELS_X86_AVXVNNI_H

#include "kernels/kernels.h"

void rs_avxvnni_multiply_q4_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out);
void rs_avxvnni_multiply_q4_1(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out);
void rs_avxvnni_multiply_q5_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out);
void rs_avxvnni_multiply_q5_1(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out);
void rs_avxvnni_multiply_q8_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out);
void rs_avxvnni_multiply_q4_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out);
void rs_avxvnni_multiply_q5_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out);
void rs_avxvnni_multiply_q6_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out);

/* RS_PANEL_U4 and U5 */
void rs_avxvnni_multiply_u4(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                            size_t out_stride, size_t channels);
void rs_avxvnni_multiply_u6(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                            size_t out_stride, size_t channels);
void rs_avxvnni_multiply_s8(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                            size_t out_stride, size_t channels);

void rs_avxvnni_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                            size_t n_pages, size_t head_dim, float *score, size_t score_stride);
void rs_avxvnni_attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                              const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc);

#endif
