/* Vector pieces that the AVX2 kernels share. */
#ifndef RASURE_KERNELS_X86_AVX2_MATH_H
#define RASURE_KERNELS_X86_AVX2_MATH_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/inline.h"

RS_INLINE __m256i rs_avx2_load(const void *bytes) {
    return _mm256_loadu_si256(bytes);
}

/* Four bytes in every lane. */
RS_INLINE __m256i rs_avx2_spread(const int8_t *bytes) {
    int32_t four;
    memcpy(&four, bytes, sizeof four);
    return _mm256_set1_epi32(four);
}

/* The first `count` (0 to 8) floats, the other lanes 0. Not by vpmaskmov: emulators read what is masked. */
RS_INLINE __m256 rs_avx2_load_some(const float *x, size_t count) {
    float lanes[8] = {0};
    memcpy(lanes, x, count * sizeof *lanes);
    return _mm256_loadu_ps(lanes);
}

/* The first `count` (0 to 8) of eight 32-bit lanes, for maskstore: masked lanes are not touched. */
RS_INLINE __m256i rs_avx2_first(size_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

RS_INLINE float rs_avx2_sum(__m256 x) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

RS_INLINE float rs_avx2_max(__m256 x) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

RS_INLINE __m256 rs_avx2_abs(__m256 x) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

/* Of magnitudes, which order as their bits do, NaN above all: vmaxps would lose it. */
RS_INLINE __m256 rs_avx2_larger(__m256 a, __m256 b) {
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}

RS_INLINE float rs_avx2_largest_magnitude(__m256 x) {
    const __m256i all = _mm256_castps_si256(x);
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1))));
}

/* Adds the products of four weights and four activations in each lane, both signed; activations are -127 to
 * 127, so that two products fit in 16 bits: vpmaddubsw takes magnitudes with the signs moved across. */
RS_INLINE __m256i rs_avx2_add_signed(__m256i sums, __m256i w, __m256i x) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* rs_exp of kernels/ref/math.h, lane by lane. */
RS_INLINE __m256 rs_avx2_exp(__m256 x) {
    const __m256 magic = _mm256_set1_ps(0x1.8p23f);
    const __m256 y = _mm256_min_ps(_mm256_set1_ps(88.0f), x);
    const __m256 shifted = _mm256_fmadd_ps(y, _mm256_set1_ps(0x1.715476p+0f), magic);
    const __m256 k = _mm256_sub_ps(shifted, magic);
    __m256 r = _mm256_fnmadd_ps(k, _mm256_set1_ps(0x1.62e4p-1f), y);
    r = _mm256_fnmadd_ps(k, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
    __m256 p = _mm256_set1_ps(1.0f / 5040);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 720));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    const __m256i power =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127)), 23);
    const __m256 value = _mm256_mul_ps(p, _mm256_castsi256_ps(power));
    return _mm256_andnot_ps(_mm256_cmp_ps(y, _mm256_set1_ps(-87.0f), _CMP_LT_OQ), value);
}

/* 32 floats times `inverse`, rounded to nearest, in order, as int8. */
RS_INLINE __m256i rs_avx2_round32(const __m256 x[4], __m256 inverse) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(x[0], inverse));
    const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(x[1], inverse));
    const __m256i c = _mm256_cvtps_epi32(_mm256_mul_ps(x[2], inverse));
    const __m256i d = _mm256_cvtps_epi32(_mm256_mul_ps(x[3], inverse));
    const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

#endif
