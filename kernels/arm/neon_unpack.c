/*
 * Weight blocks to panels and floats, NEON; kernels/ref/unpack.c describes the layouts. Each quantised type
 * takes two passes: row by row for the scales, then column by column for the integers, where sixteen bytes of
 * each of four rows are transposed into four registers with four bytes of every row.
 */
#include "kernels/arm/neon.h"
#include "kernels/arm/neon_math.h"
#include "kernels/ref/ref.h"

enum { LANES = RS_PANEL_ROWS, QUAD = 4 * RS_PANEL_ROWS };

/* Where four bytes of each of the rows from `row` on go. */
static inline void store_quad(int8_t *q, size_t quad, size_t row, uint8x16_t bytes) {
    vst1q_s8(q + quad * QUAD + 4 * row, vreinterpretq_s8_u8(bytes));
}

/* Fills scale[block][row] with the four bytes at the head of each block, to be turned into floats later. */
RS_INLINE void gather_heads(const uint8_t *bytes, size_t row_bytes, size_t blocks, size_t block_bytes,
                            float *scale) {
    for (size_t r = 0; r < LANES; r++, bytes += row_bytes) {
        for (size_t b = 0; b < blocks; b++) {
            const uint32_t head = rs_neon_load_u32(bytes + b * block_bytes);
            memcpy(scale + b * LANES + r, &head, sizeof head);
        }
    }
}

/* The heads of a block to scales and minima: {d, m}, or {d} of numbers symmetric about `offset`. */
RS_INLINE void convert_heads(const rs_panel *panel, size_t b, int has_min, float offset) {
    for (size_t r = b * LANES; r < (b + 1) * LANES; r += 4) {
        const uint32x4_t heads = vreinterpretq_u32_f32(vld1q_f32(panel->scale + r));
        const float32x4_t scale = rs_neon_from_f16(vmovn_u32(heads));
        vst1q_f32(panel->scale + r, scale);
        if (has_min) {
            vst1q_f32(panel->min + r, rs_neon_from_f16(vshrn_n_u32(heads, 16)));
        } else if (offset != 0.0f) {
            vst1q_f32(panel->min + r, vmulq_f32(scale, vdupq_n_f32(-offset)));
        }
    }
}

/* The four bits of every lane from bit 4 j on, as 16 or 0 in its four bytes. */
RS_INLINE uint8x16_t spread_bits(uint32x4_t high, size_t j) {
    static const uint8_t bits[2][16] = {{1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8},
                                        {16, 32, 64, 128, 16, 32, 64, 128, 16, 32, 64, 128, 16, 32, 64, 128}};
    static const uint8_t first_of_four[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    const uint8x16_t bytes = vreinterpretq_u8_u32(high);
#ifdef __aarch64__
    const uint8x16_t from = vaddq_u8(vld1q_u8(first_of_four), vdupq_n_u8((uint8_t)(j / 2)));
    const uint8x16_t same = vqtbl1q_u8(bytes, from);
#else
    const uint8x8_t from = vadd_u8(vld1_u8(first_of_four), vdup_n_u8((uint8_t)(j / 2)));
    const uint8x16_t same =
        vcombine_u8(vtbl1_u8(vget_low_u8(bytes), from), vtbl1_u8(vget_high_u8(bytes), from));
#endif
    return vandq_u8(vtstq_u8(same, vld1q_u8(bits[j % 2])), vdupq_n_u8(16));
}

/* Q4_0, Q4_1, Q5_0, Q5_1: {d, maybe m, maybe 32 high bits, 16 bytes of nibbles}. */
RS_INLINE void unpack_nibbles(const void *blocks, size_t row_bytes, size_t n, const rs_panel *panel,
                              size_t block_bytes, int has_min, int has_high, float offset) {
    const size_t n_blocks = n / 32, high_at = has_min ? 4 : 2, nibbles_at = high_at + (has_high ? 4 : 0);
    const uint8_t *block = blocks;
    gather_heads(block, row_bytes, n_blocks, block_bytes, panel->scale);
    for (size_t b = 0; b < n_blocks; b++, block += block_bytes) {
        const uint8_t *rows = block;
        for (size_t row = 0; row < LANES; row += 4, rows += 4 * row_bytes) {
            uint8x16_t column[4];
            uint32x4_t high = vdupq_n_u32(0);
            rs_neon_load_columns(rows + nibbles_at, row_bytes, column);
            if (has_high) high = rs_neon_load_words(rows + high_at, row_bytes);
            for (size_t j = 0; j < 4; j++) {
                uint8x16_t first = vandq_u8(column[j], vdupq_n_u8(15)), second = vshrq_n_u8(column[j], 4);
                if (has_high) {
                    first = vorrq_u8(first, spread_bits(high, j));
                    second = vorrq_u8(second, spread_bits(high, j + 4));
                }
                store_quad(panel->q, 8 * b + j, row, first);
                store_quad(panel->q, 8 * b + j + 4, row, second);
            }
        }
        convert_heads(panel, b, has_min, offset);
    }
}

void rs_neon_unpack_q4_0(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows < LANES) {
        rs_ref_unpack_q4_0(blocks, row_bytes, rows, n, panel);
    } else {
        unpack_nibbles(blocks, row_bytes, n, panel, 18, 0, 0, 8.0f);
    }
}

void rs_neon_unpack_q4_1(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows < LANES) {
        rs_ref_unpack_q4_1(blocks, row_bytes, rows, n, panel);
    } else {
        unpack_nibbles(blocks, row_bytes, n, panel, 20, 1, 0, 0.0f);
    }
}

void rs_neon_unpack_q5_0(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows < LANES) {
        rs_ref_unpack_q5_0(blocks, row_bytes, rows, n, panel);
    } else {
        unpack_nibbles(blocks, row_bytes, n, panel, 22, 0, 1, 16.0f);
    }
}

void rs_neon_unpack_q5_1(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows < LANES) {
        rs_ref_unpack_q5_1(blocks, row_bytes, rows, n, panel);
    } else {
        unpack_nibbles(blocks, row_bytes, n, panel, 24, 1, 1, 0.0f);
    }
}

void rs_neon_unpack_q8_0(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows < LANES) {
        rs_ref_unpack_q8_0(blocks, row_bytes, rows, n, panel);
        return;
    }
    const uint8_t *block = blocks;
    gather_heads(block, row_bytes, n / 32, 34, panel->scale);
    for (size_t b = 0; b < n / 32; b++, block += 34) {
        for (size_t row = 0; row < LANES; row += 4) {
            for (size_t half = 0; half < 2; half++) {
                uint8x16_t column[4];
                rs_neon_load_columns(block + row * row_bytes + 2 + 16 * half, row_bytes, column);
                for (size_t j = 0; j < 4; j++) store_quad(panel->q, 8 * b + 4 * half + j, row, column[j]);
            }
        }
        convert_heads(panel, b, 0, 0.0f);
    }
}

/* The lanes into four neighbouring groups. */
RS_INLINE void scatter(float32x4_t v, float *groups) {
    vst1q_lane_f32(groups, v, 0);
    vst1q_lane_f32(groups + LANES, v, 1);
    vst1q_lane_f32(groups + 2 * LANES, v, 2);
    vst1q_lane_f32(groups + 3 * LANES, v, 3);
}

/* The eight bytes, four low and four high, times `factor`, into eight groups. */
RS_INLINE void scatter_bytes(uint32_t low, uint32_t high, float32x4_t factor, float *groups) {
    const uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vset_lane_u32(high, vdup_n_u32(low), 1)));
    scatter(vmulq_f32(vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide))), factor), groups);
    scatter(vmulq_f32(vcvtq_f32_u32(vmovl_u16(vget_high_u16(wide))), factor), groups + 4 * LANES);
}

/* The heads of Q4_K and Q5_K, four packed bytes at a time: a, b and c are bytes 0 to 3, 4 to 7 and 8 to 11.
 */
RS_INLINE void unpack_k_scales(const uint8_t *bytes, size_t row_bytes, size_t blocks, size_t block_bytes,
                               const rs_panel *panel) {
    const uint32_t low6 = 0x3f3f3f3fu, low4 = 0x0f0f0f0fu, low2 = 0x03030303u;
    for (size_t r = 0; r < LANES; r++, bytes += row_bytes) {
        const uint8_t *block = bytes;
        for (size_t i = 0; i < blocks; i++, block += block_bytes) {
            const uint32_t a = rs_neon_load_u32(block + 4), b = rs_neon_load_u32(block + 8),
                           c = rs_neon_load_u32(block + 12);
            const uint32_t scales_high = (c & low4) | (a >> 6 & low2) << 4;
            const uint32_t mins_high = (c >> 4 & low4) | (b >> 6 & low2) << 4;
            const float32x4_t factors =
                rs_neon_from_f16(vreinterpret_u16_u32(vdup_n_u32(rs_neon_load_u32(block))));
            const float32x2_t d = vget_low_f32(factors);
            const size_t at = 8 * i * LANES + r;
            scatter_bytes(a & low6, scales_high, vdupq_lane_f32(d, 0), panel->scale + at);
            scatter_bytes(b & low6, mins_high, vnegq_f32(vdupq_lane_f32(d, 1)), panel->min + at);
        }
    }
}

/* Q4_K and Q5_K: sixteen bytes at a time, the low nibbles belonging to one group, the high ones to the next.
 * A fifth bit is shifted in above four others, along with what does not belong to it and is masked away. */
RS_INLINE void unpack_k(const void *blocks, size_t row_bytes, size_t n, const rs_panel *panel, int has_high) {
    const size_t block_bytes = has_high ? 176 : 144, nibbles_at = has_high ? 48 : 16;
    const uint8x16_t low4 = vdupq_n_u8(15), low5 = vdupq_n_u8(31);
    const uint8_t *block = blocks;
    unpack_k_scales(block, row_bytes, n / 256, block_bytes, panel);
    for (size_t b = 0; b < n / 256; b++, block += block_bytes) {
        for (size_t at = 0; at < 2 * LANES;
             at += 4) { /* the first halves of all rows, then the second ones */
            const size_t row = at % LANES, half = at / LANES;
            const uint8_t *rows = block + row * row_bytes + 16 * half;
            uint8x16_t high[4]; /* bits 0 and 1 are those of the part at hand */
            if (has_high) rs_neon_load_columns(rows + 16, row_bytes, high);
            for (size_t part = 0; part < 4; part++) {
                const size_t quad = 64 * b + 16 * part + 4 * half;
                uint8x16_t column[4];
                rs_neon_load_columns(rows + nibbles_at + 32 * part, row_bytes, column);
                for (size_t j = 0; j < 4; j++) {
                    uint8x16_t first = vandq_u8(column[j], low4), second = vshrq_n_u8(column[j], 4);
                    if (has_high) {
                        first = vandq_u8(vsliq_n_u8(column[j], high[j], 4), low5);
                        second = vandq_u8(vsriq_n_u8(vshlq_n_u8(high[j], 3), column[j], 4), low5);
                        high[j] = vshrq_n_u8(high[j], 2);
                    }
                    store_quad(panel->q, quad + j, row, first);
                    store_quad(panel->q, quad + 8 + j, row, second);
                }
            }
        }
    }
}

void rs_neon_unpack_q4_k(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows < LANES) {
        rs_ref_unpack_q4_k(blocks, row_bytes, rows, n, panel);
    } else {
        unpack_k(blocks, row_bytes, n, panel, 0);
    }
}

void rs_neon_unpack_q5_k(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows < LANES) {
        rs_ref_unpack_q5_k(blocks, row_bytes, rows, n, panel);
    } else {
        unpack_k(blocks, row_bytes, n, panel, 1);
    }
}

static void unpack_q6_k_scales(const uint8_t *bytes, size_t row_bytes, size_t blocks, const rs_panel *panel) {
    for (size_t r = 0; r < LANES; r++, bytes += row_bytes) {
        for (size_t b = 0; b < blocks; b++) {
            const uint8_t *block = bytes + 210 * b;
            uint16_t half;
            memcpy(&half, block + 208, sizeof half);
            const float32x4_t d = rs_neon_from_f16(vdup_n_u16(half));
            const int8x16_t scales = vld1q_s8((const int8_t *)(block + 192));
            const int16x8_t wide[2] = {vmovl_s8(vget_low_s8(scales)), vmovl_s8(vget_high_s8(scales))};
            for (size_t g = 0; g < 16; g += 4) {
                const int16x8_t eight = wide[g / 8];
                const int16x4_t four = g % 8 == 0 ? vget_low_s16(eight) : vget_high_s16(eight);
                const float32x4_t scale = vmulq_f32(vcvtq_f32_s32(vmovl_s16(four)), d);
                const size_t at = (16 * b + g) * LANES + r;
                scatter(scale, panel->scale + at);
                scatter(vmulq_f32(scale, vdupq_n_f32(-32.0f)), panel->min + at);
            }
        }
    }
}

/* Of each half of 128 elements: 64 bytes of low nibbles and 32 of bit pairs, sixteen bytes of each of four
 * rows at a time. Nibble and pair are shifted together and freed of what is above. */
void rs_neon_unpack_q6_k(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows < LANES) {
        rs_ref_unpack_q6_k(blocks, row_bytes, rows, n, panel);
        return;
    }
    const uint8x16_t low6 = vdupq_n_u8(0x3f);
    const uint8_t *block = blocks;
    unpack_q6_k_scales(block, row_bytes, n / 256, panel);
    for (size_t b = 0; b < n / 256; b++, block += 210) {
        for (size_t at = 0; at < 4 * LANES; at += 4) { /* four parts of all rows, two of sixteen a half */
            const size_t row = at % LANES, half = at / LANES / 2, first = at / LANES % 2 * 16;
            const uint8_t *four = block + row * row_bytes + first;
            uint8x16_t low_a[4], low_b[4], pairs[4];
            rs_neon_load_columns(four + 64 * half, row_bytes, low_a);
            rs_neon_load_columns(four + 64 * half + 32, row_bytes, low_b);
            rs_neon_load_columns(four + 128 + 32 * half, row_bytes, pairs);
            for (size_t j = 0; j < 4; j++) {
                const uint8x16_t a = low_a[j], b4 = low_b[j], upper = vshrq_n_u8(pairs[j], 2);
                const size_t quad = 64 * b + 32 * half + first / 4 + j;
                store_quad(panel->q, quad, row, vandq_u8(vsliq_n_u8(a, pairs[j], 4), low6));
                store_quad(panel->q, quad + 8, row, vandq_u8(vsliq_n_u8(b4, upper, 4), low6));
                store_quad(panel->q, quad + 16, row, vandq_u8(vsriq_n_u8(pairs[j], a, 4), low6));
                store_quad(panel->q, quad + 24, row, vsriq_n_u8(upper, b4, 4));
            }
        }
    }
}

void rs_neon_dequantize_f16(const void *blocks, float *out, size_t n) {
    const uint8_t *bytes = blocks;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const uint16x8_t halves = vreinterpretq_u16_u8(vld1q_u8(bytes + 2 * i));
        vst1q_f32(out + i, rs_neon_from_f16(vget_low_u16(halves)));
        vst1q_f32(out + i + 4, rs_neon_from_f16(vget_high_u16(halves)));
    }
    rs_ref_dequantize_f16(bytes + 2 * i, out + i, n - i);
}

void rs_neon_dequantize_bf16(const void *blocks, float *out, size_t n) {
    const uint8_t *bytes = blocks;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const uint16x8_t halves = vreinterpretq_u16_u8(vld1q_u8(bytes + 2 * i));
        const uint32x4_t low = vshlq_n_u32(vmovl_u16(vget_low_u16(halves)), 16);
        const uint32x4_t high = vshlq_n_u32(vmovl_u16(vget_high_u16(halves)), 16);
        vst1q_f32(out + i, vreinterpretq_f32_u32(low));
        vst1q_f32(out + i + 4, vreinterpretq_f32_u32(high));
    }
    rs_ref_dequantize_bf16(bytes + 2 * i, out + i, n - i);
}
