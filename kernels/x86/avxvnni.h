/* The AVX-VNNI kernels, each under the name of its entry in rs_kernels. MUST NOT be called on a CPU that
 * lacks it or one of what AVX2 kernels need. Only these files are compiled for it. */
#ifndef RASURE_KERNELS_X86_AVXVNNI_H
#define RASURE_KERNELS_X86_AVXVNNI_H

#include "kernels/kernels.h"

rs_multiply_blocks_kernel rs_avxvnni_multiply_q4_0, rs_avxvnni_multiply_q4_1, rs_avxvnni_multiply_q5_0,
    rs_avxvnni_multiply_q5_1, rs_avxvnni_multiply_q8_0, rs_avxvnni_multiply_q4_k, rs_avxvnni_multiply_q5_k,
    rs_avxvnni_multiply_q6_k;

/* u4: RS_PANEL_U5 too */
rs_multiply_kernel rs_avxvnni_multiply_u4, rs_avxvnni_multiply_u6, rs_avxvnni_multiply_s8;

rs_attend_keys_kernel rs_avxvnni_attend_keys;
rs_attend_values_kernel rs_avxvnni_attend_values;

#endif
