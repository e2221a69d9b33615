/*
 * Channel panels and activations in two terms: the portable kernels against double arithmetic, and those of
 * the AMX level to the bit against the portable ones, in buffers of exactly the contract's size beside
 * inaccessible pages. Attention by tiles to the bit against that without.
 *
 * The machine code that ships is what runs here. Where the CPU has no tiles, or the system does not lend
 * them, each of its AMX instructions is carried out by the model of amx_model.h, which also sees to it that
 * no CPU would refuse one. AVX-512 VNNI has to be there; without it only the portable kernels are tested.
 */
#define _POSIX_C_SOURCE 200112L /* setenv */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <cpuinfo.h>

#include "kernels/levels.h"
#include "kernels/x86/amx.h"
#include "kernels/x86/avx512.h"
#include "ports/port.h"
#include "tests/kernels/amx_model.h"
#include "tests/kernels/guard.h"
#include "tests/kernels/pages.h"
#include "tests/kernels/random.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* What outputs hold before, where they may not be touched. */
static const float SENTINEL = -7.0f;

enum { ROWS_MAX = 40, STEP = RS_ACT_BLOCK, LONG_ROW = 1 << 16 };

static const rs_panel_kind kinds[] = {RS_PANEL_U4, RS_PANEL_U5, RS_PANEL_U6, RS_PANEL_S8};

/* What this machine can run. */
static struct {
    bool avx512;
    bool tiles; /* real ones */
} cpu;

static int look_at_cpu(void **state) {
    (void)state;
    const rs_kernels *kernels;
    if (unsetenv("RASURE_ISA") != 0) return -1;
    cpu.avx512 = rs_kernels_select(RS_ISA_AVX512VNNI, &kernels, NULL) == RS_OK;
    cpu.tiles = rs_kernels_select(RS_ISA_AMX, &kernels, NULL) == RS_OK;
    print_message("AVX-512 VNNI: %s, tiles: %s\n", cpu.avx512 ? "yes" : "no", cpu.tiles ? "yes" : "modelled");
    return 0;
}

/* At the start of each test that runs the kernel: cmocka takes SIGILL for itself in every test. */
static void use_tiles(void) {
    if (!cpu.avx512) skip();
    amx_model_reset();
    if (!cpu.tiles && !amx_model_install()) skip();
}

/* Behind a kernel: it was not refused anything, and leaves no tiles for the system to save. */
static void check_tiles_were_used_well(void) {
    if (cpu.tiles) return;
    if (amx_model_fault() != NULL) fail_msg("%s", amx_model_fault());
    assert_false(amx_model_in_use());
}

/* ---------------------------------------------------------------------------------------- helpers -- */

static int random_int(uint64_t *seed, int low, int high) {
    return low + (int)(next_random(seed) % (uint64_t)(high - low + 1));
}

static guard_side random_side(uint64_t *seed) {
    return next_random(seed) % 2 ? GUARD_AFTER : GUARD_BEFORE;
}

/* Mostly about 1, both signs; one in eight is 0, denormal, tiny or large. */
static float odd_float(uint64_t *seed) {
    static const float odd[] = {0.0f, -0.0f, 1e-41f, -1e-41f, 0x1p-126f, 0x1p-118f, 1e8f, 1e30f};
    const uint64_t draw = next_random(seed);
    return draw % 8 == 0 ? odd[draw / 8 % COUNT(odd)] : random_float(seed);
}

typedef struct guarded_panel {
    guard q, scale, min;
    rs_panel panel;
} guarded_panel;

static guarded_panel alloc_panel(rs_panel_kind kind, size_t n, guard_side side) {
    const size_t scale_bytes = n / rs_panel_group(kind) * RS_PANEL_ROWS * sizeof(float);
    guarded_panel p;
    p.q = guard_alloc(n * RS_PANEL_ROWS, side);
    p.scale = guard_alloc(scale_bytes, side);
    p.min = guard_alloc(kind == RS_PANEL_S8 ? 0 : scale_bytes, side);
    p.panel = (rs_panel){.q = p.q.data, .scale = p.scale.data, .min = p.min.data};
    return p;
}

static void free_panel(guarded_panel *p) {
    guard_free(&p->q);
    guard_free(&p->scale);
    guard_free(&p->min);
}

/* `magnitude` 0: odd scales and minima everywhere; else lane r's are about magnitude * 16^-r, and symmetric
 * about 0 in every second lane. */
static void fill_panel(rs_panel_kind kind, size_t n, float magnitude, rs_panel *panel, uint64_t *seed) {
    static const int low[] = {0, 0, 0, -128}, high[] = {15, 31, 63, 127};
    for (size_t i = 0; i < n * RS_PANEL_ROWS; i++)
        panel->q[i] = (int8_t)random_int(seed, low[kind], high[kind]);
    for (size_t i = 0; i < n / rs_panel_group(kind) * RS_PANEL_ROWS; i++) {
        const float size = ldexpf(magnitude, -4 * (int)(i % RS_PANEL_ROWS));
        panel->scale[i] = magnitude == 0.0f ? odd_float(seed) : size * random_float(seed);
        if (kind == RS_PANEL_S8) continue;
        if (magnitude == 0.0f) panel->min[i] = odd_float(seed);
        else if (i % 2 == 0) panel->min[i] = panel->scale[i] * (float)-(high[kind] / 2 + 1);
        else panel->min[i] = 8.0f * size * random_float(seed);
    }
}

typedef struct guarded_channels {
    guard q, scale;
    rs_channel_panel panel;
} guarded_channels;

static guarded_channels alloc_channels(size_t n, guard_side side) {
    guarded_channels c;
    c.q = guard_alloc(rs_term_bytes(n) * RS_PANEL_ROWS, side);
    c.scale = guard_alloc(rs_channel_groups(n) * RS_PANEL_ROWS * sizeof(float), side);
    memset(c.q.data, 0x55, c.q.bytes);
    memset(c.scale.data, 0xff, c.scale.bytes);
    c.panel = (rs_channel_panel){c.q.data, c.scale.data};
    return c;
}

static void free_channels(guarded_channels *c) {
    guard_free(&c->q);
    guard_free(&c->scale);
}

/* Integers in [low, high], or only these two. */
static void fill_bytes(int8_t *q, size_t n, int low, int high, bool ends_only, uint64_t *seed) {
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)(ends_only ? next_random(seed) % 2 ? low : high : random_int(seed, low, high));
}

/* Any bytes a panel may hold, its padding zero. */
static void fill_channels(rs_channel_panel *panel, size_t n, int low, int high, bool ends_only,
                          uint64_t *seed) {
    const size_t begin = n * RS_PANEL_ROWS, end = rs_term_bytes(n) * RS_PANEL_ROWS;
    fill_bytes(panel->q, begin, low, high, ends_only, seed);
    memset(panel->q + begin, 0, end - begin);
    for (size_t c = 0; c < rs_channel_groups(n) * RS_PANEL_ROWS; c++) panel->scale[c] = odd_float(seed);
}

typedef struct guarded_terms {
    guard high, low, scale;
    rs_two_terms terms;
} guarded_terms;

static guarded_terms alloc_terms(size_t rows, size_t n, guard_side side) {
    guarded_terms t;
    t.high = guard_alloc(rows * rs_term_bytes(n), side);
    t.low = guard_alloc(rows * rs_term_bytes(n), side);
    t.scale = guard_alloc(rows * sizeof(float), side);
    memset(t.high.data, 0x55, t.high.bytes);
    memset(t.low.data, 0x55, t.low.bytes);
    t.terms = (rs_two_terms){t.high.data, t.low.data, t.scale.data};
    return t;
}

static void free_terms(guarded_terms *t) {
    guard_free(&t->high);
    guard_free(&t->low);
    guard_free(&t->scale);
}

static void fill_terms(rs_two_terms *terms, size_t rows, size_t n, int low, int high, bool ends_only,
                       uint64_t *seed) {
    const size_t bytes = rs_term_bytes(n);
    for (size_t r = 0; r < rows; r++) {
        fill_bytes(terms->high + r * bytes, n, low, high, ends_only, seed);
        fill_bytes(terms->low + r * bytes, n, low, high, ends_only, seed);
        memset(terms->high + r * bytes + n, 0, bytes - n);
        memset(terms->low + r * bytes + n, 0, bytes - n);
        terms->scale[r] = odd_float(seed);
    }
}

/* The layouts, spelled out. */
static float channel_scale(const rs_channel_panel *panel, size_t r, size_t i) {
    return panel->scale[i / 256 * RS_PANEL_ROWS + r];
}

static int weight_at(const int8_t *q, size_t r, size_t i) {
    return q[(i / 4 * RS_PANEL_ROWS + r) * 4 + i % 4];
}

static double panel_weight(rs_panel_kind kind, const rs_panel *panel, size_t r, size_t i) {
    const size_t at = i / rs_panel_group(kind) * RS_PANEL_ROWS + r;
    const double w = (double)panel->scale[at] * weight_at(panel->q, r, i);
    return kind == RS_PANEL_S8 ? w : w + (double)panel->min[at];
}

/* ------------------------------------------------------------------------- portable against double -- */

static void portable_panels_are_close(void **state) {
    (void)state;
    uint64_t seed = 1;
    const size_t n = 416;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        guarded_panel p = alloc_panel(kinds[k], n, GUARD_AFTER);
        guarded_channels c = alloc_channels(n, GUARD_AFTER);
        fill_panel(kinds[k], n, 1.0f, &p.panel, &seed);
        rs_ref_table.requantize[kinds[k]](&p.panel, n, &c.panel);
        for (size_t r = 0; r < RS_PANEL_ROWS; r++) {
            double step = 0.0, top = 0.0;
            for (size_t i = 0; i < n; i++) {
                if (i % 256 == 0) {
                    step = (double)channel_scale(&c.panel, r, i);
                    top = 0.0;
                }
                const double w = panel_weight(kinds[k], &p.panel, r, i);
                const double error = w - step * weight_at(c.panel.q, r, i);
                assert_true(fabs(error) <= step * (0.5 + 1.0 / 12.0));
                assert_int_not_equal(weight_at(c.panel.q, r, i), -128);
                top = fmax(top, fabs(w));
                if (i % 256 == 255 || i == n - 1)
                    assert_true(step * 127.0001 >= top && step < 4.0 * top / 127.0);
            }
        }
        for (size_t i = n * RS_PANEL_ROWS; i < c.q.bytes; i++) assert_int_equal(c.panel.q[i], 0);
        free_panel(&p);
        free_channels(&c);
    }
}

static void portable_terms_are_close(void **state) {
    (void)state;
    uint64_t seed = 2;
    static const float magnitudes[] = {1.0f, 1e30f, 0x1p-118f, 0x1.fffffep-120f, 0.0f};
    const size_t n = 96;
    for (size_t m = 0; m < COUNT(magnitudes); m++) {
        guard x = guard_alloc(n * sizeof(float), GUARD_AFTER);
        guarded_terms t = alloc_terms(1, n, GUARD_AFTER);
        float *value = x.data;
        for (size_t i = 0; i < n; i++) value[i] = magnitudes[m] * random_float(&seed);
        value[m] = -magnitudes[m];
        rs_ref_table.quantize_terms(value, &t.terms, 1, n);
        const double step = (double)t.terms.scale[0];
        for (size_t i = 0; i < n; i++) {
            const double got = step * (t.terms.high[i] + t.terms.low[i] / 254.0);
            if (magnitudes[m] < 0x1p-119f) {
                assert_true(step == 0.0 && t.terms.high[i] == 0 && t.terms.low[i] == 0);
                continue;
            }
            /* The second term's rounding, and those of floats up to 127. */
            assert_true(fabs(got - (double)value[i]) <= step * (0.5 / 254.0 + 0x1p-15));
            assert_true(t.terms.high[i] >= -127 && t.terms.low[i] >= -127);
        }
        for (size_t i = n; i < t.high.bytes; i++) assert_true(t.terms.high[i] == 0 && t.terms.low[i] == 0);
        free_terms(&t);
        guard_free(&x);
    }
}

static void portable_products_are_right(void **state) {
    (void)state;
    uint64_t seed = 3;
    enum { rows = 3, channels = 21, n = 352 };
    guarded_terms t = alloc_terms(rows, n, GUARD_AFTER);
    guarded_channels c[2] = {alloc_channels(n, GUARD_AFTER), alloc_channels(n, GUARD_BEFORE)};
    float out[rows][channels];
    fill_terms(&t.terms, rows, n, -127, 127, false, &seed);
    for (size_t p = 0; p < 2; p++) fill_channels(&c[p].panel, n, -128, 127, false, &seed);
    const rs_channel_panel panels[] = {c[0].panel, c[1].panel};
    rs_ref_table.multiply_channels(panels, &t.terms, rows, n, out[0], channels, channels);
    for (size_t r = 0; r < rows; r++) {
        for (size_t o = 0; o < channels; o++) {
            const rs_channel_panel *panel = &panels[o / 16];
            double sum = 0.0, magnitude = 0.0;
            for (size_t i = 0; i < n; i++) {
                const size_t at = r * rs_term_bytes(n) + i;
                const double scale = (double)t.terms.scale[r] * (double)channel_scale(panel, o % 16, i);
                const double term = scale * (t.terms.high[at] + t.terms.low[at] / 254.0);
                sum += term * weight_at(panel->q, o % 16, i);
                magnitude += fabs(term * weight_at(panel->q, o % 16, i));
            }
            assert_true(fabs((double)out[r][o] - sum) <= magnitude * 0x1p-21 + 1e-44);
        }
    }
    free_terms(&t);
    for (size_t p = 0; p < 2; p++) free_channels(&c[p]);
}

/* A file's damaged scales must not become numbers. */
static void damage_stays_visible(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    uint64_t seed = 4;
    const size_t n = 64;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        for (size_t b = 0; b < 2 * COUNT(bad); b++) {
            guarded_panel p = alloc_panel(kinds[k], n, GUARD_AFTER);
            guarded_channels c = alloc_channels(n, GUARD_AFTER);
            fill_panel(kinds[k], n, 1.0f, &p.panel, &seed);
            const bool in_min = b >= COUNT(bad) && kinds[k] != RS_PANEL_S8;
            (in_min ? p.panel.min : p.panel.scale)[3] = bad[b % COUNT(bad)];
            rs_ref_table.requantize[kinds[k]](&p.panel, n, &c.panel);
            for (size_t r = 0; r < RS_PANEL_ROWS; r++)
                assert_int_equal(isfinite(c.panel.scale[r]) != 0, r != 3);
            free_panel(&p);
            free_channels(&c);
        }
    }
}

/* ----------------------------------------------------------------------- AVX-512 against portable -- */

typedef void requantize_fn(const rs_panel *panel, size_t n, const rs_channel_panel *channels);

static void panels_equal_portable(void **state) {
    (void)state;
    if (!cpu.avx512) skip();
    static requantize_fn *const requantize[RS_PANEL_KINDS] = {
        [RS_PANEL_U4] = rs_amx_requantize_u4,
        [RS_PANEL_U5] = rs_amx_requantize_u5,
        [RS_PANEL_U6] = rs_amx_requantize_u6,
        [RS_PANEL_S8] = rs_amx_requantize_s8,
    };
    static const float magnitudes[] = {0.0f, 1.0f, 1e20f, 0x1p-80f, 0x1p-130f};
    uint64_t seed = 5;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        for (size_t n = STEP; n <= 640; n += STEP) {
            for (size_t m = 0; m < COUNT(magnitudes); m++) {
                const guard_side side = random_side(&seed);
                guarded_panel p = alloc_panel(kinds[k], n, side);
                guarded_channels want = alloc_channels(n, side), got = alloc_channels(n, side);
                fill_panel(kinds[k], n, magnitudes[m], &p.panel, &seed);
                rs_ref_table.requantize[kinds[k]](&p.panel, n, &want.panel);
                requantize[kinds[k]](&p.panel, n, &got.panel);
                assert_memory_equal(got.panel.scale, want.panel.scale, want.scale.bytes);
                assert_memory_equal(got.panel.q, want.panel.q, want.q.bytes);
                free_panel(&p);
                free_channels(&want);
                free_channels(&got);
            }
        }
    }
}

static void terms_equal_portable(void **state) {
    (void)state;
    if (!cpu.avx512) skip();
    uint64_t seed = 6;
    for (size_t n = STEP; n <= 640; n += STEP) {
        for (size_t rows = 1; rows <= 5; rows++) {
            const guard_side side = random_side(&seed);
            guard x = guard_alloc(rows * n * sizeof(float), side);
            guarded_terms want = alloc_terms(rows, n, side), got = alloc_terms(rows, n, side);
            for (size_t r = 0; r < rows; r++) {
                const float magnitude = odd_float(&seed);
                for (size_t i = 0; i < n; i++) ((float *)x.data)[r * n + i] = magnitude * random_float(&seed);
            }
            rs_ref_table.quantize_terms(x.data, &want.terms, rows, n);
            rs_amx_quantize_terms(x.data, &got.terms, rows, n);
            assert_memory_equal(got.terms.high, want.terms.high, want.high.bytes);
            assert_memory_equal(got.terms.low, want.terms.low, want.low.bytes);
            assert_memory_equal(got.terms.scale, want.terms.scale, want.scale.bytes);
            free_terms(&want);
            free_terms(&got);
            guard_free(&x);
        }
    }
}

/* --------------------------------------------------------------------------------- tiles in use -- */

typedef struct product {
    size_t rows, n, channels;
    int low, high; /* of the weights; the terms' are -127 to 127 */
    bool ends_only;
} product;

static void check_product(const product *p, uint64_t *seed) {
    const guard_side side = random_side(seed);
    const size_t stride = p->channels + (size_t)random_int(seed, 0, 3);
    const size_t floats = (p->rows - 1) * stride + p->channels, n_panels = (p->channels + 15) / 16;
    guarded_terms t = alloc_terms(p->rows, p->n, side);
    guarded_channels c[2];
    guard panel_list = guard_alloc(n_panels * sizeof(rs_channel_panel), GUARD_AFTER);
    rs_channel_panel *panels = panel_list.data;
    guard want = guard_alloc(floats * sizeof(float), side), got = guard_alloc(floats * sizeof(float), side);
    fill_terms(&t.terms, p->rows, p->n, -127, 127, p->ends_only, seed);
    for (size_t i = 0; i < n_panels; i++) {
        c[i] = alloc_channels(p->n, side);
        fill_channels(&c[i].panel, p->n, p->low, p->high, p->ends_only, seed);
        panels[i] = c[i].panel;
    }
    for (size_t i = 0; i < floats; i++) ((float *)want.data)[i] = ((float *)got.data)[i] = SENTINEL;

    rs_ref_table.multiply_channels(panels, &t.terms, p->rows, p->n, want.data, stride, p->channels);
    amx_model_reset();
    rs_amx_multiply_channels(panels, &t.terms, p->rows, p->n, got.data, stride, p->channels);
    if (memcmp(got.data, want.data, floats * sizeof(float)) != 0)
        fail_msg("rows %zu, n %zu, channels %zu: other bits", p->rows, p->n, p->channels);
    check_tiles_were_used_well();
    free_terms(&t);
    for (size_t i = 0; i < n_panels; i++) free_channels(&c[i]);
    guard_free(&panel_list);
    guard_free(&want);
    guard_free(&got);
}

static void products_of_all_tails(void **state) {
    (void)state;
    use_tiles();
    uint64_t seed = 7;
    for (size_t n = STEP; n <= 640; n += STEP) {
        for (size_t rows = 1; rows <= ROWS_MAX; rows++) {
            const size_t channels = (size_t)random_int(&seed, 1, RS_CHANNELS_MAX);
            check_product(&(product){rows, n, channels, -128, 127, false}, &seed);
        }
    }
    for (size_t channels = 1; channels <= RS_CHANNELS_MAX; channels++) {
        for (size_t rows = 1; rows <= ROWS_MAX; rows += 13)
            check_product(&(product){rows, 96, channels, -128, 127, false}, &seed);
    }
    for (size_t rows = 1; rows <= ROWS_MAX; rows += 3)
        check_product(&(product){rows, 1536, RS_CHANNELS_MAX, -127, 127, false}, &seed);
}

static void products_of_extremes(void **state) {
    (void)state;
    use_tiles();
    uint64_t seed = 8;
    static const int ends[][2] = {{-128, -128}, {-128, 127}, {127, 127}, {0, 0}};
    for (size_t e = 0; e < COUNT(ends); e++) {
        for (size_t n = 32; n <= 96; n += 32)
            check_product(&(product){19, n, 27, ends[e][0], ends[e][1], true}, &seed);
    }
    check_product(&(product){2, LONG_ROW, 3, -128, -128, true}, &seed);
}

/* The largest sums that there are, with the sign the same throughout: those of a group are exact, and no
 * length overflows them. */
static void long_rows_do_not_overflow(void **state) {
    (void)state;
    use_tiles();
    guarded_terms t = alloc_terms(1, LONG_ROW, GUARD_AFTER);
    guarded_channels c = alloc_channels(LONG_ROW, GUARD_AFTER);
    memset(t.terms.high, -127, t.high.bytes);
    memset(t.terms.low, 127, t.low.bytes);
    memset(c.panel.q, -128, c.q.bytes);
    t.terms.scale[0] = 1.0f;
    for (size_t g = 0; g < rs_channel_groups(LONG_ROW) * RS_PANEL_ROWS; g++) c.panel.scale[g] = 1.0f;
    float out[2];
    const double sum = 127.0 * 128.0 * LONG_ROW, want = sum - sum / 254.0;
    rs_ref_table.multiply_channels(&c.panel, &t.terms, 1, LONG_ROW, out, 1, 1);
    rs_amx_multiply_channels(&c.panel, &t.terms, 1, LONG_ROW, out + 1, 1, 1);
    for (size_t i = 0; i < 2; i++) assert_true(fabs((double)out[i] - want) <= want * 0x1p-20);
    free_terms(&t);
    free_channels(&c);
}

/* What the compiler made of the kernel: every tile instruction that belongs there, as often as it should. */
static void instructions_are_the_expected_ones(void **state) {
    (void)state;
    if (cpu.tiles) skip(); /* nobody counts */
    use_tiles();
    uint64_t seed = 9;
    /* 3 tiles of rows, 2 groups, 5 steps. */
    check_product(&(product){33, 320, 32, -127, 127, false}, &seed);
    assert_int_equal(amx_model_count(AMX_LDTILECFG), 2);
    assert_int_equal(amx_model_count(AMX_TILEZERO), 3 * 2 * 4);
    assert_int_equal(amx_model_count(AMX_TILELOADD), 3 * 5 * 4);
    assert_int_equal(amx_model_count(AMX_TDPBSSD), 3 * 5 * 4);
    assert_int_equal(amx_model_count(AMX_TILESTORED), 3 * 2 * 4);
    assert_int_equal(amx_model_count(AMX_TILERELEASE), 1);
}

/* ------------------------------------------------------------------------------------- attention -- */

typedef void attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                         size_t n_pages, size_t head_dim, float *score, size_t score_stride);
typedef void attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                           const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc);

static void check_attention(size_t rows, size_t head_dim, size_t n_pages, gaps missing, uint64_t *seed) {
    static attend_keys *const keys[] = {rs_avx512_attend_keys, rs_amx_attend_keys};
    static attend_values *const values[] = {rs_avx512_attend_values, rs_amx_attend_values};
    const size_t n = n_pages * RS_PAGE_ENTRIES, stride = n + rows % 2;
    guarded_block block = alloc_block(n_pages, missing, head_dim, random_side(seed), -128, 127, seed);
    guard q = guard_alloc(rows * head_dim, random_side(seed));
    guard row_scale = guard_alloc(rows * sizeof(float), random_side(seed));
    guard score[2], acc[2];
    int8_t *query = q.data;
    for (size_t i = 0; i < rows * head_dim; i++) query[i] = (int8_t)random_int(seed, -127, 127);
    for (size_t r = 0; r < rows; r++) ((float *)row_scale.data)[r] = random_float(seed);
    for (size_t i = 0; i < 2; i++) {
        score[i] = guard_alloc(((rows - 1) * stride + n) * sizeof(float), random_side(seed));
        acc[i] = guard_alloc(rows * head_dim * sizeof(float), random_side(seed));
        for (size_t j = 0; j < score[i].bytes / sizeof(float); j++) ((float *)score[i].data)[j] = SENTINEL;
        keys[i](query, row_scale.data, rows, block.view, n_pages, head_dim, score[i].data, stride);
    }
    assert_memory_equal(score[1].data, score[0].data, score[0].bytes);

    float *prob = score[0].data;
    for (size_t i = 0; i < score[0].bytes / sizeof(float); i++)
        prob[i] = i / stride == rows / 2 ? 0.0f : fabsf(random_float(seed)); /* one row sees nothing */
    for (size_t i = 0; i < rows * head_dim; i++)
        ((float *)acc[0].data)[i] = ((float *)acc[1].data)[i] = random_float(seed);
    for (size_t i = 0; i < 2; i++)
        values[i](prob, stride, row_scale.data, rows, block.view, n_pages, head_dim, acc[i].data);
    assert_memory_equal(acc[1].data, acc[0].data, acc[0].bytes);
    check_tiles_were_used_well();
    for (size_t i = 0; i < 2; i++) {
        guard_free(&score[i]);
        guard_free(&acc[i]);
    }
    guard_free(&q);
    guard_free(&row_scale);
    free_block(&block);
}

static void attention_equals_avx512(void **state) {
    (void)state;
    use_tiles();
    static const size_t row_counts[] = {1, 5, 6, 7, 15, 16, 17, 22, 24, 48},
                        head_dims[] = {64, 96, 128, 256, 320};
    uint64_t seed = 11;
    for (size_t r = 0; r < COUNT(row_counts); r++) {
        for (size_t d = 0; d < COUNT(head_dims); d++) {
            const size_t n_pages = 1 + (r * COUNT(head_dims) + d) % RS_ATTEND_PAGES;
            for (int missing = NO_GAPS; missing < N_GAPS; missing++) {
                check_attention(row_counts[r], head_dims[d], n_pages, (gaps)missing, &seed);
                check_attention(row_counts[r], head_dims[d], RS_ATTEND_PAGES, (gaps)missing, &seed);
            }
        }
    }
}

/* That they do run in tiles, and what the compiler made of them. */
static void attention_is_made_of_tiles(void **state) {
    (void)state;
    if (cpu.tiles) skip(); /* nobody counts */
    use_tiles();
    uint64_t seed = 12;
    check_attention(24, 128, RS_ATTEND_PAGES, NO_GAPS, &seed);
    /* Two tiles of rows, of two shapes, for keys and for values. */
    assert_int_equal(amx_model_count(AMX_LDTILECFG), 2 * 2);
    assert_int_equal(amx_model_count(AMX_TILERELEASE), 2);
    /* Keys: two quads of pages, two steps of 64 dimensions. Values: four steps of 32 dimensions, two quads.
     */
    assert_int_equal(amx_model_count(AMX_TILEZERO), 2 * 4 * (2 + 4));
    assert_int_equal(amx_model_count(AMX_TILESTORED), 2 * 4 * (2 + 4));
    assert_int_equal(amx_model_count(AMX_TDPBSSD), 2 * 4 * (2 * 2 + 4 * 2));
    assert_int_equal(amx_model_count(AMX_TILELOADD), 2 * (5 * 2 * 2 + 4 * 4 * 2));
}

/* ------------------------------------------------------------------------------------ the model -- */

/* Tile 0: 2 by 8 bytes, tile 1: 2 by 4, tile 2: 1 by 8. */
static void make_config(uint8_t config[64]) {
    memset(config, 0, 64);
    config[0] = 1;
    config[16] = 8, config[18] = 4, config[20] = 8;
    config[48] = 2, config[49] = 2, config[50] = 1;
}

static void model_multiplies(void **state) {
    (void)state;
    uint8_t config[64];
    make_config(config);
    const int8_t a[2][4] = {{-128, 127, 1, 2}, {3, -4, 5, 0}}, b[8] = {-128, 127, 0, 1, 2, -3, 4, -5};
    int32_t sum[2][2] = {{10, 20}, {30, INT32_MAX}};
    amx_model_reset();
    amx_ldtilecfg(config);
    amx_tileloadd(0, sum, sizeof *sum);
    amx_tileloadd(1, a, sizeof *a);
    amx_tileloadd(2, b, 0);
    amx_tdpbssd(0, 1, 2);
    amx_tilestored(0, sum, sizeof *sum);
    assert_true(amx_model_in_use());
    amx_tilerelease();
    assert_false(amx_model_in_use());
    assert_null(amx_model_fault());
    assert_int_equal(sum[0][0], 10 + 16384 + 16129 + 2);
    assert_int_equal(sum[0][1], 20 - 256 - 381 + 4 - 10);
    assert_int_equal(sum[1][0], 30 - 384 - 508);
    assert_int_equal(sum[1][1], INT32_MIN + 6 + 12 + 20 - 1); /* modulo 2^32 */
}

static void expect_config_fault(const char *part, size_t byte, uint8_t value) {
    uint8_t config[64];
    make_config(config);
    config[byte] = value;
    amx_model_reset();
    amx_ldtilecfg(config);
    if (amx_model_fault() == NULL || strstr(amx_model_fault(), part) == NULL)
        fail_msg("byte %zu = %d: no fault '%s'", byte, value, part);
    assert_false(amx_model_in_use());
}

static void expect_fault(const char *part) {
    if (amx_model_fault() == NULL || strstr(amx_model_fault(), part) == NULL) fail_msg("no '%s'", part);
    uint8_t config[64];
    make_config(config);
    amx_model_reset();
    amx_ldtilecfg(config);
}

static void model_refuses_misuse(void **state) {
    (void)state;
    int32_t memory[16] = {0};
    expect_config_fault("palette", 0, 2);
    expect_config_fault("start row", 1, 1);
    expect_config_fault("reserved", 2, 1);
    expect_config_fault("reserved", 32, 1);
    expect_config_fault("reserved", 56, 1);
    expect_config_fault("16 rows", 48, 17);
    expect_config_fault("64 bytes", 16, 65);
    expect_config_fault("64 bytes", 17, 1);
    expect_config_fault("without the other", 48, 0);
    expect_config_fault("without the other", 16, 0);

    amx_model_reset();
    amx_tilezero(0);
    expect_fault("none are configured");
    amx_tilerelease();
    amx_tileloadd(0, memory, 8);
    expect_fault("none are configured");
    amx_tilezero(3);
    expect_fault("without a shape");
    amx_tilestored(8, memory, 8);
    expect_fault("without a shape");
    amx_tdpbssd(0, 1, 1);
    expect_fault("twice");
    amx_tdpbssd(0, 2, 1);
    expect_fault("do not fit");
    uint8_t config[64];
    make_config(config);
    config[16] = 6;
    amx_ldtilecfg(config);
    amx_tilezero(0);
    expect_fault("multiple of 4");
    assert_int_equal(amx_model_count(AMX_LDTILECFG), 1);
    assert_int_equal(memory[0], 0);
}

/* ------------------------------------------------------------------------------------ selection -- */

static const rs_kernels *table_of(rs_isa isa) {
    size_t count;
    const rs_level *levels = rs_arch_levels(&count);
    for (size_t i = 0; i < count; i++) {
        if (levels[i].isa == isa) return levels[i].table;
    }
    fail_msg("no level %s", rs_isa_name(isa));
    return NULL;
}

/* A level on request is never what "auto" becomes, nor a step towards another. */
static void amx_is_given_on_request_only(void **state) {
    (void)state;
    const rs_kernels *kernels;
    assert_true(table_of(RS_ISA_AMX)->on_request);
    assert_int_equal(rs_kernels_select(RS_ISA_AUTO, &kernels, NULL), RS_OK);
    assert_int_not_equal(kernels->isa, RS_ISA_AMX);
    assert_false(kernels->by_channels);

    kernels = NULL;
    rs_error error = {0};
    assert_int_equal(setenv("RASURE_ISA", "amx", 1), 0);
    assert_int_equal(rs_kernels_select(RS_ISA_AUTO, &kernels, &error), cpu.tiles ? RS_OK : RS_UNSUPPORTED);
    assert_int_equal(unsetenv("RASURE_ISA"), 0);
    if (!cpu.tiles) assert_non_null(strstr(error.message, "amx"));
    if (cpu.tiles) assert_int_equal(kernels->isa, RS_ISA_AMX);
}

/* The AMX table is that of AVX-512 VNNI with the functions tested here. */
static void the_table_is_avx512_and_more(void **state) {
    (void)state;
    assert_false(rs_ref_table.by_channels); /* an oracle, not a faster way */
    rs_kernels want = *table_of(RS_ISA_AVX512VNNI);
    assert_false(want.on_request || want.by_channels);
    want.isa = RS_ISA_AMX;
    want.on_request = want.by_channels = true;
    want.requantize[RS_PANEL_U4] = rs_amx_requantize_u4;
    want.requantize[RS_PANEL_U5] = rs_amx_requantize_u5;
    want.requantize[RS_PANEL_U6] = rs_amx_requantize_u6;
    want.requantize[RS_PANEL_S8] = rs_amx_requantize_s8;
    want.quantize_terms = rs_amx_quantize_terms;
    want.multiply_channels = rs_amx_multiply_channels;
    want.attend_keys = rs_amx_attend_keys;
    want.attend_values = rs_amx_attend_values;
    assert_memory_equal(table_of(RS_ISA_AMX), &want, sizeof want);
}

static void permission_is_asked_for(void **state) {
    (void)state;
    const int code = rs_port_request_amx();
    assert_int_equal(rs_port_request_amx(), code);
    if (!cpuinfo_has_x86_amx_int8()) assert_int_not_equal(code, 0);
    if (cpu.tiles) assert_int_equal(code, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(portable_panels_are_close),
        cmocka_unit_test(portable_terms_are_close),
        cmocka_unit_test(portable_products_are_right),
        cmocka_unit_test(damage_stays_visible),
        cmocka_unit_test(panels_equal_portable),
        cmocka_unit_test(terms_equal_portable),
        cmocka_unit_test(model_multiplies),
        cmocka_unit_test(model_refuses_misuse),
        cmocka_unit_test(products_of_all_tails),
        cmocka_unit_test(products_of_extremes),
        cmocka_unit_test(long_rows_do_not_overflow),
        cmocka_unit_test(instructions_are_the_expected_ones),
        cmocka_unit_test(attention_equals_avx512),
        cmocka_unit_test(attention_is_made_of_tiles),
        cmocka_unit_test(amx_is_given_on_request_only),
        cmocka_unit_test(the_table_is_avx512_and_more),
        cmocka_unit_test(permission_is_asked_for),
    };
    return cmocka_run_group_tests(tests, look_at_cpu, NULL);
}
