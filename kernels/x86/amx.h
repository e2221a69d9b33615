/* The AMX-INT8 kernels and what belongs to them, each under the name of its entry in rs_kernels. MUST NOT be
 * called on a CPU that lacks what avx512.h names; multiply_channels and attention only where AMX-INT8 is
 * there and the system has let the process use it. */
#ifndef RASURE_KERNELS_X86_AMX_H
#define RASURE_KERNELS_X86_AMX_H

#include "kernels/kernels.h"

void rs_amx_requantize_u4(const rs_panel *panel, size_t n, const rs_channel_panel *channels);
void rs_amx_requantize_u5(const rs_panel *panel, size_t n, const rs_channel_panel *channels);
void rs_amx_requantize_u6(const rs_panel *panel, size_t n, const rs_channel_panel *channels);
void rs_amx_requantize_s8(const rs_panel *panel, size_t n, const rs_channel_panel *channels);
void rs_amx_quantize_terms(const float *x, const rs_two_terms *terms, size_t rows, size_t n);
void rs_amx_multiply_channels(const rs_channel_panel *panels, const rs_two_terms *terms, size_t rows,
                              size_t n, float *out, size_t out_stride, size_t channels);
void rs_amx_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                        size_t n_pages, size_t head_dim, float *score, size_t score_stride);
void rs_amx_attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                          const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc);

#endif
