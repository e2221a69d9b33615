/* What the dot product instructions (sdot, Armv8.2) make faster, each under the name of its entry in
 * rs_kernels. MUST NOT be called on a CPU without them. */
#ifndef RASURE_KERNELS_ARM_DOTPROD_H
#define RASURE_KERNELS_ARM_DOTPROD_H

#include "kernels/kernels.h"

/* RS_PANEL_U4 and U5 */
void rs_dotprod_multiply_u4(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                            size_t out_stride, size_t channels);
void rs_dotprod_multiply_u6(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                            size_t out_stride, size_t channels);
void rs_dotprod_multiply_s8(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                            size_t out_stride, size_t channels);

void rs_dotprod_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                            size_t n_pages, size_t head_dim, float *score, size_t score_stride);
void rs_dotprod_attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                              const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc);

#endif
