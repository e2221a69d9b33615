/* Linear layers in portable C: activations to int8, and panels of weights against them. */
#include "kernels/inline.h"
#include "kernels/ref/math.h"
#include "kernels/ref/ref.h"

enum { LANES = 8 };

void rs_ref_quantize_acts(const float *x, rs_acts *acts, size_t rows, size_t n) {
    for (size_t b = 0; b < rows * n / RS_ACT_BLOCK; b++) {
        int8_t *q = acts->q + b * RS_ACT_BLOCK;
        const float scale = rs_quantize(x + b * RS_ACT_BLOCK, q, RS_ACT_BLOCK);
        int32_t low = 0, high = 0;
        RS_KEEP_LOOP
        for (size_t i = 0; i < 16; i++) {
            low += q[i];
            high += q[i + 16];
        }
        acts->scale[b] = scale;
        acts->sum[b] = scale * (float)(low + high);
        acts->half_sum[2 * b] = scale * (float)low;
        acts->half_sum[2 * b + 1] = scale * (float)high;
    }
}

/* dot[r] = sum over `quads` times four elements of q[.][r][.] * x[.]. Exact: 32 products of at most 2^14. */
static void dot_group(const int8_t *q, const int8_t *x, size_t quads, int32_t dot[RS_PANEL_ROWS]) {
    memset(dot, 0, RS_PANEL_ROWS * sizeof *dot);
    for (size_t j = 0; j < quads; j++, q += 4 * RS_PANEL_ROWS, x += 4) {
        RS_KEEP_LOOP
        for (size_t r = 0; r < RS_PANEL_ROWS; r++) {
            dot[r] += q[4 * r] * x[0] + q[4 * r + 1] * x[1] + q[4 * r + 2] * x[2] + q[4 * r + 3] * x[3];
        }
    }
}

/* Products and minima add up apart, in order of the groups. */
static void multiply(const rs_panel *panel, const rs_acts *acts, const float *sums, size_t rows, size_t n,
                     size_t group, float *out, size_t out_stride, size_t channels) {
    const size_t groups = n / group;
    for (size_t r = 0; r < rows; r++) {
        float total[RS_PANEL_ROWS] = {0}, base[RS_PANEL_ROWS] = {0};
        for (size_t g = 0; g < groups; g++) {
            const size_t at = g * RS_PANEL_ROWS;
            const float scale = acts->scale[(r * n + g * group) / RS_ACT_BLOCK];
            int32_t dot[RS_PANEL_ROWS];
            dot_group(panel->q + at * group, acts->q + r * n + g * group, group / 4, dot);
            for (size_t c = 0; c < RS_PANEL_ROWS; c++)
                total[c] += panel->scale[at + c] * scale * (float)dot[c];
            if (sums == NULL) continue;
            for (size_t c = 0; c < RS_PANEL_ROWS; c++) base[c] += panel->min[at + c] * sums[r * groups + g];
        }
        for (size_t c = 0; c < channels; c++) out[r * out_stride + c] = total[c] + base[c];
    }
}

void rs_ref_multiply_u4(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                        size_t out_stride, size_t channels) {
    multiply(panel, acts, acts->sum, rows, n, 32, out, out_stride, channels);
}

void rs_ref_multiply_u6(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                        size_t out_stride, size_t channels) {
    multiply(panel, acts, acts->half_sum, rows, n, 16, out, out_stride, channels);
}

void rs_ref_multiply_s8(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                        size_t out_stride, size_t channels) {
    multiply(panel, acts, NULL, rows, n, 32, out, out_stride, channels);
}

void rs_ref_dot_f32(const float *w, const float *x, size_t rows, size_t n, float *out, size_t out_stride) {
    const size_t even = n / LANES * LANES;
    for (size_t r = 0; r < rows; r++, x += n) {
        float lane[LANES] = {0};
        for (size_t i = 0; i < even; i += LANES) {
            for (size_t l = 0; l < LANES; l++) lane[l] += w[i + l] * x[i + l];
        }
        float total = 0.0f;
        for (size_t l = 0; l < LANES; l++) total += lane[l];
        for (size_t i = even; i < n; i++) total += w[i] * x[i];
        out[r * out_stride] = total;
    }
}
