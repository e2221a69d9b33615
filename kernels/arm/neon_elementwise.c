/* Activation quantisation, norms, rotations and activation functions, NEON. What is left at the end of a row
 * goes through lanes of a copy, so that an element's value does not depend on where it is. */
#include <math.h>

#include "kernels/arm/neon.h"
#include "kernels/arm/neon_math.h"
#include "kernels/ref/math.h"

/* `count` (1 to 3) floats and zeros. */
static float32x4_t load_first(const float *x, size_t count) {
    float lanes[4] = {0};
    for (size_t i = 0; i < count; i++) lanes[i] = x[i];
    return vld1q_f32(lanes);
}

static void store_first(float *x, float32x4_t v, size_t count) {
    float lanes[4];
    vst1q_f32(lanes, v);
    for (size_t i = 0; i < count; i++) x[i] = lanes[i];
}

/* x[i] = f(x[i], y[i]) */
RS_INLINE void combine(float *x, const float *y, size_t n, float32x4_t (*f)(float32x4_t, float32x4_t)) {
    const size_t even = n / 4 * 4, rest = n - even;
    for (size_t i = 0; i < even; i += 4) vst1q_f32(x + i, f(vld1q_f32(x + i), vld1q_f32(y + i)));
    if (rest > 0) store_first(x + even, f(load_first(x + even, rest), load_first(y + even, rest)), rest);
}

void rs_neon_quantize_acts(const float *x, rs_acts *acts, size_t rows, size_t n) {
    for (size_t b = 0; b < rows * n / RS_ACT_BLOCK; b++, x += RS_ACT_BLOCK) {
        int8_t *q = acts->q + b * RS_ACT_BLOCK;
        float32x4_t v[8];
        for (size_t i = 0; i < 8; i++) v[i] = vld1q_f32(x + 4 * i);
        float32x4_t top = vabsq_f32(v[0]);
        for (size_t i = 1; i < 8; i++) top = vmaxq_f32(top, vabsq_f32(v[i]));
        const float max = rs_neon_max(top);
        float scale;
        if (max < RS_NEON_QUANTIZE_MIN) {
            scale = rs_quantize(x, q, RS_ACT_BLOCK);
        } else {
            const float inverse = 127.0f / max;
            scale = max / 127.0f;
            vst1q_s8(q, rs_neon_round16(v, inverse));
            vst1q_s8(q + 16, rs_neon_round16(v + 4, inverse));
        }
        const int32_t low = rs_neon_sum_bytes(vld1q_s8(q)), high = rs_neon_sum_bytes(vld1q_s8(q + 16));
        acts->scale[b] = scale;
        acts->sum[b] = scale * (float)(low + high);
        acts->half_sum[2 * b] = scale * (float)low;
        acts->half_sum[2 * b + 1] = scale * (float)high;
    }
}

RS_INLINE void dot_f32_tile(size_t tile, const float *w, const float *x, size_t n, float *out,
                            size_t out_stride) {
    float32x4_t sum[2][2];
    for (size_t r = 0; r < tile; r++) sum[r][0] = sum[r][1] = vdupq_n_f32(0.0f);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const float32x4_t w0 = vld1q_f32(w + i), w1 = vld1q_f32(w + i + 4);
        for (size_t r = 0; r < tile; r++) {
            sum[r][0] = vfmaq_f32(sum[r][0], w0, vld1q_f32(x + r * n + i));
            sum[r][1] = vfmaq_f32(sum[r][1], w1, vld1q_f32(x + r * n + i + 4));
        }
    }
    if (i + 4 <= n) {
        const float32x4_t w0 = vld1q_f32(w + i);
        for (size_t r = 0; r < tile; r++) sum[r][0] = vfmaq_f32(sum[r][0], w0, vld1q_f32(x + r * n + i));
        i += 4;
    }
    if (i < n) {
        const float32x4_t w0 = load_first(w + i, n - i);
        for (size_t r = 0; r < tile; r++)
            sum[r][0] = vfmaq_f32(sum[r][0], w0, load_first(x + r * n + i, n - i));
    }
    for (size_t r = 0; r < tile; r++) out[r * out_stride] = rs_neon_sum(vaddq_f32(sum[r][0], sum[r][1]));
}

void rs_neon_dot_f32(const float *w, const float *x, size_t rows, size_t n, float *out, size_t out_stride) {
    for (; rows >= 2; rows -= 2, x += 2 * n, out += 2 * out_stride) dot_f32_tile(2, w, x, n, out, out_stride);
    if (rows == 1) dot_f32_tile(1, w, x, n, out, out_stride);
}

/* 32-bit NEON has no doubles. */
static double sum_of_squares(const float *x, size_t n) {
    const size_t even = n / 4 * 4;
#ifdef __aarch64__
    float64x2_t low = vdupq_n_f64(0.0), high = vdupq_n_f64(0.0);
    for (size_t i = 0; i < even; i += 4) {
        const float32x4_t v = vld1q_f32(x + i);
        const float64x2_t a = vcvt_f64_f32(vget_low_f32(v)), b = vcvt_high_f64_f32(v);
        low = vfmaq_f64(low, a, a);
        high = vfmaq_f64(high, b, b);
    }
    double sum = vaddvq_f64(vaddq_f64(low, high));
#else
    double lane[4] = {0};
    for (size_t i = 0; i < even; i += 4) {
        for (size_t l = 0; l < 4; l++) lane[l] += (double)x[i + l] * (double)x[i + l];
    }
    double sum = (lane[0] + lane[2]) + (lane[1] + lane[3]);
#endif
    for (size_t i = even; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

void rs_neon_rms_norm(const float *x, const float *w, float eps, size_t n, float *out) {
    const double mean = sum_of_squares(x, n) / (double)n;
    const float32x4_t scale = vdupq_n_f32((float)(1.0 / sqrt(mean + (double)eps)));
    const size_t even = n / 4 * 4, rest = n - even;
    for (size_t i = 0; i < even; i += 4)
        vst1q_f32(out + i, vmulq_f32(vmulq_f32(vld1q_f32(x + i), scale), vld1q_f32(w + i)));
    if (rest > 0) {
        const float32x4_t scaled = vmulq_f32(load_first(x + even, rest), scale);
        store_first(out + even, vmulq_f32(scaled, load_first(w + even, rest)), rest);
    }
}

RS_INLINE void rotate_halves(float *x, const float *cosine, const float *sine, size_t half) {
    float *y = x + half;
    const size_t even = half / 4 * 4, rest = half - even;
    for (size_t i = 0; i < even; i += 4) {
        const rs_neon_pairs turned =
            rs_neon_rotate(vld1q_f32(x + i), vld1q_f32(y + i), vld1q_f32(cosine + i), vld1q_f32(sine + i));
        vst1q_f32(x + i, turned.a);
        vst1q_f32(y + i, turned.b);
    }
    if (rest > 0) {
        const rs_neon_pairs turned =
            rs_neon_rotate(load_first(x + even, rest), load_first(y + even, rest),
                           load_first(cosine + even, rest), load_first(sine + even, rest));
        store_first(x + even, turned.a, rest);
        store_first(y + even, turned.b, rest);
    }
}

RS_INLINE void rotate_pairs(float *x, const float *cosine, const float *sine, size_t half) {
    size_t i = 0;
    for (; i + 4 <= half; i += 4) {
        const float32x4x2_t v = vld2q_f32(x + 2 * i);
        const rs_neon_pairs turned =
            rs_neon_rotate(v.val[0], v.val[1], vld1q_f32(cosine + i), vld1q_f32(sine + i));
        const float32x4x2_t pairs = {{turned.a, turned.b}};
        vst2q_f32(x + 2 * i, pairs);
    }
    for (; i < half; i++) {
        const float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = fmaf(-b, sine[i], a * cosine[i]);
        x[2 * i + 1] = fmaf(a, sine[i], b * cosine[i]);
    }
}

void rs_neon_rope(float *x, const float *cosine, const float *sine, size_t dim, int interleaved) {
    if (interleaved) {
        rotate_pairs(x, cosine, sine, dim / 2);
    } else {
        rotate_halves(x, cosine, sine, dim / 2);
    }
}

/* x / (1 + exp(exponent)) * up */
RS_INLINE float32x4_t gated(float32x4_t x, float32x4_t exponent, float32x4_t up) {
    const float32x4_t divisor = vaddq_f32(vdupq_n_f32(1.0f), rs_neon_exp(exponent));
    return vmulq_f32(rs_neon_divide(x, divisor), up);
}

RS_INLINE float32x4_t swiglu(float32x4_t gate, float32x4_t up) {
    return gated(gate, vnegq_f32(gate), up);
}

/* The exponent is -2 sqrt(2 / pi) (x + 0.044715 x^3), as in kernels/ref/elementwise.c. */
RS_INLINE float32x4_t geglu(float32x4_t gate, float32x4_t up) {
    const float32x4_t cube = vmulq_f32(vmulq_f32(gate, gate), gate);
    const float32x4_t inner = vfmaq_f32(gate, vdupq_n_f32(0.044715f), cube);
    return gated(gate, vmulq_f32(vdupq_n_f32(-1.5957691216057308f), inner), up);
}

RS_INLINE float32x4_t sum(float32x4_t x, float32x4_t y) {
    return vaddq_f32(x, y);
}

void rs_neon_swiglu(float *gate, const float *up, size_t n) {
    combine(gate, up, n, swiglu);
}

void rs_neon_geglu(float *gate, const float *up, size_t n) {
    combine(gate, up, n, geglu);
}

void rs_neon_add(float *x, const float *y, size_t n) {
    combine(x, y, n, sum);
}

/* Integers that order as floats do, both zeros being 0 and denormals not, which 32-bit NEON would take for 0.
 */
RS_INLINE int32x4_t order(float32x4_t x) {
    const int32x4_t bits = vreinterpretq_s32_f32(x), sign = vshrq_n_s32(bits, 31);
    const int32x4_t magnitude = vandq_s32(bits, vdupq_n_s32(INT32_MAX));
    return vsubq_s32(veorq_s32(magnitude, sign), sign);
}

/* Of four or more. */
static size_t largest_of(const float *x, size_t n) {
    int32_t lane[4], extent[4];
    const size_t last = n - 4; /* the last four overlap those before them */
    int32x4_t top = order(vld1q_f32(x + last)), widest = vabsq_s32(top);
    for (size_t i = 0; i < last; i += 4) {
        const int32x4_t v = order(vld1q_f32(x + i));
        top = vmaxq_s32(top, v);
        widest = vmaxq_s32(widest, vabsq_s32(v));
    }
    vst1q_s32(lane, top);
    vst1q_s32(extent, widest);
    for (size_t l = 0; l < 4; l++) {
        if (extent[l] >= 0x7f800000) return n; /* an infinity or NaN */
        lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
    }
    const int32x4_t all = vdupq_n_s32(lane[0]);
    for (size_t i = 0; i < n; i += 4) {
        const size_t at = i < last ? i : last;
        uint32_t same[4];
        const uint32x4_t equal = vceqq_s32(order(vld1q_f32(x + at)), all);
        const uint16x4_t any = vmovn_u32(equal);
        if (vget_lane_u64(vreinterpret_u64_u16(any), 0) == 0) continue;
        vst1q_u32(same, equal);
        size_t l = 0;
        while (same[l] == 0) l++;
        return at + l;
    }
    return n;
}

size_t rs_neon_largest(const float *x, size_t n) {
    if (n >= 4) return largest_of(x, n);
    float lanes[4];
    for (size_t l = 0; l < 4; l++) lanes[l] = x[l < n ? l : 0];
    const size_t at = largest_of(lanes, 4);
    return at < n ? at : n;
}
