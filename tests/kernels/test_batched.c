/*
 * The XNNPACK seam: its product against double arithmetic on the same int8 weights, for every batch that
 * leaves a part of a tile; buffers of exactly the contract's size; what it allocates, when, and what happens
 * when it may not.
 */
#define _DEFAULT_SOURCE /* posix_memalign */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthreadpool.h>

#include "kernels/xnnpack/batched.h"
#include "tests/kernels/guard.h"

#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif

/*
 * Allocation in this program goes through the functions below, which count, and fail on demand. Only with
 * glibc, whose allocator has other names too, and not under a sanitizer, which wants it for itself.
 */
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) &&                 \
    !HAS_FEATURE(address_sanitizer) && !HAS_FEATURE(thread_sanitizer) && !HAS_FEATURE(memory_sanitizer)
#define COUNTS_ALLOCATIONS 1
#else
#define COUNTS_ALLOCATIONS 0
#endif

#if COUNTS_ALLOCATIONS
#include <malloc.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *memory);

static atomic_size_t allocations, live_bytes;
static atomic_long left_until_failure = -1; /* below 0: none */

static bool may_allocate(void) {
    allocations++;
    if (left_until_failure < 0) return true;
    if (left_until_failure == 0) return false;
    left_until_failure--;
    return true;
}

static void *counted(void *memory) {
    if (memory != NULL) live_bytes += malloc_usable_size(memory);
    return memory;
}

void *malloc(size_t bytes) {
    return may_allocate() ? counted(__libc_malloc(bytes)) : NULL;
}

void *calloc(size_t count, size_t bytes) {
    return may_allocate() ? counted(__libc_calloc(count, bytes)) : NULL;
}

void *realloc(void *memory, size_t bytes) {
    if (!may_allocate()) return NULL;
    if (memory != NULL) live_bytes -= malloc_usable_size(memory);
    return counted(__libc_realloc(memory, bytes));
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    return may_allocate() ? counted(__libc_memalign(alignment, bytes)) : NULL;
}

int posix_memalign(void **memory, size_t alignment, size_t bytes) {
    void *result = aligned_alloc(alignment, bytes);
    if (result == NULL) return ENOMEM;
    *memory = result;
    return 0;
}

void free(void *memory) {
    if (memory != NULL) live_bytes -= malloc_usable_size(memory);
    __libc_free(memory);
}
#endif

/* Numerical Recipes' 32-bit generator; the high bits are good enough here. Evenly in [-1, 1). */
static float random_float(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return (float)((double)*seed * 0x1p-31 - 1.0);
}

static const rs_kernels *select_kernels(void) {
    const rs_kernels *kernels = NULL;
    assert_int_equal(rs_kernels_select(RS_ISA_AUTO, &kernels, NULL), RS_OK);
    return kernels;
}

/* A matrix with a row of zeros, and what packing makes of it. */
typedef struct fixture {
    const rs_kernels *kernels;
    rs_type type;
    size_t n_out, n_in;
    void *blocks;
    double *weights;    /* requantised, as doubles */
    double *sum, *norm; /* of a row: of magnitudes, of squares */
    rs_batched *matrix;
    size_t packed_bytes;
} fixture;

enum { ZERO_ROW = 5 };

static void *random_blocks(rs_type type, size_t n_out, size_t n_in, uint32_t *seed) {
    const size_t row_bytes = rs_row_bytes(type, n_in);
    unsigned char *blocks = calloc(n_out, row_bytes);
    assert_non_null(blocks);
    for (size_t r = 0; r < n_out; r++) {
        if (r == ZERO_ROW) continue;
        for (size_t i = 0; type == RS_TYPE_F32 && i < n_in; i++) {
            const float value = random_float(seed) * (float)(1 + r % 7);
            memcpy(blocks + r * row_bytes + i * sizeof value, &value, sizeof value);
        }
        for (size_t i = 0; type == RS_TYPE_Q4_1 && i < row_bytes; i++) {
            /* Scale and minimum of each block are f16 with an exponent about 1. */
            unsigned char byte = (unsigned char)(128 * (random_float(seed) + 1));
            if (i % 20 == 1) byte = (unsigned char)(0x30 | (byte & 0x87));
            if (i % 20 == 3) byte = (unsigned char)(0x38 | (byte & 0x87));
            blocks[r * row_bytes + i] = byte;
        }
    }
    return blocks;
}

static fixture make_fixture(rs_type type, size_t n_out, size_t n_in, uint32_t seed) {
    fixture f = {.kernels = select_kernels(), .type = type, .n_out = n_out, .n_in = n_in};
    f.blocks = random_blocks(type, n_out, n_in, &seed);
    f.weights = malloc(n_out * n_in * sizeof *f.weights);
    f.sum = calloc(n_out, sizeof *f.sum);
    f.norm = calloc(n_out, sizeof *f.norm);
    float *row = malloc(n_in * sizeof *row);
    assert_true(f.weights != NULL && f.sum != NULL && f.norm != NULL && row != NULL);
    for (size_t r = 0; r < n_out; r++) {
        f.kernels->dequantize[type]((unsigned char *)f.blocks + r * rs_row_bytes(type, n_in), row, n_in);
        double max = 0;
        for (size_t i = 0; i < n_in; i++) max = fmax(max, fabs((double)row[i]));
        for (size_t i = 0; i < n_in; i++) {
            const double w = max == 0 ? 0 : nearbyint((double)row[i] * 127 / max) * max / 127;
            f.weights[r * n_in + i] = w;
            f.sum[r] += fabs(w);
            f.norm[r] += w * w;
        }
    }
    free(row);
    rs_error error = {0};
    const rs_status status =
        rs_batched_create(f.kernels, type, f.blocks, n_out, n_in, &f.matrix, &f.packed_bytes, &error);
    if (status != RS_OK) fail_msg("%s", error.message);
    return f;
}

static void free_fixture(fixture *f) {
    rs_batched_free(f->matrix);
    free(f->weights);
    free(f->sum);
    free(f->norm);
    free(f->blocks);
}

/* Scratch is aligned to 64, so it can end at a page only when its size is a multiple. */
static guard alloc_scratch(size_t rows, size_t n_in) {
    const size_t bytes = rs_batched_scratch(rows, n_in);
    return guard_alloc(bytes, bytes % 64 == 0 ? GUARD_AFTER : GUARD_BEFORE);
}

/*
 * Activations are rounded to steps of a 255th of the row's range (with 0 in it): half a step an element, a
 * whole one at the ends, where the zero point's own rounding shows. As errors are as good as independent,
 * their root mean square over all outputs is that of a uniform distribution, step / sqrt(12), times the norm
 * of the weights.
 */
static void check_batch(const fixture *f, pthreadpool_t pool, size_t rows, guard_side side, uint32_t *seed) {
    const size_t n_in = f->n_in, n_out = f->n_out;
    guard x = guard_alloc(rows * n_in * sizeof(float), side),
          out = guard_alloc(rows * n_out * sizeof(float), side);
    guard scratch = alloc_scratch(rows, n_in);
    float *in = x.data, *got = out.data;
    for (size_t i = 0; i < rows * n_in; i++) in[i] = random_float(seed) * (float)(1 + i / n_in % 5);
    rs_error error = {0};
#if COUNTS_ALLOCATIONS
    const size_t allocations_before = allocations;
#endif
    const rs_status status = rs_batched_run(f->matrix, pool, in, rows, got, scratch.data, &error);
#if COUNTS_ALLOCATIONS
    assert_int_equal(allocations, allocations_before);
#endif
    if (status != RS_OK) fail_msg("%s", error.message);

    double squares = 0;
    for (size_t r = 0; r < rows; r++) {
        double low = 0, high = 0;
        for (size_t i = 0; i < n_in; i++) {
            low = fmin(low, (double)in[r * n_in + i]);
            high = fmax(high, (double)in[r * n_in + i]);
        }
        const double step = (high - low) / 255;
        for (size_t o = 0; o < n_out; o++) {
            const double *w = f->weights + o * n_in;
            double want = 0;
            for (size_t i = 0; i < n_in; i++) want += w[i] * (double)in[r * n_in + i];
            const double error_here = (double)got[r * n_out + o] - want;
            if (!(fabs(error_here) <= step * f->sum[o])) {
                fail_msg("row %zu of %zu, output %zu: %g, expected %g within %g", r, rows, o,
                         (double)got[r * n_out + o], want, step * f->sum[o]);
            }
            if (o == ZERO_ROW) {
                assert_true(got[r * n_out + o] == 0.0f);
            } else {
                squares += error_here * error_here / (step * step * f->norm[o] / 12);
            }
        }
    }
    const double relative = sqrt(squares / (double)(rows * (n_out - 1)));
    if (!(relative < 1.4)) fail_msg("%zu rows: errors are %.2f times those of rounding", rows, relative);

    /* A row does not depend on its neighbours. */
    guard alone = guard_alloc(n_out * sizeof(float), side), small = alloc_scratch(1, n_in);
    for (size_t r = 0; r < rows; r++) {
        assert_int_equal(rs_batched_run(f->matrix, NULL, in + r * n_in, 1, alone.data, small.data, NULL),
                         RS_OK);
        for (size_t o = 0; o < n_out; o++) {
            const float a = ((float *)alone.data)[o], b = got[r * n_out + o];
            if (!(fabsf(a - b) <= 1e-5f * fabsf(a) + 1e-5f)) {
                fail_msg("row %zu of %zu, output %zu: %g, alone %g", r, rows, o, (double)b, (double)a);
            }
        }
    }
    guard_free(&x);
    guard_free(&out);
    guard_free(&scratch);
    guard_free(&alone);
    guard_free(&small);
}

static void every_batch_is_right(void **state) {
    (void)state;
    static const struct {
        rs_type type;
        size_t n_out, n_in;
    } shapes[] = {
        {RS_TYPE_F32, 64, 256}, {RS_TYPE_F32, 37, 96}, {RS_TYPE_Q4_1, 72, 576}, {RS_TYPE_F32, 6, 32}};
    pthreadpool_t pool = pthreadpool_create(2);
    assert_non_null(pool);
    uint32_t seed = 1;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        fixture f = make_fixture(shapes[s].type, shapes[s].n_out, shapes[s].n_in, (uint32_t)s);
        for (size_t rows = 1; rows <= 64; rows++) {
            /* The pool's threads spin between calls: a little of it is enough. */
            check_batch(&f, rows % 16 == 3 ? pool : NULL, rows, rows % 2 ? GUARD_AFTER : GUARD_BEFORE, &seed);
        }
        check_batch(&f, pool, 128, GUARD_AFTER, &seed);
        free_fixture(&f);
    }
    pthreadpool_destroy(pool);
}

typedef struct caller {
    const fixture *f;
    const float *x;
    float *out;
    rs_status status;
} caller;

enum { CALLER_ROWS = 7, CALLS = 200 };

static void *call_many(void *argument) {
    caller *c = argument;
    void *scratch = aligned_alloc(64, (rs_batched_scratch(CALLER_ROWS, c->f->n_in) + 63) / 64 * 64);
    c->status = scratch == NULL ? RS_NO_MEMORY : RS_OK;
    for (int i = 0; i < CALLS && c->status == RS_OK; i++) {
        c->status = rs_batched_run(c->f->matrix, NULL, c->x, CALLER_ROWS, c->out, scratch, NULL);
    }
    free(scratch);
    return NULL;
}

static void threads_take_turns(void **state) {
    (void)state;
    fixture f = make_fixture(RS_TYPE_F32, 64, 256, 3);
    float x[4][CALLER_ROWS * 256], out[4][CALLER_ROWS * 64], want[CALLER_ROWS * 64];
    caller callers[4];
    pthread_t threads[4];
    uint32_t seed = 4;
    for (size_t t = 0; t < 4; t++) {
        for (size_t i = 0; i < CALLER_ROWS * 256; i++) x[t][i] = random_float(&seed);
        callers[t] = (caller){&f, x[t], out[t], RS_OK};
        assert_int_equal(pthread_create(&threads[t], NULL, call_many, &callers[t]), 0);
    }
    for (size_t t = 0; t < 4; t++) assert_int_equal(pthread_join(threads[t], NULL), 0);
    guard scratch = alloc_scratch(CALLER_ROWS, 256);
    for (size_t t = 0; t < 4; t++) {
        assert_int_equal(callers[t].status, RS_OK);
        assert_int_equal(rs_batched_run(f.matrix, NULL, x[t], CALLER_ROWS, want, scratch.data, NULL), RS_OK);
        assert_memory_equal(out[t], want, sizeof want);
    }
    guard_free(&scratch);
    free_fixture(&f);
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    const rs_kernels *kernels = select_kernels();
    float weights[2 * 33] = {0};
    rs_batched *matrix = (rs_batched *)weights;
    size_t bytes;
    rs_error error = {0};
    assert_int_equal(rs_batched_create(kernels, RS_TYPE_F32, weights, 2, 33, &matrix, &bytes, &error),
                     RS_UNSUPPORTED);
    assert_null(matrix);
    assert_non_null(strstr(error.message, "33"));
    assert_int_equal(rs_batched_create(kernels, RS_TYPE_F32, weights, 0, 32, &matrix, &bytes, &error),
                     RS_UNSUPPORTED);
    assert_int_equal(
        rs_batched_create(kernels, RS_TYPE_F32, weights, SIZE_MAX / 16, 32, &matrix, &bytes, &error),
        RS_NO_MEMORY);
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        weights[40] = bad[i];
        assert_int_equal(rs_batched_create(kernels, RS_TYPE_F32, weights, 2, 32, &matrix, &bytes, &error),
                         RS_BAD_FILE);
        assert_non_null(strstr(error.message, "row 1"));
        assert_null(matrix);
    }
    rs_batched_free(NULL);

    fixture f = make_fixture(RS_TYPE_F32, 6, 32, 1);
    float x[32] = {0}, out[6];
    assert_int_equal(rs_batched_run(f.matrix, NULL, x, 0, out, x, &error), RS_INVALID_ARGUMENT);
    free_fixture(&f);
    /* 32 rows of parameters past the last: what this CPU's kernels read may be less than others' do. */
    assert_true(rs_batched_scratch(3, 64) >= 3 * 64 + (3 + 32) * 8);
    assert_true(rs_batched_scratch(SIZE_MAX / 64, 64) == SIZE_MAX);
    assert_true(rs_batched_scratch(SIZE_MAX / 8, 1) == SIZE_MAX);
}

#if COUNTS_ALLOCATIONS
static void packing_takes_what_it_says(void **state) {
    (void)state;
    const size_t n_out = 512, n_in = 1024;
    uint32_t seed = 5;
    const rs_kernels *kernels = select_kernels();
    void *blocks = random_blocks(RS_TYPE_F32, n_out, n_in, &seed);
    rs_batched *matrix;
    size_t packed_bytes;
    const size_t before = live_bytes;
    assert_int_equal(
        rs_batched_create(kernels, RS_TYPE_F32, blocks, n_out, n_in, &matrix, &packed_bytes, NULL), RS_OK);
    const size_t taken = live_bytes - before;
    /* The operators themselves are some 4 to 9 KB. */
    if (taken < packed_bytes || taken > packed_bytes + 12288)
        fail_msg("%zu bytes, not %zu", taken, packed_bytes);
    rs_batched_free(matrix);
    assert_int_equal(live_bytes, before);
    free(blocks);
}

static void no_memory_is_said_and_leaks_nothing(void **state) {
    (void)state;
    uint32_t seed = 6;
    const rs_kernels *kernels = select_kernels();
    void *blocks = random_blocks(RS_TYPE_F32, 64, 64, &seed);
    for (long n = 0;; n++) {
        rs_batched *matrix;
        size_t packed_bytes;
        rs_error error = {0};
        const size_t before = live_bytes;
        left_until_failure = n;
        const rs_status status =
            rs_batched_create(kernels, RS_TYPE_F32, blocks, 64, 64, &matrix, &packed_bytes, &error);
        left_until_failure = -1;
        if (status == RS_OK) {
            assert_true(n > 4);
            rs_batched_free(matrix);
            assert_int_equal(live_bytes, before);
            break;
        }
        if (status != RS_NO_MEMORY) fail_msg("allocation %ld: %s", n, error.message);
        assert_null(matrix);
        assert_int_equal(live_bytes, before);
    }
    free(blocks);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_batch_is_right),
        cmocka_unit_test(threads_take_turns),
        cmocka_unit_test(what_cannot_be_is_refused),
#if COUNTS_ALLOCATIONS
        cmocka_unit_test(packing_takes_what_it_says),
        cmocka_unit_test(no_memory_is_said_and_leaks_nothing),
#endif
    };
    return cmocka_run_group_tests_name("batched", tests, NULL, NULL);
}
