/* The portable kernels, each under the name of its entry in rs_kernels (kernels/kernels.h has the contracts).
 */
#ifndef RASURE_KERNELS_REF_REF_H
#define RASURE_KERNELS_REF_REF_H

#include "kernels/kernels.h"

rs_dequantize_kernel rs_ref_dequantize_f32, rs_ref_dequantize_f16, rs_ref_dequantize_bf16,
    rs_ref_dequantize_q4_0, rs_ref_dequantize_q4_1, rs_ref_dequantize_q5_0, rs_ref_dequantize_q5_1,
    rs_ref_dequantize_q8_0, rs_ref_dequantize_q4_k, rs_ref_dequantize_q5_k, rs_ref_dequantize_q6_k;

rs_unpack_kernel rs_ref_unpack_q4_0, rs_ref_unpack_q4_1, rs_ref_unpack_q5_0, rs_ref_unpack_q5_1,
    rs_ref_unpack_q8_0, rs_ref_unpack_q4_k, rs_ref_unpack_q5_k, rs_ref_unpack_q6_k;

rs_quantize_acts_kernel rs_ref_quantize_acts;
/* u4: RS_PANEL_U5 too */
rs_multiply_kernel rs_ref_multiply_u4, rs_ref_multiply_u6, rs_ref_multiply_s8;
rs_dot_f32_kernel rs_ref_dot_f32;

rs_requantize_kernel rs_ref_requantize_u4, rs_ref_requantize_u5, rs_ref_requantize_u6, rs_ref_requantize_s8;
rs_quantize_terms_kernel rs_ref_quantize_terms;
rs_multiply_channels_kernel rs_ref_multiply_channels;

rs_rms_norm_kernel rs_ref_rms_norm;
rs_rope_kernel rs_ref_rope;
rs_rotate_keys_kernel rs_ref_rotate_keys;
rs_turn_keys_kernel rs_ref_turn_keys;
rs_glu_kernel rs_ref_swiglu, rs_ref_geglu;
rs_add_kernel rs_ref_add;
rs_largest_kernel rs_ref_largest;

rs_quantize_head_kernel rs_ref_quantize_head;
rs_attend_keys_kernel rs_ref_attend_keys;
rs_softmax_step_kernel rs_ref_softmax_step;
rs_attend_values_kernel rs_ref_attend_values;

#endif
