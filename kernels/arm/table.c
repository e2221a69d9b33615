/* The Arm tables and what a CPU must have for each. */
#include <cpuinfo.h>

#include "kernels/arm/dotprod.h"
#include "kernels/arm/i8mm.h"
#include "kernels/arm/neon.h"
#include "kernels/levels.h"
#include "kernels/ref/ref.h"

static rs_dequantize_kernel *const neon_dequantize[RS_TYPE_COUNT] = {
    [RS_TYPE_F32] = rs_ref_dequantize_f32,    [RS_TYPE_F16] = rs_neon_dequantize_f16,
    [RS_TYPE_BF16] = rs_neon_dequantize_bf16, [RS_TYPE_Q4_0] = rs_ref_dequantize_q4_0,
    [RS_TYPE_Q4_1] = rs_ref_dequantize_q4_1,  [RS_TYPE_Q5_0] = rs_ref_dequantize_q5_0,
    [RS_TYPE_Q5_1] = rs_ref_dequantize_q5_1,  [RS_TYPE_Q8_0] = rs_ref_dequantize_q8_0,
    [RS_TYPE_Q4_K] = rs_ref_dequantize_q4_k,  [RS_TYPE_Q5_K] = rs_ref_dequantize_q5_k,
    [RS_TYPE_Q6_K] = rs_ref_dequantize_q6_k,
};

static rs_unpack_kernel *const neon_unpack[RS_TYPE_COUNT] = {
    [RS_TYPE_Q4_0] = rs_neon_unpack_q4_0, [RS_TYPE_Q4_1] = rs_neon_unpack_q4_1,
    [RS_TYPE_Q5_0] = rs_neon_unpack_q5_0, [RS_TYPE_Q5_1] = rs_neon_unpack_q5_1,
    [RS_TYPE_Q8_0] = rs_neon_unpack_q8_0, [RS_TYPE_Q4_K] = rs_neon_unpack_q4_k,
    [RS_TYPE_Q5_K] = rs_neon_unpack_q5_k, [RS_TYPE_Q6_K] = rs_neon_unpack_q6_k,
};

static const rs_kernels neon_table = {
    .isa = RS_ISA_NEON,
    .dequantize = neon_dequantize,
    .unpack = neon_unpack,
    .multiply =
        {
            [RS_PANEL_U4] = rs_neon_multiply_u4,
            [RS_PANEL_U5] = rs_neon_multiply_u4,
            [RS_PANEL_U6] = rs_neon_multiply_u6,
            [RS_PANEL_S8] = rs_neon_multiply_s8,
        },
    .multiply_blocks =
        {
            [RS_TYPE_Q4_0] = rs_neon_multiply_q4_0,
            [RS_TYPE_Q4_1] = rs_neon_multiply_q4_1,
            [RS_TYPE_Q5_0] = rs_neon_multiply_q5_0,
            [RS_TYPE_Q5_1] = rs_neon_multiply_q5_1,
            [RS_TYPE_Q8_0] = rs_neon_multiply_q8_0,
            [RS_TYPE_Q4_K] = rs_neon_multiply_q4_k,
            [RS_TYPE_Q5_K] = rs_neon_multiply_q5_k,
            [RS_TYPE_Q6_K] = rs_neon_multiply_q6_k,
        },
    .quantize_acts = rs_neon_quantize_acts,
    .dot_f32 = rs_neon_dot_f32,
    .rms_norm = rs_neon_rms_norm,
    .rope = rs_neon_rope,
    .rotate_keys = rs_neon_rotate_keys,
    .turn_keys = rs_neon_turn_keys,
    .swiglu = rs_neon_swiglu,
    .geglu = rs_neon_geglu,
    .add = rs_neon_add,
    .largest = rs_neon_largest,
    .quantize_head = rs_neon_quantize_head,
    .attend_keys = rs_neon_attend_keys,
    .softmax_step = rs_neon_softmax_step,
    .attend_values = rs_neon_attend_values,
};

#ifdef __aarch64__

static const rs_kernels dotprod_table = {
    .isa = RS_ISA_DOTPROD,
    .dequantize = neon_dequantize,
    .unpack = neon_unpack,
    .multiply =
        {
            [RS_PANEL_U4] = rs_dotprod_multiply_u4,
            [RS_PANEL_U5] = rs_dotprod_multiply_u4,
            [RS_PANEL_U6] = rs_dotprod_multiply_u6,
            [RS_PANEL_S8] = rs_dotprod_multiply_s8,
        },
    .multiply_blocks =
        {
            [RS_TYPE_Q4_0] = rs_dotprod_multiply_q4_0,
            [RS_TYPE_Q4_1] = rs_dotprod_multiply_q4_1,
            [RS_TYPE_Q5_0] = rs_dotprod_multiply_q5_0,
            [RS_TYPE_Q5_1] = rs_dotprod_multiply_q5_1,
            [RS_TYPE_Q8_0] = rs_dotprod_multiply_q8_0,
            [RS_TYPE_Q4_K] = rs_dotprod_multiply_q4_k,
            [RS_TYPE_Q5_K] = rs_dotprod_multiply_q5_k,
            [RS_TYPE_Q6_K] = rs_dotprod_multiply_q6_k,
        },
    .quantize_acts = rs_neon_quantize_acts,
    .dot_f32 = rs_neon_dot_f32,
    .rms_norm = rs_neon_rms_norm,
    .rope = rs_neon_rope,
    .rotate_keys = rs_neon_rotate_keys,
    .turn_keys = rs_neon_turn_keys,
    .swiglu = rs_neon_swiglu,
    .geglu = rs_neon_geglu,
    .add = rs_neon_add,
    .largest = rs_neon_largest,
    .quantize_head = rs_neon_quantize_head,
    .attend_keys = rs_dotprod_attend_keys,
    .softmax_step = rs_neon_softmax_step,
    .attend_values = rs_dotprod_attend_values,
};

static const rs_kernels i8mm_table = {
    .isa = RS_ISA_I8MM,
    /* smmla does twice what sdot does, but the panels' layout is made for sdot: pairing channels up takes as
     * many instructions as it saves. Whether it is faster has to be seen on such a CPU. */
    .on_request = true,
    .dequantize = neon_dequantize,
    .unpack = neon_unpack,
    .multiply =
        {
            [RS_PANEL_U4] = rs_i8mm_multiply_u4,
            [RS_PANEL_U5] = rs_i8mm_multiply_u4,
            [RS_PANEL_U6] = rs_i8mm_multiply_u6,
            [RS_PANEL_S8] = rs_i8mm_multiply_s8,
        },
    .multiply_blocks =
        {
            [RS_TYPE_Q4_0] = rs_dotprod_multiply_q4_0,
            [RS_TYPE_Q4_1] = rs_dotprod_multiply_q4_1,
            [RS_TYPE_Q5_0] = rs_dotprod_multiply_q5_0,
            [RS_TYPE_Q5_1] = rs_dotprod_multiply_q5_1,
            [RS_TYPE_Q8_0] = rs_dotprod_multiply_q8_0,
            [RS_TYPE_Q4_K] = rs_dotprod_multiply_q4_k,
            [RS_TYPE_Q5_K] = rs_dotprod_multiply_q5_k,
            [RS_TYPE_Q6_K] = rs_dotprod_multiply_q6_k,
        },
    .quantize_acts = rs_neon_quantize_acts,
    .dot_f32 = rs_neon_dot_f32,
    .rms_norm = rs_neon_rms_norm,
    .rope = rs_neon_rope,
    .rotate_keys = rs_neon_rotate_keys,
    .turn_keys = rs_neon_turn_keys,
    .swiglu = rs_neon_swiglu,
    .geglu = rs_neon_geglu,
    .add = rs_neon_add,
    .largest = rs_neon_largest,
    .quantize_head = rs_neon_quantize_head,
    .attend_keys = rs_dotprod_attend_keys,
    .softmax_step = rs_neon_softmax_step,
    .attend_values = rs_dotprod_attend_values,
};

static bool has_neon(void) {
    return cpuinfo_has_arm_neon();
}

static bool has_dotprod(void) {
    return has_neon() && cpuinfo_has_arm_neon_dot();
}

static bool has_i8mm(void) {
    return has_dotprod() && cpuinfo_has_arm_i8mm();
}

#else

static bool has_neon(void) {
    return cpuinfo_has_arm_neon() && cpuinfo_has_arm_neon_fma();
}

#endif

const rs_level *rs_arch_levels(size_t *count) {
    static const rs_level levels[] = {
        {RS_ISA_NEON, has_neon, &neon_table},
#ifdef __aarch64__
        {RS_ISA_DOTPROD, has_dotprod, &dotprod_table},
        {RS_ISA_I8MM, has_i8mm, &i8mm_table},
#endif
    };
    *count = sizeof levels / sizeof *levels;
    return levels;
}
