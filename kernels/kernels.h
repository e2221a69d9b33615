/*
 * The kernel table: every inner loop of the runtime, with its contract. Kernels know nothing of files or
 * models. kernels/ref holds a portable C implementation of each; faster ones override entries by ISA
 * (dispatch.c). No kernel reads or writes a byte outside the buffers that its contract names, and no buffer
 * needs more than the natural alignment of its element type unless the contract says so.
 */
#ifndef RASURE_KERNELS_KERNELS_H
#define RASURE_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/types.h"
#include "rasure/rasure.h"

enum {
    RS_ACT_BLOCK = 32,      /* activations carry one scale per 32 */
    RS_PANEL_ROWS = 16,     /* weight rows (output channels) that are taken out of their blocks together */
    RS_PAGE_ENTRIES = 16,   /* tokens in a KV page */
    RS_ATTEND_PAGES = 8,    /* pages that one softmax step covers */
    RS_HEAD_DIM_UNIT = 16,  /* head_dim is a multiple of this ... */
    RS_HEAD_DIM_MAX = 512,  /* ... and at most this */
    RS_TERM_UNIT = 64,      /* rows in two terms, and channel panels, are padded to a multiple of this */
    RS_CHANNEL_GROUP = 256, /* inputs of a channel panel that share a scale */
    RS_CHANNELS_MAX = 32,   /* outputs that multiply_channels takes together: those of two panels */
};

/* What the integers of a panel are, and how many of a row share a scale. */
typedef enum rs_panel_kind {
    RS_PANEL_U4, /* 0 to 15, groups of 32 with a minimum */
    RS_PANEL_U5, /* 0 to 31, groups of 32 with a minimum */
    RS_PANEL_U6, /* 0 to 63, groups of 16 with a minimum */
    RS_PANEL_S8, /* -128 to 127, groups of 32 without minimum */
    RS_PANEL_KINDS,
} rs_panel_kind;

/* Elements of a row that share a scale. */
static inline size_t rs_panel_group(rs_panel_kind kind) {
    return kind == RS_PANEL_U6 ? 16 : 32;
}

/* The kind that a quantised type unpacks to. */
static inline rs_panel_kind rs_panel_kind_of(rs_type type) {
    switch (type) {
    case RS_TYPE_Q4_0:
    case RS_TYPE_Q4_1:
    case RS_TYPE_Q4_K: return RS_PANEL_U4;
    case RS_TYPE_Q5_0:
    case RS_TYPE_Q5_1:
    case RS_TYPE_Q5_K: return RS_PANEL_U5;
    case RS_TYPE_Q6_K: return RS_PANEL_U6;
    default: return RS_PANEL_S8;
    }
}

/*
 * Sixteen weight rows of n taken out of their blocks. Lanes are rows: four neighbouring weights of each of
 * the sixteen lie together, so that four-byte dot product instructions (vpdpbusd, sdot) give sixteen outputs.
 *   w[r][i] = scale[i / group][r] * q[i / 4][r][i % 4] + min[i / group][r]
 */
typedef struct rs_panel {
    int8_t *q;    /* [n / 4][16][4]; 64-byte aligned */
    float *scale; /* [n / group][16]; 64-byte aligned */
    float *min;   /* [n / group][16]; 64-byte aligned; neither read nor written for RS_PANEL_S8 */
    /* What a later call unpacks: multiply MAY have it fetched into cache meanwhile. NULL: it is left to
     * unpack, which MAY fetch what follows its rows in memory. */
    const unsigned char *next;
    size_t next_bytes;
} rs_panel;

/* The panel from element `begin` of its rows on, a multiple of the group. */
static inline rs_panel rs_panel_from(rs_panel_kind kind, const rs_panel *panel, size_t begin) {
    const size_t at = begin / rs_panel_group(kind) * RS_PANEL_ROWS;
    return (rs_panel){
        .q = panel->q + begin * RS_PANEL_ROWS, .scale = panel->scale + at, .min = panel->min + at};
}

/*
 * Activation rows in int8:  x[r][i] ~ scale[r][i / 32] * q[r][i], q in [-127, 127].
 * sum[r][b] = scale[r][b] * (sum of q over the 32 elements of block b), and half_sum the same over the
 * 16 elements of each half. Rows follow each other without gaps.
 */
typedef struct rs_acts {
    int8_t *q;       /* [rows][n] */
    float *scale;    /* [rows][n / 32] */
    float *sum;      /* [rows][n / 32] */
    float *half_sum; /* [rows][n / 16] */
} rs_acts;

/* Bytes of a row of n in two terms. */
static inline size_t rs_term_bytes(size_t n) {
    return (n + RS_TERM_UNIT - 1) / RS_TERM_UNIT * RS_TERM_UNIT;
}

/* Scales of a row of n in a channel panel. */
static inline size_t rs_channel_groups(size_t n) {
    return (n + RS_CHANNEL_GROUP - 1) / RS_CHANNEL_GROUP;
}

/*
 * Sixteen weight rows of n in int8 with scales so far apart that integer sums between them are long:
 *   w[r][i] ~ scale[i / 256][r] * q[i / 4][r][i % 4]
 * q is in [-127, 127], and 0 where the row is padded to rs_term_bytes(n).
 */
typedef struct rs_channel_panel {
    int8_t *q;    /* [rs_term_bytes(n) / 4][16][4]; 64-byte aligned */
    float *scale; /* [rs_channel_groups(n)][16]; 64-byte aligned */
} rs_channel_panel;

/*
 * Activation rows in two int8 terms with one scale a row, the second being what the first leaves:
 *   x[r][i] ~ scale[r] * (high[r][i] + low[r][i] / 254)
 * Both in [-127, 127], and 0 where a row is padded to rs_term_bytes(n). Rows follow each other without gaps.
 */
typedef struct rs_two_terms {
    int8_t *high; /* [rows][rs_term_bytes(n)]; 64-byte aligned */
    int8_t *low;  /* the same */
    float *scale; /* [rows] */
} rs_two_terms;

/*
 * One KV page of a (layer, KV head) stream: 16 entries. Keys are laid out [head_dim / 4][16][4] and values
 * [16 / 4][head_dim][4], so that four-byte dot product instructions (vpdpbusd, sdot) read both unshuffled.
 * An entry's key is k_scale * int8, likewise its value.
 */
typedef struct rs_page_view {
    int8_t *k;      /* 16 * head_dim */
    int8_t *v;      /* 16 * head_dim; attend_keys MAY fetch them for attend_values */
    float *k_scale; /* 16 */
    float *v_scale; /* 16, none negative */
    /* The keys of a page that a later call reads, to be fetched into cache meanwhile; NULL: none. */
    const int8_t *next;
} rs_page_view;

/* A rotation of a head's pairs in steps that can be taken back: quarters of a whole turn, and shears for the
 * rest, which is an eighth of it at most, either way, in 1 / 32768 ("lifting steps": Daubechies & Sweldens,
 * Factoring wavelet transforms into lifting steps, J. Fourier Anal. Appl. 4, 1998). */
typedef struct rs_turn {
    int16_t *tangent;  /* [dim / 2] of half the rest */
    int16_t *sine;     /* [dim / 2] of the rest */
    uint8_t *quarters; /* [dim / 2], 0 to 3 */
} rs_turn;

/* The steps of pair i by an angle in radians. */
void rs_turn_of_angle(const rs_turn *turn, size_t i, double angle);

/* Keys whose pairs are no longer than this stay within [-127, 127] however they are turned, each step's
 * rounding included. */
#define RS_TURN_RADIUS 125.0f

/* Row of n elements (a multiple of the type's block) to float. */
typedef void rs_dequantize_kernel(const void *blocks, float *out, size_t n);

/* `rows` (1 to 16) neighbouring rows of n elements, `row_bytes` apart, to the panel form that
 * rs_panel_kind_of names. What lies in the lanes of rows that are not there is a number, no more is said of
 * it. */
typedef void rs_unpack_kernel(const void *blocks, size_t row_bytes, size_t rows, size_t n,
                              const rs_panel *panel);

/* Sixteen neighbouring weight rows against one activation row, without a panel in between: the bits that
 * unpack and multiply would give. MAY prefetch what follows the rows in memory. */
typedef void rs_multiply_blocks_kernel(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                                       float *out);

/* `rows` rows of n floats (n a multiple of 32) to rs_acts form: scale = max |x| / 127 over a block,
 * q = round to nearest of x / scale; a block of zeros, or with a maximum below 2^-119, has scale and q 0.
 * Where one is not finite, neither is its block's scale. */
typedef void rs_quantize_acts_kernel(const float *x, rs_acts *acts, size_t rows, size_t n);

/* out[r * out_stride + c] = sum_i w[c][i] * x[r][i] for r < rows and c < channels (1 to 16). n a multiple
 * of 32. Each output depends on its own rows only, in an order that does not depend on `rows`. */
typedef void rs_multiply_kernel(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                                size_t out_stride, size_t channels);

/* A panel to its channel panel. The step of a channel's group is the largest magnitude that its scales
 * and minima allow, / 127: of max(|min|, |min + scale * (largest integer of the kind)|) in the kinds with
 * a minimum, of |128 * scale| in RS_PANEL_S8; below 2^-119, scale and q are 0. q is found in 16-bit fixed
 * point, to within a twelfth of a step: as in kernels/ref/channels.c to the bit. A scale or minimum that
 * is not finite gives a channel scale that is not. n a multiple of 32. */
typedef void rs_requantize_kernel(const rs_panel *panel, size_t n, const rs_channel_panel *channels);

/* `rows` rows of n floats (n a multiple of 32) to two terms: scale = max |x| / 127 over the row,
 * y = x * (127 / max), high = round to nearest of y, low = round to nearest of 254 * (y - high). A row
 * with a maximum below 2^-119 has scale, high and low 0. Where one is not finite, neither is its row's
 * scale. */
typedef void rs_quantize_terms_kernel(const float *x, const rs_two_terms *terms, size_t rows, size_t n);

/* out[r * out_stride + c] = sum_i w[c][i] * x[r][i] for r < rows and c < channels (1 to RS_CHANNELS_MAX),
 * `panels` being as many as there are sixteens of channels, begun ones included. n a multiple of 32. Over
 * a group the sums of both terms are exact; acc = (high + low * (1 / 254)) * scale of w + acc, group by
 * group from 0, with high and low rounded to float and both additions fused; out = scale of x * acc. */
typedef void rs_multiply_channels_kernel(const rs_channel_panel *panels, const rs_two_terms *terms,
                                         size_t rows, size_t n, float *out, size_t out_stride,
                                         size_t channels);

/* out[r * out_stride] = sum_i w[i] * x[r][i] for r < rows: one row of float weights against float
 * activations, any n. As above, an output does not depend on `rows`. */
typedef void rs_dot_f32_kernel(const float *w, const float *x, size_t rows, size_t n, float *out,
                               size_t out_stride);

/* out[i] = x[i] * w[i] / sqrt(mean(x^2) + eps); out may be x (Zhang & Sennrich, arXiv 1910.07467). */
typedef void rs_rms_norm_kernel(const float *x, const float *w, float eps, size_t n, float *out);

/* Rotates one head vector in place by cos/sin [dim / 2]; elements past dim stay. Pairs (2i, 2i + 1)
 * when `interleaved`, else (i, i + dim / 2) (RoPE, arXiv 2104.09864, section 3.2.2). */
typedef void rs_rope_kernel(float *x, const float *cosine, const float *sine, size_t dim, int interleaved);

/* Rotates keys of a page in place as rope does, those of the entries whose bits of `which` are set, and
 * gives each a new scale: y = rotated int8 values, k_scale *= m / t, k = round to nearest of y * (t / m);
 * a key of zeros stays one, with scale 0. With m = max |y|, t = 127; or, where `room`, m the largest
 * length of a pair (or |y| past dim) and t = RS_TURN_RADIUS, so that turn_keys may take it from there. Of
 * other entries no byte changes. cos/sin [dim / 2], dim at most head_dim. */
typedef void rs_rotate_keys_kernel(const rs_page_view *page, uint32_t which, const float *cosine,
                                   const float *sine, size_t head_dim, size_t dim, int interleaved, int room);

/* Takes back a turn of such keys, to the bit, and turns them anew, in place and with scales as they are:
 * however often a key is turned, it is rounded once. A turn of a pair is quarter turns and then three
 * shears in integers: x -= tangent * y, y += sine * x, x -= tangent * y, products to nearest. Where keys
 * had no room for it, values stop at -127 and 127. `back` NULL: nothing is to be taken back. */
typedef void rs_turn_keys_kernel(const rs_page_view *page, uint32_t which, const rs_turn *back,
                                 const rs_turn *turn, size_t head_dim, size_t dim, int interleaved);

/* gate[i] = f(gate[i]) * up[i] (Shazeer, arXiv 2002.05202): f is silu in swiglu, the tanh form of gelu in
 * geglu. */
typedef void rs_glu_kernel(float *gate, const float *up, size_t n);

/* x[i] += y[i] */
typedef void rs_add_kernel(float *x, const float *y, size_t n);

/* The index of the largest of n floats (n above 0), the first of equals; n when one of them is not
 * finite. */
typedef size_t rs_largest_kernel(const float *x, size_t n);

/* n floats (a multiple of 16) to int8 with one scale, as quantize_acts does a block; returns the scale. */
typedef float rs_quantize_head_kernel(const float *x, int8_t *q, size_t n);

/* score[r * score_stride + 16 p + e] = q_scale[r] * k_scale[p][e] * <q[r], k[p][e]> for r < rows,
 * p < n_pages (at most RS_ATTEND_PAGES), e < 16. q: rows of head_dim int8 in [-127, 127]. A page whose
 * view has no `k` is passed over: its scores stay. */
typedef void rs_attend_keys_kernel(const int8_t *q, const float *q_scale, size_t rows,
                                   const rs_page_view *pages, size_t n_pages, size_t head_dim, float *score,
                                   size_t score_stride);

/* Softmax step over n scores: entries -INFINITY are invisible. *max is the running maximum (start
 * -INFINITY) and *sum the running sum. Scores become exp(score - new max), invisible ones exactly 0.
 * Returns the factor exp(old max - new max) that earlier accumulations are to be multiplied with (1 when
 * the maximum stays, so that an invisible block changes nothing to the bit; 0 at the first visible
 * block). Where a score is no number, it stays none and *sum becomes none; *max is then anything but
 * -INFINITY. */
typedef float rs_softmax_step_kernel(float *score, size_t n, float *max, float *sum);

/* acc[r][d] = acc[r][d] * factor[r] + sum_{p, e} w[r][p][e] * v[p][e][d] for r < rows, where
 * w[r][p][e] = prob[r * stride + 16 p + e] * v_scale[p][e], rounded to the nearest multiple of the row's
 * largest w / 16,383 (so that values meet weights in integers of two times seven bits). prob in [0, 1].
 * A page whose view has no `v` is passed over. A row whose weights are all below 2^-100 adds nothing; one
 * with a weight that is no number leaves none in acc. acc: rows of head_dim floats. A row's sums do not
 * depend on the others. */
typedef void rs_attend_values_kernel(const float *prob, size_t stride, const float *factor, size_t rows,
                                     const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc);

typedef struct rs_kernels {
    rs_isa isa;

    /* A level that is given only to who names it: RS_ISA_AUTO passes it over, without so much as looking
     * whether the CPU has it. */
    bool on_request;

    rs_dequantize_kernel *const *dequantize; /* [RS_TYPE_COUNT], all types */
    rs_unpack_kernel *const *unpack;         /* [RS_TYPE_COUNT], quantised types; NULL for the others */

    rs_quantize_acts_kernel *quantize_acts;
    rs_multiply_kernel *multiply[RS_PANEL_KINDS];
    rs_multiply_blocks_kernel *multiply_blocks[RS_TYPE_COUNT]; /* NULL: unpack and multiply do */
    rs_dot_f32_kernel *dot_f32;

    /* Whether products of several rows are to go through the three below instead of `multiply`: then none is
     * NULL. Their results differ from its within the accuracy of int8 weights with one scale per 256. */
    bool by_channels;
    rs_requantize_kernel *requantize[RS_PANEL_KINDS];
    rs_quantize_terms_kernel *quantize_terms;
    rs_multiply_channels_kernel *multiply_channels;

    rs_rms_norm_kernel *rms_norm;
    rs_rope_kernel *rope;
    rs_rotate_keys_kernel *rotate_keys;
    rs_turn_keys_kernel *turn_keys;
    rs_glu_kernel *swiglu;
    rs_glu_kernel *geglu;
    rs_add_kernel *add;
    rs_largest_kernel *largest;

    rs_quantize_head_kernel *quantize_head;
    rs_attend_keys_kernel *attend_keys;
    rs_softmax_step_kernel *softmax_step;
    rs_attend_values_kernel *attend_values;
} rs_kernels;

/*
 * The table for the highest ISA that the CPU has and that is not above `limit` (RS_ISA_AUTO: no limit, but
 * for levels that are given on request only). Before other threads start. RS_UNSUPPORTED when the CPU lacks
 * the level that `limit` names or it is of another architecture.
 */
rs_status rs_kernels_select(rs_isa limit, const rs_kernels **kernels, rs_error *error);

/* IEEE binary16 to float, exact. */
float rs_f16_to_f32(uint16_t half);

/* And back: the nearest, ties to even; from 65,520 on infinity. */
uint16_t rs_f32_to_f16(float value);

#endif
