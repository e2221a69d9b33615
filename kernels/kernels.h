/*
 * The kernel table: every inner loop of the runtime, with its contract. Kernels know nothing of files or
 * models. kernels/ref holds a portable C implementation of each; faster ones override entries by ISA
 * (dispatch.c). No kernel reads or writes a byte outside the buffers that its contract names, and no buffer
 * needs more than the natural alignment of its element type unless the contract says so.
 */
#ifndef RASURE_KERNELS_KERNELS_H
#define RASURE_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/types.h"
#include "rasure/rasure.h"

enum {
    RS_ACT_BLOCK = 32,     /* activations carry one scale per 32 */
    RS_ROW_GROUP = 16,     /* unpacked weights carry one scale (and one minimum) per 16 */
    RS_PAGE_ENTRIES = 16,  /* tokens in a KV page */
    RS_ATTEND_PAGES = 8,   /* pages that one softmax step covers */
    RS_HEAD_DIM_UNIT = 16, /* head_dim is a multiple of this ... */
    RS_HEAD_DIM_MAX = 512, /* ... and at most this */
};

/*
 * A weight row taken out of its blocks:  w[i] = scale[i / 16] * q[i] + min[i / 16].
 * q: n int8 in [-128, 127]; scale: n / 16; min: n / 16, all zero when has_min is 0 (then neither written nor
 * read).
 */
typedef struct rs_row {
    int8_t *q;
    float *scale;
    float *min;
    int has_min;
} rs_row;

/*
 * Activation rows in int8:  x[r][i] ~ scale[r][i / 32] * q[r][i], q in [-127, 127].
 * sum[r][g] = scale[r][g / 2] * (sum of q over the 16 elements of group g).
 * Rows follow each other without gaps: n int8, n / 32 scales, n / 16 sums a row.
 */
typedef struct rs_acts {
    int8_t *q;
    float *scale;
    float *sum;
} rs_acts;

/*
 * One KV page of a (layer, KV head) stream: 16 entries. Keys are laid out [head_dim / 4][16][4] and values
 * [16 / 4][head_dim][4], so that four-byte dot product instructions (vpdpbusd, sdot) read both unshuffled.
 * An entry's key is k_scale * int8, likewise its value.
 */
typedef struct rs_page_view {
    int8_t *k;      /* 16 * head_dim */
    int8_t *v;      /* 16 * head_dim */
    float *k_scale; /* 16 */
    float *v_scale; /* 16 */
} rs_page_view;

typedef struct rs_kernels {
    rs_isa isa;

    /* Row of n elements (a multiple of the type's block) to float. All types. */
    void (*dequantize[RS_TYPE_COUNT])(const void *blocks, float *out, size_t n);

    /* Row of n elements to rs_row form. Quantised types only; NULL for the others. Sets row->has_min. */
    void (*unpack[RS_TYPE_COUNT])(const void *blocks, rs_row *row, size_t n);

    /* `rows` rows of n floats (n a multiple of 32) to rs_acts form: scale = max |x| / 127 over a block,
     * q = round to nearest of x / scale; a block of zeros, or with a maximum below 2^-119, has scale and q 0.
     * Input finite. */
    void (*quantize_acts)(const float *x, rs_acts *acts, size_t rows, size_t n);

    /* out[r * out_stride] = sum_i w[i] * x[r][i] for r < rows; one weight row against many activation
     * rows. n a multiple of 32. Each output depends on its own row only, in an order that does not depend
     * on `rows`. */
    void (*dot_acts)(const rs_row *w, const rs_acts *acts, size_t rows, size_t n, float *out,
                     size_t out_stride);

    /* The same for float weights and float activations, any n. */
    void (*dot_f32)(const float *w, const float *x, size_t rows, size_t n, float *out, size_t out_stride);

    /* out[i] = x[i] * w[i] / sqrt(mean(x^2) + eps); out may be x (Zhang & Sennrich, arXiv 1910.07467). */
    void (*rms_norm)(const float *x, const float *w, float eps, size_t n, float *out);

    /* Rotates one head vector in place by cos/sin [dim / 2]; elements past dim stay. Pairs (2i, 2i + 1)
     * when `interleaved`, else (i, i + dim / 2) (RoPE, arXiv 2104.09864, section 3.2.2). */
    void (*rope)(float *x, const float *cosine, const float *sine, size_t dim, int interleaved);

    /* gate[i] = silu(gate[i]) * up[i]; gelu: the tanh form (Shazeer, arXiv 2002.05202). */
    void (*swiglu)(float *gate, const float *up, size_t n);
    void (*geglu)(float *gate, const float *up, size_t n);

    /* x[i] += y[i] */
    void (*add)(float *x, const float *y, size_t n);

    /* n floats (a multiple of 16) to int8 with one scale, as quantize_acts does a block; returns the scale.
     * Input finite. */
    float (*quantize_head)(const float *x, int8_t *q, size_t n);

    /* score[r * score_stride + e] = q_scale[r] * k_scale[e] * <q[r], k[e]> for r < rows, e < 16.
     * q: rows of head_dim int8 in [-127, 127]. */
    void (*attend_keys)(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *page,
                        size_t head_dim, float *score, size_t score_stride);

    /* Softmax step over n scores: entries -INFINITY are invisible. *max is the running maximum (start
     * -INFINITY) and *sum the running sum. Scores become exp(score - new max), invisible ones exactly 0.
     * Returns the factor exp(old max - new max) that earlier accumulations are to be multiplied with (1 when
     * the maximum stays, so that an invisible block changes nothing to the bit; 0 at the first visible
     * block). */
    float (*softmax_step)(float *score, size_t n, float *max, float *sum);

    /* acc[r][d] += sum_e p[r * p_stride + e] * v_scale[e] * v[e][d] for r < rows; acc: rows of head_dim
     * floats. */
    void (*attend_values)(const float *p, size_t p_stride, size_t rows, const rs_page_view *page,
                          size_t head_dim, float *acc);
} rs_kernels;

/*
 * The table for the highest ISA that the CPU has and that is not above `limit` (RS_ISA_AUTO: no limit).
 * RS_UNSUPPORTED when the CPU lacks the level that `limit` names or it is of another architecture.
 */
rs_status rs_kernels_select(rs_isa limit, const rs_kernels **kernels, rs_error *error);

/* IEEE binary16 to float, exact. */
float rs_f16_to_f32(uint16_t half);

#endif
