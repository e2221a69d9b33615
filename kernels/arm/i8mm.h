/* What the matrix multiplications of 2 x 8 by 8 x 2 int8 (smmla) make faster, each under the name of its
 * entry in rs_kernels. MUST NOT be called on a CPU without them and sdot. */
#ifndef RASURE_KERNELS_ARM_I8MM_H
#define RASURE_KERNELS_ARM_I8MM_H

#include "kernels/kernels.h"

/* RS_PANEL_U4 and U5 */
void rs_i8mm_multiply_u4(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels);
void rs_i8mm_multiply_u6(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels);
void rs_i8mm_multiply_s8(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels);

#endif
