/*
 * Every kernel of every table that this CPU can run: against plain double arithmetic, and to the bit against
 * the portable table where the contract leaves no freedom. Random and extreme values, all tails, buffers of
 * exactly the contract's size beside inaccessible pages.
 *
 * Tables are chosen one by one; the environment's RASURE_ISA does not matter here. RS_TEST_ISA names a level
 * that the CPU must have, for runs under emulation, which are worth nothing without it.
 */
#define _POSIX_C_SOURCE 200112L /* setenv */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "tests/kernels/guard.h"
#include "tests/kernels/pages.h"
#include "tests/kernels/random.h"
#include "tests/kernels/tables.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Half the distance from 1 to the next float: the relative error of one rounding. */
static const double ROUNDING = 0x1p-24;
/* The absolute error of one rounding near 0. 32-bit Arm's NEON takes denormals for 0: what comes out of
 * smaller numbers may get lost there. */
#if defined(__arm__)
static const double TINY = 0x1p-126;
#else
static const double TINY = 0x1p-149;
#endif
/* What outputs hold before, where they may not be touched. */
static const float SENTINEL = -7.0f;

static const guard_side sides[] = {GUARD_AFTER, GUARD_BEFORE};
static const size_t lengths[] = {32, 64, 96, 256, 576, 1536, 2048};
static const size_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 128};
static const size_t head_dims[] = {16, 32, 64, 80, 128, 256, RS_HEAD_DIM_MAX};

/* ---------------------------------------------------------------------------------------- helpers -- */

typedef struct table_list {
    const rs_kernels *ref;
    const rs_kernels *table[RS_ALL_LEVELS]; /* ref first */
    size_t count;
} table_list;

static int find_tables(void **state) {
    static table_list list;
    bool has_wanted = false;
    const char *wanted = getenv("RS_TEST_ISA");
    if (unsetenv("RASURE_ISA") != 0) return -1;
    list.count = rs_tables_of_cpu(list.table);
    for (size_t t = 0; t < list.count; t++) {
        const char *name = rs_isa_name(list.table[t]->isa);
        print_message("table: %s\n", name);
        has_wanted |= wanted != NULL && strcmp(wanted, name) == 0;
    }
    if (wanted != NULL && !has_wanted) {
        print_error("RS_TEST_ISA=%s: this CPU has no such table\n", wanted);
        return -1;
    }
    list.ref = list.table[0];
    *state = &list;
    return list.count > 0 && list.ref->isa == RS_ISA_REF ? 0 : -1;
}

static void fill_constant(float *x, size_t n, float value) {
    for (size_t i = 0; i < n; i++) x[i] = value;
}

static void fill_floats(float *x, size_t n, float magnitude, uint64_t *seed) {
    for (size_t i = 0; i < n; i++) x[i] = magnitude * random_float(seed);
}

static void check_close(const char *kernel, const rs_kernels *kernels, size_t index, double got, double want,
                        double tolerance) {
    if (fabs(got - want) <= tolerance) return; /* false for NaN */
    fail_msg("%s of %s, element %zu: %.9g, expected %.9g within %.3g", kernel, rs_isa_name(kernels->isa),
             index, got, want, tolerance);
}

static void check_same(const char *kernel, const rs_kernels *kernels, const void *got, const void *want,
                       size_t bytes) {
    if (memcmp(got, want, bytes) == 0) return;
    size_t at = 0;
    while (((const uint8_t *)got)[at] == ((const uint8_t *)want)[at]) at++;
    fail_msg("%s of %s: byte %zu of %zu differs", kernel, rs_isa_name(kernels->isa), at, bytes);
}

typedef struct guarded_panel {
    guard q, scale, min;
    rs_panel panel;
} guarded_panel;

/* Filled with bytes that are NaN in floats. A kind without minima has none to read or write. The sizes being
 * multiples of 64, the arrays are aligned on both sides. */
static guarded_panel alloc_panel(rs_panel_kind kind, size_t n, guard_side side) {
    const size_t scale_bytes = n / rs_panel_group(kind) * RS_PANEL_ROWS * sizeof(float);
    guarded_panel p;
    p.q = guard_alloc(n * RS_PANEL_ROWS, side);
    p.scale = guard_alloc(scale_bytes, side);
    p.min = guard_alloc(kind == RS_PANEL_S8 ? 0 : scale_bytes, side);
    memset(p.q.data, 0xff, p.q.bytes);
    memset(p.scale.data, 0xff, p.scale.bytes);
    if (p.min.bytes != 0) memset(p.min.data, 0xff, p.min.bytes);
    p.panel = (rs_panel){.q = p.q.data, .scale = p.scale.data, .min = p.min.data};
    return p;
}

static void free_panel(guarded_panel *p) {
    guard_free(&p->q);
    guard_free(&p->scale);
    guard_free(&p->min);
}

/* The layout, spelled out: element i of row r. */
static int weight_at(const rs_panel *panel, size_t r, size_t i) {
    return panel->q[(i / 4 * RS_PANEL_ROWS + r) * 4 + i % 4];
}

typedef struct guarded_acts {
    guard q, scale, sum, half_sum;
    rs_acts acts;
} guarded_acts;

static guarded_acts alloc_acts(size_t rows, size_t n, guard_side side) {
    guarded_acts a;
    a.q = guard_alloc(rows * n, side);
    a.scale = guard_alloc(rows * n / RS_ACT_BLOCK * sizeof(float), side);
    a.sum = guard_alloc(rows * n / RS_ACT_BLOCK * sizeof(float), side);
    a.half_sum = guard_alloc(rows * n / 16 * sizeof(float), side);
    a.acts = (rs_acts){a.q.data, a.scale.data, a.sum.data, a.half_sum.data};
    return a;
}

static void free_acts(guarded_acts *a) {
    guard_free(&a->q);
    guard_free(&a->scale);
    guard_free(&a->sum);
    guard_free(&a->half_sum);
}

/* Row r of activation rows of n. */
static rs_acts acts_row(const rs_acts *acts, size_t r, size_t n) {
    return (rs_acts){acts->q + r * n, acts->scale + r * n / RS_ACT_BLOCK, acts->sum + r * n / RS_ACT_BLOCK,
                     acts->half_sum + r * n / 16};
}

/* Integers in [low, high], or only these two, odd scales, and the sums that follow from them. */
static void fill_acts(rs_acts *acts, size_t count, int low, int high, bool ends_only, uint64_t *seed) {
    for (size_t i = 0; i < count; i++)
        acts->q[i] = ends_only ? (int8_t)(next_random(seed) % 2 ? low : high) : random_int8(seed, low, high);
    fill_scales(acts->scale, count / RS_ACT_BLOCK, seed);
    for (size_t b = 0; b < count / RS_ACT_BLOCK; b++) {
        int half[2] = {0, 0};
        for (size_t i = 0; i < RS_ACT_BLOCK; i++) half[i / 16] += acts->q[b * RS_ACT_BLOCK + i];
        acts->sum[b] = acts->scale[b] * (float)(half[0] + half[1]);
        for (size_t h = 0; h < 2; h++) acts->half_sum[2 * b + h] = acts->scale[b] * (float)half[h];
    }
}

/* --------------------------------------------------------------------------------------- selection -- */

static void tables_are_complete(void **state) {
    const table_list *list = *state;
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        for (rs_type type = RS_TYPE_F32; type < RS_TYPE_COUNT; type = (rs_type)(type + 1)) {
            assert_true(k->dequantize[type] != NULL);
            assert_true((k->unpack[type] != NULL) == rs_type_is_quantized(type));
            assert_true(k->multiply_blocks[type] == NULL || rs_type_is_quantized(type));
        }
        for (size_t kind = 0; kind < RS_PANEL_KINDS; kind++) assert_true(k->multiply[kind] != NULL);
        assert_true(k->quantize_acts && k->dot_f32 && k->rms_norm && k->rope && k->rotate_keys &&
                    k->turn_keys);
        assert_true(k->swiglu && k->geglu && k->add && k->largest && k->quantize_head && k->attend_keys &&
                    k->softmax_step);
        assert_true(k->attend_values != NULL);
    }
}

/* The best that is given to who does not name it. */
static const rs_kernels *best_of(const table_list *list) {
    size_t t = list->count - 1;
    while (list->table[t]->on_request) t--;
    return list->table[t];
}

static void selection_obeys_its_limit(void **state) {
    const table_list *list = *state;
    const rs_kernels *kernels = NULL;
    rs_error error = {0};
    assert_int_equal(rs_kernels_select(RS_ISA_REF, &kernels, &error), RS_OK);
    assert_int_equal(kernels->isa, RS_ISA_REF);
    assert_int_equal(rs_kernels_select(RS_ISA_AUTO, &kernels, &error), RS_OK);
    assert_ptr_equal(kernels, best_of(list));
#if defined(__x86_64__)
    const rs_isa foreign = RS_ISA_NEON;
#else
    const rs_isa foreign = RS_ISA_AVX2;
#endif
    kernels = NULL;
    assert_int_equal(rs_kernels_select(foreign, &kernels, &error), RS_UNSUPPORTED);
    assert_int_equal(error.status, RS_UNSUPPORTED);
    assert_non_null(strstr(error.message, rs_isa_name(foreign)));
    assert_null(kernels);
    assert_int_equal(rs_kernels_select((rs_isa)99, &kernels, &error), RS_UNSUPPORTED);
}

/* A level is given exactly or not at all. */
static void every_level_is_exact_or_missing(void **state) {
    const table_list *list = *state;
    size_t found = 0;
    for (size_t i = 0; i < RS_ALL_LEVELS; i++) {
        const rs_kernels *kernels = NULL;
        rs_error error = {0};
        const rs_status status = rs_kernels_select(rs_all_levels[i], &kernels, &error);
        if (status == RS_OK) {
            assert_int_equal(kernels->isa, rs_all_levels[i]);
            assert_ptr_equal(kernels, list->table[found++]);
        } else {
            assert_int_equal(status, RS_UNSUPPORTED);
            assert_null(kernels);
            assert_non_null(strstr(error.message, rs_isa_name(rs_all_levels[i])));
        }
    }
    assert_int_equal(found, list->count);
}

/* RASURE_ISA stands in for RS_ISA_AUTO, and for nothing else. */
static void the_environment_names_a_level(void **state) {
    const table_list *list = *state;
    const rs_kernels *best = best_of(list), *kernels;
    for (size_t i = 0; i < RS_ALL_LEVELS; i++) {
        const char *name = rs_isa_name(rs_all_levels[i]);
        const rs_kernels *want = NULL;
        rs_error error = {0};
        const rs_status status = rs_kernels_select(rs_all_levels[i], &want, NULL);
        assert_int_equal(setenv("RASURE_ISA", name, 1), 0);
        kernels = NULL;
        assert_int_equal(rs_kernels_select(RS_ISA_AUTO, &kernels, &error), status);
        assert_ptr_equal(kernels, want);
        if (status != RS_OK) assert_non_null(strstr(error.message, name));
        for (size_t t = 0; t < list->count; t++) {
            assert_int_equal(rs_kernels_select(list->table[t]->isa, &kernels, NULL), RS_OK);
            assert_ptr_equal(kernels, list->table[t]);
        }
    }
    static const char *const of_no_level[] = {"auto", ""};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(setenv("RASURE_ISA", of_no_level[i], 1), 0);
        assert_int_equal(rs_kernels_select(RS_ISA_AUTO, &kernels, NULL), RS_OK);
        assert_ptr_equal(kernels, best);
    }

    rs_error error = {0};
    kernels = NULL;
    assert_int_equal(setenv("RASURE_ISA", "sse9", 1), 0);
    assert_int_equal(rs_kernels_select(RS_ISA_AUTO, &kernels, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(error.status, RS_INVALID_ARGUMENT);
    assert_non_null(strstr(error.message, "sse9"));
    assert_null(kernels);
    assert_int_equal(rs_kernels_select(RS_ISA_AUTO, &kernels, NULL), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_kernels_select(RS_ISA_REF, &kernels, &error), RS_OK);
    assert_ptr_equal(kernels, list->ref);
    assert_int_equal(unsetenv("RASURE_ISA"), 0);
}

static bool is_level(rs_isa isa) {
    for (size_t i = 0; i < RS_ALL_LEVELS; i++) {
        if (rs_all_levels[i] == isa) return true;
    }
    return isa == RS_ISA_AUTO;
}

static void isa_names_are_inverse(void **state) {
    (void)state;
    for (int value = -1; value < 99; value++) {
        const rs_isa isa = (rs_isa)value;
        rs_isa found = (rs_isa)99;
        if (is_level(isa)) {
            assert_int_equal(rs_isa_from_name(rs_isa_name(isa), &found), RS_OK);
            assert_int_equal(found, isa);
        } else {
            assert_string_equal(rs_isa_name(isa), "?"); /* or a level is missing in rs_all_levels */
        }
    }
    assert_int_equal(RS_ISA_AVXVNNI, 8);
    assert_string_equal(rs_isa_name(RS_ISA_AVXVNNI), "avxvnni");
    rs_isa untouched = RS_ISA_AMX;
    assert_int_equal(rs_isa_from_name("?", &untouched), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_isa_from_name("AVX2", &untouched), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_isa_from_name(NULL, &untouched), RS_INVALID_ARGUMENT);
    assert_int_equal(untouched, RS_ISA_AMX);
}

/* ------------------------------------------------------------------------------------------ blocks -- */

static void halves_are_exact(void **state) {
    (void)state;
    for (uint32_t half = 0; half < 0x10000; half++) {
        const int exponent = (int)(half >> 10 & 31), mantissa = (int)(half & 0x3ff);
        const float value = rs_f16_to_f32((uint16_t)half);
        if (exponent == 31 && mantissa != 0) {
            assert_true(isnan(value));
            continue;
        }
        double want = exponent == 0 ? ldexp(mantissa, -24) : ldexp(mantissa + 1024, exponent - 25);
        if (exponent == 31) want = (double)INFINITY;
        if (half & 0x8000) want = -want;
        if ((double)value != want || !signbit(value) != !signbit(want)) {
            fail_msg("f16 %04x: %g, expected %g", half, (double)value, want);
        }
    }
}

/* Every half comes back; between two of them the nearer one wins, and the even one in the very middle. */
static void floats_become_the_nearest_half(void **state) {
    (void)state;
    for (uint32_t half = 0; half < 0x7c00; half++) {
        const float value = rs_f16_to_f32((uint16_t)half);
        const float next = half == 0x7bff ? 65536.0f : rs_f16_to_f32((uint16_t)(half + 1));
        const float middle = value + (next - value) / 2;
        const uint32_t even = half % 2 == 0 ? half : half + 1;
        assert_int_equal(rs_f32_to_f16(value), half);
        assert_int_equal(rs_f32_to_f16(-value), half | 0x8000);
        assert_int_equal(rs_f32_to_f16(middle), even);
        assert_int_equal(rs_f32_to_f16(nextafterf(middle, 0.0f)), half);
        assert_int_equal(rs_f32_to_f16(nextafterf(middle, INFINITY)), half + 1);
    }
    assert_int_equal(rs_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(rs_f32_to_f16(-3e38f), 0xfc00);
    assert_true(isnan(rs_f16_to_f32(rs_f32_to_f16(NAN))));
}

/* Random bytes with finite scales, one in eight of them 0. */
static void fill_blocks(rs_type type, uint8_t *blocks, size_t bytes, uint64_t *seed) {
    static const struct {
        size_t first, count;
    } halves[RS_TYPE_COUNT] = {
        [RS_TYPE_Q4_0] = {0, 1}, [RS_TYPE_Q4_1] = {0, 2}, [RS_TYPE_Q5_0] = {0, 1}, [RS_TYPE_Q5_1] = {0, 2},
        [RS_TYPE_Q8_0] = {0, 1}, [RS_TYPE_Q4_K] = {0, 2}, [RS_TYPE_Q5_K] = {0, 2}, [RS_TYPE_Q6_K] = {208, 1},
    };
    for (size_t i = 0; i < bytes; i++) blocks[i] = (uint8_t)next_random(seed);
    for (size_t b = 0; b < bytes; b += rs_types[type].block_bytes) {
        for (size_t h = 0; h < halves[type].count; h++) {
            uint8_t *half = blocks + b + halves[type].first + 2 * h;
            if ((half[1] & 0x7c) == 0x7c) half[1] = (uint8_t)(half[1] & ~0x40);
            if (next_random(seed) % 8 == 0) half[0] = half[1] = 0;
        }
    }
}

static void float_types_are_exact(void **state) {
    const table_list *list = *state;
    static const size_t counts[] = {1, 2, 7, 8, 9, 31, 64, 576};
    uint64_t seed = 1;
    for (size_t t = 0; t < list->count; t++) {
        for (size_t c = 0; c < COUNT(counts); c++) {
            for (size_t s = 0; s < COUNT(sides); s++) {
                const size_t n = counts[c];
                guard in = guard_alloc(2 * n, sides[s]), wide = guard_alloc(4 * n, sides[s]);
                guard out = guard_alloc(4 * n, sides[s]);
                uint8_t *bytes = in.data;
                float *got = out.data;
                for (size_t i = 0; i < n; i++) {
                    bytes[2 * i] = (uint8_t)next_random(&seed);
                    bytes[2 * i + 1] = (uint8_t)(next_random(&seed) & 0xbf); /* finite as f16 and as bf16 */
                }
                list->table[t]->dequantize[RS_TYPE_F16](in.data, got, n);
                for (size_t i = 0; i < n; i++) {
                    const float want = rs_f16_to_f32((uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8));
                    check_same("dequantize F16", list->table[t], got + i, &want, sizeof want);
                }
                list->table[t]->dequantize[RS_TYPE_BF16](in.data, got, n);
                for (size_t i = 0; i < n; i++) {
                    const uint32_t want = (uint32_t)bytes[2 * i] << 16 | (uint32_t)bytes[2 * i + 1] << 24;
                    check_same("dequantize BF16", list->table[t], got + i, &want, sizeof want);
                }
                fill_floats(wide.data, n, 1, &seed);
                list->table[t]->dequantize[RS_TYPE_F32](wide.data, got, n);
                check_same("dequantize F32", list->table[t], got, wide.data, 4 * n);
                guard_free(&in);
                guard_free(&wide);
                guard_free(&out);
            }
        }
    }
}

/* Rows of blocks `row_bytes` apart, the last of them ending the buffer. What lies between rows would be NaN
 * as a scale. */
static guard alloc_blocks(rs_type type, size_t rows, size_t n, size_t row_bytes, guard_side side,
                          uint64_t *seed) {
    const size_t own_bytes = rs_row_bytes(type, n);
    guard blocks = guard_alloc((rows - 1) * row_bytes + own_bytes, side);
    memset(blocks.data, 0xff, blocks.bytes);
    for (size_t r = 0; r < rows; r++)
        fill_blocks(type, (uint8_t *)blocks.data + r * row_bytes, own_bytes, seed);
    return blocks;
}

/* The lanes of `rows` rows are the portable table's to the bit; the others hold numbers. */
static void check_lanes(const rs_kernels *k, rs_type type, const rs_panel *got, const rs_panel *want,
                        size_t rows, size_t n) {
    const rs_panel_kind kind = rs_panel_kind_of(type);
    for (size_t quad = 0; quad < n / 4; quad++) {
        const size_t at = quad * 4 * RS_PANEL_ROWS;
        check_same("unpack's q", k, got->q + at, want->q + at, 4 * rows);
    }
    for (size_t g = 0; g < n / rs_panel_group(kind); g++) {
        const size_t at = g * RS_PANEL_ROWS;
        check_same("unpack's scale", k, got->scale + at, want->scale + at, rows * sizeof(float));
        if (kind != RS_PANEL_S8)
            check_same("unpack's min", k, got->min + at, want->min + at, rows * sizeof(float));
        for (size_t r = rows; r < RS_PANEL_ROWS; r++)
            assert_true(isfinite(got->scale[at + r]) && (kind == RS_PANEL_S8 || isfinite(got->min[at + r])));
    }
}

/* scale * q + min is what dequantize says, which rounds at most the sum: a half's 11 bits times a scale's 7
 * and a weight's 6 fit into a float. */
static void check_values(const rs_kernels *k, rs_type type, const rs_panel *panel, size_t lane,
                         const float *values, size_t n) {
    const rs_panel_kind kind = rs_panel_kind_of(type);
    for (size_t i = 0; i < n; i++) {
        const size_t at = i / rs_panel_group(kind) * RS_PANEL_ROWS + lane;
        const double product = (double)panel->scale[at] * weight_at(panel, lane, i);
        const double want = kind == RS_PANEL_S8 ? product : product + (double)panel->min[at];
        check_close(rs_types[type].name, k, i, values[i], want, (ROUNDING + 0x1p-52) * fabs(want));
    }
}

static void check_unpack(const table_list *list, rs_type type, size_t rows, size_t n, size_t gap,
                         guard_side side, uint64_t *seed) {
    const rs_panel_kind kind = rs_panel_kind_of(type);
    const size_t row_bytes = rs_row_bytes(type, n) + gap;
    guard blocks = alloc_blocks(type, rows, n, row_bytes, side, seed);
    guard values = guard_alloc(n * sizeof(float), side);
    guarded_panel want = alloc_panel(kind, n, side);
    list->ref->unpack[type](blocks.data, row_bytes, rows, n, &want.panel);
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        guarded_panel got = alloc_panel(kind, n, side);
        if (gap > 0) got.panel.next = blocks.data; /* left to multiply: nothing else changes */
        k->unpack[type](blocks.data, row_bytes, rows, n, &got.panel);
        check_lanes(k, type, &got.panel, &want.panel, rows, n);
        free_panel(&got);
        /* The last row, whose dequantisation ends at the guard, and another. */
        const size_t lanes[] = {rows - 1, rows / 2};
        for (size_t l = 0; l < COUNT(lanes); l++) {
            k->dequantize[type]((uint8_t *)blocks.data + lanes[l] * row_bytes, values.data, n);
            check_values(k, type, &want.panel, lanes[l], values.data, n);
        }
    }
    free_panel(&want);
    guard_free(&blocks);
    guard_free(&values);
}

static void unpack_agrees(void **state) {
    uint64_t seed = 2;
    for (rs_type type = RS_TYPE_Q4_0; type < RS_TYPE_COUNT; type = (rs_type)(type + 1)) {
        for (size_t blocks = 1; blocks <= 20; blocks++) {
            for (size_t rows = 1; rows <= RS_PANEL_ROWS; rows++) {
                const size_t n = blocks * rs_types[type].block_elems, gap = 2 * rows + 1;
                const guard_side side = sides[(blocks + rows) % 2], other = sides[(blocks + rows + 1) % 2];
                check_unpack(*state, type, rows, n, 0, side, &seed);
                check_unpack(*state, type, rows, n, gap, other, &seed);
            }
        }
    }
}

/* ------------------------------------------------------------------------------------------ linear -- */

enum { N_INPUTS = 8 };

/* Inputs worth quantising; `kind` < N_INPUTS. */
static void fill_input(float *x, size_t n, int kind, uint64_t *seed) {
    static const float magnitudes[N_INPUTS] = {1, 1000, 1e-30f, 1e-37f, 1e-42f, FLT_MAX, 0, 127};
    fill_floats(x, n, magnitudes[kind], seed);
    if (kind == 1) x[next_random(seed) % n] = -3e6f; /* one outlier: the rest of its block becomes 0 */
    if (kind == 5) x[next_random(seed) % n] = -FLT_MAX;
    for (size_t i = 0; kind == 7 && i < n; i++) x[i] = roundf(2 * x[i]) / 2; /* ties, where the scale is 1 */
}

static void check_quantized(const char *kernel, const rs_kernels *k, const float *x, const int8_t *q,
                            float scale, size_t n) {
    float max = 0;
    for (size_t i = 0; i < n; i++) max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    const float want = max < 0x1p-119f ? 0.0f : max / 127.0f;
    check_same(kernel, k, &scale, &want, sizeof want);
    for (size_t i = 0; i < n; i++) {
        if (scale == 0.0f) {
            assert_int_equal(q[i], 0);
            continue;
        }
        assert_true(q[i] >= -127);
        /* Two roundings of a value up to 127 may move it over a tie. */
        check_close(kernel, k, i, q[i], (double)x[i] / (double)scale, 0.5 + 127 * 3 * ROUNDING);
    }
}

static void quantize_acts_rounds_to_nearest(void **state) {
    const table_list *list = *state;
    static const size_t counts[] = {1, 2, 5};
    uint64_t seed = 3;
    for (size_t l = 0; l < COUNT(lengths); l++) {
        for (int kind = 0; kind < N_INPUTS; kind++) {
            const size_t n = lengths[l], rows = counts[(size_t)kind % COUNT(counts)];
            const guard_side side = sides[kind % 2];
            guard x = guard_alloc(rows * n * sizeof(float), side);
            fill_input(x.data, rows * n, kind, &seed);
            guarded_acts ref = alloc_acts(rows, n, side);
            list->ref->quantize_acts(x.data, &ref.acts, rows, n);
            for (size_t b = 0; b < rows * n / RS_ACT_BLOCK; b++) {
                const int8_t *q = ref.acts.q + b * RS_ACT_BLOCK;
                check_quantized("quantize_acts", list->ref, (float *)x.data + b * RS_ACT_BLOCK, q,
                                ref.acts.scale[b], RS_ACT_BLOCK);
                int half[2] = {0, 0};
                for (size_t i = 0; i < RS_ACT_BLOCK; i++) half[i / 16] += q[i];
                const float want = ref.acts.scale[b] * (float)(half[0] + half[1]);
                check_same("quantize_acts' sum", list->ref, &ref.acts.sum[b], &want, sizeof want);
                for (size_t h = 0; h < 2; h++) {
                    const float part = ref.acts.scale[b] * (float)half[h];
                    check_same("quantize_acts' half sum", list->ref, &ref.acts.half_sum[2 * b + h], &part,
                               sizeof part);
                }
            }
            for (size_t t = 0; t < list->count; t++) {
                guarded_acts got = alloc_acts(rows, n, side);
                list->table[t]->quantize_acts(x.data, &got.acts, rows, n);
                check_same("quantize_acts' q", list->table[t], got.acts.q, ref.acts.q, ref.q.bytes);
                check_same("quantize_acts' scale", list->table[t], got.acts.scale, ref.acts.scale,
                           ref.scale.bytes);
                check_same("quantize_acts' sum", list->table[t], got.acts.sum, ref.acts.sum, ref.sum.bytes);
                check_same("quantize_acts' half sum", list->table[t], got.acts.half_sum, ref.acts.half_sum,
                           ref.half_sum.bytes);
                free_acts(&got);
            }
            free_acts(&ref);
            guard_free(&x);
        }
    }
}

enum { N_CORNERS = 6 };

/* The corners of the ranges, where 16-bit intermediate sums are largest; `corner` < N_CORNERS. */
static void fill_operands(rs_panel_kind kind, const rs_panel *panel, rs_acts *acts, size_t rows, size_t n,
                          int corner, uint64_t *seed) {
    static const int lows[] = {0, 0, 0, -128}, highs[] = {15, 31, 63, 127};
    static const struct {
        bool w_low, w_high; /* whether weights may be at this end */
        int x_low, x_high;
    } ranges[N_CORNERS] = {
        {true, true, -127, 127}, {false, true, 127, 127},   {false, true, -127, -127},
        {true, false, 127, 127}, {true, false, -127, -127}, {true, true, -127, 127},
    };
    const bool ends_only = corner != 0;
    const int low = ranges[corner].w_low ? lows[kind] : highs[kind];
    const int high = ranges[corner].w_high ? highs[kind] : lows[kind];
    const size_t scales = n / rs_panel_group(kind) * RS_PANEL_ROWS;
    for (size_t i = 0; i < n * RS_PANEL_ROWS; i++) {
        panel->q[i] = ends_only ? (int8_t)(next_random(seed) % 2 ? low : high) : random_int8(seed, low, high);
    }
    fill_scales(panel->scale, scales, seed);
    if (kind != RS_PANEL_S8) fill_scales(panel->min, scales, seed);
    fill_acts(acts, rows * n, ranges[corner].x_low, ranges[corner].x_high, ends_only, seed);
}

/*
 * Integer sums are exact. Of each group there are then two terms, of products and of minima, that round a
 * few times and add up over the groups: an error of so many roundings of the sum of magnitudes. Signed
 * weights may have been made unsigned by 128, which adds as large a term and takes it away again. A product
 * of scales, or a sum, may be rounded as a denormal before it meets an integer of up to 2^20 or a scale.
 */
static double multiply_channel(rs_panel_kind kind, const rs_panel *panel, size_t c, const rs_acts *x,
                               size_t n, double *tolerance) {
    const size_t group = rs_panel_group(kind), groups = n / group;
    const float *sums = kind == RS_PANEL_U6 ? x->half_sum : x->sum;
    double want = 0, magnitude = 0, denormal = 0;
    for (size_t g = 0; g < groups; g++) {
        const size_t at = g * RS_PANEL_ROWS + c;
        const double w_scale = panel->scale[at], x_scale = x->scale[g * group / RS_ACT_BLOCK];
        int dot = 0, sum = 0;
        for (size_t i = g * group; i < (g + 1) * group; i++) {
            dot += weight_at(panel, c, i) * x->q[i];
            sum += x->q[i];
        }
        const double offset = kind == RS_PANEL_S8 ? 2 * 128 * fabs(w_scale * x_scale * sum) : 0;
        const double min = kind == RS_PANEL_S8 ? 0 : (double)panel->min[at] * (double)sums[g];
        want += w_scale * x_scale * dot + min;
        magnitude += fabs(w_scale * x_scale * dot) + fabs(min) + offset;
        denormal += (0x1p20 + 0x1p8 * fabs(w_scale)) * TINY;
    }
    *tolerance = (2.0 * (double)groups + 8) * ROUNDING * magnitude + denormal;
    return want;
}

static void check_multiply(const table_list *list, rs_panel_kind kind, size_t rows, size_t n, size_t channels,
                           int corner, guard_side side, uint64_t *seed) {
    char name[32];
    (void)snprintf(name, sizeof name, "multiply %s", rs_panel_kind_name(kind));
    const size_t stride = channels + (size_t)corner % 3 * 2;
    guarded_panel w = alloc_panel(kind, n, side);
    guarded_acts x = alloc_acts(rows, n, side);
    fill_operands(kind, &w.panel, &x.acts, rows, n, corner, seed);
    if (corner % 2 != 0) { /* beyond the panel, where nothing may be read: fetching is none */
        w.panel.next = (const unsigned char *)w.q.data + w.q.bytes;
        w.panel.next_bytes = 20 * n / 2 + 1;
    }
    double *want = malloc(rows * channels * sizeof *want),
           *tolerance = malloc(rows * channels * sizeof *want);
    assert_true(want != NULL && tolerance != NULL);
    for (size_t i = 0; i < rows * channels; i++) {
        const rs_acts row = acts_row(&x.acts, i / channels, n);
        want[i] = multiply_channel(kind, &w.panel, i % channels, &row, n, &tolerance[i]);
    }
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        guard out = guard_alloc(((rows - 1) * stride + channels) * sizeof(float), side);
        guard alone = guard_alloc(channels * sizeof(float), side);
        float *got = out.data;
        fill_constant(got, out.bytes / sizeof(float), SENTINEL);
        k->multiply[kind](&w.panel, &x.acts, rows, n, got, stride, channels);
        for (size_t i = 0; i < rows * channels; i++)
            check_close(name, k, i, got[i / channels * stride + i % channels], want[i], tolerance[i]);
        for (size_t i = 0; i < out.bytes / sizeof(float); i++)
            assert_true(i % stride < channels || got[i] == SENTINEL);
        for (size_t r = 0; r < rows; r++) {
            const rs_acts row = acts_row(&x.acts, r, n);
            k->multiply[kind](&w.panel, &row, 1, n, alone.data, channels, channels);
            check_same("multiply alone", k, got + r * stride, alone.data, alone.bytes);
        }
        guard_free(&out);
        guard_free(&alone);
    }
    free(want);
    free(tolerance);
    free_panel(&w);
    free_acts(&x);
}

static void multiply_is_close_and_independent_of_rows(void **state) {
    static const size_t channel_counts[] = {16, 1, 15, 16, 2, 8, 16, 3, 7, 9};
    static const size_t counts[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 128};
    uint64_t seed = 4;
    size_t turn = 0;
    for (size_t l = 0; l < COUNT(lengths); l++) {
        for (size_t r = 0; r < COUNT(counts); r++) {
            for (int corner = 0; corner < N_CORNERS; corner++, turn++) {
                const size_t channels = channel_counts[turn % COUNT(channel_counts)];
                const guard_side side = sides[(l + r + (size_t)corner) % 2];
                for (size_t kind = 0; kind < RS_PANEL_KINDS; kind++)
                    check_multiply(*state, (rs_panel_kind)kind, counts[r], lengths[l], channels, corner, side,
                                   &seed);
            }
        }
    }
}

/* Every number of channels, whatever lies in the lanes past them. */
static void multiply_keeps_to_its_channels(void **state) {
    uint64_t seed = 14;
    for (size_t channels = 1; channels <= RS_PANEL_ROWS; channels++) {
        for (size_t kind = 0; kind < RS_PANEL_KINDS; kind++) {
            for (size_t s = 0; s < COUNT(sides); s++)
                check_multiply(*state, (rs_panel_kind)kind, 5, 96, channels, (int)s, sides[s], &seed);
        }
    }
}

/* Straight from the blocks: the bits that unpack and multiply give. */
static void check_multiply_blocks(const table_list *list, rs_type type, size_t n, size_t gap, guard_side side,
                                  uint64_t *seed) {
    const rs_panel_kind kind = rs_panel_kind_of(type);
    const size_t row_bytes = rs_row_bytes(type, n) + gap;
    guard blocks = alloc_blocks(type, RS_PANEL_ROWS, n, row_bytes, side, seed);
    guard out = guard_alloc(RS_PANEL_ROWS * sizeof(float), side);
    guarded_panel w = alloc_panel(kind, n, side);
    guarded_acts x = alloc_acts(1, n, side);
    fill_acts(&x.acts, n, -127, 127, false, seed);
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        float want[RS_PANEL_ROWS];
        if (k->multiply_blocks[type] == NULL) continue;
        k->unpack[type](blocks.data, row_bytes, RS_PANEL_ROWS, n, &w.panel);
        k->multiply[kind](&w.panel, &x.acts, 1, n, want, RS_PANEL_ROWS, RS_PANEL_ROWS);
        k->multiply_blocks[type](blocks.data, row_bytes, n, &x.acts, out.data);
        check_same("multiply_blocks", k, out.data, want, sizeof want);
    }
    free_panel(&w);
    free_acts(&x);
    guard_free(&out);
    guard_free(&blocks);
}

static void multiply_blocks_is_unpack_and_multiply(void **state) {
    uint64_t seed = 15;
    for (rs_type type = RS_TYPE_Q4_0; type < RS_TYPE_COUNT; type = (rs_type)(type + 1)) {
        for (size_t blocks = 1; blocks <= 20; blocks++) {
            for (size_t s = 0; s < COUNT(sides); s++) {
                const size_t n = blocks * rs_types[type].block_elems;
                check_multiply_blocks(*state, type, n, 0, sides[s], &seed);
                check_multiply_blocks(*state, type, n, 2 * blocks + 1, sides[s], &seed);
            }
        }
    }
}

static void dot_f32_is_close_and_independent_of_rows(void **state) {
    const table_list *list = *state;
    static const size_t counts[] = {1, 7, 8, 9, 15, 16, 17, 23, 24, 25, 100, 576, 2048};
    uint64_t seed = 5;
    for (size_t c = 0; c < COUNT(counts); c++) {
        for (size_t rc = 0; rc < COUNT(row_counts); rc++) {
            const size_t n = counts[c], rows = row_counts[rc], stride = 1 + rc % 2 * 4;
            const guard_side side = sides[(c + rc) % 2];
            guard w = guard_alloc(n * sizeof(float), side), x = guard_alloc(rows * n * sizeof(float), side);
            fill_floats(w.data, n, 3, &seed);
            fill_floats(x.data, rows * n, 100, &seed);
            for (size_t t = 0; t < list->count; t++) {
                guard out = guard_alloc(((rows - 1) * stride + 1) * sizeof(float), side);
                float *got = out.data;
                list->table[t]->dot_f32(w.data, x.data, rows, n, got, stride);
                for (size_t r = 0; r < rows; r++) {
                    const float *row = (float *)x.data + r * n;
                    double want = 0, magnitude = 0;
                    for (size_t i = 0; i < n; i++) {
                        want += (double)((float *)w.data)[i] * (double)row[i];
                        magnitude += fabs((double)((float *)w.data)[i] * (double)row[i]);
                    }
                    /* Sums run in 8 lanes or more, which then take 7 additions. */
                    check_close("dot_f32", list->table[t], r, got[r * stride], want,
                                ((double)n / 8 + 16) * ROUNDING * magnitude);
                    float alone = 0;
                    list->table[t]->dot_f32(w.data, row, 1, n, &alone, 1);
                    check_same("dot_f32 alone", list->table[t], &got[r * stride], &alone, sizeof alone);
                }
                guard_free(&out);
            }
            guard_free(&w);
            guard_free(&x);
        }
    }
}

/* ------------------------------------------------------------------------------------- elementwise -- */

static const size_t vector_lengths[] = {1, 2, 3, 6, 7, 8, 9, 15, 16, 17, 64, 100, 576, 1536};

static void rms_norm_is_close(void **state) {
    const table_list *list = *state;
    static const float magnitudes[] = {1, 1e-6f, 1e18f};
    uint64_t seed = 6;
    for (size_t c = 0; c < 2 * COUNT(vector_lengths); c++) {
        for (size_t t = 0; t < list->count; t++) {
            const size_t n = vector_lengths[c / 2];
            const float eps = 1e-5f, magnitude = magnitudes[(c + t) % COUNT(magnitudes)];
            const guard_side side = sides[c % 2];
            guard x = guard_alloc(n * sizeof(float), side), w = guard_alloc(n * sizeof(float), side);
            guard out = guard_alloc(n * sizeof(float), side);
            const float *in = x.data, *gain = w.data, *got = out.data;
            fill_floats(x.data, n, magnitude, &seed);
            fill_floats(w.data, n, 2, &seed);
            list->table[t]->rms_norm(in, gain, eps, n, out.data);
            double squares = 0;
            for (size_t i = 0; i < n; i++) squares += (double)in[i] * (double)in[i];
            const double scale = 1 / sqrt(squares / (double)n + (double)eps);
            for (size_t i = 0; i < n; i++) {
                const double want = (double)in[i] * scale * (double)gain[i];
                /* Sums are in double: what remains is the rounding of the scale and of two products. */
                check_close("rms_norm", list->table[t], i, got[i], want, 4 * ROUNDING * fabs(want) + TINY);
            }
            list->table[t]->rms_norm(in, gain, eps, n, x.data);
            check_same("rms_norm in place", list->table[t], in, got, n * sizeof(float));
            guard_free(&x);
            guard_free(&w);
            guard_free(&out);
        }
    }
}

static void rope_rotates_pairs(void **state) {
    const table_list *list = *state;
    static const size_t dims[] = {2, 4, 16, 32, 64, 80, 128, 256};
    uint64_t seed = 7;
    for (size_t c = 0; c < 2 * COUNT(dims); c++) {
        for (int variant = 0; variant < 4; variant++) {
            for (size_t t = 0; t < list->count; t++) {
                const size_t dim = dims[c / 2], half = dim / 2, n = variant / 2 ? dim + 16 : dim;
                const int interleaved = variant % 2;
                const guard_side side = sides[c % 2];
                guard x = guard_alloc(n * sizeof(float), side);
                guard cosine = guard_alloc(half * sizeof(float), side),
                      sine = guard_alloc(half * sizeof(float), side);
                float *got = x.data, before[512];
                for (size_t i = 0; i < half; i++) {
                    const double angle = 100 * (double)random_float(&seed);
                    ((float *)cosine.data)[i] = (float)cos(angle);
                    ((float *)sine.data)[i] = (float)sin(angle);
                }
                fill_floats(got, n, 10, &seed);
                memcpy(before, got, n * sizeof(float));
                list->table[t]->rope(got, cosine.data, sine.data, dim, interleaved);
                for (size_t i = 0; i < half; i++) {
                    const size_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + half;
                    const double a = before[first], b = before[second];
                    const double co = ((float *)cosine.data)[i], si = ((float *)sine.data)[i];
                    const double tolerance = 2 * ROUNDING * (fabs(a) + fabs(b)); /* two products, one sum */
                    check_close("rope", list->table[t], first, got[first], a * co - b * si, tolerance);
                    check_close("rope", list->table[t], second, got[second], a * si + b * co, tolerance);
                }
                check_same("rope's rest", list->table[t], got + dim, before + dim, (n - dim) * sizeof(float));
                guard_free(&x);
                guard_free(&cosine);
                guard_free(&sine);
            }
        }
    }
}

/* x * sigmoid(u) * y with a relative error of 8 roundings, plus those of u, which the exponential turns into
 * |u| times as many. Below e^-87 the kernels' exponential is 0, above e^88 it stays. */
static double gated(double x, double u, double y, double u_roundings, double *tolerance) {
    const double want = x / (1 + exp(-u)) * y;
    *tolerance = (8 + u_roundings * fabs(u)) * ROUNDING * fabs(want) + fabs(x * y) * exp(-87.0) + TINY;
    return want;
}

static void gates_are_close(void **state) {
    const table_list *list = *state;
    static const float odd[] = {0.0f,     -0.0f, 100,    -100,  1e4f,   -1e4f,
                                NEARLY_0, 87.3f, -87.3f, 88.9f, -88.9f, -3e12f};
    uint64_t seed = 8;
    for (size_t c = 0; c < 2 * COUNT(vector_lengths); c++) {
        for (size_t t = 0; t < list->count; t++) {
            const size_t n = vector_lengths[c / 2];
            const guard_side side = sides[c % 2];
            guard gate = guard_alloc(n * sizeof(float), side), up = guard_alloc(n * sizeof(float), side);
            float *got = gate.data, *y = up.data, before[1536];
            for (int gelu = 0; gelu < 2; gelu++) {
                fill_floats(got, n, c % 2 ? 6 : 90, &seed);
                fill_floats(y, n, 5, &seed);
                for (size_t i = 0; i < n && i < COUNT(odd); i++) got[n - 1 - i] = odd[(i + c) % COUNT(odd)];
                memcpy(before, got, n * sizeof(float));
                (gelu ? list->table[t]->geglu : list->table[t]->swiglu)(got, y, n);
                for (size_t i = 0; i < n; i++) {
                    const double x = before[i];
                    const double u = gelu ? 2 * sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x) : x;
                    double tolerance;
                    const double want = gated(x, u, y[i], gelu ? 8 : 0, &tolerance);
                    check_close(gelu ? "geglu" : "swiglu", list->table[t], i, got[i], want, tolerance);
                }
            }
            guard_free(&gate);
            guard_free(&up);
        }
    }
}

static void add_is_exact(void **state) {
    const table_list *list = *state;
    uint64_t seed = 9;
    for (size_t c = 0; c < 2 * COUNT(vector_lengths); c++) {
        for (size_t t = 0; t < list->count; t++) {
            const size_t n = vector_lengths[c / 2];
            guard x = guard_alloc(n * sizeof(float), sides[c % 2]),
                  y = guard_alloc(n * sizeof(float), sides[c % 2]);
            float *got = x.data, want[1536];
            fill_floats(got, n, 1, &seed);
            fill_floats(y.data, n, 100, &seed);
            for (size_t i = 0; i < n; i++) want[i] = got[i] + ((float *)y.data)[i];
            list->table[t]->add(got, y.data, n);
            check_same("add", list->table[t], got, want, n * sizeof(float));
            guard_free(&x);
            guard_free(&y);
        }
    }
}

static void check_largest(const table_list *list, const float *x, size_t n, size_t want) {
    for (size_t t = 0; t < list->count; t++) {
        const size_t got = list->table[t]->largest(x, n);
        if (got != want)
            fail_msg("largest of %s, n %zu: %zu, expected %zu", rs_isa_name(list->table[t]->isa), n, got,
                     want);
    }
}

static void check_largest_of(const table_list *list, size_t n, size_t every, guard_side side,
                             uint64_t *seed) {
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    guard buffer = guard_alloc(n * sizeof(float), side);
    float *x = buffer.data;
    for (size_t at = 0; at < n; at += every) {
        /* The only largest; then the first of several, all others being negative. */
        fill_floats(x, n, 1, seed);
        x[at] = 1.5f;
        check_largest(list, x, n, at);
        for (size_t i = at; i < n; i += 1 + (size_t)(next_random(seed) % 5)) x[i] = 1.5f;
        check_largest(list, x, n, at);
        for (size_t i = 0; i < n; i++) x[i] = -1.0f - fabsf(x[i]);
        x[at] = -0x1p-149f;
        check_largest(list, x, n, at);
        fill_constant(x, n, -FLT_MAX);
        check_largest(list, x, n, 0);
        x[at] = FLT_MAX;
        check_largest(list, x, n, at);
        /* Zeros are equal whatever their signs. */
        for (size_t i = 0; i < n; i++) x[i] = i < at ? -1.0f : i == at ? -0.0f : 0.0f;
        check_largest(list, x, n, at);
        for (size_t i = 0; i < n; i++) x[i] = i < at ? -1.0f : i == at ? 0.0f : -0.0f;
        check_largest(list, x, n, at);
        for (size_t b = 0; b < COUNT(bad); b++) {
            fill_floats(x, n, 1, seed);
            x[at] = bad[b];
            check_largest(list, x, n, n);
        }
    }
    guard_free(&buffer);
}

static void largest_is_the_first_of_equals(void **state) {
    uint64_t seed = 16;
    for (size_t n = 1; n <= 40; n++) {
        for (size_t s = 0; s < COUNT(sides); s++) check_largest_of(*state, n, 1, sides[s], &seed);
    }
    /* A vocabulary: its first and last positions, and some in every lane of a vector. */
    check_largest_of(*state, 49152, 49151, GUARD_AFTER, &seed);
    check_largest_of(*state, 49152, 6997, GUARD_BEFORE, &seed);
}

/* --------------------------------------------------------------------------------------- attention -- */

/* The layouts, spelled out. */
static int key_at(const rs_page_view *page, size_t entry, size_t d) {
    return page->k[(d / 4 * RS_PAGE_ENTRIES + entry) * 4 + d % 4];
}

static int value_at(const rs_page_view *page, size_t head_dim, size_t entry, size_t d) {
    return page->v[(entry / 4 * head_dim + d) * 4 + entry % 4];
}

static void quantize_head_rounds_to_nearest(void **state) {
    const table_list *list = *state;
    uint64_t seed = 10;
    for (size_t h = 0; h < COUNT(head_dims); h++) {
        for (int kind = 0; kind < N_INPUTS; kind++) {
            const size_t n = head_dims[h];
            guard x = guard_alloc(n * sizeof(float), sides[kind % 2]);
            fill_input(x.data, n, kind, &seed);
            for (size_t t = 0; t < list->count; t++) {
                guard q = guard_alloc(n, sides[kind % 2]);
                int8_t want[RS_HEAD_DIM_MAX];
                const float scale = list->table[t]->quantize_head(x.data, q.data, n);
                check_quantized("quantize_head", list->table[t], x.data, q.data, scale, n);
                (void)list->ref->quantize_head(x.data, want, n);
                check_same("quantize_head's q", list->table[t], q.data, want, n);
                guard_free(&q);
            }
            guard_free(&x);
        }
    }
}

/* A key of a page as rope would rotate it, in units of its old scale. */
static void rotated_key(const rs_page_view *page, size_t entry, size_t head_dim, const float *cosine,
                        const float *sine, size_t dim, int interleaved, double *y) {
    for (size_t d = 0; d < head_dim; d++) y[d] = key_at(page, entry, d);
    for (size_t i = 0; i < dim / 2; i++) {
        const size_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + dim / 2;
        const double a = y[first], b = y[second], c = cosine[i], s = sine[i];
        y[first] = a * c - b * s;
        y[second] = a * s + b * c;
    }
}

/* The largest of what rotate_keys divides by: elements, or lengths of pairs. */
static double largest_of_key(const double *y, size_t head_dim, size_t dim, int interleaved, int room) {
    double largest = 0;
    for (size_t d = room ? dim : 0; d < head_dim; d++) largest = fmax(largest, fabs(y[d]));
    for (size_t i = 0; room && i < dim / 2; i++) {
        const size_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + dim / 2;
        largest = fmax(largest, hypot(y[first], y[second]));
    }
    return largest;
}

static void check_rotated(const rs_kernels *k, const rs_page_view *got, const rs_page_view *before, size_t e,
                          const double *y, size_t head_dim, double largest, double most) {
    const double scale = (double)before->k_scale[e] * largest / most;
    check_close("rotate_keys' scale", k, e, got->k_scale[e], scale, 8 * ROUNDING * fabs(scale) + TINY);
    for (size_t d = 0; d < head_dim; d++) {
        const double want = largest > 0 ? y[d] * most / largest : 0;
        check_close("rotate_keys", k, e * head_dim + d, key_at(got, e, d), want, 0.5 + 127 * 16 * ROUNDING);
    }
}

static void check_rotate_keys(const table_list *list, size_t head_dim, size_t dim, int interleaved, int room,
                              uint32_t which, int low, int high, guard_side side, uint64_t *seed) {
    guard cosine = guard_alloc(dim / 2 * sizeof(float), side),
          sine = guard_alloc(dim / 2 * sizeof(float), side);
    for (size_t i = 0; i < dim / 2; i++) {
        const double angle = 100 * (double)random_float(seed);
        ((float *)cosine.data)[i] = (float)cos(angle);
        ((float *)sine.data)[i] = (float)sin(angle);
    }
    const uint64_t same = *seed;
    uint64_t again = same;
    guarded_block before = alloc_block(1, NO_GAPS, head_dim, side, low, high, &again);
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        again = same;
        guarded_block block = alloc_block(1, NO_GAPS, head_dim, side, low, high, &again);
        k->rotate_keys(block.view, which, cosine.data, sine.data, head_dim, dim, interleaved, room);
        check_same("rotate_keys' values", k, block.view->v, before.view->v, RS_PAGE_ENTRIES * head_dim);
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
            double y[RS_HEAD_DIM_MAX];
            if (which >> e & 1) {
                rotated_key(before.view, e, head_dim, cosine.data, sine.data, dim, interleaved, y);
                const double largest = largest_of_key(y, head_dim, dim, interleaved, room);
                check_rotated(k, block.view, before.view, e, y, head_dim, largest,
                              room ? (double)RS_TURN_RADIUS : 127);
                continue;
            }
            assert_true(block.view->k_scale[e] == before.view->k_scale[e]);
            for (size_t d = 0; d < head_dim; d++)
                assert_int_equal(key_at(block.view, e, d), key_at(before.view, e, d));
        }
        free_block(&block);
    }
    free_block(&before);
    *seed = again;
    guard_free(&cosine);
    guard_free(&sine);
}

static void rotate_keys_rotates_and_rounds(void **state) {
    uint64_t seed = 21;
    static const uint32_t whiches[] = {0xffff, 0, 1, 0x8000, 0x5a3c};
    for (size_t h = 0; h < COUNT(head_dims); h++) {
        const size_t head_dim = head_dims[h];
        const size_t dims[] = {head_dim, head_dim / 2, head_dim / 2 + 2, 2};
        for (size_t i = 0; i < COUNT(dims) * 2; i++) {
            const uint32_t which = whiches[(h + i) % COUNT(whiches)];
            for (int room = 0; room < 2; room++)
                check_rotate_keys(*state, head_dim, dims[i / 2], i % 2, room, which, -127, 127, sides[i % 2],
                                  &seed);
        }
        for (int room = 0; room < 2; room++) {
            check_rotate_keys(*state, head_dim, head_dim, 0, room, 0xffff, 0, 0, sides[h % 2], &seed);
            check_rotate_keys(*state, head_dim, head_dim, 1, room, 0xffff, 127, 127, sides[h % 2], &seed);
            check_rotate_keys(*state, head_dim, head_dim, 0, room, 0xffff, -1, 1, sides[h % 2], &seed);
        }
    }
}

/* A turn by an angle of each pair's own, on guarded buffers of its own. */
typedef struct guarded_turn {
    guard tangent, sine, quarters;
    rs_turn turn;
} guarded_turn;

static guarded_turn alloc_turn(const double *angles, size_t n, guard_side side) {
    guarded_turn t = {guard_alloc(n * sizeof(int16_t), side),
                      guard_alloc(n * sizeof(int16_t), side),
                      guard_alloc(n, side),
                      {0}};
    t.turn = (rs_turn){t.tangent.data, t.sine.data, t.quarters.data};
    for (size_t i = 0; i < n; i++) rs_turn_of_angle(&t.turn, i, angles[i]);
    return t;
}

static void free_turn(guarded_turn *t) {
    guard_free(&t->tangent);
    guard_free(&t->sine);
    guard_free(&t->quarters);
}

/* Room for every turn: what rotate_keys leaves. */
static void make_room(const table_list *list, const rs_page_view *page, size_t head_dim, size_t dim,
                      int interleaved) {
    float cosine[RS_HEAD_DIM_MAX / 2], sine[RS_HEAD_DIM_MAX / 2] = {0};
    for (size_t i = 0; i < dim / 2; i++) cosine[i] = 1;
    list->ref->rotate_keys(page, 0xffff, cosine, sine, head_dim, dim, interleaved, 1);
}

/* Turned once, values are a rotation's within its three roundings; turned back and on again, as if turned
 * from the start; and none but those asked for. Bytes are those of the reference. */
static void check_turn_keys(const table_list *list, size_t head_dim, size_t dim, int interleaved,
                            uint32_t which, guard_side side, uint64_t *seed) {
    double angles[2][RS_HEAD_DIM_MAX / 2] = {0};
    float cosine[RS_HEAD_DIM_MAX / 2], sine[RS_HEAD_DIM_MAX / 2];
    for (size_t i = 0; i < dim / 2; i++) {
        for (size_t k = 0; k < 2; k++) angles[k][i] = 1000 * (double)random_float(seed);
        cosine[i] = (float)cos(angles[0][i]);
        sine[i] = (float)sin(angles[0][i]);
    }
    guarded_turn first = alloc_turn(angles[0], dim / 2, side), second = alloc_turn(angles[1], dim / 2, side);
    const uint64_t same = *seed;
    uint64_t again = same;
    guarded_block before = alloc_block(1, NO_GAPS, head_dim, side, -127, 127, &again);
    make_room(list, before.view, head_dim, dim, interleaved);
    const size_t bytes = RS_PAGE_ENTRIES * head_dim;
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        again = same;
        guarded_block block = alloc_block(1, NO_GAPS, head_dim, side, -127, 127, &again);
        make_room(list, block.view, head_dim, dim, interleaved);
        k->turn_keys(block.view, which, NULL, &first.turn, head_dim, dim, interleaved);
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
            double y[RS_HEAD_DIM_MAX];
            rotated_key(before.view, e, head_dim, cosine, sine, dim, interleaved, y);
            for (size_t d = 0; d < head_dim; d++) {
                if (which >> e & 1) check_close("turn_keys", k, d, key_at(block.view, e, d), y[d], 1.3);
                else assert_int_equal(key_at(block.view, e, d), key_at(before.view, e, d));
            }
            assert_true(block.view->k_scale[e] == before.view->k_scale[e]);
        }
        check_same("turn_keys' values", k, block.view->v, before.view->v, bytes);
        k->turn_keys(block.view, which, &first.turn, &second.turn, head_dim, dim, interleaved);
        int8_t want[RS_PAGE_ENTRIES * RS_HEAD_DIM_MAX];
        memcpy(want, before.view->k, bytes);
        const rs_page_view once = {
            .k = want, .v = before.view->v, .k_scale = before.view->k_scale, .v_scale = before.view->v_scale};
        list->ref->turn_keys(&once, which, NULL, &second.turn, head_dim, dim, interleaved);
        check_same("turn_keys, back and on", k, block.view->k, want, bytes);
        free_block(&block);
    }
    free_block(&before);
    *seed = again;
    free_turn(&first);
    free_turn(&second);
}

static void turn_keys_is_taken_back_to_the_bit(void **state) {
    uint64_t seed = 22;
    static const uint32_t whiches[] = {0xffff, 0, 1, 0x8000, 0x5a3c};
    for (size_t h = 0; h < COUNT(head_dims); h++) {
        const size_t dims[] = {head_dims[h], head_dims[h] / 2, head_dims[h] / 2 + 2, 2};
        for (size_t i = 0; i < COUNT(dims) * 2; i++)
            check_turn_keys(*state, head_dims[h], dims[i / 2], i % 2, whiches[(h + i) % COUNT(whiches)],
                            sides[i % 2], &seed);
    }
}

/* Keys without room, which files may bring: values stay within what attention may read. */
static void turn_keys_stops_at_the_ends(void **state) {
    const table_list *list = *state;
    uint64_t seed = 23;
    double angles[32];
    for (size_t i = 0; i < COUNT(angles); i++) angles[i] = (double)i;
    guarded_turn turn = alloc_turn(angles, 32, GUARD_AFTER);
    for (size_t t = 0; t < list->count; t++) {
        uint64_t same = seed;
        guarded_block block = alloc_block(1, NO_GAPS, 64, GUARD_AFTER, 127, 127, &same);
        guarded_block want = alloc_block(1, NO_GAPS, 64, GUARD_AFTER, 127, 127, &seed);
        seed = same;
        list->table[t]->turn_keys(block.view, 0xffff, &turn.turn, &turn.turn, 64, 64, 0);
        list->table[t]->turn_keys(block.view, 0xffff, NULL, &turn.turn, 64, 64, 0);
        list->ref->turn_keys(want.view, 0xffff, &turn.turn, &turn.turn, 64, 64, 0);
        list->ref->turn_keys(want.view, 0xffff, NULL, &turn.turn, 64, 64, 0);
        check_same("turn_keys without room", list->table[t], block.view->k, want.view->k,
                   RS_PAGE_ENTRIES * 64);
        for (size_t i = 0; i < RS_PAGE_ENTRIES * 64; i++) assert_true(block.view->k[i] != INT8_MIN);
        free_block(&block);
        free_block(&want);
    }
    free_turn(&turn);
}

static void check_attend_keys(const table_list *list, size_t rows, size_t head_dim, size_t n_pages,
                              gaps missing, int corner, guard_side side, uint64_t *seed) {
    static const int k_range[3][2] = {{-128, 127}, {-128, -128}, {127, 127}};
    const size_t n = n_pages * RS_PAGE_ENTRIES, stride = n + (rows % 2 ? 0 : 5);
    guarded_block block =
        alloc_block(n_pages, missing, head_dim, side, k_range[corner][0], k_range[corner][1], seed);
    guard q = guard_alloc(rows * head_dim, side), q_scale = guard_alloc(rows * sizeof(float), side);
    int8_t *query = q.data;
    float *scale = q_scale.data;
    for (size_t i = 0; i < rows * head_dim; i++) query[i] = random_int8(seed, -127, corner ? -127 : 127);
    fill_scales(scale, rows, seed);
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        guard score = guard_alloc(((rows - 1) * stride + n) * sizeof(float), side);
        guard alone = guard_alloc(n * sizeof(float), side);
        float *got = score.data;
        fill_constant(got, score.bytes / sizeof(float), SENTINEL);
        k->attend_keys(query, scale, rows, block.view, n_pages, head_dim, got, stride);
        for (size_t r = 0; r < rows; r++) {
            for (size_t i = 0; i < n; i++) {
                const rs_page_view *page = &block.view[i / RS_PAGE_ENTRIES];
                const size_t e = i % RS_PAGE_ENTRIES;
                if (page->k == NULL) {
                    assert_true(got[r * stride + i] == SENTINEL);
                    continue;
                }
                int dot = 0;
                for (size_t d = 0; d < head_dim; d++) dot += query[r * head_dim + d] * key_at(page, e, d);
                const double want = (double)scale[r] * (double)page->k_scale[e] * dot;
                /* The dot product is exact, as is its float; two products round, the first perhaps as a
                 * denormal. */
                check_close("attend_keys", k, r * n + i, got[r * stride + i], want,
                            3 * ROUNDING * fabs(want) + 0x1p24 * TINY);
            }
            fill_constant(alone.data, n, SENTINEL);
            k->attend_keys(query + r * head_dim, scale + r, 1, block.view, n_pages, head_dim, alone.data, n);
            check_same("attend_keys alone", k, got + r * stride, alone.data, alone.bytes);
        }
        for (size_t i = 0; i < score.bytes / sizeof(float); i++)
            assert_true(i % stride < n || got[i] == SENTINEL);
        guard_free(&score);
        guard_free(&alone);
    }
    free_block(&block);
    guard_free(&q);
    guard_free(&q_scale);
}

static void attend_keys_is_close_and_independent_of_rows(void **state) {
    uint64_t seed = 11;
    size_t turn = 0;
    for (size_t h = 0; h < COUNT(head_dims); h++) {
        for (size_t r = 0; r < COUNT(row_counts); r++) {
            for (int corner = 0; corner < 3; corner++) {
                /* Many rows meet one number of pages each time, few of them all. */
                const size_t step = row_counts[r] > 16 ? RS_ATTEND_PAGES : 1;
                for (size_t n_pages = 1 + turn % step; n_pages <= RS_ATTEND_PAGES; n_pages += step, turn++) {
                    check_attend_keys(*state, row_counts[r], head_dims[h], n_pages, (gaps)(turn % N_GAPS),
                                      corner, sides[turn / N_GAPS % 2], &seed);
                }
            }
        }
    }
}

/* A whole streaming softmax against the softmax of everything at once. */
static void check_softmax(const rs_kernels *k, size_t n, size_t steps, float magnitude, guard_side side,
                          uint64_t *seed) {
    guard score = guard_alloc(n * sizeof(float), side);
    float *p = score.data, max = -INFINITY, sum = 0;
    double true_max = -(double)INFINITY, true_sum = 0, terms = 0;
    for (size_t step = 0; step < steps; step++) {
        float before[256];
        const float old_max = max;
        for (size_t i = 0; i < n; i++) {
            p[i] = next_random(seed) % 4 == 0 ? -INFINITY : magnitude * random_float(seed);
            if (step == 0 || step == 2) p[i] = -INFINITY; /* whole invisible blocks, first and in between */
        }
        memcpy(before, p, sizeof(float) * n);
        const float old_sum = sum;
        const float factor = k->softmax_step(p, n, &max, &sum);
        double new_max = true_max;
        for (size_t i = 0; i < n; i++) new_max = (double)before[i] > new_max ? (double)before[i] : new_max;
        if ((double)max != new_max)
            fail_msg("softmax_step of %s: maximum %g", rs_isa_name(k->isa), (double)max);
        if (new_max == true_max) {
            assert_true(factor == 1.0f);
        } else if (isinf(old_max)) {
            assert_true(factor == 0.0f);
        } else {
            const double want = exp(true_max - new_max);
            /* One rounding of the difference, then the exponential: see below. */
            check_close("softmax_step's factor", k, 0, factor, want,
                        (4 + fabs(true_max - new_max)) * ROUNDING * want + exp(-87.0));
        }
        double added = 0;
        for (size_t i = 0; i < n; i++) {
            if (isinf(before[i])) {
                if (p[i] != 0.0f || signbit(p[i]))
                    fail_msg("softmax_step of %s: %zu is visible", rs_isa_name(k->isa), i);
                continue;
            }
            const double difference = (double)before[i] - new_max, want = exp(difference);
            /* The difference is rounded once, which the exponential turns into |difference| roundings; its
             * own error is 2 or 3 more. Below e^-87 it is 0. */
            check_close("softmax_step", k, i, p[i], want,
                        (4 + fabs(difference)) * ROUNDING * want + exp(-87.0));
            added += want;
        }
        if (isinf(new_max)) {
            check_same("softmax_step's sum", k, &sum, &old_sum, sizeof sum);
        } else {
            true_sum = true_sum * (isinf(true_max) ? 0 : exp(true_max - new_max)) + added;
            if (added == 0 && new_max == true_max)
                check_same("softmax_step's sum", k, &sum, &old_sum, sizeof sum);
            /* Terms as above, with differences up to 2 * magnitude, and their additions. */
            terms += (double)n / 8 + 16 + 2 * (4 + 2 * (double)magnitude);
            check_close("softmax_step's sum", k, step, sum, true_sum,
                        terms * ROUNDING * true_sum + (double)n * exp(-87.0));
        }
        true_max = new_max;
    }
    guard_free(&score);
}

static void softmax_step_streams(void **state) {
    const table_list *list = *state;
    static const size_t counts[] = {1, 7, 8, 9, 16, 17, 100, 128};
    static const float magnitudes[] = {0.0f, 1, 20, 80};
    uint64_t seed = 12;
    for (size_t t = 0; t < list->count; t++) {
        for (size_t c = 0; c < COUNT(counts); c++) {
            for (size_t m = 0; m < COUNT(magnitudes); m++) {
                for (size_t s = 0; s < COUNT(sides); s++) {
                    check_softmax(list->table[t], counts[c], 6, magnitudes[m], sides[s], &seed);
                }
            }
        }
    }
}

/* What the scales of values are. */
typedef enum value_scales {
    SCALES_ODD,     /* some of them zero, denormal, or so large that nothing else counts */
    SCALES_EVEN,    /* within a factor of 4 */
    SCALES_ALL_ONE, /* and all weights: sums are largest; values at one end of their range */
    SCALES_FEEBLE,  /* weights just below 2^-100 */
    SCALES_LEAST,   /* the largest of a row just 2^-100 */
    N_SCALES,
} value_scales;

static void fill_value_scales(guarded_block *block, value_scales kind, uint64_t *seed) {
    for (size_t i = 0; i < block->count * RS_PAGE_ENTRIES; i++) {
        float *scale = &block->page[i / RS_PAGE_ENTRIES].view.v_scale[i % RS_PAGE_ENTRIES];
        if (kind == SCALES_EVEN) *scale = 0.025f + 0.015f * random_float(seed);
        if (kind == SCALES_ALL_ONE) *scale = 1.0f;
        if (kind == SCALES_FEEBLE) *scale = 0x1.fffffep-101f;
        if (kind == SCALES_LEAST) *scale = 0x1p-100f;
    }
}

/* What a row's weights are to become. */
typedef struct row_weights {
    double exact[RS_ATTEND_PAGES * RS_PAGE_ENTRIES]; /* as they are; 0 for pages that are not there */
    double rounded[RS_ATTEND_PAGES * RS_PAGE_ENTRIES];
    bool tie[RS_ATTEND_PAGES * RS_PAGE_ENTRIES]; /* so near one that a kernel's roundings decide */
    double step;                                 /* 0: there is nothing to add */
} row_weights;

/* A weight in steps is rounded three times on the way, as is its product with the scale, which is the same
 * float everywhere: within 0.004 of a tie, either neighbour will do. */
static void round_weights(const float *prob, const guarded_block *block, row_weights *w) {
    const size_t n = block->count * RS_PAGE_ENTRIES;
    float max = 0;
    for (size_t i = 0; i < n; i++) {
        const rs_page_view *page = &block->view[i / RS_PAGE_ENTRIES];
        const float weight = page->v == NULL ? 0.0f : prob[i] * page->v_scale[i % RS_PAGE_ENTRIES];
        max = weight > max ? weight : max;
        w->exact[i] = weight;
    }
    w->step = max < 0x1p-100f ? 0 : (double)max / 16383;
    for (size_t i = 0; i < n; i++) {
        const double steps = w->step == 0 ? 0 : w->exact[i] / w->step;
        w->rounded[i] = nearbyint(steps) * w->step;
        w->tie[i] = fabs(steps - floor(steps) - 0.5) < 0.004;
        if (w->step == 0) w->exact[i] = 0;
    }
}

/* One output against both kinds of weights. Integer sums are exact; their float, the step, their product,
 * what was there times its factor, and the addition round, once each. */
static void check_value_sum(const rs_kernels *k, const guarded_block *block, const row_weights *w,
                            size_t head_dim, size_t d, double before, float got) {
    double rounded = 0, exact = 0, ties = 0, halves = 0;
    for (size_t i = 0; i < block->count * RS_PAGE_ENTRIES; i++) {
        const rs_page_view *page = &block->view[i / RS_PAGE_ENTRIES];
        if (page->v == NULL) continue;
        const double v = value_at(page, head_dim, i % RS_PAGE_ENTRIES, d);
        rounded += w->rounded[i] * v;
        exact += w->exact[i] * v;
        halves += w->step * fabs(v) / 2;
        if (w->tie[i]) ties += w->step * fabs(v);
    }
    const double roundings = 5 * ROUNDING * (fabs(before) + fabs(rounded) + ties) + TINY;
    check_close("attend_values", k, d, got, before + rounded, ties + roundings);
    check_close("attend_values, exact weights", k, d, got, before + exact, 1.01 * halves + roundings);
}

static void check_attend_values(const table_list *list, size_t rows, size_t head_dim, size_t n_pages,
                                gaps missing, value_scales scales, guard_side side, uint64_t *seed) {
    static const float factors[] = {1.0f, 0.37f, 0.0f};
    const size_t n = n_pages * RS_PAGE_ENTRIES, stride = n + (rows % 2 ? 0 : 5), blind = rows / 2;
    const int end = next_random(seed) % 2 ? -128 : 127;
    guarded_block block = alloc_block(n_pages, missing, head_dim, side, scales == SCALES_ALL_ONE ? end : -128,
                                      scales == SCALES_ALL_ONE ? end : 127, seed);
    guard p = guard_alloc(((rows - 1) * stride + n) * sizeof(float), side);
    guard f = guard_alloc(rows * sizeof(float), side);
    guard acc = guard_alloc(rows * head_dim * sizeof(float), side);
    guard alone = guard_alloc(head_dim * sizeof(float), side);
    float *prob = p.data, *factor = f.data, *got = acc.data;
    float *before = malloc(acc.bytes);
    row_weights *weights = malloc(rows * sizeof *weights);
    assert_true(before != NULL && weights != NULL);
    fill_value_scales(&block, scales, seed);
    for (size_t i = 0; i < p.bytes / sizeof(float); i++) {
        const bool whole = scales >= SCALES_ALL_ONE || next_random(seed) % 16 == 0;
        prob[i] = whole ? 1.0f : fabsf(random_float(seed));
    }
    for (size_t i = 0; i < n; i++) {
        prob[blind * stride + i] = 0.0f; /* a row that sees nothing, but for pages that are not there */
        if (block.view[i / RS_PAGE_ENTRIES].v == NULL) prob[blind * stride + i] = 1.0f;
    }
    fill_floats(before, rows * head_dim, scales == SCALES_LEAST ? 0x1p-93f : 100, seed);
    for (size_t r = 0; r < rows; r++) {
        factor[r] = factors[(r + n_pages) % COUNT(factors)];
        round_weights(prob + r * stride, &block, &weights[r]);
    }
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        memcpy(got, before, acc.bytes);
        k->attend_values(prob, stride, factor, rows, block.view, n_pages, head_dim, got);
        for (size_t r = 0; r < rows; r++) {
            for (size_t d = 0; d < head_dim; d++) {
                const size_t at = r * head_dim + d;
                check_value_sum(k, &block, &weights[r], head_dim, d, (double)factor[r] * (double)before[at],
                                got[at]);
                /* To the bit, but for the sign of a zero. */
                assert_true(weights[r].step != 0 || got[at] == factor[r] * before[at]);
            }
            memcpy(alone.data, before + r * head_dim, alone.bytes);
            k->attend_values(prob + r * stride, n, factor + r, 1, block.view, n_pages, head_dim, alone.data);
            check_same("attend_values alone", k, got + r * head_dim, alone.data, alone.bytes);
        }
    }
    assert_true(weights[blind].step == 0);
    free(before);
    free(weights);
    free_block(&block);
    guard_free(&p);
    guard_free(&f);
    guard_free(&acc);
    guard_free(&alone);
}

static void attend_values_is_close_and_independent_of_rows(void **state) {
    uint64_t seed = 13;
    size_t turn = 0;
    for (size_t h = 0; h < COUNT(head_dims); h++) {
        for (size_t r = 0; r < COUNT(row_counts); r++) {
            for (size_t scales = 0; scales < N_SCALES; scales++) {
                const size_t step = row_counts[r] > 16 ? RS_ATTEND_PAGES : 1;
                for (size_t n_pages = 1 + turn % step; n_pages <= RS_ATTEND_PAGES; n_pages += step, turn++) {
                    /* Turned once more each time around, so that no number of pages has its own gaps. */
                    const gaps missing = (gaps)((turn + turn / RS_ATTEND_PAGES) % N_GAPS);
                    check_attend_values(*state, row_counts[r], head_dims[h], n_pages, missing,
                                        (value_scales)scales, sides[turn % 2], &seed);
                }
            }
        }
    }
}

/* A NaN at each place of n scores, or (at n) at all of them, the others being `rest`: it stays, through a
 * further block without one, too. */
static void check_scores_of_none(const rs_kernels *k) {
    static const size_t counts[] = {1, 9, 16, 33, 128};
    static const float rests[] = {-INFINITY, -2, 3}, before[] = {-INFINITY, 1};
    for (size_t c = 0; c < COUNT(counts); c++) {
        for (size_t i = 0; i < (counts[c] + 1) * COUNT(rests) * COUNT(before); i++) {
            const size_t n = counts[c], at = i / (COUNT(rests) * COUNT(before));
            const float rest = rests[i % COUNT(rests)];
            float score[128], max = before[i / COUNT(rests) % COUNT(before)], sum = isinf(max) ? 0.0f : 1.0f;
            for (size_t j = 0; j < n; j++) score[j] = at == n || at == j ? NAN : rest;
            k->softmax_step(score, n, &max, &sum);
            for (size_t j = 0; j < n; j++) assert_true((at != n && at != j) || isnan(score[j]));
            assert_true(isnan(sum) && max != -INFINITY);
            for (size_t j = 0; j < n; j++) score[j] = rest;
            k->softmax_step(score, n, &max, &sum);
            assert_true(isnan(sum) && max != -INFINITY);
        }
    }
}

/* Where a weight of a file is no number, neither are the logits: it must come through every rounding. */
static void what_is_no_number_stays_none(void **state) {
    const table_list *list = *state;
    const float none[] = {NAN, -NAN, INFINITY, -INFINITY};
    enum { N = 2 * RS_ACT_BLOCK, DIM = 64 };
    uint64_t seed = 15;
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        for (size_t i = 0; i < N * COUNT(none); i++) {
            float x[N];
            int8_t q[N];
            guarded_acts acts = alloc_acts(1, N, GUARD_AFTER);
            fill_floats(x, N, 10, &seed);
            x[i % N] = none[i / N];
            k->quantize_acts(x, &acts.acts, 1, N);
            assert_true(isfinite(acts.acts.scale[i % N / RS_ACT_BLOCK]) == 0);
            assert_true(isfinite(acts.acts.scale[1 - i % N / RS_ACT_BLOCK]) != 0);
            assert_true(isfinite(k->quantize_head(x, q, N)) == 0);
            free_acts(&acts);
        }
        for (size_t i = 0; i < RS_PAGE_ENTRIES * 2; i++) {
            float prob[RS_PAGE_ENTRIES], acc[DIM] = {0};
            const float factor = 1;
            guarded_block block = alloc_block(1, NO_GAPS, DIM, GUARD_AFTER, 1, 127, &seed);
            fill_value_scales(&block, SCALES_EVEN, &seed);
            for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) prob[e] = 1.0f;
            block.page->view.v_scale[i % RS_PAGE_ENTRIES] = none[i / RS_PAGE_ENTRIES];
            k->attend_values(prob, RS_PAGE_ENTRIES, &factor, 1, block.view, 1, DIM, acc);
            for (size_t d = 0; d < DIM; d++) assert_true(isfinite(acc[d]) == 0);
            free_block(&block);
        }
        check_scores_of_none(k);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_complete),
        cmocka_unit_test(selection_obeys_its_limit),
        cmocka_unit_test(every_level_is_exact_or_missing),
        cmocka_unit_test(the_environment_names_a_level),
        cmocka_unit_test(isa_names_are_inverse),
        cmocka_unit_test(halves_are_exact),
        cmocka_unit_test(floats_become_the_nearest_half),
        cmocka_unit_test(float_types_are_exact),
        cmocka_unit_test(unpack_agrees),
        cmocka_unit_test(quantize_acts_rounds_to_nearest),
        cmocka_unit_test(multiply_is_close_and_independent_of_rows),
        cmocka_unit_test(multiply_keeps_to_its_channels),
        cmocka_unit_test(multiply_blocks_is_unpack_and_multiply),
        cmocka_unit_test(dot_f32_is_close_and_independent_of_rows),
        cmocka_unit_test(rms_norm_is_close),
        cmocka_unit_test(rope_rotates_pairs),
        cmocka_unit_test(gates_are_close),
        cmocka_unit_test(add_is_exact),
        cmocka_unit_test(largest_is_the_first_of_equals),
        cmocka_unit_test(quantize_head_rounds_to_nearest),
        cmocka_unit_test(what_is_no_number_stays_none),
        cmocka_unit_test(rotate_keys_rotates_and_rounds),
        cmocka_unit_test(turn_keys_is_taken_back_to_the_bit),
        cmocka_unit_test(turn_keys_stops_at_the_ends),
        cmocka_unit_test(attend_keys_is_close_and_independent_of_rows),
        cmocka_unit_test(softmax_step_streams),
        cmocka_unit_test(attend_values_is_close_and_independent_of_rows),
    };
    return cmocka_run_group_tests_name("kernels", tests, find_tables, NULL);
}
