/* Splits the rows of a weight matrix over threads; each row is unpacked once and multiplied with every
 * activation row. */
#include "runtime/linear.h"

#include <pthreadpool.h>

#include "runtime/status.h"

/* Weight rows that one task takes: neighbouring rows write neighbouring outputs, so a tile fills whole cache
 * lines. */
enum { TILE = 16 };

void rs_linear_layout(rs_linear_work *work, rs_arena *arena, uint32_t threads, uint32_t max_rows,
                      uint32_t max_in, bool packed) {
    static const char name[] = "linear scratch";
    const size_t groups = max_in / RS_ROW_GROUP, cells = (size_t)max_rows * max_in;
    work->rows = rs_arena_take(arena, "context", threads, sizeof *work->rows);
    work->float_rows = rs_arena_take(arena, "context", threads, sizeof *work->float_rows);
    for (uint32_t t = 0; t < threads; t++) {
        rs_row row = {.has_min = 0};
        row.q = rs_arena_take_scratch(arena, name, max_in, sizeof *row.q);
        row.scale = rs_arena_take_scratch(arena, name, groups, sizeof *row.scale);
        row.min = rs_arena_take_scratch(arena, name, groups, sizeof *row.min);
        float *values = rs_arena_take_scratch(arena, name, max_in, sizeof *values);
        if (arena->base == NULL) continue;
        work->rows[t] = row;
        work->float_rows[t] = values;
    }
    work->acts.q = rs_arena_take_scratch(arena, name, cells, sizeof *work->acts.q);
    work->acts.scale = rs_arena_take_scratch(arena, name, cells / RS_ACT_BLOCK, sizeof *work->acts.scale);
    work->acts.sum = rs_arena_take_scratch(arena, name, cells / RS_ROW_GROUP, sizeof *work->acts.sum);
    work->packed_scratch = NULL;
#if RASURE_HAVE_XNNPACK
    if (packed)
        work->packed_scratch = rs_arena_take_scratch(arena, name, rs_batched_scratch(max_rows, max_in), 1);
#else
    (void)packed;
#endif
}

typedef struct input_task {
    const rs_linear_work *work;
    const float *x;
    uint32_t n_in;
} input_task;

static void quantize_row(void *argument, size_t row) {
    const input_task *task = argument;
    const size_t at = row * task->n_in;
    rs_acts acts = {task->work->acts.q + at, task->work->acts.scale + at / RS_ACT_BLOCK,
                    task->work->acts.sum + at / RS_ROW_GROUP};
    task->work->kernels->quantize_acts(task->x + at, &acts, 1, task->n_in);
}

void rs_linear_input(const rs_linear_work *work, const float *x, uint32_t rows, uint32_t n_in) {
    if (n_in % RS_ACT_BLOCK != 0) return; /* only float weights have such rows */
    input_task task = {work, x, n_in};
    pthreadpool_parallelize_1d(rows > 1 ? work->pool : NULL, quantize_row, &task, rows, 0);
}

typedef struct run_task {
    const rs_linear_work *work;
    const rs_product *products;
    const float *x;
    uint32_t rows;
} run_task;

static size_t tiles_of(const rs_matrix *matrix) {
    return (matrix->n_out + TILE - 1) / TILE;
}

static void multiply_tile(void *argument, size_t thread, size_t tile) {
    const run_task *task = argument;
    const rs_product *product = task->products;
    for (; tile >= tiles_of(product->matrix); product++) tile -= tiles_of(product->matrix);
    const rs_matrix *matrix = product->matrix;
    const rs_kernels *kernels = task->work->kernels;
    const size_t n_in = matrix->n_in, n_out = matrix->n_out;
    const size_t row_bytes = rs_row_bytes(matrix->type, n_in);
    const size_t begin = tile * TILE, end = begin + TILE < n_out ? begin + TILE : n_out;
    for (size_t r = begin; r < end; r++) {
        const unsigned char *source = matrix->data + r * row_bytes;
        if (rs_type_is_quantized(matrix->type)) {
            rs_row *row = &task->work->rows[thread];
            kernels->unpack[matrix->type](source, row, n_in);
            kernels->dot_acts(row, &task->work->acts, task->rows, n_in, product->out + r, n_out);
        } else {
            float *row = task->work->float_rows[thread];
            kernels->dequantize[matrix->type](source, row, n_in);
            kernels->dot_f32(row, task->x, task->rows, n_in, product->out + r, n_out);
        }
    }
}

rs_status rs_linear_run(const rs_linear_work *work, const float *x, uint32_t rows, const rs_product *products,
                        uint32_t n_products, rs_error *error) {
#if RASURE_HAVE_XNNPACK
    if (products[0].matrix->packed != NULL && rows > 1) {
        for (uint32_t i = 0; i < n_products; i++) {
            RS_TRY(rs_batched_run(products[i].matrix->packed, work->pool, x, rows, products[i].out,
                                  work->packed_scratch, error));
        }
        return RS_OK;
    }
#else
    (void)error;
#endif
    run_task task = {work, products, x, rows};
    size_t tiles = 0;
    for (uint32_t i = 0; i < n_products; i++) tiles += tiles_of(products[i].matrix);
    pthreadpool_parallelize_1d_with_thread(work->pool, multiply_tile, &task, tiles, 0);
    return RS_OK;
}
