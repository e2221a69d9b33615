/* Scalar pieces that the portable kernels share, written so that compilers vectorise the loops around them.
 */
#ifndef RASURE_KERNELS_REF_MATH_H
#define RASURE_KERNELS_REF_MATH_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Blocks whose largest magnitude is below this count as all zero, so that 127 / max stays finite and the
 * scale a normal number. */
#define RS_QUANTIZE_MIN 0x1p-119f

/* attend_values' weights are multiples of max / STEPS; rows whose largest is below MIN count as all zero. */
#define RS_WEIGHT_STEPS 16383.0f
#define RS_WEIGHT_MIN 0x1p-100f

static inline uint32_t rs_float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float rs_bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* e^x, relative error about 1e-7; 0 below -87, e^88 above 88. x = k ln 2 + r with |r| <= ln(2) / 2, where the
 * Taylor polynomial of degree 7 is off by 5e-9. */
static inline float rs_exp(float x) {
    const float magic = 0x1.8p23f; /* adding it rounds to an integer, found in the low bits */
    const float y = x > 88.0f ? 88.0f : x;
    const float shifted = y * 0x1.715476p+0f + magic;
    const float k = shifted - magic;
    const float r =
        (y - k * 0x1.62e4p-1f) - k * 0x1.7f7d1cp-20f; /* ln 2 in two parts; k times the first is exact */
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const float power = rs_bits_float((rs_float_bits(shifted) + 127u) << 23);
    return y < -87.0f ? 0.0f : p * power;
}

/* softmax_step where the maximum came out as -INFINITY: nothing is visible so far, so that there is none to
 * subtract, or comparisons have lost a NaN, and maybe the numbers before it: the row is none then. */
static inline float rs_softmax_of_none(float *score, size_t n, float *max, float *sum) {
    for (size_t i = 0; i < n; i++) {
        if (score[i] == -INFINITY) score[i] = 0.0f;
        else score[i] = *max = *sum = NAN;
    }
    return 1.0f;
}

/* n floats to int8 by their largest magnitude; returns the scale. */
static inline float rs_quantize(const float *x, int8_t *q, size_t n) {
    /* Magnitudes order as integers do, and integer maxima vectorise without -ffast-math. */
    int32_t max_bits = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t bits = (int32_t)(rs_float_bits(x[i]) & 0x7fffffffu);
        max_bits = bits > max_bits ? bits : max_bits;
    }
    const float max = rs_bits_float((uint32_t)max_bits);
    if (max < RS_QUANTIZE_MIN) {
        memset(q, 0, n);
        return 0.0f;
    }
    const float inverse = 127.0f / max;
    for (size_t i = 0; i < n; i++) {
        const uint32_t rounded = rs_float_bits(x[i] * inverse + 0x1.8p23f);
        q[i] = (int8_t)(rounded & 0xffu);
    }
    return max / 127.0f;
}

#endif
