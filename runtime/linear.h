/* Linear layers: activations times a weight matrix as it lies in the file, natively or through XNNPACK. */
#ifndef RASURE_RUNTIME_LINEAR_H
#define RASURE_RUNTIME_LINEAR_H

#include "kernels/kernels.h"
#include "kernels/xnnpack/batched.h"
#include "runtime/arena.h"
#include "runtime/team.h"

typedef struct rs_matrix {
    rs_type type;
    const unsigned char *data; /* n_out rows of n_in */
    uint32_t n_out, n_in;
    struct rs_batched *packed; /* XNNPACK's copy; NULL: native only */
} rs_matrix;

/* What linear layers of one context work in. */
typedef struct rs_linear_work {
    const rs_kernels *kernels;
    rs_team *team;
    rs_panel *panels;           /* one per thread: weight rows taken out of their blocks */
    rs_channel_panel *channels; /* two per thread, where kernels go by channels: those of two panels */
    float **float_rows;         /* one per thread: a row of float weights */
    float **sums;               /* one per thread: [max_rows][RS_CHANNELS_MAX], of products that are added */
    rs_acts acts;               /* the quantised input */
    rs_two_terms terms;         /* the same for kernels that go by channels, of several rows */
    void *packed_scratch;       /* for XNNPACK; NULL when the model has none */
} rs_linear_work;

/* Room for `max_rows` rows of up to `max_in` inputs (a multiple of 32), `threads` threads. */
void rs_linear_layout(rs_linear_work *work, rs_arena *arena, const rs_kernels *kernels, uint32_t threads,
                      uint32_t max_rows, uint32_t max_in, bool packed);

/* Quantises row `row` of an input of `rows` rows, x [n_in], for the native linear layers that follow. Rows
 * may be given by different threads. */
void rs_linear_input(const rs_linear_work *work, const float *x, size_t row, uint32_t rows, uint32_t n_in);

/* One product of an input: out[rows][n_out] = x[rows][n_in] * matrix^T, or is added to what is there. */
typedef struct rs_product {
    const rs_matrix *matrix;
    float *out;
    bool add; /* MUST be false where the matrix is packed */
} rs_product;

/*
 * All products of one input in one step, those whose matrices are packed before the others. x MUST be what
 * rs_linear_input saw, row by row, unless the matrices hold floats. Fails only inside XNNPACK.
 */
rs_status rs_linear_run(const rs_linear_work *work, const float *x, uint32_t rows, const rs_product *products,
                        uint32_t n_products, rs_error *error);

#endif
