/*
 * Panels of weights against activation rows in registers of eight channels: what AVX2 and AVX-VNNI have in
 * common. The level passes its instructions as functions that are known at compile time, and so inlined.
 */
#ifndef RASURE_KERNELS_X86_MULTIPLY256_H
#define RASURE_KERNELS_X86_MULTIPLY256_H

#include "kernels/operand.h"
#include "kernels/x86/avx2_math.h"
#include "kernels/x86/fetch.h"

enum { RS_MULTIPLY256_TILE = 4, RS_MULTIPLY256_HALVES = 2 };

/* How a level multiplies one kind of weights. */
typedef struct rs_dot256 {
    /* Adds the products of four weights and four activations in each lane. */
    __m256i (*add_products)(__m256i sums, __m256i w, __m256i x);
    /* Its sums as 32-bit lanes. */
    __m256i (*widen)(__m256i sums);
    size_t run;  /* quads that may be added up before `widen` */
    size_t tile; /* activation rows together, 2 to RS_MULTIPLY256_TILE: what proved fastest */
    int biased;  /* it multiplies w + 128, so that 128 * scale is to be taken away again as the minimum */
} rs_dot256;

/* Sums that are complete before the next product: GCC would add up in a tree, for which registers are too
 * few. */
RS_INLINE __m256i rs_in_turn256(__m256i sums) {
    __asm__("" : "+x"(sums));
    return sums;
}

/* dot[r][h] = group g of the channels in half h of the panel times that of activation row r. */
RS_INLINE void rs_dot_group256(rs_panel_kind kind, rs_dot256 with, size_t tile, const int8_t *w,
                               const int8_t *x, size_t n,
                               __m256i dot[RS_MULTIPLY256_TILE][RS_MULTIPLY256_HALVES]) {
    const size_t quads = rs_panel_group(kind) / 4;
    for (size_t r = 0; r < tile; r++) dot[r][0] = dot[r][1] = _mm256_setzero_si256();
    for (size_t first = 0; first < quads; first += with.run) {
        __m256i sums[RS_MULTIPLY256_TILE][RS_MULTIPLY256_HALVES];
        for (size_t r = 0; r < tile; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
        for (size_t j = first; j < first + with.run; j++) {
            const __m256i w0 = rs_avx2_load(w + j * 4 * RS_PANEL_ROWS);
            const __m256i w1 = rs_avx2_load(w + j * 4 * RS_PANEL_ROWS + 32);
            for (size_t r = 0; r < tile; r++) {
                const __m256i four = rs_avx2_spread(x + r * n + 4 * j);
                sums[r][0] = rs_in_turn256(with.add_products(sums[r][0], w0, four));
                sums[r][1] = rs_in_turn256(with.add_products(sums[r][1], w1, four));
            }
        }
        for (size_t r = 0; r < tile; r++) {
            dot[r][0] = _mm256_add_epi32(dot[r][0], with.widen(sums[r][0]));
            dot[r][1] = _mm256_add_epi32(dot[r][1], with.widen(sums[r][1]));
        }
    }
}

/*
 * `tile` activation rows, each with sums of its own, so that an output is the same whatever the tile.
 * Products and minima add up apart: two short chains of additions.
 */
RS_INLINE void rs_multiply_tile256(rs_panel_kind kind, rs_dot256 with, size_t tile, const rs_panel *panel,
                                   rs_operand x, size_t n, float *out, size_t out_stride, size_t channels,
                                   rs_fetch ahead) {
    const size_t group = rs_panel_group(kind), groups = n / group, blocks = n / RS_ACT_BLOCK;
    const int has_base = kind != RS_PANEL_S8 || with.biased;
    __m256 total[RS_MULTIPLY256_TILE][RS_MULTIPLY256_HALVES],
        base[RS_MULTIPLY256_TILE][RS_MULTIPLY256_HALVES];
    for (size_t r = 0; r < tile; r++)
        for (size_t h = 0; h < RS_MULTIPLY256_HALVES; h++) total[r][h] = base[r][h] = _mm256_setzero_ps();

    for (size_t g = 0; g < groups; g++) {
        const float *w_scale = panel->scale + g * RS_PANEL_ROWS;
        const float *w_min = kind == RS_PANEL_S8 ? w_scale : panel->min + g * RS_PANEL_ROWS;
        __m256i dot[RS_MULTIPLY256_TILE][RS_MULTIPLY256_HALVES];
        rs_fetch_step(ahead, g);
        rs_dot_group256(kind, with, tile, panel->q + g * group * RS_PANEL_ROWS, x.q + g * group, n, dot);
        for (size_t r = 0; r < tile; r++) {
            const __m256 x_scale = _mm256_set1_ps(x.scale[r * blocks + g * group / RS_ACT_BLOCK]);
            const __m256 x_sum = _mm256_set1_ps(x.sum[r * groups + g]);
            for (size_t h = 0; h < RS_MULTIPLY256_HALVES; h++) {
                const __m256 scale = _mm256_mul_ps(_mm256_load_ps(w_scale + 8 * h), x_scale);
                total[r][h] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dot[r][h]), total[r][h]);
                if (has_base) base[r][h] = _mm256_fmadd_ps(_mm256_load_ps(w_min + 8 * h), x_sum, base[r][h]);
            }
        }
    }
    const __m256 factor = _mm256_set1_ps(with.biased ? -128.0f : 1.0f);
    for (size_t r = 0; r < tile; r++) {
        float value[RS_PANEL_ROWS];
        for (size_t h = 0; h < RS_MULTIPLY256_HALVES; h++)
            _mm256_storeu_ps(value + 8 * h, _mm256_fmadd_ps(base[r][h], factor, total[r][h]));
        memcpy(out + r * out_stride, value, channels * sizeof *value);
    }
}

RS_INLINE void rs_multiply256(rs_panel_kind kind, rs_dot256 with, const rs_panel *panel, const rs_acts *acts,
                              size_t rows, size_t n, float *out, size_t out_stride, size_t channels) {
    const size_t groups = n / rs_panel_group(kind);
    rs_operand x = rs_operand_of(kind, acts);
    for (size_t row = 0, tile; row < rows; row += tile) {
        tile = rows - row >= with.tile ? with.tile : rows - row >= 2 ? 2 : 1;
        const rs_fetch ahead = rs_fetch_of(panel, rows, row, tile, groups);
        if (tile == with.tile) {
            rs_multiply_tile256(kind, with, with.tile, panel, x, n, out, out_stride, channels, ahead);
        } else if (tile == 2) {
            rs_multiply_tile256(kind, with, 2, panel, x, n, out, out_stride, channels, ahead);
        } else {
            rs_multiply_tile256(kind, with, 1, panel, x, n, out, out_stride, channels, ahead);
        }
        x = rs_operand_skip(kind, x, tile, n);
        out += tile * out_stride;
    }
}

#endif
