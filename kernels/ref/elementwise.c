/* Norms, rotations, activation functions and the like in portable C. */
#include <math.h>

#include "kernels/ref/math.h"
#include "kernels/ref/ref.h"
#include "kernels/rotate_keys.h"

void rs_ref_rms_norm(const float *x, const float *w, float eps, size_t n, float *out) {
    double lane[4] = {0};
    for (size_t i = 0; i < n / 4 * 4; i += 4) {
        for (size_t l = 0; l < 4; l++) lane[l] += (double)x[i + l] * (double)x[i + l];
    }
    double squares = (lane[0] + lane[2]) + (lane[1] + lane[3]);
    for (size_t i = n / 4 * 4; i < n; i++) squares += (double)x[i] * (double)x[i];
    const float scale = (float)(1.0 / sqrt(squares / (double)n + (double)eps));
    for (size_t i = 0; i < n; i++) out[i] = x[i] * scale * w[i];
}

void rs_ref_rope(float *x, const float *cosine, const float *sine, size_t dim, int interleaved) {
    const size_t half = dim / 2;
    if (interleaved) {
        for (size_t i = 0; i < half; i++) {
            const float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = a * cosine[i] - b * sine[i];
            x[2 * i + 1] = a * sine[i] + b * cosine[i];
        }
    } else {
        for (size_t i = 0; i < half; i++) {
            const float a = x[i], b = x[i + half];
            x[i] = a * cosine[i] - b * sine[i];
            x[i + half] = a * sine[i] + b * cosine[i];
        }
    }
}

void rs_ref_rotate_keys(const rs_page_view *page, uint32_t which, const float *cosine, const float *sine,
                        size_t head_dim, size_t dim, int interleaved, int room) {
    rs_rotate_keys_in_lanes(page, which, cosine, sine, head_dim, dim, interleaved, room);
}

void rs_ref_turn_keys(const rs_page_view *page, uint32_t which, const rs_turn *back, const rs_turn *turn,
                      size_t head_dim, size_t dim, int interleaved) {
    rs_turn_keys_in_lanes(page, which, back, turn, head_dim, dim, interleaved);
}

void rs_ref_swiglu(float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) gate[i] = gate[i] / (1.0f + rs_exp(-gate[i])) * up[i];
}

/* 0.5 x (1 + tanh(u)) = x / (1 + exp(-2 u)) with u = sqrt(2 / pi) (x + 0.044715 x^3) */
void rs_ref_geglu(float *gate, const float *up, size_t n) {
    const float minus_2_root = -1.5957691216057308f;
    for (size_t i = 0; i < n; i++) {
        const float x = gate[i];
        gate[i] = x / (1.0f + rs_exp(minus_2_root * (x + 0.044715f * (x * x * x)))) * up[i];
    }
}

/* Exponents of all ones are infinities and NaN; they are looked for in integers, so that both loops become
 * vector code. */
size_t rs_ref_largest(const float *x, size_t n) {
    uint32_t all_ones = 0;
    float top = x[0];
    for (size_t i = 0; i < n; i++) all_ones |= (rs_float_bits(x[i]) & 0x7f800000u) == 0x7f800000u;
    if (all_ones) return n;
    for (size_t i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
    size_t at = 0;
    while (x[at] != top) at++;
    return at;
}

void rs_ref_add(float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] += y[i];
}
