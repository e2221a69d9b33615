/* Linear layers in portable C: activations to int8, and one weight row against many activation rows. */
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
        acts->sum[2 * b] = scale * (float)low;
        acts->sum[2 * b + 1] = scale * (float)high;
    }
}

/* Exact: 16 products of at most 2^14. */
static int32_t dot16(const int8_t *a, const int8_t *b) {
    int32_t sum = 0;
    RS_KEEP_LOOP
    for (size_t i = 0; i < 16; i++) sum += a[i] * b[i];
    return sum;
}

void rs_ref_dot_acts(const rs_row *w, const rs_acts *acts, size_t rows, size_t n, float *out,
                     size_t out_stride) {
    const size_t blocks = n / RS_ACT_BLOCK, groups = n / RS_ROW_GROUP;
    for (size_t r = 0; r < rows; r++) {
        const int8_t *q = acts->q + r * n;
        const float *scale = acts->scale + r * blocks, *sum = acts->sum + r * groups;
        float total = 0.0f;
        for (size_t b = 0; b < blocks; b++) {
            const float low = w->scale[2 * b] * (float)dot16(w->q + 32 * b, q + 32 * b);
            const float high = w->scale[2 * b + 1] * (float)dot16(w->q + 32 * b + 16, q + 32 * b + 16);
            total += scale[b] * (low + high);
        }
        if (w->has_min) {
            for (size_t g = 0; g < groups; g++) total += w->min[g] * sum[g];
        }
        out[r * out_stride] = total;
    }
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
