/*
 * Panels of weights against activation rows: the one source of all levels. A register holds four weights of
 * each of four channels, which meet four activations that are the same in every lane.
 */
#ifndef RASURE_KERNELS_ARM_MULTIPLY_H
#define RASURE_KERNELS_ARM_MULTIPLY_H

#include "kernels/arm/dot.h"
#include "kernels/operand.h"

/* The tile for two or more rows: of sums and what they are made from, as many as there are registers. */
#if defined(__ARM_FEATURE_DOTPROD)
enum { RS_ARM_TILE = 3, RS_ARM_TILE_WIDTH = 4 };
#elif defined(__aarch64__)
enum { RS_ARM_TILE = 2, RS_ARM_TILE_WIDTH = 4 };
#else
enum { RS_ARM_TILE = 2, RS_ARM_TILE_WIDTH = 2 };
#endif

RS_INLINE size_t rs_arm_run(rs_panel_kind kind) {
    return kind == RS_PANEL_S8 ? RS_ARM_RUN_S8 : kind == RS_PANEL_U6 ? RS_ARM_RUN_U6 : RS_ARM_RUN_U5;
}

/* The first `channels` (1 or more) of four lanes, all of them when there are more. */
RS_INLINE void rs_arm_store(float *out, float32x4_t lanes, size_t channels) {
    if (channels >= 4) {
        vst1q_f32(out, lanes);
        return;
    }
    vst1q_lane_f32(out, lanes, 0);
    if (channels >= 2) vst1q_lane_f32(out + 1, lanes, 1);
    if (channels >= 3) vst1q_lane_f32(out + 2, lanes, 2);
}

/* A group's minima times the rows' sums. */
RS_INLINE void rs_arm_add_minima(size_t tile, size_t width, const float *min, const float *sum, size_t groups,
                                 float32x4_t base[][RS_ARM_WIDTH]) {
    for (size_t c = 0; c < width; c++) {
        const float32x4_t m = vld1q_f32(min + 4 * c);
        for (size_t r = 0; r < tile; r++) base[r][c] = vfmaq_f32(base[r][c], m, vdupq_n_f32(sum[r * groups]));
    }
}

/*
 * `tile` activation rows and `width` times four channels from `first` on; each output has sums of its own, so
 * that it is the same whatever the tile. Products and minima add up apart: in two loops where there is more
 * than one row, as registers are few, in one where additions that wait for each other would be what takes the
 * time.
 */
RS_INLINE void rs_arm_multiply_tile(rs_panel_kind kind, size_t tile, size_t width, const rs_panel *panel,
                                    size_t first, rs_operand x, size_t n, float *out, size_t out_stride,
                                    size_t channels) {
    const size_t group = rs_panel_group(kind), groups = n / group, blocks = n / RS_ACT_BLOCK;
    const int has_min = kind != RS_PANEL_S8, one_loop = tile == 1;
    const float *min = has_min ? panel->min + first : NULL;
    float32x4_t total[RS_ARM_ROWS][RS_ARM_WIDTH], base[RS_ARM_ROWS][RS_ARM_WIDTH];
    for (size_t r = 0; r < tile; r++) {
        for (size_t c = 0; c < width; c++) total[r][c] = base[r][c] = vdupq_n_f32(0.0f);
    }

    for (size_t g = 0; g < groups; g++) {
        int32x4_t dot[RS_ARM_ROWS][RS_ARM_WIDTH];
        for (size_t r = 0; r < tile; r++) {
            for (size_t c = 0; c < width; c++) dot[r][c] = vdupq_n_s32(0);
        }
        rs_arm_dot(tile, width, rs_arm_run(kind), panel->q + g * group * RS_PANEL_ROWS + 4 * first,
                   4 * RS_PANEL_ROWS, x.q + g * group, n, group / 4, dot);
        const float *x_scale = x.scale + g * group / RS_ACT_BLOCK;
        for (size_t c = 0; c < width; c++) {
            const float32x4_t w_scale = vld1q_f32(panel->scale + g * RS_PANEL_ROWS + first + 4 * c);
            for (size_t r = 0; r < tile; r++) {
                const float32x4_t scale = vmulq_f32(w_scale, vdupq_n_f32(x_scale[r * blocks]));
                total[r][c] = vfmaq_f32(total[r][c], scale, vcvtq_f32_s32(dot[r][c]));
            }
        }
        if (has_min && one_loop)
            rs_arm_add_minima(tile, width, min + g * RS_PANEL_ROWS, x.sum + g, groups, base);
    }
    for (size_t g = 0; has_min && !one_loop && g < groups; g++)
        rs_arm_add_minima(tile, width, min + g * RS_PANEL_ROWS, x.sum + g, groups, base);

    for (size_t r = 0; r < tile; r++) {
        for (size_t c = 0; c < width; c++) {
            const size_t at = first + 4 * c;
            const float32x4_t sum = has_min ? vaddq_f32(total[r][c], base[r][c]) : total[r][c];
            if (at < channels) rs_arm_store(out + r * out_stride + at, sum, channels - at);
        }
    }
}

RS_INLINE void rs_arm_multiply_one(rs_panel_kind kind, const rs_panel *panel, rs_operand x, size_t n,
                                   float *out, size_t channels) {
#ifdef __aarch64__
    rs_arm_multiply_tile(kind, 1, 4, panel, 0, x, n, out, 0, channels);
#else
    rs_arm_multiply_tile(kind, 1, 2, panel, 0, x, n, out, 0, channels);
    if (channels > 8) rs_arm_multiply_tile(kind, 1, 2, panel, 8, x, n, out, 0, channels);
#endif
}

RS_INLINE void rs_arm_multiply(rs_panel_kind kind, const rs_panel *panel, const rs_acts *acts, size_t rows,
                               size_t n, float *out, size_t out_stride, size_t channels) {
    rs_operand x = rs_operand_of(kind, acts);
    while (rows > 0) {
        const size_t tile = rows >= RS_ARM_TILE ? RS_ARM_TILE : rows;
        for (size_t first = 0; first < channels && tile > 1; first += 4 * RS_ARM_TILE_WIDTH) {
            if (tile == RS_ARM_TILE) {
                rs_arm_multiply_tile(kind, RS_ARM_TILE, RS_ARM_TILE_WIDTH, panel, first, x, n, out,
                                     out_stride, channels);
            } else {
                rs_arm_multiply_tile(kind, 2, RS_ARM_TILE_WIDTH, panel, first, x, n, out, out_stride,
                                     channels);
            }
        }
        if (tile == 1) rs_arm_multiply_one(kind, panel, x, n, out, channels);
        x = rs_operand_skip(kind, x, tile, n);
        out += tile * out_stride;
        rows -= tile;
    }
}

#endif
