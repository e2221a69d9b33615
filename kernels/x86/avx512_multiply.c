/* Panels of weights against activation rows, AVX-512 VNNI. */
#include "kernels/x86/avx512.h"
#include "kernels/x86/avx512_dot.h"
#include "kernels/x86/fetch.h"

enum { TILE = 8 };

/* `tile` activation rows, each with sums of its own, so that an output is the same whatever the tile. */
RS_INLINE void multiply_tile(rs_panel_kind kind, size_t tile, const rs_panel *panel, rs_operand x, size_t n,
                             float *out, size_t out_stride, __mmask16 channels, rs_fetch ahead) {
    const size_t group = rs_panel_group(kind), quads = group / 4, groups = n / group;
    rs_avx512_sums sums[TILE];
    for (size_t r = 0; r < tile; r++) sums[r].total = sums[r].base = _mm512_setzero_ps();

    for (size_t g = 0; g < groups; g++) {
        const __m512 scale = _mm512_load_ps(panel->scale + g * RS_PANEL_ROWS);
        const __m512 min = kind == RS_PANEL_S8 ? scale : _mm512_load_ps(panel->min + g * RS_PANEL_ROWS);
        __m512i w[8];
        rs_fetch_step(ahead, g);
        for (size_t j = 0; j < quads; j++)
            w[j] = rs_avx512_load(panel->q + (g * quads + j) * 4 * RS_PANEL_ROWS);
        RS_UNROLL
        for (size_t r = 0; r < tile; r++) {
            const rs_operand row = rs_operand_skip(kind, x, r, n);
            rs_avx512_add_group(kind, w, scale, min, row, g, &sums[r]);
        }
    }
    for (size_t r = 0; r < tile; r++)
        _mm512_mask_storeu_ps(out + r * out_stride, channels, rs_avx512_finish(kind, &sums[r]));
}

RS_INLINE void multiply(rs_panel_kind kind, const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n,
                        float *out, size_t out_stride, size_t channels) {
    const __mmask16 some = rs_avx512_first(channels);
    const size_t groups = n / rs_panel_group(kind);
    rs_operand x = rs_operand_of(kind, acts);
    for (size_t row = 0, tile; row < rows; row += tile) {
        tile = rows - row >= TILE ? TILE : rows - row >= 4 ? 4 : 1;
        const rs_fetch ahead = rs_fetch_of(panel, rows, row, tile, groups);
        if (tile == TILE) {
            multiply_tile(kind, TILE, panel, x, n, out, out_stride, some, ahead);
        } else if (tile == 4) {
            multiply_tile(kind, 4, panel, x, n, out, out_stride, some, ahead);
        } else {
            multiply_tile(kind, 1, panel, x, n, out, out_stride, some, ahead);
        }
        x = rs_operand_skip(kind, x, tile, n);
        out += tile * out_stride;
    }
}

void rs_avx512_multiply_u4(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                           size_t out_stride, size_t channels) {
    multiply(RS_PANEL_U4, panel, acts, rows, n, out, out_stride, channels);
}

void rs_avx512_multiply_u6(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                           size_t out_stride, size_t channels) {
    multiply(RS_PANEL_U6, panel, acts, rows, n, out, out_stride, channels);
}

void rs_avx512_multiply_s8(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                           size_t out_stride, size_t channels) {
    multiply(RS_PANEL_S8, panel, acts, rows, n, out, out_stride, channels);
}
