/* The NEON kernels, each under the name of its entry in rs_kernels. MUST NOT be called on a CPU without NEON,
 * nor, where it is 32-bit, without fused multiply-add (VFPv4). */
#ifndef RASURE_KERNELS_ARM_NEON_H
#define RASURE_KERNELS_ARM_NEON_H

#include "kernels/kernels.h"

rs_dequantize_kernel rs_neon_dequantize_f16, rs_neon_dequantize_bf16;

rs_unpack_kernel rs_neon_unpack_q4_0, rs_neon_unpack_q4_1, rs_neon_unpack_q5_0, rs_neon_unpack_q5_1,
    rs_neon_unpack_q8_0, rs_neon_unpack_q4_k, rs_neon_unpack_q5_k, rs_neon_unpack_q6_k;

rs_quantize_acts_kernel rs_neon_quantize_acts;
/* u4: RS_PANEL_U5 too */
rs_multiply_kernel rs_neon_multiply_u4, rs_neon_multiply_u6, rs_neon_multiply_s8;
rs_multiply_blocks_kernel rs_neon_multiply_q4_0, rs_neon_multiply_q4_1, rs_neon_multiply_q5_0,
    rs_neon_multiply_q5_1, rs_neon_multiply_q8_0, rs_neon_multiply_q4_k, rs_neon_multiply_q5_k,
    rs_neon_multiply_q6_k;
rs_dot_f32_kernel rs_neon_dot_f32;

rs_rms_norm_kernel rs_neon_rms_norm;
rs_rope_kernel rs_neon_rope;
rs_rotate_keys_kernel rs_neon_rotate_keys;
rs_turn_keys_kernel rs_neon_turn_keys;
rs_glu_kernel rs_neon_swiglu, rs_neon_geglu;
rs_add_kernel rs_neon_add;
rs_largest_kernel rs_neon_largest;

rs_quantize_head_kernel rs_neon_quantize_head;
rs_attend_keys_kernel rs_neon_attend_keys;
rs_softmax_step_kernel rs_neon_softmax_step;
rs_attend_values_kernel rs_neon_attend_values;

#endif
