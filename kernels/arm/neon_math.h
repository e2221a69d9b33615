/* Vector pieces that the Arm kernels share. What 32-bit NEON lacks (division, rounding to nearest, sums
 * across a register) is made up for here. It also takes denormals for 0. */
#ifndef RASURE_KERNELS_ARM_NEON_MATH_H
#define RASURE_KERNELS_ARM_NEON_MATH_H

#include <arm_neon.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/inline.h"
#include "kernels/ref/math.h"

/* Quantisation of floats that are smaller is left to rs_quantize: they may be denormals that count. */
#ifdef __aarch64__
#define RS_NEON_QUANTIZE_MIN RS_QUANTIZE_MIN
#else
#define RS_NEON_QUANTIZE_MIN 0x1p-118f
#endif

/* Four bytes in every lane. */
RS_INLINE int8x16_t rs_neon_spread(const int8_t *bytes) {
    int32_t four;
    memcpy(&four, bytes, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

RS_INLINE uint32_t rs_neon_load_u32(const uint8_t *bytes) {
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* Lane r = four bytes of row r, rows being `stride` apart. */
RS_INLINE uint32x4_t rs_neon_load_words(const uint8_t *bytes, size_t stride) {
    uint32x4_t words = vdupq_n_u32(rs_neon_load_u32(bytes));
    words = vsetq_lane_u32(rs_neon_load_u32(bytes + stride), words, 1);
    words = vsetq_lane_u32(rs_neon_load_u32(bytes + 2 * stride), words, 2);
    return vsetq_lane_u32(rs_neon_load_u32(bytes + 3 * stride), words, 3);
}

/* column[j] lane r = bytes 4 j to 4 j + 3 of row r, rows being `stride` apart. */
RS_INLINE void rs_neon_load_columns(const uint8_t *bytes, size_t stride, uint8x16_t column[4]) {
    const uint32x4_t row0 = vreinterpretq_u32_u8(vld1q_u8(bytes));
    const uint32x4_t row1 = vreinterpretq_u32_u8(vld1q_u8(bytes + stride));
    const uint32x4_t row2 = vreinterpretq_u32_u8(vld1q_u8(bytes + 2 * stride));
    const uint32x4_t row3 = vreinterpretq_u32_u8(vld1q_u8(bytes + 3 * stride));
    const uint32x4x2_t top = vtrnq_u32(row0, row1), bottom = vtrnq_u32(row2, row3);
    for (size_t j = 0; j < 2; j++) {
#ifdef __aarch64__
        const uint64x2_t a = vreinterpretq_u64_u32(top.val[j]), b = vreinterpretq_u64_u32(bottom.val[j]);
        column[j] = vreinterpretq_u8_u64(vzip1q_u64(a, b));
        column[j + 2] = vreinterpretq_u8_u64(vzip2q_u64(a, b));
#else
        const uint32x4_t a = top.val[j], b = bottom.val[j];
        column[j] = vreinterpretq_u8_u32(vcombine_u32(vget_low_u32(a), vget_low_u32(b)));
        column[j + 2] = vreinterpretq_u8_u32(vcombine_u32(vget_high_u32(a), vget_high_u32(b)));
#endif
    }
}

RS_INLINE float rs_neon_max(float32x4_t x) {
#ifdef __aarch64__
    return vmaxvq_f32(x);
#else
    const float32x2_t two = vpmax_f32(vget_low_f32(x), vget_high_f32(x));
    return vget_lane_f32(vpmax_f32(two, two), 0);
#endif
}

RS_INLINE float rs_neon_sum(float32x4_t x) {
    const float32x2_t two = vadd_f32(vget_low_f32(x), vget_high_f32(x));
    return vget_lane_f32(vpadd_f32(two, two), 0);
}

RS_INLINE int32_t rs_neon_sum_bytes(int8x16_t x) {
#ifdef __aarch64__
    return vaddlvq_s8(x);
#else
    const int32x4_t four = vpaddlq_s16(vpaddlq_s8(x));
    const int32x2_t two = vadd_s32(vget_low_s32(four), vget_high_s32(four));
    return vget_lane_s32(vpadd_s32(two, two), 0);
#endif
}

/* Sums of neighbours: those of a, then those of b. */
RS_INLINE int32x4_t rs_neon_add_pairs(int32x4_t a, int32x4_t b) {
#ifdef __aarch64__
    return vpaddq_s32(a, b);
#else
    return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)),
                        vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
#endif
}

/* Products of the upper eight bytes, and the same added to `sum`. */
RS_INLINE int16x8_t rs_neon_multiply_high(int8x16_t a, int8x16_t b) {
#ifdef __aarch64__
    return vmull_high_s8(a, b);
#else
    return vmull_s8(vget_high_s8(a), vget_high_s8(b));
#endif
}

RS_INLINE int16x8_t rs_neon_add_high(int16x8_t sum, int8x16_t a, int8x16_t b) {
#ifdef __aarch64__
    return vmlal_high_s8(sum, a, b);
#else
    return vmlal_s8(sum, vget_high_s8(a), vget_high_s8(b));
#endif
}

/* To the nearest integer, the even one of two; |x| below 2^22. */
RS_INLINE int32x4_t rs_neon_round(float32x4_t x) {
#ifdef __aarch64__
    return vcvtnq_s32_f32(x);
#else
    const float32x4_t magic = vdupq_n_f32(0x1.8p23f);
    return vsubq_s32(vreinterpretq_s32_f32(vaddq_f32(x, magic)), vreinterpretq_s32_f32(magic));
#endif
}

/* 16 floats, each times that of `factor`, rounded, as int8. */
RS_INLINE int8x16_t rs_neon_round16_by(const float32x4_t x[4], const float32x4_t factor[4]) {
    int16x4_t half[4];
    for (size_t i = 0; i < 4; i++) half[i] = vmovn_s32(rs_neon_round(vmulq_f32(x[i], factor[i])));
    return vcombine_s8(vmovn_s16(vcombine_s16(half[0], half[1])), vmovn_s16(vcombine_s16(half[2], half[3])));
}

/* All of them times the same. */
RS_INLINE int8x16_t rs_neon_round16(const float32x4_t x[4], float factor) {
    const float32x4_t all = vdupq_n_f32(factor);
    return rs_neon_round16_by(x, (const float32x4_t[4]){all, all, all, all});
}

/* The first and the second elements of four pairs. */
typedef struct rs_neon_pairs {
    float32x4_t a, b;
} rs_neon_pairs;

RS_INLINE rs_neon_pairs rs_neon_rotate(float32x4_t a, float32x4_t b, float32x4_t cosine, float32x4_t sine) {
    return (rs_neon_pairs){vfmsq_f32(vmulq_f32(a, cosine), b, sine),
                           vfmaq_f32(vmulq_f32(b, cosine), a, sine)};
}

RS_INLINE float32x4_t rs_neon_sqrt(float32x4_t x) {
#ifdef __aarch64__
    return vsqrtq_f32(x);
#else
    float root[4];
    vst1q_f32(root, x);
    for (size_t i = 0; i < 4; i++) root[i] = sqrtf(root[i]);
    return vld1q_f32(root);
#endif
}

RS_INLINE float32x4_t rs_neon_divide(float32x4_t x, float32x4_t y) {
#ifdef __aarch64__
    return vdivq_f32(x, y);
#else
    float dividend[4], divisor[4];
    vst1q_f32(dividend, x);
    vst1q_f32(divisor, y);
    for (size_t i = 0; i < 4; i++) dividend[i] /= divisor[i];
    return vld1q_f32(dividend);
#endif
}

/* IEEE binary16 to float, exact. */
RS_INLINE float32x4_t rs_neon_from_f16(uint16x4_t halves) {
#ifdef __aarch64__
    return vcvt_f32_f16(vreinterpret_f16_u16(halves));
#else
    const uint32x4_t wide = vmovl_u16(halves);
    const uint32x4_t sign = vshlq_n_u32(vshrq_n_u32(wide, 15), 31);
    const uint32x4_t magnitude = vandq_u32(wide, vdupq_n_u32(0x7fff));
    const uint32x4_t normal = vaddq_u32(vshlq_n_u32(magnitude, 13), vdupq_n_u32(112u << 23));
    const uint32x4_t tiny = vreinterpretq_u32_f32(vcvtq_n_f32_u32(magnitude, 24));
    const uint32x4_t infinite = vorrq_u32(vshlq_n_u32(magnitude, 13), vdupq_n_u32(0x7f800000));
    uint32x4_t bits = vbslq_u32(vcltq_u32(magnitude, vdupq_n_u32(0x400)), tiny, normal);
    bits = vbslq_u32(vcgeq_u32(magnitude, vdupq_n_u32(0x7c00)), infinite, bits);
    return vreinterpretq_f32_u32(vorrq_u32(bits, sign));
#endif
}

/* rs_exp of kernels/ref/math.h, lane by lane. */
RS_INLINE float32x4_t rs_neon_exp(float32x4_t x) {
    const float32x4_t magic = vdupq_n_f32(0x1.8p23f);
    const float32x4_t y = vminq_f32(x, vdupq_n_f32(88.0f));
    const float32x4_t shifted = vfmaq_f32(magic, y, vdupq_n_f32(0x1.715476p+0f));
    const float32x4_t k = vsubq_f32(shifted, magic);
    float32x4_t r = vfmsq_f32(y, k, vdupq_n_f32(0x1.62e4p-1f));
    r = vfmsq_f32(r, k, vdupq_n_f32(0x1.7f7d1cp-20f));
    float32x4_t p = vdupq_n_f32(1.0f / 5040);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 720), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 120), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 24), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f / 6), p, r);
    p = vfmaq_f32(vdupq_n_f32(0.5f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.0f), p, r);
    const int32x4_t power = vshlq_n_s32(vaddq_s32(vreinterpretq_s32_f32(shifted), vdupq_n_s32(127)), 23);
    const uint32x4_t value = vreinterpretq_u32_f32(vmulq_f32(p, vreinterpretq_f32_s32(power)));
    return vreinterpretq_f32_u32(vbicq_u32(value, vcltq_f32(y, vdupq_n_f32(-87.0f))));
}

#endif
