/*
 * Products of int8 in the layout of panels and pages, by sdot in the files that are compiled for it, by
 * multiplications of bytes elsewhere: the one source of both levels.
 */
#ifndef RASURE_KERNELS_ARM_DOT_H
#define RASURE_KERNELS_ARM_DOT_H

#include "kernels/arm/neon_math.h"

/* No tile is larger: rows, and registers of four lanes. */
enum { RS_ARM_ROWS = 4, RS_ARM_WIDTH = 4 };

/* How many products of two int8 a sum of 16 bits has room for, the one being at most 127 in magnitude and the
 * other 31, 63 or 128. */
enum { RS_ARM_RUN_U5 = 8, RS_ARM_RUN_U6 = 4, RS_ARM_RUN_S8 = 2 };

#ifdef __ARM_FEATURE_DOTPROD

/* Four quads of w. */
RS_INLINE void rs_arm_dot_quads(size_t tile, size_t width, const int8_t *w, size_t w_stride,
                                const int8x16_t *x, int32x4_t dot[][RS_ARM_WIDTH]) {
    for (size_t c = 0; c < width; c++) {
        const int8x16_t v = vld1q_s8(w + 16 * c);
        for (size_t r = 0; r < tile; r++) dot[r][c] = vdotq_laneq_s32(dot[r][c], v, x[r], 0);
    }
    for (size_t c = 0; c < width; c++) {
        const int8x16_t v = vld1q_s8(w + w_stride + 16 * c);
        for (size_t r = 0; r < tile; r++) dot[r][c] = vdotq_laneq_s32(dot[r][c], v, x[r], 1);
    }
    for (size_t c = 0; c < width; c++) {
        const int8x16_t v = vld1q_s8(w + 2 * w_stride + 16 * c);
        for (size_t r = 0; r < tile; r++) dot[r][c] = vdotq_laneq_s32(dot[r][c], v, x[r], 2);
    }
    for (size_t c = 0; c < width; c++) {
        const int8x16_t v = vld1q_s8(w + 3 * w_stride + 16 * c);
        for (size_t r = 0; r < tile; r++) dot[r][c] = vdotq_laneq_s32(dot[r][c], v, x[r], 3);
    }
}

#else

/* `run` quads of w, all of whose products are added up in 16 bits. */
RS_INLINE void rs_arm_dot_run(size_t tile, size_t width, size_t run, const int8_t *w, size_t w_stride,
                              const int8_t *x, size_t x_stride, int32x4_t dot[][RS_ARM_WIDTH]) {
    int16x8_t part[RS_ARM_ROWS][RS_ARM_WIDTH][2];
    int8x16_t spread[RS_ARM_ROWS];
    RS_UNROLL
    for (size_t r = 0; r < tile; r++) spread[r] = rs_neon_spread(x + r * x_stride);
    RS_UNROLL
    for (size_t c = 0; c < width; c++) {
        const int8x16_t v = vld1q_s8(w + 16 * c);
        RS_UNROLL
        for (size_t r = 0; r < tile; r++) {
            part[r][c][0] = vmull_s8(vget_low_s8(v), vget_low_s8(spread[r]));
            part[r][c][1] = rs_neon_multiply_high(v, spread[r]);
        }
    }
    for (size_t j = 1; j < run; j++) {
        RS_UNROLL
        for (size_t r = 0; r < tile; r++) spread[r] = rs_neon_spread(x + r * x_stride + 4 * j);
        RS_UNROLL
        for (size_t c = 0; c < width; c++) {
            const int8x16_t v = vld1q_s8(w + j * w_stride + 16 * c);
            RS_UNROLL
            for (size_t r = 0; r < tile; r++) {
                part[r][c][0] = vmlal_s8(part[r][c][0], vget_low_s8(v), vget_low_s8(spread[r]));
                part[r][c][1] = rs_neon_add_high(part[r][c][1], v, spread[r]);
            }
        }
    }
    RS_UNROLL
    for (size_t r = 0; r < tile; r++) {
        RS_UNROLL
        for (size_t c = 0; c < width; c++) {
            const int32x4_t sums = rs_neon_add_pairs(vpaddlq_s16(part[r][c][0]), vpaddlq_s16(part[r][c][1]));
            dot[r][c] = vaddq_s32(dot[r][c], sums);
        }
    }
}

/* Two quads of w, a register at a time: few sums are alive at once. */
RS_INLINE void rs_arm_dot_two(size_t tile, size_t width, const int8_t *w, size_t w_stride, const int8_t *x,
                              size_t x_stride, int32x4_t pair[][RS_ARM_WIDTH][2]) {
    int8x16_t first[RS_ARM_ROWS], second[RS_ARM_ROWS];
    RS_UNROLL
    for (size_t r = 0; r < tile; r++) {
        first[r] = rs_neon_spread(x + r * x_stride);
        second[r] = rs_neon_spread(x + r * x_stride + 4);
    }
    RS_UNROLL
    for (size_t c = 0; c < width; c++) {
        const int8x16_t v = vld1q_s8(w + 16 * c), u = vld1q_s8(w + w_stride + 16 * c);
        RS_UNROLL
        for (size_t r = 0; r < tile; r++) {
            int16x8_t low = vmull_s8(vget_low_s8(v), vget_low_s8(first[r]));
            low = vmlal_s8(low, vget_low_s8(u), vget_low_s8(second[r]));
            int16x8_t high = rs_neon_multiply_high(v, first[r]);
            high = rs_neon_add_high(high, u, second[r]);
            pair[r][c][0] = vpadalq_s16(pair[r][c][0], low);
            pair[r][c][1] = vpadalq_s16(pair[r][c][1], high);
        }
    }
}

#endif

/*
 * dot[r][c] lane l += sum over j < quads and i < 4 of  w[w_stride j + 16 c + 4 l + i] * x[x_stride r + 4 j +
 * i] for r < tile and c < width. quads: a multiple of 4 and of `run`.
 */
RS_INLINE void rs_arm_dot(size_t tile, size_t width, size_t run, const int8_t *w, size_t w_stride,
                          const int8_t *x, size_t x_stride, size_t quads, int32x4_t dot[][RS_ARM_WIDTH]) {
#ifdef __ARM_FEATURE_DOTPROD
    (void)run;
    for (size_t j = 0; j < quads; j += 4, w += 4 * w_stride) {
        int8x16_t four[RS_ARM_ROWS];
        for (size_t r = 0; r < tile; r++) four[r] = vld1q_s8(x + r * x_stride + 4 * j);
        rs_arm_dot_quads(tile, width, w, w_stride, four, dot);
    }
#else
    if (run > 2) {
        for (size_t j = 0; j < quads; j += run, w += run * w_stride)
            rs_arm_dot_run(tile, width, run, w, w_stride, x + 4 * j, x_stride, dot);
        return;
    }
    int32x4_t pair[RS_ARM_ROWS][RS_ARM_WIDTH][2];
    for (size_t r = 0; r < tile; r++) {
        for (size_t c = 0; c < width; c++) pair[r][c][0] = pair[r][c][1] = vdupq_n_s32(0);
    }
    for (size_t j = 0; j < quads; j += 2, w += 2 * w_stride)
        rs_arm_dot_two(tile, width, w, w_stride, x + 4 * j, x_stride, pair);
    for (size_t r = 0; r < tile; r++) {
        for (size_t c = 0; c < width; c++)
            dot[r][c] = vaddq_s32(dot[r][c], rs_neon_add_pairs(pair[r][c][0], pair[r][c][1]));
    }
#endif
}

#endif
