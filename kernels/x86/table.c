/* The x86-64 tables and what a CPU must have for each. */
#include <cpuinfo.h>

#include "kernels/levels.h"
#include "kernels/ref/ref.h"
#include "kernels/x86/amx.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/avx512.h"
#include "kernels/x86/avxvnni.h"
#include "ports/port.h"

static rs_dequantize_kernel *const avx2_dequantize[RS_TYPE_COUNT] = {
    [RS_TYPE_F32] = rs_ref_dequantize_f32,    [RS_TYPE_F16] = rs_avx2_dequantize_f16,
    [RS_TYPE_BF16] = rs_avx2_dequantize_bf16, [RS_TYPE_Q4_0] = rs_ref_dequantize_q4_0,
    [RS_TYPE_Q4_1] = rs_ref_dequantize_q4_1,  [RS_TYPE_Q5_0] = rs_ref_dequantize_q5_0,
    [RS_TYPE_Q5_1] = rs_ref_dequantize_q5_1,  [RS_TYPE_Q8_0] = rs_ref_dequantize_q8_0,
    [RS_TYPE_Q4_K] = rs_ref_dequantize_q4_k,  [RS_TYPE_Q5_K] = rs_ref_dequantize_q5_k,
    [RS_TYPE_Q6_K] = rs_ref_dequantize_q6_k,
};

static rs_unpack_kernel *const avx2_unpack[RS_TYPE_COUNT] = {
    [RS_TYPE_Q4_0] = rs_avx2_unpack_q4_0, [RS_TYPE_Q4_1] = rs_avx2_unpack_q4_1,
    [RS_TYPE_Q5_0] = rs_avx2_unpack_q5_0, [RS_TYPE_Q5_1] = rs_avx2_unpack_q5_1,
    [RS_TYPE_Q8_0] = rs_avx2_unpack_q8_0, [RS_TYPE_Q4_K] = rs_avx2_unpack_q4_k,
    [RS_TYPE_Q5_K] = rs_avx2_unpack_q5_k, [RS_TYPE_Q6_K] = rs_avx2_unpack_q6_k,
};

static rs_unpack_kernel *const avx512_unpack[RS_TYPE_COUNT] = {
    [RS_TYPE_Q4_0] = rs_avx512_unpack_q4_0, [RS_TYPE_Q4_1] = rs_avx512_unpack_q4_1,
    [RS_TYPE_Q5_0] = rs_avx512_unpack_q5_0, [RS_TYPE_Q5_1] = rs_avx512_unpack_q5_1,
    [RS_TYPE_Q8_0] = rs_avx512_unpack_q8_0, [RS_TYPE_Q4_K] = rs_avx512_unpack_q4_k,
    [RS_TYPE_Q5_K] = rs_avx512_unpack_q5_k, [RS_TYPE_Q6_K] = rs_avx512_unpack_q6_k,
};

static const rs_kernels avx2_table = {
    .isa = RS_ISA_AVX2,
    .dequantize = avx2_dequantize,
    .unpack = avx2_unpack,
    .multiply =
        {
            [RS_PANEL_U4] = rs_avx2_multiply_u4,
            [RS_PANEL_U5] = rs_avx2_multiply_u4,
            [RS_PANEL_U6] = rs_avx2_multiply_u6,
            [RS_PANEL_S8] = rs_avx2_multiply_s8,
        },
    .multiply_blocks =
        {
            [RS_TYPE_Q4_0] = rs_avx2_multiply_q4_0,
            [RS_TYPE_Q4_1] = rs_avx2_multiply_q4_1,
            [RS_TYPE_Q5_0] = rs_avx2_multiply_q5_0,
            [RS_TYPE_Q5_1] = rs_avx2_multiply_q5_1,
            [RS_TYPE_Q8_0] = rs_avx2_multiply_q8_0,
            [RS_TYPE_Q4_K] = rs_avx2_multiply_q4_k,
            [RS_TYPE_Q5_K] = rs_avx2_multiply_q5_k,
            [RS_TYPE_Q6_K] = rs_avx2_multiply_q6_k,
        },
    .quantize_acts = rs_avx2_quantize_acts,
    .dot_f32 = rs_avx2_dot_f32,
    .rms_norm = rs_avx2_rms_norm,
    .rope = rs_avx2_rope,
    .rotate_keys = rs_avx2_rotate_keys,
    .turn_keys = rs_avx2_turn_keys,
    .swiglu = rs_avx2_swiglu,
    .geglu = rs_avx2_geglu,
    .add = rs_avx2_add,
    .largest = rs_avx2_largest,
    .quantize_head = rs_avx2_quantize_head,
    .attend_keys = rs_avx2_attend_keys,
    .softmax_step = rs_avx2_softmax_step,
    .attend_values = rs_avx2_attend_values,
};

static const rs_kernels avxvnni_table = {
    .isa = RS_ISA_AVXVNNI,
    .dequantize = avx2_dequantize,
    .unpack = avx2_unpack,
    .multiply =
        {
            [RS_PANEL_U4] = rs_avxvnni_multiply_u4,
            [RS_PANEL_U5] = rs_avxvnni_multiply_u4,
            [RS_PANEL_U6] = rs_avxvnni_multiply_u6,
            [RS_PANEL_S8] = rs_avxvnni_multiply_s8,
        },
    .multiply_blocks =
        {
            [RS_TYPE_Q4_0] = rs_avxvnni_multiply_q4_0,
            [RS_TYPE_Q4_1] = rs_avxvnni_multiply_q4_1,
            [RS_TYPE_Q5_0] = rs_avxvnni_multiply_q5_0,
            [RS_TYPE_Q5_1] = rs_avxvnni_multiply_q5_1,
            [RS_TYPE_Q8_0] = rs_avxvnni_multiply_q8_0,
            [RS_TYPE_Q4_K] = rs_avxvnni_multiply_q4_k,
            [RS_TYPE_Q5_K] = rs_avxvnni_multiply_q5_k,
            [RS_TYPE_Q6_K] = rs_avxvnni_multiply_q6_k,
        },
    .quantize_acts = rs_avx2_quantize_acts,
    .dot_f32 = rs_avx2_dot_f32,
    .rms_norm = rs_avx2_rms_norm,
    .rope = rs_avx2_rope,
    .rotate_keys = rs_avx2_rotate_keys,
    .turn_keys = rs_avx2_turn_keys,
    .swiglu = rs_avx2_swiglu,
    .geglu = rs_avx2_geglu,
    .add = rs_avx2_add,
    .largest = rs_avx2_largest,
    .quantize_head = rs_avx2_quantize_head,
    .attend_keys = rs_avxvnni_attend_keys,
    .softmax_step = rs_avx2_softmax_step,
    .attend_values = rs_avxvnni_attend_values,
};

static const rs_kernels avx512vnni_table = {
    .isa = RS_ISA_AVX512VNNI,
    .dequantize = avx2_dequantize,
    .unpack = avx512_unpack,
    .multiply_blocks =
        {
            [RS_TYPE_Q4_0] = rs_avx512_multiply_q4_0,
            [RS_TYPE_Q4_1] = rs_avx512_multiply_q4_1,
            [RS_TYPE_Q5_0] = rs_avx512_multiply_q5_0,
            [RS_TYPE_Q5_1] = rs_avx512_multiply_q5_1,
            [RS_TYPE_Q8_0] = rs_avx512_multiply_q8_0,
            [RS_TYPE_Q4_K] = rs_avx512_multiply_q4_k,
            [RS_TYPE_Q5_K] = rs_avx512_multiply_q5_k,
            [RS_TYPE_Q6_K] = rs_avx512_multiply_q6_k,
        },
    .multiply =
        {
            [RS_PANEL_U4] = rs_avx512_multiply_u4,
            [RS_PANEL_U5] = rs_avx512_multiply_u4,
            [RS_PANEL_U6] = rs_avx512_multiply_u6,
            [RS_PANEL_S8] = rs_avx512_multiply_s8,
        },
    .quantize_acts = rs_avx512_quantize_acts,
    .dot_f32 = rs_avx512_dot_f32,
    .rms_norm = rs_avx512_rms_norm,
    .rope = rs_avx512_rope,
    .rotate_keys = rs_avx512_rotate_keys,
    .turn_keys = rs_avx512_turn_keys,
    .swiglu = rs_avx512_swiglu,
    .geglu = rs_avx512_geglu,
    .add = rs_avx512_add,
    .largest = rs_avx512_largest,
    .quantize_head = rs_avx512_quantize_head,
    .attend_keys = rs_avx512_attend_keys,
    .softmax_step = rs_avx512_softmax_step,
    .attend_values = rs_avx512_attend_values,
};

/* AVX-512 VNNI but for what several rows are multiplied with. */
static const rs_kernels amx_table = {
    .isa = RS_ISA_AMX,
    /* Nearly twice as fast in prefill, but one row goes by block scales and several by channels: results
     * would depend on chunks, which RS_ISA_AUTO promises they do not. And who asks the system for tiles also
     * gets its rules for signal stacks (rs_port_request_amx). */
    .on_request = true,
    .dequantize = avx2_dequantize,
    .unpack = avx512_unpack,
    .multiply_blocks =
        {
            [RS_TYPE_Q4_0] = rs_avx512_multiply_q4_0,
            [RS_TYPE_Q4_1] = rs_avx512_multiply_q4_1,
            [RS_TYPE_Q5_0] = rs_avx512_multiply_q5_0,
            [RS_TYPE_Q5_1] = rs_avx512_multiply_q5_1,
            [RS_TYPE_Q8_0] = rs_avx512_multiply_q8_0,
            [RS_TYPE_Q4_K] = rs_avx512_multiply_q4_k,
            [RS_TYPE_Q5_K] = rs_avx512_multiply_q5_k,
            [RS_TYPE_Q6_K] = rs_avx512_multiply_q6_k,
        },
    .multiply =
        {
            [RS_PANEL_U4] = rs_avx512_multiply_u4,
            [RS_PANEL_U5] = rs_avx512_multiply_u4,
            [RS_PANEL_U6] = rs_avx512_multiply_u6,
            [RS_PANEL_S8] = rs_avx512_multiply_s8,
        },
    .by_channels = true,
    .requantize =
        {
            [RS_PANEL_U4] = rs_amx_requantize_u4,
            [RS_PANEL_U5] = rs_amx_requantize_u5,
            [RS_PANEL_U6] = rs_amx_requantize_u6,
            [RS_PANEL_S8] = rs_amx_requantize_s8,
        },
    .quantize_terms = rs_amx_quantize_terms,
    .multiply_channels = rs_amx_multiply_channels,
    .quantize_acts = rs_avx512_quantize_acts,
    .dot_f32 = rs_avx512_dot_f32,
    .rms_norm = rs_avx512_rms_norm,
    .rope = rs_avx512_rope,
    .rotate_keys = rs_avx512_rotate_keys,
    .turn_keys = rs_avx512_turn_keys,
    .swiglu = rs_avx512_swiglu,
    .geglu = rs_avx512_geglu,
    .add = rs_avx512_add,
    .largest = rs_avx512_largest,
    .quantize_head = rs_avx512_quantize_head,
    .attend_keys = rs_amx_attend_keys,
    .softmax_step = rs_avx512_softmax_step,
    .attend_values = rs_amx_attend_values,
};

static bool has_avx2(void) {
    return cpuinfo_has_x86_avx2() && cpuinfo_has_x86_fma3() && cpuinfo_has_x86_f16c();
}

static bool has_avxvnni(void) {
    return has_avx2() && cpuinfo_has_x86_avxvnni();
}

static bool has_avx512vnni(void) {
    return has_avx2() && cpuinfo_has_x86_avx512f() && cpuinfo_has_x86_avx512bw() &&
           cpuinfo_has_x86_avx512dq() && cpuinfo_has_x86_avx512vl() && cpuinfo_has_x86_avx512vnni();
}

/* The permission comes last: to ask for it changes the process. */
static bool has_amx(void) {
    return has_avx512vnni() && cpuinfo_has_x86_amx_tile() && cpuinfo_has_x86_amx_int8() &&
           rs_port_request_amx() == 0;
}

const rs_level *rs_arch_levels(size_t *count) {
    static const rs_level levels[] = {
        {RS_ISA_AVX2, has_avx2, &avx2_table},
        {RS_ISA_AVXVNNI, has_avxvnni, &avxvnni_table},
        {RS_ISA_AVX512VNNI, has_avx512vnni, &avx512vnni_table},
        {RS_ISA_AMX, has_amx, &amx_table},
    };
    *count = sizeof levels / sizeof *levels;
    return levels;
}
