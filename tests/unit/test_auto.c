/* The method that an erase chooses by itself: which, what it expects of it, and that it does just that. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/adapter_builder.h"
#include "tests/support/echoes.h"
#include "tests/support/support.h"

enum { N_CTX = 400, N_BATCH = 32, N = 300, NEAR = 16 };

static const rs_span spans[] = {{40, 52}, {90, 93}};

static rs_context *read_text(const rs_model *model) {
    int32_t tokens[N];
    rs_test_make_text(tokens, N, 11);
    rs_context *c = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(c, rs_decode(c, tokens, N));
    return c;
}

/* Erases by `params` from what reads 1 ms a token. */
static rs_context *erased(const rs_model *model, rs_erase_params params, rs_erase_report *report) {
    rs_context *c = read_text(model);
    c->ms_per_token = 1;
    rs_test_ok(c, rs_erase(c, spans, 2, &params, report));
    return c;
}

static void assert_took(const rs_model *model, rs_erase_params params, rs_erase_params method) {
    rs_erase_report report, other_report;
    params.method = RS_ERASE_AUTO;
    rs_context *c = erased(model, params, &report), *other = erased(model, method, &other_report);
    assert_int_equal(report.method, method.method);
    assert_int_equal(report.n_erased, 15);
    assert_int_equal(report.n_recomputed, other_report.n_recomputed);
    assert_int_equal(report.n_rotated, other_report.n_rotated);
    assert_int_equal(report.next_position, other_report.next_position);
    rs_test_same_cache(c, other);
    rs_test_free(c);
    rs_test_free(other);
}

static const rs_erase_params shift = {.method = RS_ERASE_SHIFT},
                             repair = {.method = RS_ERASE_REPAIR, .repair_tokens = NEAR, .close_gap = true},
                             adaptive = {.method = RS_ERASE_ADAPTIVE}, exact = {.method = RS_ERASE_EXACT};

/* Methods that are known to leave so much. */
static rs_erase_calibration leaving(float by_shift, float by_repair, float by_adaptive) {
    return (rs_erase_calibration){
        .shift.level = logf(by_shift), .repair.level = logf(by_repair), .adaptive.level = logf(by_adaptive)};
}

static void test_takes_the_quickest_within_max_kl(void **state) {
    const rs_model *model = *state;
    rs_erase_calibration known = leaving(0.1F, 0.01F, 0.001F);
    assert_took(model, (rs_erase_params){.max_kl = 0.2F, .calibration = &known}, shift);
    assert_took(model, (rs_erase_params){.max_kl = 0.05F, .calibration = &known}, repair);
    assert_took(model, (rs_erase_params){.max_kl = 0.005F, .calibration = &known}, adaptive);
    assert_took(model, (rs_erase_params){.max_kl = 0.0005F, .calibration = &known}, exact);
    /* 95 % of a spread of 1 are within 5.2 times the median. */
    known.repair.spread = 1;
    assert_took(model, (rs_erase_params){.max_kl = 0.053F, .calibration = &known}, repair);
    assert_took(model, (rs_erase_params){.max_kl = 0.051F, .calibration = &known}, adaptive);
    known = leaving(0.1F, 0.3F, 0.5F); /* more work need not be worth it */
    assert_took(model, (rs_erase_params){.max_kl = 0.2F, .calibration = &known}, shift);
    assert_took(model, (rs_erase_params){.max_kl = 0.05F, .calibration = &known}, exact);
}

static void test_takes_the_most_exact_within_max_ms(void **state) {
    const rs_model *model = *state;
    rs_erase_report full;
    rs_test_free(erased(model, adaptive, &full));
    const uint32_t n_near = 2 * NEAR, n_far = full.n_recomputed - n_near;
    assert_true(n_far > 8);
    assert_took(model, (rs_erase_params){.max_ms = 1e6}, exact);
    assert_took(model, (rs_erase_params){.max_ms = 1}, shift);
    assert_took(model, (rs_erase_params){.max_ms = n_near + 20}, repair);

    /* Not all echoes, but as many as there is time for. */
    rs_erase_params some = adaptive;
    rs_erase_report report;
    const double max_ms = full.n_recomputed + 40;
    rs_test_free(erased(model, (rs_erase_params){.method = RS_ERASE_AUTO, .max_ms = max_ms}, &report));
    assert_int_equal(report.method, RS_ERASE_ADAPTIVE);
    assert_true(report.n_recomputed > n_near && report.n_recomputed < full.n_recomputed);
    assert_true(report.expected_ms > 0.5 * max_ms && report.expected_ms <= max_ms);
    const rs_erase_calibration standard = rs_erase_default_calibration();
    assert_true(report.expected_kl >= expf(standard.repair.level)); /* some of what says it is left */
    some.max_echoes = report.n_recomputed - n_near;
    assert_took(model, (rs_erase_params){.max_ms = max_ms}, some);

    /* What would be near enough takes too long. */
    const rs_erase_calibration known = leaving(0.1F, 0.01F, 0.001F);
    assert_took(model, (rs_erase_params){.max_kl = 0.005F, .max_ms = max_ms, .calibration = &known}, some);
    assert_took(model, (rs_erase_params){.max_kl = 0.005F, .max_ms = n_near + 20, .calibration = &known},
                repair);
    assert_took(model, (rs_erase_params){.max_kl = 1e-6F, .max_ms = 1, .calibration = &known}, shift);
    assert_took(model, (rs_erase_params){.max_kl = 0.2F, .max_ms = 1e6, .calibration = &known}, shift);
}

static void test_how_fast_it_reads(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    rs_test_make_text(tokens, N, 12);
    rs_context *c = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(c, rs_decode(c, tokens, 15));
    assert_true(c->ms_per_token == 0);
    rs_erase_report report;
    const rs_erase_params quick = {.method = RS_ERASE_AUTO, .max_ms = 1e6};
    rs_test_ok(c, rs_erase(c, &(rs_span){2, 3}, 1, &quick, &report));
    assert_int_equal(report.method, RS_ERASE_SHIFT);
    assert_true(report.expected_ms == 0);
    rs_test_ok(c, rs_decode(c, tokens, 100));
    assert_true(c->ms_per_token > 0);
    rs_test_ok(c, rs_erase(c, &(rs_span){2, 3}, 1, &quick, &report));
    assert_int_equal(report.method, RS_ERASE_EXACT);
    assert_true(report.expected_ms > 0);
    rs_test_free(c);
}

/* Where few tokens are read at a time their speed is what there is to know. */
static void test_how_fast_it_reads_little(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    rs_test_make_text(tokens, N, 12);
    rs_context *c = rs_test_context(model, N_CTX, 8);
    rs_test_ok(c, rs_decode(c, tokens, 7));
    assert_true(c->ms_per_token == 0);
    rs_test_ok(c, rs_decode(c, tokens, 8));
    assert_true(c->ms_per_token > 0);
    rs_test_free(c);
}

/* While no time is known, the bound on what is left counts alone. */
static void test_a_bound_holds_whatever_the_time(void **state) {
    rs_context *c = read_text(*state);
    const rs_erase_calibration known = leaving(0.1F, 0.01F, 0.001F);
    rs_erase_report report;
    c->ms_per_token = 0; /* as in a context that was loaded */
    rs_test_ok(c,
               rs_erase(c, spans, 2,
                        &(rs_erase_params){
                            .method = RS_ERASE_AUTO, .max_kl = 0.005F, .max_ms = 1e-3, .calibration = &known},
                        &report));
    assert_int_equal(report.method, RS_ERASE_ADAPTIVE);
    rs_test_free(c);
}

static void assert_expects(const rs_model *model, rs_erase_fit fit, rs_erase_method method, uint32_t near) {
    int32_t tokens[N];
    rs_test_make_text(tokens, N, 11);
    const rs_test_echoes e = rs_test_find_echoes(tokens, N, spans, 2, near);
    double strongest = 0, sum = 0;
    for (uint32_t i = e.first; i < e.n; i++) {
        if (e.near[i] || (method == RS_ERASE_ADAPTIVE && e.echo[i] >= 0.3)) continue;
        strongest = fmax(strongest, e.echo[i]);
        sum += e.echo[i];
    }
    assert_true(sum > 0 && (method == RS_ERASE_ADAPTIVE || strongest > 0.3));
    rs_erase_calibration known = leaving(1e6F, 1e6F, 1e6F);
    *(method == RS_ERASE_SHIFT    ? &known.shift
      : method == RS_ERASE_REPAIR ? &known.repair
                                  : &known.adaptive) = fit;
    rs_erase_report report;
    rs_test_free(erased(
        model, (rs_erase_params){.method = RS_ERASE_AUTO, .max_kl = 1e5F, .calibration = &known}, &report));
    const double log_kl = fit.level + fit.by_strongest * fmin(strongest, 2) + fit.by_sum * log(1 + sum);
    assert_int_equal(report.method, method);
    assert_true(fabs(log(report.expected_kl) - log_kl) < 1e-3);
    assert_true(fabs(log(report.expected_kl_most) - log_kl - 1.645 * fit.spread) < 1e-3);
}

static void test_expectations_are_the_formula(void **state) {
    const rs_model *model = *state;
    const rs_erase_fit fit = {-3, 0.7F, 0.4F, 0.9F};
    assert_expects(model, fit, RS_ERASE_SHIFT, 0);
    assert_expects(model, fit, RS_ERASE_REPAIR, NEAR);
    assert_expects(model, fit, RS_ERASE_ADAPTIVE, NEAR);
}

static void test_nothing_behind_the_span(void **state) {
    const rs_model *model = *state;
    rs_context *c = read_text(model);
    rs_erase_report report;
    rs_test_ok(c, rs_erase(c, &(rs_span){290, N}, 1,
                           &(rs_erase_params){.method = RS_ERASE_AUTO, .max_kl = 1e-6F}, &report));
    assert_int_equal(report.method, RS_ERASE_SHIFT);
    assert_true(report.expected_kl == 0 && report.expected_kl_most == 0);
    rs_test_free(c);
}

/* What it takes is what was calibrated: no adapter is part of that, nor need it fit. */
static void test_takes_no_adapter(void **state) {
    const rs_model *model = *state;
    rs_model *other = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    rs_adapter *adapters[] = {
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "bridge", .rank = 8, .size = 2}),
        rs_test_adapter(other, &(rs_test_adapter_spec){.kind = "bridge", .rank = 8, .size = 2}),
    };
    const rs_erase_calibration known = leaving(0.1F, 0.01F, 0.001F);
    for (int i = 0; i < 2; i++) {
        const rs_erase_params within = {.max_kl = 0.02F, .calibration = &known, .adapter = adapters[i]};
        assert_took(model, within, repair);
    }
    for (int i = 0; i < 2; i++) rs_adapter_free(adapters[i]);
    rs_model_free(other);
}

static void test_needs_a_limit(void **state) {
    const rs_model *model = *state;
    rs_context *c = read_text(model), *untouched = read_text(model);
    const rs_erase_params wrong[] = {{.max_kl = 0},
                                     {.max_kl = -1},
                                     {.max_kl = NAN},
                                     {.max_kl = INFINITY},
                                     {.max_ms = -1},
                                     {.max_ms = NAN},
                                     {.max_kl = 1, .max_ms = INFINITY}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        rs_erase_params params = wrong[i];
        params.method = RS_ERASE_AUTO;
        assert_int_equal(rs_erase(c, spans, 2, &params, NULL), RS_INVALID_ARGUMENT);
        assert_non_null(strstr(rs_context_message(c), "max_kl or max_ms"));
        rs_test_same_cache(untouched, c);
    }
    const int32_t token = 5;
    const rs_erase_params replacing = {.method = RS_ERASE_AUTO, .max_kl = 1};
    assert_int_equal(rs_replace(c, spans[0], &token, 1, &replacing, NULL), RS_INVALID_ARGUMENT);
    assert_non_null(strstr(rs_context_message(c), "auto"));
    rs_test_same_cache(untouched, c);
    rs_test_free(c);
    rs_test_free(untouched);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_the_quickest_within_max_kl),
        cmocka_unit_test(test_takes_the_most_exact_within_max_ms),
        cmocka_unit_test(test_how_fast_it_reads_little),
        cmocka_unit_test(test_a_bound_holds_whatever_the_time),
        cmocka_unit_test(test_how_fast_it_reads),
        cmocka_unit_test(test_expectations_are_the_formula),
        cmocka_unit_test(test_nothing_behind_the_span),
        cmocka_unit_test(test_takes_no_adapter),
        cmocka_unit_test(test_needs_a_limit),
    };
    return cmocka_run_group_tests(tests, rs_test_set_up_tiny, rs_test_tear_down);
}
