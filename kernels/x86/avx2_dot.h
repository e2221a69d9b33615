/*
 * How AVX2 multiplies each kind of weights. vpmaddubsw, unsigned times signed, adds two products in 16 bits;
 * how many of its results may be added up there depends on the largest weight.
 */
#ifndef RASURE_KERNELS_X86_AVX2_DOT_H
#define RASURE_KERNELS_X86_AVX2_DOT_H

#include "kernels/x86/multiply256.h"

RS_INLINE __m256i rs_avx2_add_unsigned(__m256i sums, __m256i w, __m256i x) {
    return _mm256_add_epi16(sums, _mm256_maddubs_epi16(w, x));
}

RS_INLINE __m256i rs_avx2_widen(__m256i sums) {
    return _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
}

RS_INLINE __m256i rs_avx2_wide(__m256i sums) {
    return sums;
}

/* U4 too: a group of those would do without the second widening, but not faster. */
RS_INLINE rs_dot256 rs_avx2_dot_u5(void) {
    _Static_assert(4 * 2 * 31 * 127 <= INT16_MAX, "half a group's sums stay in 16 bits");
    return (rs_dot256){rs_avx2_add_unsigned, rs_avx2_widen, 4, 3, 0};
}

RS_INLINE rs_dot256 rs_avx2_dot_u6(void) {
    _Static_assert(2 * 2 * 63 * 127 <= INT16_MAX, "half a group's sums stay in 16 bits");
    return (rs_dot256){rs_avx2_add_unsigned, rs_avx2_widen, 2, 3, 0};
}

RS_INLINE rs_dot256 rs_avx2_dot_s8(void) {
    return (rs_dot256){rs_avx2_add_signed, rs_avx2_wide, 8, 4, 0};
}

#endif
