/* XNNPACK's qd8_f32_qc8w operator as a packed matrix. */
#include "kernels/xnnpack/batched.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include <xnnpack.h>

#include "runtime/checked.h"
#include "runtime/status.h"

/*
 * XNNPACK reads quantisation parameters past the last row: a whole tile of them, which in the versions that
 * rasure builds with is more than the XNN_EXTRA_QUANTIZATION_PARAMS that its header asks for
 * (google/XNNPACK@0b4168b6b1). Its tallest tile has 16 rows.
 */
enum { PARAM_PADDING = 32, SCRATCH_ALIGNMENT = 64 };
_Static_assert(PARAM_PADDING >= XNN_EXTRA_QUANTIZATION_PARAMS, "the padding holds what XNNPACK reads");

struct rs_batched {
    pthread_mutex_t mutex; /* an operator holds the state of its call */
    xnn_operator_t convert, multiply;
    size_t n_in;
};

static rs_status fail(rs_error *error, const char *what, enum xnn_status status) {
    const rs_status kind = status == xnn_status_out_of_memory ? RS_NO_MEMORY : RS_UNSUPPORTED;
    return rs_fail(error, kind, "XNNPACK failed to %s, with its status %d", what, (int)status);
}

/* The transient form of the weights that packing reads. */
typedef struct source {
    int8_t *q;
    float *scale;
    float *row;
} source;

static void free_source(source *s) {
    free(s->q);
    free(s->scale);
    free(s->row);
}

static rs_status alloc_source(source *s, size_t n_out, size_t n_in, rs_error *error) {
    size_t weights, q_bytes, scale_bytes, row_bytes;
    if (rs_mul_size(n_out, n_in, &weights) && rs_add_size(weights, XNN_EXTRA_BYTES, &q_bytes) &&
        rs_mul_size(n_out, sizeof(float), &scale_bytes) &&
        rs_add_size(scale_bytes, XNN_EXTRA_BYTES, &scale_bytes) &&
        rs_mul_size(n_in, sizeof(float), &row_bytes)) {
        *s = (source){malloc(q_bytes), malloc(scale_bytes), malloc(row_bytes)};
        if (s->q != NULL && s->scale != NULL && s->row != NULL) return RS_OK;
        free_source(s);
    }
    return rs_fail(error, RS_NO_MEMORY, "no memory to re-quantise a matrix of %zu x %zu for XNNPACK", n_out,
                   n_in);
}

static rs_status requantize(const rs_kernels *kernels, rs_type type, const void *weights, size_t n_out,
                            size_t n_in, const source *s, rs_error *error) {
    const size_t row_bytes = rs_row_bytes(type, n_in);
    for (size_t r = 0; r < n_out; r++) {
        kernels->dequantize[type]((const unsigned char *)weights + r * row_bytes, s->row, n_in);
        int finite = 1;
        for (size_t i = 0; i < n_in; i++) finite &= isfinite(s->row[i]) != 0;
        if (!finite) {
            return rs_fail(error, RS_BAD_FILE, "row %zu of the matrix has a weight that is not finite", r);
        }
        const float scale = kernels->quantize_head(s->row, s->q + r * n_in, n_in);
        /* Some of XNNPACK's operators refuse a scale of 0; for a row of zeros any will do. */
        s->scale[r] = scale == 0.0f ? 1.0f : scale;
    }
    return RS_OK;
}

static rs_status create_operators(rs_batched *m, const source *s, size_t n_out, size_t n_in,
                                  rs_error *error) {
    enum xnn_status status = xnn_create_convert_nc_f32_qd8(0, &m->convert);
    if (status != xnn_status_success) return fail(error, "create the conversion of activations", status);
    status = xnn_create_fully_connected_nc_qd8_f32_qc8w(n_in, n_out, n_in, n_out, s->scale, s->q, NULL,
                                                        -INFINITY, INFINITY, 0, NULL, NULL, &m->multiply);
    if (status != xnn_status_success) return fail(error, "pack a matrix", status);
    return RS_OK;
}

rs_status rs_batched_create(const rs_kernels *kernels, rs_type type, const void *weights, size_t n_out,
                            size_t n_in, rs_batched **matrix, size_t *packed_bytes, rs_error *error) {
    *matrix = NULL;
    if (n_out == 0 || n_in == 0 || n_in % RS_ACT_BLOCK != 0) {
        return rs_fail(error, RS_UNSUPPORTED,
                       "XNNPACK is given matrices with rows of a multiple of %d, not %zu x %zu", RS_ACT_BLOCK,
                       n_out, n_in);
    }
    const enum xnn_status status = xnn_initialize(NULL);
    if (status != xnn_status_success) return fail(error, "initialise", status);

    source s = {0};
    RS_TRY(alloc_source(&s, n_out, n_in, error));
    rs_batched *m = calloc(1, sizeof *m);
    if (m == NULL || pthread_mutex_init(&m->mutex, NULL) != 0) {
        free(m);
        free_source(&s);
        return rs_fail(error, RS_NO_MEMORY, "no memory for a packed matrix");
    }
    m->n_in = n_in;
    rs_status result = requantize(kernels, type, weights, n_out, n_in, &s, error);
    if (result == RS_OK) result = create_operators(m, &s, n_out, n_in, error);
    free_source(&s);
    if (result != RS_OK) {
        rs_batched_free(m);
        return result;
    }
    /* A sum, a scale and a bias for each output beside its weights; cannot overflow, as the operator has them
     * in memory. */
    *packed_bytes = n_out * (n_in + sizeof(int32_t) + 2 * sizeof(float));
    *matrix = m;
    return RS_OK;
}

void rs_batched_free(rs_batched *matrix) {
    if (matrix == NULL) return;
    xnn_delete_operator(matrix->convert); /* NULL is refused without harm */
    xnn_delete_operator(matrix->multiply);
    pthread_mutex_destroy(&matrix->mutex);
    free(matrix);
}

/* Where the parameters begin in scratch, after the int8 rows. */
static bool params_offset(size_t rows, size_t n_in, size_t *offset) {
    return rs_mul_size(rows, n_in, offset) && rs_add_size(*offset, XNN_EXTRA_BYTES, offset) &&
           rs_round_up_size(*offset, SCRATCH_ALIGNMENT, offset);
}

size_t rs_batched_scratch(size_t rows, size_t n_in) {
    size_t offset, params, bytes;
    if (!params_offset(rows, n_in, &offset) || !rs_add_size(rows, PARAM_PADDING, &params) ||
        !rs_mul_size(params, sizeof(struct xnn_quantization_params), &params) ||
        !rs_add_size(offset, params, &bytes)) {
        return SIZE_MAX;
    }
    return bytes;
}

static rs_status run(rs_batched *m, pthreadpool_t pool, const float *x, size_t rows, float *out, int8_t *q,
                     struct xnn_quantization_params *params, rs_error *error) {
    const size_t n_in = m->n_in;
    enum xnn_status status = xnn_reshape_convert_nc_f32_qd8(m->convert, rows, n_in, n_in, n_in, pool);
    if (status == xnn_status_success) status = xnn_setup_convert_nc_f32_qd8(m->convert, x, q, params);
    if (status == xnn_status_success) status = xnn_run_operator(m->convert, pool);
    if (status != xnn_status_success) return fail(error, "convert activations", status);

    for (size_t i = 0; i < PARAM_PADDING; i++) params[rows + i] = params[rows - 1];

    status = xnn_reshape_fully_connected_nc_qd8_f32_qc8w(m->multiply, rows, pool);
    if (status == xnn_status_success) {
        status = xnn_setup_fully_connected_nc_qd8_f32_qc8w(m->multiply, q, out, params);
    }
    if (status == xnn_status_success) status = xnn_run_operator(m->multiply, pool);
    if (status != xnn_status_success) return fail(error, "multiply", status);
    return RS_OK;
}

rs_status rs_batched_run(rs_batched *matrix, struct pthreadpool *pool, const float *x, size_t rows,
                         float *out, void *scratch, rs_error *error) {
    size_t offset;
    if (rows == 0 || !params_offset(rows, matrix->n_in, &offset)) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "a batch of %zu rows", rows);
    }
    struct xnn_quantization_params *params = (void *)((unsigned char *)scratch + offset);
    pthread_mutex_lock(&matrix->mutex);
    const rs_status status = run(matrix, pool, x, rows, out, scratch, params, error);
    pthread_mutex_unlock(&matrix->mutex);
    return status;
}
