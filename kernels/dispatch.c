/* One constant kernel table per instruction set level, and the choice among them. */
#include <cpuinfo.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/ref/ref.h"
#include "kernels/x86/avx2.h"
#include "runtime/status.h"

static const rs_kernels ref_table = {
    .isa = RS_ISA_REF,
    .dequantize =
        {
            [RS_TYPE_F32] = rs_ref_dequantize_f32,
            [RS_TYPE_F16] = rs_ref_dequantize_f16,
            [RS_TYPE_BF16] = rs_ref_dequantize_bf16,
            [RS_TYPE_Q4_0] = rs_ref_dequantize_q4_0,
            [RS_TYPE_Q4_1] = rs_ref_dequantize_q4_1,
            [RS_TYPE_Q5_0] = rs_ref_dequantize_q5_0,
            [RS_TYPE_Q5_1] = rs_ref_dequantize_q5_1,
            [RS_TYPE_Q8_0] = rs_ref_dequantize_q8_0,
            [RS_TYPE_Q4_K] = rs_ref_dequantize_q4_k,
            [RS_TYPE_Q5_K] = rs_ref_dequantize_q5_k,
            [RS_TYPE_Q6_K] = rs_ref_dequantize_q6_k,
        },
    .unpack =
        {
            [RS_TYPE_Q4_0] = rs_ref_unpack_q4_0,
            [RS_TYPE_Q4_1] = rs_ref_unpack_q4_1,
            [RS_TYPE_Q5_0] = rs_ref_unpack_q5_0,
            [RS_TYPE_Q5_1] = rs_ref_unpack_q5_1,
            [RS_TYPE_Q8_0] = rs_ref_unpack_q8_0,
            [RS_TYPE_Q4_K] = rs_ref_unpack_q4_k,
            [RS_TYPE_Q5_K] = rs_ref_unpack_q5_k,
            [RS_TYPE_Q6_K] = rs_ref_unpack_q6_k,
        },
    .quantize_acts = rs_ref_quantize_acts,
    .dot_acts = rs_ref_dot_acts,
    .dot_f32 = rs_ref_dot_f32,
    .rms_norm = rs_ref_rms_norm,
    .rope = rs_ref_rope,
    .swiglu = rs_ref_swiglu,
    .geglu = rs_ref_geglu,
    .add = rs_ref_add,
    .quantize_head = rs_ref_quantize_head,
    .attend_keys = rs_ref_attend_keys,
    .softmax_step = rs_ref_softmax_step,
    .attend_values = rs_ref_attend_values,
};

#if defined(__x86_64__)
static const rs_kernels avx2_table = {
    .isa = RS_ISA_AVX2,
    .dequantize =
        {
            [RS_TYPE_F32] = rs_ref_dequantize_f32,
            [RS_TYPE_F16] = rs_avx2_dequantize_f16,
            [RS_TYPE_BF16] = rs_avx2_dequantize_bf16,
            [RS_TYPE_Q4_0] = rs_ref_dequantize_q4_0,
            [RS_TYPE_Q4_1] = rs_ref_dequantize_q4_1,
            [RS_TYPE_Q5_0] = rs_ref_dequantize_q5_0,
            [RS_TYPE_Q5_1] = rs_ref_dequantize_q5_1,
            [RS_TYPE_Q8_0] = rs_ref_dequantize_q8_0,
            [RS_TYPE_Q4_K] = rs_ref_dequantize_q4_k,
            [RS_TYPE_Q5_K] = rs_ref_dequantize_q5_k,
            [RS_TYPE_Q6_K] = rs_ref_dequantize_q6_k,
        },
    .unpack =
        {
            [RS_TYPE_Q4_0] = rs_avx2_unpack_q4_0,
            [RS_TYPE_Q4_1] = rs_avx2_unpack_q4_1,
            [RS_TYPE_Q5_0] = rs_avx2_unpack_q5_0,
            [RS_TYPE_Q5_1] = rs_avx2_unpack_q5_1,
            [RS_TYPE_Q8_0] = rs_avx2_unpack_q8_0,
            [RS_TYPE_Q4_K] = rs_avx2_unpack_q4_k,
            [RS_TYPE_Q5_K] = rs_avx2_unpack_q5_k,
            [RS_TYPE_Q6_K] = rs_avx2_unpack_q6_k,
        },
    .quantize_acts = rs_avx2_quantize_acts,
    .dot_acts = rs_avx2_dot_acts,
    .dot_f32 = rs_avx2_dot_f32,
    .rms_norm = rs_avx2_rms_norm,
    .rope = rs_ref_rope,
    .swiglu = rs_avx2_swiglu,
    .geglu = rs_avx2_geglu,
    .add = rs_ref_add,
    .quantize_head = rs_avx2_quantize_head,
    .attend_keys = rs_avx2_attend_keys,
    .softmax_step = rs_avx2_softmax_step,
    .attend_values = rs_avx2_attend_values,
};

static bool has_avx2(void) {
    return cpuinfo_has_x86_avx2() && cpuinfo_has_x86_fma3() && cpuinfo_has_x86_f16c();
}

static bool has_avx512vnni(void) {
    return has_avx2() && cpuinfo_has_x86_avx512f() && cpuinfo_has_x86_avx512bw() &&
           cpuinfo_has_x86_avx512vl() && cpuinfo_has_x86_avx512vnni();
}

static bool has_amx(void) {
    return has_avx512vnni() && cpuinfo_has_x86_amx_int8();
}
#elif defined(__aarch64__)
static bool has_neon(void) {
    return cpuinfo_has_arm_neon();
}

static bool has_dotprod(void) {
    return cpuinfo_has_arm_neon_dot();
}

static bool has_i8mm(void) {
    return has_dotprod() && cpuinfo_has_arm_i8mm();
}
#endif

static bool always(void) {
    return true;
}

/* The levels of this architecture, lowest first. One without kernels of its own uses those of the level
 * below. */
typedef struct level {
    rs_isa isa;
    bool (*present)(void);
    const rs_kernels *table;
} level;

static const level levels[] = {
    {RS_ISA_REF, always, &ref_table},
#if defined(__x86_64__)
    {RS_ISA_AVX2, has_avx2, &avx2_table},
    {RS_ISA_AVX512VNNI, has_avx512vnni, &avx2_table},
    {RS_ISA_AMX, has_amx, &avx2_table},
#elif defined(__aarch64__)
    {RS_ISA_NEON, has_neon, &ref_table},
    {RS_ISA_DOTPROD, has_dotprod, &ref_table},
    {RS_ISA_I8MM, has_i8mm, &ref_table},
#endif
};

rs_status rs_kernels_select(rs_isa limit, const rs_kernels **kernels, rs_error *error) {
    /* Where the CPU cannot be told, the portable level is all that is sure. */
    const size_t n_levels = cpuinfo_initialize() ? sizeof levels / sizeof *levels : 1;
    bool has_limit = limit == RS_ISA_AUTO;
    const rs_kernels *best = NULL;
    for (size_t i = 0; i < n_levels && levels[i].present(); i++) {
        if (limit != RS_ISA_AUTO && levels[i].isa > limit) break;
        best = levels[i].table;
        has_limit = has_limit || levels[i].isa == limit;
    }
    if (!has_limit) {
        return rs_fail(error, RS_UNSUPPORTED, "this CPU does not have the instruction set level \"%s\"",
                       rs_isa_name(limit));
    }
    *kernels = best;
    return RS_OK;
}

static const char *const isa_names[] = {
    [RS_ISA_AUTO] = "auto",       [RS_ISA_REF] = "ref",
    [RS_ISA_AVX2] = "avx2",       [RS_ISA_AVX512VNNI] = "avx512vnni",
    [RS_ISA_AMX] = "amx",         [RS_ISA_NEON] = "neon",
    [RS_ISA_DOTPROD] = "dotprod", [RS_ISA_I8MM] = "i8mm",
};

enum { N_ISAS = sizeof isa_names / sizeof *isa_names };

const char *rs_isa_name(rs_isa isa) {
    const unsigned index = (unsigned)isa;
    return index < N_ISAS ? isa_names[index] : "?";
}

rs_status rs_isa_from_name(const char *name, rs_isa *isa) {
    if (name == NULL || isa == NULL) return RS_INVALID_ARGUMENT;
    for (unsigned i = 0; i < N_ISAS; i++) {
        if (strcmp(name, isa_names[i]) == 0) {
            *isa = (rs_isa)i;
            return RS_OK;
        }
    }
    return RS_INVALID_ARGUMENT;
}
