/* Channel panels against activations in two terms, in portable C: the arithmetic that every other
 * implementation follows to the bit. */
#include <math.h>

#include "kernels/ref/math.h"
#include "kernels/ref/ref.h"

/* The nearest integer, modulo 2^32, of |value| up to 2^22; any integer of what is no such number. */
static uint32_t nearest(float value) {
    const float magic = 0x1.8p23f; /* adding it leaves the integer in the low bits */
    return rs_float_bits(value + magic) - rs_float_bits(magic);
}

/* max |least integer's weight|, |greatest integer's| over the groups of lane r. As integers, magnitudes order
 * as they do in floats, and what is not finite comes out on top. */
static float bound_of(rs_panel_kind kind, const rs_panel *panel, size_t groups, size_t r) {
    static const float tops[RS_PANEL_KINDS] = {15.0f, 31.0f, 63.0f, 128.0f};
    uint32_t bound = 0;
    for (size_t at = r; at < groups * RS_PANEL_ROWS; at += RS_PANEL_ROWS) {
        const float min = kind == RS_PANEL_S8 ? 0.0f : panel->min[at];
        const uint32_t low = rs_float_bits(min) & 0x7fffffffu;
        const uint32_t high = rs_float_bits(fmaf(panel->scale[at], tops[kind], min)) & 0x7fffffffu;
        bound = low > bound ? low : bound;
        bound = high > bound ? high : bound;
    }
    return rs_bits_float(bound);
}

/* A group's `quads` times four weights of one lane, in 1 / 256 of the channel's steps. With q counted from
 * the middle of its range, h, the error of the rounded factor counts half as much: (min + scale * h) + scale
 * * (q - h) h is a power of two, so that the only rounding in scale * h + min is that of the sum. */
static void requantize_unsigned(rs_panel_kind kind, const int8_t *q, float scale, float min, float inverse,
                                size_t quads, int8_t *out) {
    static const uint32_t middles[RS_PANEL_KINDS] = {8, 16, 32};
    const uint32_t middle = middles[kind];
    const uint32_t factor = nearest(scale * inverse * 256.0f);
    const float centre = scale * (float)middle + min;
    const uint32_t offset = nearest(centre * inverse * 256.0f) - factor * middle + 128;
    for (size_t i = 0; i < quads * 4; i++) {
        const size_t at = i / 4 * 4 * RS_PANEL_ROWS + i % 4;
        const uint32_t w = (uint32_t)q[at];
        out[at] = (int8_t)((factor * w + offset) >> 8 & 0xffu);
    }
}

/* The same for signed weights, whose factor is below 1 and has fifteen bits. */
static void requantize_signed(const int8_t *q, float scale, float inverse, size_t quads, int8_t *out) {
    const uint32_t factor = nearest(scale * inverse * 32768.0f);
    for (size_t i = 0; i < quads * 4; i++) {
        const size_t at = i / 4 * 4 * RS_PANEL_ROWS + i % 4;
        const uint32_t w = (uint32_t)q[at];
        out[at] = (int8_t)((factor * w + 0x4000u) >> 15 & 0xffu);
    }
}

/* The blocks of one lane that share a channel scale, `groups` of them. */
static void requantize_group(rs_panel_kind kind, const rs_panel *panel, size_t groups, size_t r, int8_t *out,
                             float *out_scale) {
    const size_t group = rs_panel_group(kind);
    const float bound = bound_of(kind, panel, groups, r);
    const int zero = bound < RS_QUANTIZE_MIN;
    const float inverse = zero ? 0.0f : 127.0f / bound;
    *out_scale = zero ? 0.0f : bound / 127.0f;
    for (size_t g = 0; g < groups; g++) {
        const size_t at = g * RS_PANEL_ROWS + r, first = g * group * RS_PANEL_ROWS + 4 * r;
        const float scale = panel->scale[at];
        if (kind == RS_PANEL_S8) requantize_signed(panel->q + first, scale, inverse, group / 4, out + first);
        else
            requantize_unsigned(kind, panel->q + first, scale, panel->min[at], inverse, group / 4,
                                out + first);
    }
}

static void requantize(rs_panel_kind kind, const rs_panel *panel, size_t n,
                       const rs_channel_panel *channels) {
    for (size_t begin = 0; begin < n; begin += RS_CHANNEL_GROUP) {
        const size_t length = n - begin < RS_CHANNEL_GROUP ? n - begin : RS_CHANNEL_GROUP;
        const rs_panel part = rs_panel_from(kind, panel, begin);
        float *scale = channels->scale + begin / RS_CHANNEL_GROUP * RS_PANEL_ROWS;
        for (size_t r = 0; r < RS_PANEL_ROWS; r++)
            requantize_group(kind, &part, length / rs_panel_group(kind), r,
                             channels->q + begin * RS_PANEL_ROWS, scale + r);
    }
    memset(channels->q + n * RS_PANEL_ROWS, 0, (rs_term_bytes(n) - n) * RS_PANEL_ROWS);
}

void rs_ref_requantize_u4(const rs_panel *panel, size_t n, const rs_channel_panel *channels) {
    requantize(RS_PANEL_U4, panel, n, channels);
}

void rs_ref_requantize_u5(const rs_panel *panel, size_t n, const rs_channel_panel *channels) {
    requantize(RS_PANEL_U5, panel, n, channels);
}

void rs_ref_requantize_u6(const rs_panel *panel, size_t n, const rs_channel_panel *channels) {
    requantize(RS_PANEL_U6, panel, n, channels);
}

void rs_ref_requantize_s8(const rs_panel *panel, size_t n, const rs_channel_panel *channels) {
    requantize(RS_PANEL_S8, panel, n, channels);
}

void rs_ref_quantize_terms(const float *x, const rs_two_terms *terms, size_t rows, size_t n) {
    const size_t bytes = rs_term_bytes(n);
    for (size_t r = 0; r < rows; r++, x += n) {
        int8_t *high = terms->high + r * bytes, *low = terms->low + r * bytes;
        uint32_t max_bits = 0;
        for (size_t i = 0; i < n; i++) {
            const uint32_t bits = rs_float_bits(x[i]) & 0x7fffffffu;
            max_bits = bits > max_bits ? bits : max_bits;
        }
        const float max = rs_bits_float(max_bits);
        const int zero = max < RS_QUANTIZE_MIN;
        const float inverse = zero ? 0.0f : 127.0f / max;
        terms->scale[r] = zero ? 0.0f : max / 127.0f;
        for (size_t i = 0; i < n; i++) {
            const float y = x[i] * inverse;
            const int32_t q = (int32_t)nearest(y);
            const float rest = (y - (float)q) * 254.0f; /* the difference is exact, and at most a half */
            high[i] = (int8_t)q;
            low[i] = (int8_t)(nearest(rest) & 0xffu);
        }
        memset(high + n, 0, bytes - n);
        memset(low + n, 0, bytes - n);
    }
}

static int32_t dot(const int8_t *w, const int8_t *x, size_t n) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; i += 4, w += 4 * RS_PANEL_ROWS)
        sum += w[0] * x[i] + w[1] * x[i + 1] + w[2] * x[i + 2] + w[3] * x[i + 3];
    return sum;
}

/* One output before the scale of its activations. */
static float sum_groups(const rs_channel_panel *panel, size_t lane, const int8_t *high, const int8_t *low,
                        size_t n) {
    float sum = 0.0f;
    for (size_t begin = 0; begin < n; begin += RS_CHANNEL_GROUP) {
        const size_t length = n - begin < RS_CHANNEL_GROUP ? n - begin : RS_CHANNEL_GROUP;
        const int8_t *w = panel->q + begin * RS_PANEL_ROWS + 4 * lane;
        const float h = (float)dot(w, high + begin, length), l = (float)dot(w, low + begin, length);
        const float scale = panel->scale[begin / RS_CHANNEL_GROUP * RS_PANEL_ROWS + lane];
        sum = fmaf(fmaf(l, 1.0f / 254.0f, h), scale, sum);
    }
    return sum;
}

void rs_ref_multiply_channels(const rs_channel_panel *panels, const rs_two_terms *terms, size_t rows,
                              size_t n, float *out, size_t out_stride, size_t channels) {
    const size_t bytes = rs_term_bytes(n);
    for (size_t r = 0; r < rows; r++) {
        const int8_t *high = terms->high + r * bytes, *low = terms->low + r * bytes;
        for (size_t c = 0; c < channels; c++) {
            const float sum = sum_groups(&panels[c / RS_PANEL_ROWS], c % RS_PANEL_ROWS, high, low, n);
            out[r * out_stride + c] = terms->scale[r] * sum;
        }
    }
}
