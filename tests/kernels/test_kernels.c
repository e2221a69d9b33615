/*
 * Every kernel of every table that this CPU can run: against plain double arithmetic, and to the bit against
 * the portable table where the contract leaves no freedom. Random and extreme values, all tails, buffers of
 * exactly the contract's size beside inaccessible pages.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "tests/kernels/guard.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Half the distance from 1 to the next float: the relative error of one rounding. */
static const double ROUNDING = 0x1p-24;
/* The absolute error of one rounding among denormals. */
static const double TINY = 0x1p-149;

static const guard_side sides[] = {GUARD_AFTER, GUARD_BEFORE};
static const size_t lengths[] = {32, 64, 96, 256, 576, 1536, 2048};
static const size_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 128};
static const size_t head_dims[] = {16, 32, 64, 80, 128, 256, RS_HEAD_DIM_MAX};

/* ---------------------------------------------------------------------------------------- helpers -- */

typedef struct table_list {
    const rs_kernels *ref;
    const rs_kernels *table[8]; /* ref first */
    size_t count;
} table_list;

static int find_tables(void **state) {
    static table_list list;
    for (rs_isa isa = RS_ISA_REF; isa <= RS_ISA_I8MM; isa = (rs_isa)(isa + 1)) {
        const rs_kernels *kernels;
        if (rs_kernels_select(isa, &kernels, NULL) != RS_OK || kernels->isa != isa) continue;
        if (isa == RS_ISA_REF) list.ref = kernels;
        list.table[list.count++] = kernels;
        print_message("table: %s\n", rs_isa_name(isa));
    }
    *state = &list;
    return list.ref == NULL;
}

/* SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
static uint64_t next_random(uint64_t *seed) {
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Evenly in [-1, 1). */
static float random_float(uint64_t *seed) {
    return (float)((double)(next_random(seed) >> 11) * 0x1p-52 - 1.0);
}

static int8_t random_int8(uint64_t *seed, int low, int high) {
    return (int8_t)(low + (int)(next_random(seed) % (uint64_t)(high - low + 1)));
}

static void fill_floats(float *x, size_t n, float magnitude, uint64_t *seed) {
    for (size_t i = 0; i < n; i++) x[i] = magnitude * random_float(seed);
}

/* Mostly about 1, both signs; one in eight is 0, denormal, the smallest normal, or large. */
static void fill_scales(float *scale, size_t n, uint64_t *seed) {
    static const float odd[] = {0.0f, -0.0f, 1e-41f, -1e-41f, FLT_MIN, 1e8f};
    for (size_t i = 0; i < n; i++) {
        const uint64_t draw = next_random(seed);
        scale[i] = draw % 8 == 0 ? odd[draw / 8 % COUNT(odd)] : random_float(seed);
    }
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

typedef struct guarded_row {
    guard q, scale, min;
    rs_row row;
} guarded_row;

/* Without minima the row has none to read or write. */
static guarded_row alloc_row(size_t n, int has_min, guard_side side) {
    guarded_row r;
    r.q = guard_alloc(n, side);
    r.scale = guard_alloc(n / RS_ROW_GROUP * sizeof(float), side);
    r.min = guard_alloc(has_min ? n / RS_ROW_GROUP * sizeof(float) : 0, side);
    r.row = (rs_row){r.q.data, r.scale.data, r.min.data, has_min};
    return r;
}

static void free_row(guarded_row *r) {
    guard_free(&r->q);
    guard_free(&r->scale);
    guard_free(&r->min);
}

typedef struct guarded_acts {
    guard q, scale, sum;
    rs_acts acts;
} guarded_acts;

static guarded_acts alloc_acts(size_t rows, size_t n, guard_side side) {
    guarded_acts a;
    a.q = guard_alloc(rows * n, side);
    a.scale = guard_alloc(rows * n / RS_ACT_BLOCK * sizeof(float), side);
    a.sum = guard_alloc(rows * n / RS_ROW_GROUP * sizeof(float), side);
    a.acts = (rs_acts){a.q.data, a.scale.data, a.sum.data};
    return a;
}

static void free_acts(guarded_acts *a) {
    guard_free(&a->q);
    guard_free(&a->scale);
    guard_free(&a->sum);
}

/* --------------------------------------------------------------------------------------- selection -- */

static void tables_are_complete(void **state) {
    const table_list *list = *state;
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        for (rs_type type = RS_TYPE_F32; type < RS_TYPE_COUNT; type = (rs_type)(type + 1)) {
            assert_true(k->dequantize[type] != NULL);
            assert_true((k->unpack[type] != NULL) == rs_type_is_quantized(type));
        }
        assert_true(k->quantize_acts && k->dot_acts && k->dot_f32 && k->rms_norm && k->rope && k->swiglu &&
                    k->geglu);
        assert_true(k->add && k->quantize_head && k->attend_keys && k->softmax_step && k->attend_values);
    }
}

static void selection_obeys_its_limit(void **state) {
    const table_list *list = *state;
    const rs_kernels *kernels = NULL;
    rs_error error = {0};
    assert_int_equal(rs_kernels_select(RS_ISA_REF, &kernels, &error), RS_OK);
    assert_int_equal(kernels->isa, RS_ISA_REF);
    assert_int_equal(rs_kernels_select(RS_ISA_AUTO, &kernels, &error), RS_OK);
    assert_ptr_equal(kernels, list->table[list->count - 1]);
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

static void isa_names_are_inverse(void **state) {
    (void)state;
    for (rs_isa isa = RS_ISA_AUTO; isa <= RS_ISA_I8MM; isa = (rs_isa)(isa + 1)) {
        rs_isa found = (rs_isa)99;
        assert_int_equal(rs_isa_from_name(rs_isa_name(isa), &found), RS_OK);
        assert_int_equal(found, isa);
    }
    rs_isa untouched = RS_ISA_AMX;
    assert_string_equal(rs_isa_name((rs_isa)99), "?");
    assert_string_equal(rs_isa_name((rs_isa)-1), "?");
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

/* Unpacking is the same to the bit in every table, and scale * q + min is what dequantize says. */
static void check_unpack(const table_list *list, rs_type type, size_t n, guard_side side, uint64_t *seed) {
    guard blocks = guard_alloc(rs_row_bytes(type, n), side);
    guard values = guard_alloc(n * sizeof(float), side);
    fill_blocks(type, blocks.data, blocks.bytes, seed);
    const int has_min =
        type == RS_TYPE_Q4_1 || type == RS_TYPE_Q5_1 || type == RS_TYPE_Q4_K || type == RS_TYPE_Q5_K;
    guarded_row ref = alloc_row(n, has_min, side);
    list->ref->unpack[type](blocks.data, &ref.row, n);
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        guarded_row got = alloc_row(n, has_min, side);
        got.row.has_min = -1;
        k->unpack[type](blocks.data, &got.row, n);
        assert_int_equal(got.row.has_min, has_min);
        check_same("unpack's q", k, got.row.q, ref.row.q, n);
        check_same("unpack's scale", k, got.row.scale, ref.row.scale, ref.scale.bytes);
        if (has_min) check_same("unpack's min", k, got.row.min, ref.row.min, ref.min.bytes);
        k->dequantize[type](blocks.data, values.data, n);
        for (size_t i = 0; i < n; i++) {
            const float product = got.row.scale[i / RS_ROW_GROUP] * (float)got.row.q[i];
            const float want = has_min ? product + got.row.min[i / RS_ROW_GROUP] : product;
            if (((float *)values.data)[i] == want) continue;
            fail_msg("%s of %s: element %zu: unpack and dequantize differ", rs_types[type].name,
                     rs_isa_name(k->isa), i);
        }
        free_row(&got);
    }
    free_row(&ref);
    guard_free(&blocks);
    guard_free(&values);
}

static void unpack_agrees(void **state) {
    uint64_t seed = 2;
    for (rs_type type = RS_TYPE_Q4_0; type < RS_TYPE_COUNT; type = (rs_type)(type + 1)) {
        for (size_t blocks = 1; blocks <= 20; blocks++) {
            for (size_t s = 0; s < COUNT(sides); s++) {
                check_unpack(*state, type, blocks * rs_types[type].block_elems, sides[s], &seed);
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
                for (size_t h = 0; h < 2; h++) {
                    int sum = 0;
                    for (size_t i = 0; i < RS_ROW_GROUP; i++) sum += q[h * RS_ROW_GROUP + i];
                    const float want = ref.acts.scale[b] * (float)sum;
                    check_same("quantize_acts' sum", list->ref, &ref.acts.sum[2 * b + h], &want, sizeof want);
                }
            }
            for (size_t t = 0; t < list->count; t++) {
                guarded_acts got = alloc_acts(rows, n, side);
                list->table[t]->quantize_acts(x.data, &got.acts, rows, n);
                check_same("quantize_acts' q", list->table[t], got.acts.q, ref.acts.q, ref.q.bytes);
                check_same("quantize_acts' scale", list->table[t], got.acts.scale, ref.acts.scale,
                           ref.scale.bytes);
                check_same("quantize_acts' sum", list->table[t], got.acts.sum, ref.acts.sum, ref.sum.bytes);
                free_acts(&got);
            }
            free_acts(&ref);
            guard_free(&x);
        }
    }
}

enum { N_CORNERS = 6 };

/* The corners of the int8 ranges, where 16-bit intermediate sums are largest; `corner` < N_CORNERS. */
static void fill_operands(int8_t *w, size_t n_w, int8_t *x, size_t n_x, int corner, uint64_t *seed) {
    static const struct {
        int w_low, w_high, x_low, x_high;
    } ranges[N_CORNERS] = {
        {-128, 127, -127, 127}, {-128, -128, 127, 127}, {-128, -128, -127, -127},
        {127, 127, -127, -127}, {-128, -127, 126, 127}, {0, 15, -127, 127},
    };
    for (size_t i = 0; i < n_w; i++) w[i] = random_int8(seed, ranges[corner].w_low, ranges[corner].w_high);
    for (size_t i = 0; i < n_x; i++) x[i] = random_int8(seed, ranges[corner].x_low, ranges[corner].x_high);
}

static void check_dot_acts(const table_list *list, size_t rows, size_t n, int corner, int has_min,
                           guard_side side, uint64_t *seed) {
    const size_t groups = n / RS_ROW_GROUP, stride = corner % 2 == 0 ? 1 : 3;
    const size_t blocks = n / RS_ACT_BLOCK;
    guarded_row w = alloc_row(n, has_min, side);
    guarded_acts x = alloc_acts(rows, n, side);
    fill_operands(w.row.q, n, x.acts.q, rows * n, corner, seed);
    fill_scales(w.row.scale, groups, seed);
    if (has_min) fill_scales(w.row.min, groups, seed);
    fill_scales(x.acts.scale, rows * blocks, seed);
    for (size_t g = 0; g < rows * groups; g++) {
        int sum = 0;
        for (size_t i = 0; i < RS_ROW_GROUP; i++) sum += x.acts.q[g * RS_ROW_GROUP + i];
        x.acts.sum[g] = x.acts.scale[g / 2] * (float)sum;
    }
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        guard out = guard_alloc(((rows - 1) * stride + 1) * sizeof(float), side);
        float *got = out.data;
        for (size_t i = 0; i < out.bytes / sizeof(float); i++) got[i] = -7.0f;
        k->dot_acts(&w.row, &x.acts, rows, n, got, stride);
        for (size_t r = 0; r < rows; r++) {
            double want = 0, magnitude = 0;
            for (size_t g = 0; g < groups; g++) {
                const double scale = (double)w.row.scale[g] * (double)x.acts.scale[r * blocks + g / 2];
                for (size_t i = g * RS_ROW_GROUP; i < (g + 1) * RS_ROW_GROUP; i++) {
                    const double term = scale * w.row.q[i] * x.acts.q[r * n + i];
                    want += term;
                    magnitude += fabs(term);
                }
                const double min = has_min ? (double)w.row.min[g] * (double)x.acts.sum[r * groups + g] : 0;
                want += min;
                magnitude += fabs(min);
            }
            /* The integer sums are exact; at most 2 additions a group and a few roundings of each term
             * remain. A product of scales may be rounded as a denormal before it meets an integer of up to
             * 2^18. */
            const double tolerance =
                (2.0 * (double)groups + 8) * ROUNDING * magnitude + (double)n * 0x1p18 * TINY;
            check_close("dot_acts", k, r, got[r * stride], want, tolerance);

            float alone = 0;
            rs_acts one = {x.acts.q + r * n, x.acts.scale + r * blocks, x.acts.sum + r * groups};
            k->dot_acts(&w.row, &one, 1, n, &alone, 1);
            check_same("dot_acts alone", k, &got[r * stride], &alone, sizeof alone);
        }
        for (size_t i = 0; i < out.bytes / sizeof(float); i++)
            assert_true(i % stride == 0 || got[i] == -7.0f);
        guard_free(&out);
    }
    free_row(&w);
    free_acts(&x);
}

static void dot_acts_is_close_and_independent_of_rows(void **state) {
    uint64_t seed = 4;
    for (size_t l = 0; l < COUNT(lengths); l++) {
        for (size_t r = 0; r < COUNT(row_counts); r++) {
            for (int corner = 0; corner < N_CORNERS; corner++) {
                const guard_side side = sides[(l + r + (size_t)corner) % 2];
                check_dot_acts(*state, row_counts[r], lengths[l], corner, corner % 2, side, &seed);
                check_dot_acts(*state, row_counts[r], lengths[l], corner, !(corner % 2), side, &seed);
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

static const size_t vector_lengths[] = {1, 3, 7, 8, 9, 15, 16, 17, 64, 100, 576, 1536};

static void rms_norm_is_close(void **state) {
    const table_list *list = *state;
    static const float magnitudes[] = {1, 1e-6f, 1e18f};
    uint64_t seed = 6;
    for (size_t c = 0; c < COUNT(vector_lengths); c++) {
        for (size_t t = 0; t < list->count; t++) {
            const size_t n = vector_lengths[c];
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
    for (size_t c = 0; c < COUNT(dims); c++) {
        for (int variant = 0; variant < 4; variant++) {
            for (size_t t = 0; t < list->count; t++) {
                const size_t dim = dims[c], half = dim / 2, n = variant / 2 ? dim + 16 : dim;
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
    static const float odd[] = {0.0f,   -0.0f, 100,    -100,  1e4f,   -1e4f,
                                1e-41f, 87.3f, -87.3f, 88.9f, -88.9f, -3e12f};
    uint64_t seed = 8;
    for (size_t c = 0; c < COUNT(vector_lengths); c++) {
        for (size_t t = 0; t < list->count; t++) {
            const size_t n = vector_lengths[c];
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
    for (size_t c = 0; c < COUNT(vector_lengths); c++) {
        for (size_t t = 0; t < list->count; t++) {
            const size_t n = vector_lengths[c];
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

/* --------------------------------------------------------------------------------------- attention -- */

typedef struct guarded_page {
    guard k, v, k_scale, v_scale;
    rs_page_view view;
} guarded_page;

/* Bytes in [low, high]. */
static guarded_page alloc_page(size_t head_dim, guard_side side, int low, int high, uint64_t *seed) {
    guarded_page p;
    p.k = guard_alloc(RS_PAGE_ENTRIES * head_dim, side);
    p.v = guard_alloc(RS_PAGE_ENTRIES * head_dim, side);
    p.k_scale = guard_alloc(RS_PAGE_ENTRIES * sizeof(float), side);
    p.v_scale = guard_alloc(RS_PAGE_ENTRIES * sizeof(float), side);
    p.view = (rs_page_view){p.k.data, p.v.data, p.k_scale.data, p.v_scale.data};
    for (size_t i = 0; i < RS_PAGE_ENTRIES * head_dim; i++) {
        p.view.k[i] = random_int8(seed, low, high);
        p.view.v[i] = random_int8(seed, low, high);
    }
    fill_scales(p.view.k_scale, RS_PAGE_ENTRIES, seed);
    fill_scales(p.view.v_scale, RS_PAGE_ENTRIES, seed);
    return p;
}

static void free_page(guarded_page *p) {
    guard_free(&p->k);
    guard_free(&p->v);
    guard_free(&p->k_scale);
    guard_free(&p->v_scale);
}

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

static void check_attend_keys(const table_list *list, size_t rows, size_t head_dim, int corner,
                              guard_side side, uint64_t *seed) {
    static const int k_range[3][2] = {{-127, 127}, {-127, -127}, {127, 127}};
    const size_t stride = RS_PAGE_ENTRIES * (corner == 1 ? 1 : RS_ATTEND_PAGES);
    guarded_page page = alloc_page(head_dim, side, k_range[corner][0], k_range[corner][1], seed);
    guard q = guard_alloc(rows * head_dim, side), q_scale = guard_alloc(rows * sizeof(float), side);
    int8_t *query = q.data;
    float *scale = q_scale.data;
    for (size_t i = 0; i < rows * head_dim; i++) query[i] = random_int8(seed, -127, corner ? -127 : 127);
    fill_scales(scale, rows, seed);
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        guard score = guard_alloc(((rows - 1) * stride + RS_PAGE_ENTRIES) * sizeof(float), side);
        float *got = score.data;
        for (size_t i = 0; i < score.bytes / sizeof(float); i++) got[i] = -7.0f;
        k->attend_keys(query, scale, rows, &page.view, head_dim, got, stride);
        for (size_t r = 0; r < rows; r++) {
            for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
                int dot = 0;
                for (size_t d = 0; d < head_dim; d++)
                    dot += query[r * head_dim + d] * key_at(&page.view, e, d);
                const double want = (double)scale[r] * (double)page.view.k_scale[e] * dot;
                /* The dot product is exact, as is its float; two products round, the first perhaps as a
                 * denormal. */
                check_close("attend_keys", k, r * RS_PAGE_ENTRIES + e, got[r * stride + e], want,
                            3 * ROUNDING * fabs(want) + 0x1p24 * TINY);
            }
            float alone[RS_PAGE_ENTRIES];
            k->attend_keys(query + r * head_dim, scale + r, 1, &page.view, head_dim, alone, RS_PAGE_ENTRIES);
            check_same("attend_keys alone", k, got + r * stride, alone, sizeof alone);
        }
        for (size_t i = 0; i < score.bytes / sizeof(float); i++) {
            assert_true(i % stride < RS_PAGE_ENTRIES || got[i] == -7.0f);
        }
        guard_free(&score);
    }
    free_page(&page);
    guard_free(&q);
    guard_free(&q_scale);
}

static void attend_keys_is_close_and_independent_of_rows(void **state) {
    uint64_t seed = 11;
    for (size_t h = 0; h < COUNT(head_dims); h++) {
        for (size_t r = 0; r < COUNT(row_counts); r++) {
            for (int corner = 0; corner < 3; corner++) {
                check_attend_keys(*state, row_counts[r], head_dims[h], corner, sides[(h + r) % 2], &seed);
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

static void check_attend_values(const table_list *list, size_t rows, size_t head_dim, guard_side side,
                                uint64_t *seed) {
    const size_t stride = RS_PAGE_ENTRIES * (rows % 2 ? 1 : RS_ATTEND_PAGES);
    guarded_page page = alloc_page(head_dim, side, -128, 127, seed);
    guard p = guard_alloc(((rows - 1) * stride + RS_PAGE_ENTRIES) * sizeof(float), side);
    guard acc = guard_alloc(rows * head_dim * sizeof(float), side);
    float *weight = p.data, *got = acc.data;
    float *before = malloc(acc.bytes), *alone = malloc(acc.bytes);
    assert_true(before != NULL && alone != NULL);
    for (size_t t = 0; t < list->count; t++) {
        const rs_kernels *k = list->table[t];
        fill_floats(weight, p.bytes / sizeof(float), 1, seed);
        fill_floats(before, rows * head_dim, 100, seed);
        for (size_t e = 0; e < RS_PAGE_ENTRIES; e++)
            weight[rows / 2 * stride + e] = 0.0f; /* a row that sees nothing */
        memcpy(got, before, acc.bytes);
        memcpy(alone, before, acc.bytes);
        k->attend_values(weight, stride, rows, &page.view, head_dim, got);
        for (size_t r = 0; r < rows; r++) {
            for (size_t d = 0; d < head_dim; d++) {
                double want = before[r * head_dim + d], magnitude = fabs(want);
                for (size_t e = 0; e < RS_PAGE_ENTRIES; e++) {
                    const double term = (double)weight[r * stride + e] * (double)page.view.v_scale[e] *
                                        value_at(&page.view, head_dim, e, d);
                    want += term;
                    magnitude += fabs(term);
                }
                /* 16 additions and two products a term, the first perhaps rounded as a denormal. */
                check_close("attend_values", k, r * head_dim + d, got[r * head_dim + d], want,
                            (RS_PAGE_ENTRIES + 3) * ROUNDING * magnitude + 0x1p12 * TINY);
            }
            k->attend_values(weight + r * stride, stride, 1, &page.view, head_dim, alone + r * head_dim);
        }
        check_same("attend_values alone", k, got, alone, acc.bytes);
        check_same("attend_values of nothing", k, got + rows / 2 * head_dim, before + rows / 2 * head_dim,
                   head_dim * sizeof(float));
    }
    free(before);
    free(alone);
    free_page(&page);
    guard_free(&p);
    guard_free(&acc);
}

static void attend_values_is_close_and_independent_of_rows(void **state) {
    uint64_t seed = 13;
    for (size_t h = 0; h < COUNT(head_dims); h++) {
        for (size_t r = 0; r < COUNT(row_counts); r++) {
            for (size_t s = 0; s < COUNT(sides); s++) {
                check_attend_values(*state, row_counts[r], head_dims[h], sides[s], &seed);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_complete),
        cmocka_unit_test(selection_obeys_its_limit),
        cmocka_unit_test(isa_names_are_inverse),
        cmocka_unit_test(halves_are_exact),
        cmocka_unit_test(float_types_are_exact),
        cmocka_unit_test(unpack_agrees),
        cmocka_unit_test(quantize_acts_rounds_to_nearest),
        cmocka_unit_test(dot_acts_is_close_and_independent_of_rows),
        cmocka_unit_test(dot_f32_is_close_and_independent_of_rows),
        cmocka_unit_test(rms_norm_is_close),
        cmocka_unit_test(rope_rotates_pairs),
        cmocka_unit_test(gates_are_close),
        cmocka_unit_test(add_is_exact),
        cmocka_unit_test(quantize_head_rounds_to_nearest),
        cmocka_unit_test(attend_keys_is_close_and_independent_of_rows),
        cmocka_unit_test(softmax_step_streams),
        cmocka_unit_test(attend_values_is_close_and_independent_of_rows),
    };
    return cmocka_run_group_tests_name("kernels", tests, find_tables, NULL);
}
