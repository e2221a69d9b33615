/* The AVX2, FMA and F16C kernels, each under the name of its entry in rs_kernels. MUST NOT be called on a CPU
 * that lacks one of the three. Only these files are compiled for them. */
#ifndef RASURE_KERNELS_X86_AVX2_H
#define RASURE_KERNELS_X86_AVX2_H

#include "kernels/kernels.h"

rs_dequantize_kernel rs_avx2_dequantize_f16, rs_avx2_dequantize_bf16;

rs_unpack_kernel rs_avx2_unpack_q4_0, rs_avx2_unpack_q4_1, rs_avx2_unpack_q5_0, rs_avx2_unpack_q5_1,
    rs_avx2_unpack_q8_0, rs_avx2_unpack_q4_k, rs_avx2_unpack_q5_k, rs_avx2_unpack_q6_k;

rs_multiply_blocks_kernel rs_avx2_multiply_q4_0, rs_avx2_multiply_q4_1, rs_avx2_multiply_q5_0,
    rs_avx2_multiply_q5_1, rs_avx2_multiply_q8_0, rs_avx2_multiply_q4_k, rs_avx2_multiply_q5_k,
    rs_avx2_multiply_q6_k;

rs_quantize_acts_kernel rs_avx2_quantize_acts;
/* u4: RS_PANEL_U5 too */
rs_multiply_kernel rs_avx2_multiply_u4, rs_avx2_multiply_u6, rs_avx2_multiply_s8;
rs_dot_f32_kernel rs_avx2_dot_f32;

rs_rms_norm_kernel rs_avx2_rms_norm;
rs_rope_kernel rs_avx2_rope;
rs_rotate_keys_kernel rs_avx2_rotate_keys;
rs_turn_keys_kernel rs_avx2_turn_keys;
rs_glu_kernel rs_avx2_swiglu, rs_avx2_geglu;
rs_add_kernel rs_avx2_add;
rs_largest_kernel rs_avx2_largest;

rs_quantize_head_kernel rs_avx2_quantize_head;
rs_attend_keys_kernel rs_avx2_attend_keys;
rs_softmax_step_kernel rs_avx2_softmax_step;
rs_attend_values_kernel rs_avx2_attend_values;

#endif
