/*
 * Weight blocks against one activation row, without a panel in between: the one source of all levels;
 * kernels/ref/unpack.c describes the layouts. The weights of four rows meet the activations as they lie, a
 * row to a register: a group's products are integers, so the order of their sum is free, and only the sums
 * are put into lanes, which are rows from there on.
 */
#ifndef RASURE_KERNELS_ARM_BLOCKS_H
#define RASURE_KERNELS_ARM_BLOCKS_H

#include "kernels/arm/neon_math.h"
#include "kernels/operand.h"

/* Rows that are multiplied together, and the registers that a group of 32 of a row takes. */
enum { RS_ARM_BLOCK_ROWS = 4, RS_ARM_PARTS = 2 };

/* Where the blocks at hand of the four rows begin. */
typedef struct rs_arm_source {
    const uint8_t *at;
    size_t stride;
} rs_arm_source;

/* Of four rows. */
typedef struct rs_arm_sums {
    rs_operand x;
    float32x4_t total, base;
} rs_arm_sums;

/* The products of 16 weights with as many activations, two to a lane. */
RS_INLINE int16x8_t rs_arm_products(uint8x16_t w, const int8_t *x) {
    const int8x16_t v = vreinterpretq_s8_u8(w), y = vld1q_s8(x);
    return rs_neon_add_high(vmull_s8(vget_low_s8(v), vget_low_s8(y)), v, y);
}

/* The sum of a row's products with the group, in four lanes. */
RS_INLINE int32x4_t rs_arm_dot_row(rs_panel_kind kind, const uint8x16_t w[RS_ARM_PARTS], const int8_t *x) {
    const int has_two = rs_panel_group(kind) == 32;
#ifdef __ARM_FEATURE_DOTPROD
    const int32x4_t dot = vdotq_s32(vdupq_n_s32(0), vreinterpretq_s8_u8(w[0]), vld1q_s8(x));
    return has_two ? vdotq_s32(dot, vreinterpretq_s8_u8(w[1]), vld1q_s8(x + 16)) : dot;
#else
    int16x8_t sum = rs_arm_products(w[0], x);
    if (!has_two) return vpaddlq_s16(sum);
    /* 16 bits have room for four products of weights of 6 bits or less, for two of 8. */
    if (kind == RS_PANEL_S8) return vpadalq_s16(vpaddlq_s16(sum), rs_arm_products(w[1], x + 16));
    const int8x16_t v = vreinterpretq_s8_u8(w[1]), y = vld1q_s8(x + 16);
    sum = vmlal_s8(sum, vget_low_s8(v), vget_low_s8(y));
    return vpaddlq_s16(rs_neon_add_high(sum, v, y));
#endif
}

/* Lane r: the products of row r's group with that of the activations. */
RS_INLINE int32x4_t rs_arm_dot_rows(rs_panel_kind kind, uint8x16_t w[][RS_ARM_PARTS], const int8_t *x) {
    int32x4_t dot[RS_ARM_BLOCK_ROWS];
    RS_UNROLL
    for (size_t r = 0; r < RS_ARM_BLOCK_ROWS; r++) dot[r] = rs_arm_dot_row(kind, w[r], x);
    return rs_neon_add_pairs(rs_neon_add_pairs(dot[0], dot[1]), rs_neon_add_pairs(dot[2], dot[3]));
}

/* Group g, with the float operations of rs_arm_multiply_tile. */
RS_INLINE void rs_arm_add_group(rs_panel_kind kind, rs_arm_sums *out, size_t g, int32x4_t dot,
                                float32x4_t scale, float32x4_t min) {
    const float x_scale = out->x.scale[g * rs_panel_group(kind) / RS_ACT_BLOCK];
    out->total = vfmaq_f32(out->total, vmulq_f32(scale, vdupq_n_f32(x_scale)), vcvtq_f32_s32(dot));
    if (kind != RS_PANEL_S8) out->base = vfmaq_f32(out->base, min, vdupq_n_f32(out->x.sum[g]));
}

RS_INLINE float32x4_t rs_arm_low_halves(uint32x4_t pairs) {
    return rs_neon_from_f16(vmovn_u32(pairs));
}

RS_INLINE float32x4_t rs_arm_high_halves(uint32x4_t pairs) {
    return rs_neon_from_f16(vshrn_n_u32(pairs, 16));
}

/* The bits of two bytes, from byte 2 `half` on, as a byte of ones or zeros each. */
RS_INLINE uint8x16_t rs_arm_spread_bits(const uint8_t *bytes, size_t half) {
    static const uint8_t bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
#ifdef __aarch64__
    static const uint8_t first_two[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    const uint8x16_t from = vaddq_u8(vld1q_u8(first_two), vdupq_n_u8((uint8_t)(2 * half)));
    const uint8x16_t same = vqtbl1q_u8(vreinterpretq_u8_u32(vdupq_n_u32(rs_neon_load_u32(bytes))), from);
#else
    const uint8x16_t same = vcombine_u8(vdup_n_u8(bytes[2 * half]), vdup_n_u8(bytes[2 * half + 1]));
#endif
    return vtstq_u8(same, vld1q_u8(bits));
}

/* Q4_0, Q4_1, Q5_0, Q5_1: {d, maybe m, maybe 32 high bits, 16 bytes of nibbles}, the low ones first. A fifth
 * bit is shifted in above four others, along with copies of it that are masked away. */
RS_INLINE void rs_arm_take_nibbles(rs_panel_kind kind, rs_arm_source in, size_t n, rs_arm_sums *out,
                                   int has_min, float offset) {
    const int has_high = kind == RS_PANEL_U5;
    const size_t high_at = has_min ? 4 : 2, nibbles_at = high_at + (has_high ? 4 : 0);
    for (size_t b = 0; b < n / 32; b++, in.at += nibbles_at + 16) {
        uint8x16_t w[RS_ARM_BLOCK_ROWS][RS_ARM_PARTS];
        RS_UNROLL
        for (size_t r = 0; r < RS_ARM_BLOCK_ROWS; r++) {
            const uint8_t *block = in.at + r * in.stride;
            const uint8x16_t nibbles = vld1q_u8(block + nibbles_at);
            if (has_high) {
                const uint8x16_t low = rs_arm_spread_bits(block + high_at, 0);
                const uint8x16_t high = rs_arm_spread_bits(block + high_at, 1);
                w[r][0] = vandq_u8(vsliq_n_u8(nibbles, low, 4), vdupq_n_u8(31));
                w[r][1] = vandq_u8(vsriq_n_u8(high, nibbles, 4), vdupq_n_u8(31));
            } else {
                w[r][0] = vandq_u8(nibbles, vdupq_n_u8(15));
                w[r][1] = vshrq_n_u8(nibbles, 4);
            }
        }
        const uint32x4_t heads = rs_neon_load_words(in.at, in.stride);
        const float32x4_t scale = rs_arm_low_halves(heads);
        const float32x4_t min = has_min ? rs_arm_high_halves(heads) : vmulq_f32(scale, vdupq_n_f32(-offset));
        rs_arm_add_group(kind, out, b, rs_arm_dot_rows(kind, w, out->x.q + 32 * b), scale, min);
    }
}

RS_INLINE void rs_arm_take_q4_0(rs_arm_source in, size_t n, rs_arm_sums *out) {
    rs_arm_take_nibbles(RS_PANEL_U4, in, n, out, 0, 8.0f);
}

RS_INLINE void rs_arm_take_q4_1(rs_arm_source in, size_t n, rs_arm_sums *out) {
    rs_arm_take_nibbles(RS_PANEL_U4, in, n, out, 1, 0.0f);
}

RS_INLINE void rs_arm_take_q5_0(rs_arm_source in, size_t n, rs_arm_sums *out) {
    rs_arm_take_nibbles(RS_PANEL_U5, in, n, out, 0, 16.0f);
}

RS_INLINE void rs_arm_take_q5_1(rs_arm_source in, size_t n, rs_arm_sums *out) {
    rs_arm_take_nibbles(RS_PANEL_U5, in, n, out, 1, 0.0f);
}

/* {d, 32 bytes} */
RS_INLINE void rs_arm_take_q8_0(rs_arm_source in, size_t n, rs_arm_sums *out) {
    for (size_t b = 0; b < n / 32; b++, in.at += 34) {
        uint8x16_t w[RS_ARM_BLOCK_ROWS][RS_ARM_PARTS];
        RS_UNROLL
        for (size_t r = 0; r < RS_ARM_BLOCK_ROWS; r++) {
            w[r][0] = vld1q_u8(in.at + r * in.stride + 2);
            w[r][1] = vld1q_u8(in.at + r * in.stride + 18);
        }
        const float32x4_t scale = rs_arm_low_halves(rs_neon_load_words(in.at, in.stride));
        rs_arm_add_group(RS_PANEL_S8, out, b, rs_arm_dot_rows(RS_PANEL_S8, w, out->x.q + 32 * b), scale,
                         scale);
    }
}

/* Takes the lowest byte of every lane away, the next one coming in its place. */
RS_INLINE float32x4_t rs_arm_take_byte(uint32x4_t *bytes) {
    const float32x4_t value = vcvtq_f32_u32(vandq_u32(*bytes, vdupq_n_u32(255)));
    *bytes = vshrq_n_u32(*bytes, 8);
    return value;
}

/* {d, dmin, three times four packed bytes, maybe 32 bytes of high bits, 128 bytes of nibbles}: 32 bytes hold
 * two groups, the low nibbles the first; bit g of high byte i belongs to element i of group g. */
RS_INLINE void rs_arm_take_k(rs_panel_kind kind, rs_arm_source in, size_t n, rs_arm_sums *out) {
    const int has_high = kind == RS_PANEL_U5;
    const size_t nibbles_at = has_high ? 48 : 16;
    const uint8x16_t low4 = vdupq_n_u8(15), low5 = vdupq_n_u8(31), low6 = vdupq_n_u8(63);
    for (size_t b = 0; b < n / 256; b++, in.at += nibbles_at + 128) {
        uint8x16_t head[4];
        rs_neon_load_columns(in.at, in.stride, head);
        const float32x4_t d = rs_arm_low_halves(vreinterpretq_u32_u8(head[0]));
        const float32x4_t minus_dmin = vnegq_f32(rs_arm_high_halves(vreinterpretq_u32_u8(head[0])));
        const uint8x16_t high_scales = vandq_u8(vsliq_n_u8(head[3], vshrq_n_u8(head[1], 6), 4), low6);
        const uint8x16_t high_mins = vsliq_n_u8(vshrq_n_u8(head[3], 4), vshrq_n_u8(head[2], 6), 4);
        const uint8x16_t scale_bytes[2] = {vandq_u8(head[1], low6), high_scales};
        const uint8x16_t min_bytes[2] = {vandq_u8(head[2], low6), high_mins};
        RS_UNROLL
        for (size_t half = 0; half < 2; half++) {
            uint32x4_t scales = vreinterpretq_u32_u8(scale_bytes[half]);
            uint32x4_t mins = vreinterpretq_u32_u8(min_bytes[half]);
            for (size_t pair = 2 * half; pair < 2 * half + 2; pair++) {
                uint8x16_t w[2][RS_ARM_BLOCK_ROWS][RS_ARM_PARTS];
                RS_UNROLL
                for (size_t r = 0; r < RS_ARM_BLOCK_ROWS; r++) {
                    const uint8_t *block = in.at + r * in.stride;
                    for (size_t p = 0; p < RS_ARM_PARTS; p++) {
                        const uint8x16_t nibbles = vld1q_u8(block + nibbles_at + 32 * pair + 16 * p);
                        w[0][r][p] = vandq_u8(nibbles, low4);
                        w[1][r][p] = vshrq_n_u8(nibbles, 4);
                        if (has_high) {
                            const int8x16_t down = vdupq_n_s8((int8_t)(-2 * (int)pair));
                            const uint8x16_t high = vshlq_u8(vld1q_u8(block + 16 + 16 * p), down);
                            w[0][r][p] = vandq_u8(vsliq_n_u8(nibbles, high, 4), low5);
                            w[1][r][p] = vandq_u8(vsriq_n_u8(vshlq_n_u8(high, 3), nibbles, 4), low5);
                        }
                    }
                }
                for (size_t i = 0; i < 2; i++) {
                    const size_t g = 8 * b + 2 * pair + i;
                    const float32x4_t scale = vmulq_f32(rs_arm_take_byte(&scales), d);
                    const float32x4_t min = vmulq_f32(rs_arm_take_byte(&mins), minus_dmin);
                    rs_arm_add_group(kind, out, g, rs_arm_dot_rows(kind, w[i], out->x.q + 32 * g), scale,
                                     min);
                }
            }
        }
    }
}

RS_INLINE void rs_arm_take_q4_k(rs_arm_source in, size_t n, rs_arm_sums *out) {
    rs_arm_take_k(RS_PANEL_U4, in, n, out);
}

RS_INLINE void rs_arm_take_q5_k(rs_arm_source in, size_t n, rs_arm_sums *out) {
    rs_arm_take_k(RS_PANEL_U5, in, n, out);
}

/* {128 bytes of low nibbles, 64 bytes of bit pairs, 16 int8 scales, d}. Of each half of 128 elements sixteen
 * bytes of pairs and twice sixteen of nibbles hold every other of eight groups. Nibble and pair are shifted
 * together and freed of what is above. */
RS_INLINE void rs_arm_take_q6_k(rs_arm_source in, size_t n, rs_arm_sums *out) {
    const uint8x16_t low6 = vdupq_n_u8(63);
    for (size_t b = 0; b < n / 256; b++, in.at += 210) {
        uint8x16_t scale_bytes[4];
        rs_neon_load_columns(in.at + 192, in.stride, scale_bytes);
        const float32x4_t d = rs_arm_high_halves(rs_neon_load_words(in.at + 206, in.stride));
        for (size_t half = 0; half < 2; half++) {
            const int8_t *x = out->x.q + 256 * b + 128 * half;
            int32x4_t dot[8];
            for (size_t part = 0; part < 2; part++) {
                uint8x16_t w[4][RS_ARM_BLOCK_ROWS][RS_ARM_PARTS];
                RS_UNROLL
                for (size_t r = 0; r < RS_ARM_BLOCK_ROWS; r++) {
                    const uint8_t *block = in.at + r * in.stride + 16 * part;
                    const uint8x16_t first = vld1q_u8(block + 64 * half);
                    const uint8x16_t second = vld1q_u8(block + 64 * half + 32);
                    const uint8x16_t pairs = vld1q_u8(block + 128 + 32 * half);
                    const uint8x16_t upper = vshrq_n_u8(pairs, 2);
                    w[0][r][0] = vandq_u8(vsliq_n_u8(first, pairs, 4), low6);
                    w[1][r][0] = vandq_u8(vsliq_n_u8(second, upper, 4), low6);
                    w[2][r][0] = vandq_u8(vsriq_n_u8(pairs, first, 4), low6);
                    w[3][r][0] = vsriq_n_u8(upper, second, 4);
                }
                RS_UNROLL
                for (size_t i = 0; i < 4; i++)
                    dot[2 * i + part] = rs_arm_dot_rows(RS_PANEL_U6, w[i], x + 32 * i + 16 * part);
            }
            RS_UNROLL
            for (size_t g = 0; g < 8; g++) {
                const uint32x4_t bytes = vreinterpretq_u32_u8(scale_bytes[2 * half + g / 4]);
                const int32x4_t up = vdupq_n_s32((int32_t)(24 - g % 4 * 8));
                const int32x4_t s = vshrq_n_s32(vshlq_s32(vreinterpretq_s32_u32(bytes), up), 24);
                const float32x4_t scale = vmulq_f32(vcvtq_f32_s32(s), d);
                rs_arm_add_group(RS_PANEL_U6, out, 16 * b + 8 * half + g, dot[g], scale,
                                 vmulq_f32(scale, vdupq_n_f32(-32.0f)));
            }
        }
    }
}

typedef void rs_arm_take_fn(rs_arm_source in, size_t n, rs_arm_sums *out);

/* Sixteen rows times one activation row. */
RS_INLINE void rs_arm_multiply_blocks(rs_arm_take_fn *take, rs_panel_kind kind, const void *blocks,
                                      size_t row_bytes, size_t n, const rs_acts *acts, float *out) {
    const uint8_t *rows = blocks;
    for (size_t first = 0; first < RS_PANEL_ROWS; first += RS_ARM_BLOCK_ROWS) {
        rs_arm_sums sums = {
            .x = rs_operand_of(kind, acts), .total = vdupq_n_f32(0.0f), .base = vdupq_n_f32(0.0f)};
        take((rs_arm_source){rows + first * row_bytes, row_bytes}, n, &sums);
        vst1q_f32(out + first, kind == RS_PANEL_S8 ? sums.total : vaddq_f32(sums.total, sums.base));
    }
}

#endif
