/* What the dot product instructions (sdot, Armv8.2) make faster, each under the name of its entry in
 * rs_kernels. MUST NOT be called on a CPU without them. */
#ifndef RASURE_KERNELS_ARM_DOTPROD_H
#define RASURE_KERNELS_ARM_DOTPROD_H

#include "kernels/kernels.h"

/* u4: RS_PANEL_U5 too */
rs_multiply_kernel rs_dotprod_multiply_u4, rs_dotprod_multiply_u6, rs_dotprod_multiply_s8;
rs_multiply_blocks_kernel rs_dotprod_multiply_q4_0, rs_dotprod_multiply_q4_1, rs_dotprod_multiply_q5_0,
    rs_dotprod_multiply_q5_1, rs_dotprod_multiply_q8_0, rs_dotprod_multiply_q4_k, rs_dotprod_multiply_q5_k,
    rs_dotprod_multiply_q6_k;

rs_attend_keys_kernel rs_dotprod_attend_keys;
rs_attend_values_kernel rs_dotprod_attend_values;

#endif
