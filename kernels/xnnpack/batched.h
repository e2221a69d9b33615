/* The one seam to XNNPACK: a weight matrix packed for its qd8_f32_qc8w operator. No other file sees
 * xnnpack.h. */
#ifndef RASURE_KERNELS_XNNPACK_BATCHED_H
#define RASURE_KERNELS_XNNPACK_BATCHED_H

#include "kernels/kernels.h"

#if RASURE_HAVE_XNNPACK

typedef struct rs_batched rs_batched;

/*
 * Re-quantises n_out rows of n_in weights to int8, one symmetric scale per row, and packs them; the source is
 * not needed afterwards. *packed_bytes: what the packed form takes, but for tile padding. RS_UNSUPPORTED for
 * an n_in that is no multiple of 32, or naming XNNPACK's own status; RS_BAD_FILE for weights that are not
 * finite; RS_NO_MEMORY. *matrix is NULL on failure.
 */
rs_status rs_batched_create(const rs_kernels *kernels, rs_type type, const void *weights, size_t n_out,
                            size_t n_in, rs_batched **matrix, size_t *packed_bytes, rs_error *error);
void rs_batched_free(rs_batched *matrix);

/* Bytes of scratch, aligned to 64, that rs_batched_run needs for up to `rows` rows of n_in; SIZE_MAX if
 * size_t is too small for them. */
size_t rs_batched_scratch(size_t rows, size_t n_in);

/*
 * out[rows][n_out] = x[rows][n_in] * weights^T, rows above 0. Allocates nothing. May be called by several
 * threads: calls on one matrix take turns. `pool` may be NULL.
 */
rs_status rs_batched_run(rs_batched *matrix, struct pthreadpool *pool, const float *x, size_t rows,
                         float *out, void *scratch, rs_error *error);

#endif
#endif
