/*
 * Panels of weights against activation rows, smmla: eight weights of two channels against eight activations
 * of two rows. A register of sums is {row 0: channels 0, 1; row 1: channels 0, 1}.
 */
#include "kernels/arm/i8mm.h"
#include "kernels/arm/multiply.h"

/* Pairs of rows, and pairs of channels: half a panel. More would not leave registers for the sums. */
enum { PAIRS = 2, CHANNEL_PAIRS = 4, CHANNELS = 2 * CHANNEL_PAIRS };

/* Each 64 bits of the one register beside those of the other. */
RS_INLINE int8x16_t low_halves(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

RS_INLINE int8x16_t high_halves(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

RS_INLINE float32x4_t low_floats(float32x4_t a, float32x4_t b) {
    return vreinterpretq_f32_s8(low_halves(vreinterpretq_s8_f32(a), vreinterpretq_s8_f32(b)));
}

RS_INLINE float32x4_t high_floats(float32x4_t a, float32x4_t b) {
    return vreinterpretq_f32_s8(high_halves(vreinterpretq_s8_f32(a), vreinterpretq_s8_f32(b)));
}

/* Two neighbouring quads of the panel against eight activations of each row. */
RS_INLINE void add_quads(size_t pairs, const int8_t *w, const int8x16_t *x, int32x4_t dot[][CHANNEL_PAIRS]) {
    for (size_t c = 0; c < CHANNEL_PAIRS; c += 2) {
        const int32x4_t a = vreinterpretq_s32_s8(vld1q_s8(w + 8 * c));
        const int32x4_t b = vreinterpretq_s32_s8(vld1q_s8(w + 4 * RS_PANEL_ROWS + 8 * c));
        const int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(a, b));
        const int8x16_t high = vreinterpretq_s8_s32(vzip2q_s32(a, b));
        for (size_t r = 0; r < pairs; r++) {
            dot[r][c] = vmmlaq_s32(dot[r][c], x[r], low);
            dot[r][c + 1] = vmmlaq_s32(dot[r][c + 1], x[r], high);
        }
    }
}

RS_INLINE void dot_group(size_t pairs, const int8_t *w, const int8_t *x, size_t n, size_t quads,
                         int32x4_t dot[][CHANNEL_PAIRS]) {
    for (size_t r = 0; r < pairs; r++) {
        for (size_t c = 0; c < CHANNEL_PAIRS; c++) dot[r][c] = vdupq_n_s32(0);
    }
    for (size_t j = 0; j < quads; j += 4, w += 16 * RS_PANEL_ROWS) {
        int8x16_t first[PAIRS], second[PAIRS];
        for (size_t r = 0; r < pairs; r++) {
            const int8x16_t even = vld1q_s8(x + 2 * r * n + 4 * j),
                            odd = vld1q_s8(x + (2 * r + 1) * n + 4 * j);
            first[r] = low_halves(even, odd);
            second[r] = high_halves(even, odd);
        }
        add_quads(pairs, w, first, dot);
        add_quads(pairs, w + 8 * RS_PANEL_ROWS, second, dot);
    }
}

/* A number for each of two rows. */
RS_INLINE float32x4_t of_rows(const float *x, size_t stride) {
    return vcombine_f32(vdup_n_f32(x[0]), vdup_n_f32(x[stride]));
}

/* Numbers of eight channels, each pair twice. */
RS_INLINE void of_channels(const float *x, float32x4_t twice[CHANNEL_PAIRS]) {
    for (size_t c = 0; c < CHANNEL_PAIRS; c += 2) {
        const float32x4_t four = vld1q_f32(x + 2 * c);
        twice[c] = low_floats(four, four);
        twice[c + 1] = high_floats(four, four);
    }
}

/* Output by output the operations of rs_arm_multiply_tile. */
RS_INLINE void multiply_pairs(rs_panel_kind kind, size_t pairs, const rs_panel *panel, size_t first,
                              rs_operand x, size_t n, float *out, size_t out_stride, size_t channels) {
    const size_t group = rs_panel_group(kind), groups = n / group, blocks = n / RS_ACT_BLOCK;
    const int has_min = kind != RS_PANEL_S8;
    float32x4_t total[PAIRS][CHANNEL_PAIRS], base[PAIRS][CHANNEL_PAIRS];
    for (size_t r = 0; r < pairs; r++) {
        for (size_t c = 0; c < CHANNEL_PAIRS; c++) total[r][c] = base[r][c] = vdupq_n_f32(0.0f);
    }
    for (size_t g = 0; g < groups; g++) {
        int32x4_t dot[PAIRS][CHANNEL_PAIRS];
        float32x4_t w_scale[CHANNEL_PAIRS];
        dot_group(pairs, panel->q + g * group * RS_PANEL_ROWS + 4 * first, x.q + g * group, n, group / 4,
                  dot);
        of_channels(panel->scale + g * RS_PANEL_ROWS + first, w_scale);
        for (size_t r = 0; r < pairs; r++) {
            const float32x4_t x_scale = of_rows(x.scale + 2 * r * blocks + g * group / RS_ACT_BLOCK, blocks);
            for (size_t c = 0; c < CHANNEL_PAIRS; c++) {
                const float32x4_t scale = vmulq_f32(w_scale[c], x_scale);
                total[r][c] = vfmaq_f32(total[r][c], scale, vcvtq_f32_s32(dot[r][c]));
            }
        }
    }
    for (size_t g = 0; has_min && g < groups; g++) {
        float32x4_t w_min[CHANNEL_PAIRS];
        of_channels(panel->min + g * RS_PANEL_ROWS + first, w_min);
        for (size_t r = 0; r < pairs; r++) {
            const float32x4_t sum = of_rows(x.sum + 2 * r * groups + g, groups);
            for (size_t c = 0; c < CHANNEL_PAIRS; c++) base[r][c] = vfmaq_f32(base[r][c], w_min[c], sum);
        }
    }
    for (size_t r = 0; r < pairs; r++) {
        for (size_t c = 0; c < CHANNEL_PAIRS; c++) {
            if (has_min) total[r][c] = vaddq_f32(total[r][c], base[r][c]);
        }
        float *even = out + 2 * r * out_stride, *odd = even + out_stride;
        for (size_t c = 0; c < CHANNEL_PAIRS; c += 2) {
            const size_t at = first + 2 * c;
            if (at >= channels) continue;
            rs_arm_store(even + at, low_floats(total[r][c], total[r][c + 1]), channels - at);
            rs_arm_store(odd + at, high_floats(total[r][c], total[r][c + 1]), channels - at);
        }
    }
}

RS_INLINE void multiply(rs_panel_kind kind, const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n,
                        float *out, size_t out_stride, size_t channels) {
    rs_operand x = rs_operand_of(kind, acts);
    while (rows > 0) {
        const size_t tile = rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
        for (size_t first = 0; first < channels && tile > 1; first += CHANNELS) {
            if (tile == 4) {
                multiply_pairs(kind, 2, panel, first, x, n, out, out_stride, channels);
            } else {
                multiply_pairs(kind, 1, panel, first, x, n, out, out_stride, channels);
            }
        }
        if (tile == 1) rs_arm_multiply_one(kind, panel, x, n, out, channels);
        x = rs_operand_skip(kind, x, tile, n);
        out += tile * out_stride;
        rows -= tile;
    }
}

void rs_i8mm_multiply_u4(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels) {
    multiply(RS_PANEL_U4, panel, acts, rows, n, out, out_stride, channels);
}

void rs_i8mm_multiply_u6(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels) {
    multiply(RS_PANEL_U6, panel, acts, rows, n, out, out_stride, channels);
}

void rs_i8mm_multiply_s8(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels) {
    multiply(RS_PANEL_S8, panel, acts, rows, n, out, out_stride, channels);
}
