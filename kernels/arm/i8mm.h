/* What the matrix multiplications of 2 x 8 by 8 x 2 int8 (smmla) make faster, each under the name of its
 * entry in rs_kernels. MUST NOT be called on a CPU without them and sdot. */
#ifndef RASURE_KERNELS_ARM_I8MM_H
#define RASURE_KERNELS_ARM_I8MM_H

#include "kernels/kernels.h"

/* u4: RS_PANEL_U5 too */
rs_multiply_kernel rs_i8mm_multiply_u4, rs_i8mm_multiply_u6, rs_i8mm_multiply_s8;

#endif
