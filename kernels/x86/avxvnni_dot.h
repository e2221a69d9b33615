/* How AVX-VNNI multiplies each kind of weights: vpdpbusd, unsigned times signed, adds four products. */
#ifndef RASURE_KERNELS_X86_AVXVNNI_DOT_H
#define RASURE_KERNELS_X86_AVXVNNI_DOT_H

#include "kernels/x86/multiply256.h"

RS_INLINE __m256i rs_avxvnni_add_unsigned(__m256i sums, __m256i w, __m256i x) {
    return _mm256_dpbusd_avx_epi32(sums, w, x);
}

/* Signed `w` become unsigned by adding 128. */
RS_INLINE __m256i rs_avxvnni_add_biased(__m256i sums, __m256i w, __m256i x) {
    return _mm256_dpbusd_avx_epi32(sums, _mm256_xor_si256(w, _mm256_set1_epi8(-128)), x);
}

RS_INLINE __m256i rs_avxvnni_wide(__m256i sums) {
    return sums;
}

RS_INLINE rs_dot256 rs_avxvnni_dot_u4(void) {
    return (rs_dot256){rs_avxvnni_add_unsigned, rs_avxvnni_wide, 8, 4, 0};
}

RS_INLINE rs_dot256 rs_avxvnni_dot_u6(void) {
    return (rs_dot256){rs_avxvnni_add_unsigned, rs_avxvnni_wide, 4, 4, 0};
}

RS_INLINE rs_dot256 rs_avxvnni_dot_s8(void) {
    return (rs_dot256){rs_avxvnni_add_biased, rs_avxvnni_wide, 8, 4, 1};
}

#endif
