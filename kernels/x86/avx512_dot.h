/* Products of a group of weights with activations: what panels and blocks have in common, so that both give
 * the same bits. */
#ifndef RASURE_KERNELS_X86_AVX512_DOT_H
#define RASURE_KERNELS_X86_AVX512_DOT_H

#include "kernels/operand.h"
#include "kernels/x86/avx512_math.h"

/* Sixteen outputs on the way: products and minima add up apart, in two short chains. */
typedef struct rs_avx512_sums {
    __m512 total, base;
} rs_avx512_sums;

/*
 * Adds group g of sixteen weight rows times that of an activation row. vpdpbusd multiplies four weights of
 * each, unsigned, with four activations, signed, that are the same in every lane. Signed weights become
 * unsigned by adding 128, which takes 128 * scale as the minimum away again: `min` is then the scale.
 */
RS_INLINE void rs_avx512_add_group(rs_panel_kind kind, const __m512i *w, __m512 scale, __m512 min,
                                   rs_operand x, size_t g, rs_avx512_sums *sums) {
    const size_t group = rs_panel_group(kind);
    __m512i dot = _mm512_setzero_si512();
    for (size_t j = 0; j < group / 4; j++) {
        const __m512i unsigned_w =
            kind == RS_PANEL_S8 ? _mm512_xor_si512(w[j], _mm512_set1_epi8(-128)) : w[j];
        dot = _mm512_dpbusd_epi32(dot, unsigned_w, rs_avx512_spread(x.q + g * group + 4 * j));
    }
    const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(x.scale[g * group / RS_ACT_BLOCK]));
    sums->total = _mm512_fmadd_ps(both, _mm512_cvtepi32_ps(dot), sums->total);
    sums->base = _mm512_fmadd_ps(min, _mm512_set1_ps(x.sum[g]), sums->base);
}

RS_INLINE __m512 rs_avx512_finish(rs_panel_kind kind, const rs_avx512_sums *sums) {
    const __m512 factor = _mm512_set1_ps(kind == RS_PANEL_S8 ? -128.0f : 1.0f);
    return _mm512_fmadd_ps(sums->base, factor, sums->total);
}

#endif
