/* Vector pieces that the AVX-512 kernels share. */
#ifndef RASURE_KERNELS_X86_AVX512_MATH_H
#define RASURE_KERNELS_X86_AVX512_MATH_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/inline.h"
#include "kernels/ref/math.h"

RS_INLINE __m512i rs_avx512_load(const void *bytes) {
    return _mm512_loadu_si512(bytes);
}

/* Four bytes in every lane. */
RS_INLINE __m512i rs_avx512_spread(const int8_t *bytes) {
    int32_t four;
    memcpy(&four, bytes, sizeof four);
    return _mm512_set1_epi32(four);
}

/* The first `count` (0 to 16) of sixteen lanes. */
RS_INLINE __mmask16 rs_avx512_first(size_t count) {
    return (__mmask16)((1u << count) - 1u);
}

/* The sum of the four lanes. */
RS_INLINE int32_t rs_avx512_sum_lanes(__m128i sums) {
    sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32(sums, 0xb1)));
}

/* The bits of |x|, which order as magnitudes do, NaN above all: vmaxps would lose it. */
RS_INLINE __m512i rs_avx512_magnitude(__m512 x) {
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

/* Of magnitudes. */
RS_INLINE float rs_avx512_largest_magnitude(__m512i x) {
    return rs_bits_float(_mm512_reduce_max_epu32(x));
}

/* rs_exp of kernels/ref/math.h, lane by lane. */
RS_INLINE __m512 rs_avx512_exp(__m512 x) {
    const __m512 magic = _mm512_set1_ps(0x1.8p23f);
    const __m512 y = _mm512_min_ps(_mm512_set1_ps(88.0f), x);
    const __m512 shifted = _mm512_fmadd_ps(y, _mm512_set1_ps(0x1.715476p+0f), magic);
    const __m512 k = _mm512_sub_ps(shifted, magic);
    __m512 r = _mm512_fnmadd_ps(k, _mm512_set1_ps(0x1.62e4p-1f), y);
    r = _mm512_fnmadd_ps(k, _mm512_set1_ps(0x1.7f7d1cp-20f), r);
    __m512 p = _mm512_set1_ps(1.0f / 5040);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    const __m512i power =
        _mm512_slli_epi32(_mm512_add_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(127)), 23);
    const __mmask16 not_tiny = _mm512_cmp_ps_mask(y, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);
    return _mm512_maskz_mul_ps(not_tiny, p, _mm512_castsi512_ps(power));
}

#endif
