/* The portable table. */
#include "kernels/levels.h"
#include "kernels/ref/ref.h"

static rs_dequantize_kernel *const ref_dequantize[RS_TYPE_COUNT] = {
    [RS_TYPE_F32] = rs_ref_dequantize_f32,   [RS_TYPE_F16] = rs_ref_dequantize_f16,
    [RS_TYPE_BF16] = rs_ref_dequantize_bf16, [RS_TYPE_Q4_0] = rs_ref_dequantize_q4_0,
    [RS_TYPE_Q4_1] = rs_ref_dequantize_q4_1, [RS_TYPE_Q5_0] = rs_ref_dequantize_q5_0,
    [RS_TYPE_Q5_1] = rs_ref_dequantize_q5_1, [RS_TYPE_Q8_0] = rs_ref_dequantize_q8_0,
    [RS_TYPE_Q4_K] = rs_ref_dequantize_q4_k, [RS_TYPE_Q5_K] = rs_ref_dequantize_q5_k,
    [RS_TYPE_Q6_K] = rs_ref_dequantize_q6_k,
};

static rs_unpack_kernel *const ref_unpack[RS_TYPE_COUNT] = {
    [RS_TYPE_Q4_0] = rs_ref_unpack_q4_0, [RS_TYPE_Q4_1] = rs_ref_unpack_q4_1,
    [RS_TYPE_Q5_0] = rs_ref_unpack_q5_0, [RS_TYPE_Q5_1] = rs_ref_unpack_q5_1,
    [RS_TYPE_Q8_0] = rs_ref_unpack_q8_0, [RS_TYPE_Q4_K] = rs_ref_unpack_q4_k,
    [RS_TYPE_Q5_K] = rs_ref_unpack_q5_k, [RS_TYPE_Q6_K] = rs_ref_unpack_q6_k,
};

const rs_kernels rs_ref_table = {
    .isa = RS_ISA_REF,
    .dequantize = ref_dequantize,
    .unpack = ref_unpack,
    .multiply =
        {
            [RS_PANEL_U4] = rs_ref_multiply_u4,
            [RS_PANEL_U5] = rs_ref_multiply_u4,
            [RS_PANEL_U6] = rs_ref_multiply_u6,
            [RS_PANEL_S8] = rs_ref_multiply_s8,
        },
    .quantize_acts = rs_ref_quantize_acts,
    .requantize =
        {
            [RS_PANEL_U4] = rs_ref_requantize_u4,
            [RS_PANEL_U5] = rs_ref_requantize_u5,
            [RS_PANEL_U6] = rs_ref_requantize_u6,
            [RS_PANEL_S8] = rs_ref_requantize_s8,
        },
    .quantize_terms = rs_ref_quantize_terms,
    .multiply_channels = rs_ref_multiply_channels,
    .dot_f32 = rs_ref_dot_f32,
    .rms_norm = rs_ref_rms_norm,
    .rope = rs_ref_rope,
    .rotate_keys = rs_ref_rotate_keys,
    .turn_keys = rs_ref_turn_keys,
    .swiglu = rs_ref_swiglu,
    .geglu = rs_ref_geglu,
    .add = rs_ref_add,
    .largest = rs_ref_largest,
    .quantize_head = rs_ref_quantize_head,
    .attend_keys = rs_ref_attend_keys,
    .softmax_step = rs_ref_softmax_step,
    .attend_values = rs_ref_attend_values,
};
