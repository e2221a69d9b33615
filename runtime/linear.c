/* Splits a weight matrix over threads, sixteen rows at a time: each is taken out of its blocks once and
 * multiplied with every activation row. */
#include "runtime/linear.h"

#include "runtime/status.h"

/* Bytes of weights that a task of a single activation row takes at least: enough to be worth taking, few
 * enough for a hundred tasks a layer. */
enum { TASK_BYTES = 32768 };

static const char name[] = "linear scratch";

/* Kernels that go by channels take panels in pairs. */
enum { PAIR = RS_CHANNELS_MAX / RS_PANEL_ROWS };

static void layout_channels(rs_linear_work *work, rs_arena *arena, uint32_t threads, uint32_t max_rows,
                            uint32_t max_in) {
    const size_t bytes = rs_term_bytes(max_in), scales = RS_PANEL_ROWS * rs_channel_groups(max_in);
    work->channels = rs_arena_take(arena, "context", (size_t)threads * PAIR, sizeof *work->channels);
    for (uint32_t i = 0; i < threads * PAIR; i++) {
        rs_channel_panel p;
        p.q = rs_arena_take_scratch(arena, name, RS_PANEL_ROWS * bytes, sizeof *p.q);
        p.scale = rs_arena_take_scratch(arena, name, scales, sizeof *p.scale);
        if (arena->base != NULL) work->channels[i] = p;
    }
    work->terms.high = rs_arena_take_scratch(arena, name, max_rows * bytes, sizeof *work->terms.high);
    work->terms.low = rs_arena_take_scratch(arena, name, max_rows * bytes, sizeof *work->terms.low);
    work->terms.scale = rs_arena_take_scratch(arena, name, max_rows, sizeof *work->terms.scale);
}

void rs_linear_layout(rs_linear_work *work, rs_arena *arena, const rs_kernels *kernels, uint32_t threads,
                      uint32_t max_rows, uint32_t max_in, bool packed) {
    /* The narrowest groups of a panel are of sixteen. */
    const size_t panel = (size_t)RS_PANEL_ROWS * max_in, scales = panel / 16;
    /* Of a row: the arena multiplies, as on 32 bits all rows may be too many. */
    const size_t blocks = max_in / RS_ACT_BLOCK;
    work->panels = rs_arena_take(arena, "context", threads, sizeof *work->panels);
    work->float_rows = rs_arena_take(arena, "context", threads, sizeof *work->float_rows);
    work->sums = rs_arena_take(arena, "context", threads, sizeof *work->sums);
    for (uint32_t t = 0; t < threads; t++) {
        rs_panel p = {.next = NULL};
        p.q = rs_arena_take_scratch(arena, name, panel, sizeof *p.q);
        p.scale = rs_arena_take_scratch(arena, name, scales, sizeof *p.scale);
        p.min = rs_arena_take_scratch(arena, name, scales, sizeof *p.min);
        float *values = rs_arena_take_scratch(arena, name, max_in, sizeof *values);
        float *sums = rs_arena_take_scratch(arena, name, (size_t)max_rows * RS_CHANNELS_MAX, sizeof *sums);
        if (arena->base == NULL) continue;
        work->panels[t] = p;
        work->float_rows[t] = values;
        work->sums[t] = sums;
    }
    work->acts.q = rs_arena_take_scratch(arena, name, max_rows, max_in * sizeof *work->acts.q);
    work->acts.scale = rs_arena_take_scratch(arena, name, max_rows, blocks * sizeof *work->acts.scale);
    work->acts.sum = rs_arena_take_scratch(arena, name, max_rows, blocks * sizeof *work->acts.sum);
    work->acts.half_sum =
        rs_arena_take_scratch(arena, name, max_rows, 2 * blocks * sizeof *work->acts.half_sum);
    work->kernels = kernels;
    if (kernels->by_channels) layout_channels(work, arena, threads, max_rows, max_in);
    work->packed_scratch = NULL;
#if RASURE_HAVE_XNNPACK
    if (packed)
        work->packed_scratch = rs_arena_take_scratch(arena, name, rs_batched_scratch(max_rows, max_in), 1);
#else
    (void)packed;
#endif
}

/* Whether a pass of `rows` rows goes by channels. */
static bool by_channels(const rs_linear_work *work, uint32_t rows) {
    return work->kernels->by_channels && rows > 1;
}

void rs_linear_input(const rs_linear_work *work, const float *x, size_t row, uint32_t rows, uint32_t n_in) {
    if (n_in % RS_ACT_BLOCK != 0) return; /* only float weights have such rows */
    if (by_channels(work, rows)) {
        const size_t begin = row * rs_term_bytes(n_in);
        const rs_two_terms terms = {work->terms.high + begin, work->terms.low + begin,
                                    work->terms.scale + row};
        work->kernels->quantize_terms(x, &terms, 1, n_in);
        return;
    }
    const size_t at = row * n_in, block = at / RS_ACT_BLOCK;
    rs_acts acts = {work->acts.q + at, work->acts.scale + block, work->acts.sum + block,
                    work->acts.half_sum + 2 * block};
    work->kernels->quantize_acts(x, &acts, 1, n_in);
}

typedef struct run_task {
    const rs_linear_work *work;
    const rs_product *products;
    const float *x;
    uint32_t rows;
} run_task;

static size_t panels_of(const rs_matrix *matrix) {
    return (matrix->n_out + RS_PANEL_ROWS - 1) / RS_PANEL_ROWS;
}

/* Panels that one task takes. */
static size_t panels_per_task(const run_task *task, const rs_matrix *matrix) {
    const size_t bytes = RS_PANEL_ROWS * rs_row_bytes(matrix->type, matrix->n_in);
    if (task->rows > 1) return by_channels(task->work, task->rows) ? PAIR : 1;
    return bytes < TASK_BYTES ? TASK_BYTES / bytes : 1;
}

static size_t tasks_of(const run_task *task, const rs_matrix *matrix) {
    const size_t panels = panels_of(matrix), at_once = panels_per_task(task, matrix);
    return (panels + at_once - 1) / at_once;
}

/* Where kernels write some channels of a product. */
typedef struct target {
    float *out;
    size_t stride;
} target;

static target target_of(const run_task *task, const rs_product *product, size_t thread, size_t first) {
    if (product->add) return (target){task->work->sums[thread], RS_CHANNELS_MAX};
    return (target){product->out + first, product->matrix->n_out};
}

/* What was written beside the output joins it. */
static void settle(const run_task *task, const rs_product *product, target from, size_t first,
                   size_t channels) {
    if (!product->add) return;
    for (uint32_t r = 0; r < task->rows; r++) {
        float *out = product->out + r * (size_t)product->matrix->n_out + first;
        for (size_t c = 0; c < channels; c++) out[c] += from.out[r * from.stride + c];
    }
}

/* Panels [begin, end), at most two, by channels. */
static void multiply_pair(const run_task *task, const rs_product *product, size_t thread, size_t begin,
                          size_t end) {
    const rs_matrix *matrix = product->matrix;
    const rs_linear_work *work = task->work;
    const rs_kernels *kernels = work->kernels;
    const size_t n_in = matrix->n_in, n_out = matrix->n_out, first = begin * RS_PANEL_ROWS;
    const size_t row_bytes = rs_row_bytes(matrix->type, n_in);
    const rs_channel_panel *channels = work->channels + thread * PAIR;
    for (size_t p = begin; p < end; p++) {
        const size_t left = n_out - p * RS_PANEL_ROWS, rows = left < RS_PANEL_ROWS ? left : RS_PANEL_ROWS;
        kernels->unpack[matrix->type](matrix->data + p * RS_PANEL_ROWS * row_bytes, row_bytes, rows, n_in,
                                      &work->panels[thread]);
        kernels->requantize[rs_panel_kind_of(matrix->type)](&work->panels[thread], n_in,
                                                            &channels[p - begin]);
    }
    const size_t left = n_out - first, all = (end - begin) * RS_PANEL_ROWS;
    const target to = target_of(task, product, thread, first);
    kernels->multiply_channels(channels, &work->terms, task->rows, n_in, to.out, to.stride,
                               left < all ? left : all);
    settle(task, product, to, first, left < all ? left : all);
}

static void multiply_panel(const run_task *task, const rs_product *product, size_t thread, size_t panel) {
    const rs_matrix *matrix = product->matrix;
    const rs_linear_work *work = task->work;
    const rs_kernels *kernels = work->kernels;
    const size_t n_in = matrix->n_in, n_out = matrix->n_out, begin = panel * RS_PANEL_ROWS;
    const size_t row_bytes = rs_row_bytes(matrix->type, n_in);
    const size_t channels = n_out - begin < RS_PANEL_ROWS ? n_out - begin : RS_PANEL_ROWS;
    const unsigned char *source = matrix->data + begin * row_bytes;
    const target to = target_of(task, product, thread, begin);
    if (task->rows == 1 && channels == RS_PANEL_ROWS && kernels->multiply_blocks[matrix->type] != NULL) {
        kernels->multiply_blocks[matrix->type](source, row_bytes, n_in, &work->acts, to.out);
    } else if (rs_type_is_quantized(matrix->type)) {
        rs_panel p = work->panels[thread];
        if (n_out - begin > RS_PANEL_ROWS) { /* a thread's panels mostly follow each other */
            const size_t rest = n_out - begin - RS_PANEL_ROWS;
            p.next = source + RS_PANEL_ROWS * row_bytes;
            p.next_bytes = (rest < RS_PANEL_ROWS ? rest : RS_PANEL_ROWS) * row_bytes;
        }
        kernels->unpack[matrix->type](source, row_bytes, channels, n_in, &p);
        kernels->multiply[rs_panel_kind_of(matrix->type)](&p, &work->acts, task->rows, n_in, to.out,
                                                          to.stride, channels);
    } else {
        float *row = work->float_rows[thread];
        for (size_t c = 0; c < channels; c++) {
            kernels->dequantize[matrix->type](source + c * row_bytes, row, n_in);
            kernels->dot_f32(row, task->x, task->rows, n_in, to.out + c, to.stride);
        }
    }
    settle(task, product, to, begin, channels);
}

static void multiply_panels(void *argument, size_t thread, size_t index) {
    const run_task *task = argument;
    const rs_product *product = task->products;
    for (; index >= tasks_of(task, product->matrix); product++) index -= tasks_of(task, product->matrix);
    const rs_matrix *matrix = product->matrix;
    const size_t panels = panels_of(matrix), at_once = panels_per_task(task, matrix), begin = index * at_once;
    const size_t end = begin + at_once < panels ? begin + at_once : panels;
    if (rs_type_is_quantized(matrix->type) && by_channels(task->work, task->rows)) {
        multiply_pair(task, product, thread, begin, end);
        return;
    }
    for (size_t p = begin; p < end; p++) multiply_panel(task, product, thread, p);
}

rs_status rs_linear_run(const rs_linear_work *work, const float *x, uint32_t rows, const rs_product *products,
                        uint32_t n_products, rs_error *error) {
#if RASURE_HAVE_XNNPACK
    for (; rows > 1 && n_products > 0 && products->matrix->packed != NULL; products++, n_products--) {
        RS_TRY(rs_batched_run(products->matrix->packed, work->team->pool, x, rows, products->out,
                              work->packed_scratch, error));
    }
#else
    (void)error;
#endif
    run_task task = {work, products, x, rows};
    size_t tasks = 0;
    for (uint32_t i = 0; i < n_products; i++) tasks += tasks_of(&task, products[i].matrix);
    rs_team_run(work->team, multiply_panels, &task, tasks);
    return RS_OK;
}
