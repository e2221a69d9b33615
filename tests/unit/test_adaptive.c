/* Adaptive repair: which tokens it takes, against the definition written out, and that it touches no others.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/adapter_builder.h"
#include "tests/support/echoes.h"
#include "tests/support/support.h"

enum { N_CTX = 200, N_BATCH = 16, N = 160 };

static rs_context *read_text(const rs_model *model, const int32_t *tokens) {
    rs_context *c = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(c, rs_decode(c, tokens, N));
    return c;
}

/* Whether the rows of a token are the same in both. */
static bool same_rows(const rs_context *a, const rs_context *b, int32_t position) {
    const size_t bytes = a->model->shape.head_dim * sizeof(float);
    for (uint32_t s = 0; s < a->kv.n_streams; s++) {
        float rows[4][RS_HEAD_DIM_MAX];
        rs_test_row(a, s, position, rows[0], rows[1]);
        rs_test_row(b, s, position, rows[2], rows[3]);
        if (memcmp(rows[0], rows[2], bytes) != 0 || memcmp(rows[1], rows[3], bytes) != 0) return false;
    }
    return true;
}

static void assert_forgotten(const rs_context *c) {
    for (uint32_t id = 0; id < c->model->shape.n_vocab; id++) assert_true(c->logits[id] == 0);
    for (uint32_t i = 0; i < c->params.n_batch; i++)
        assert_true(c->scratch.tokens[i] == 0 && c->scratch.positions[i] == 0);
}

/* Erases, and checks what was written: returns how many tokens besides those near a hole. */
static uint32_t check(const rs_model *model, const rs_span *spans, size_t n_spans, rs_erase_params params) {
    int32_t tokens[N];
    rs_test_make_text(tokens, N, 5);
    rs_context *c = read_text(model, tokens), *shifted = read_text(model, tokens);
    const rs_erase_params shift = {.method = RS_ERASE_SHIFT};
    rs_erase_report report;
    params.method = RS_ERASE_ADAPTIVE;
    rs_test_ok(shifted, rs_erase(shifted, spans, n_spans, &shift, NULL));
    rs_test_ok(c, rs_erase(c, spans, n_spans, &params, &report));
    const uint32_t near = params.repair_tokens > 0 ? params.repair_tokens : 16;
    const double bound = params.echo_bound > 0 ? (double)params.echo_bound : 0.3;
    const rs_test_echoes e = rs_test_find_echoes(tokens, N, spans, n_spans, near);
    assert_int_equal(c->n_tokens, e.n);
    assert_memory_equal(c->positions, shifted->positions, e.n * sizeof *c->positions);
    uint32_t taken = 0, far = 0, left = 0;
    double weakest = INFINITY, strongest = 0; /* of those that were taken, of those that were not */
    for (uint32_t i = 0; i < e.n; i++) {
        const bool written = !same_rows(c, shifted, c->positions[i]);
        taken += written;
        if (e.near[i]) {
            assert_true(written);
        } else if (written) {
            far++;
            weakest = fmin(weakest, e.echo[i]);
        } else {
            left += e.echo[i] >= bound;
            strongest = fmax(strongest, e.echo[i]);
        }
    }
    assert_int_equal(taken, report.n_recomputed);
    assert_true(weakest >= bound - 1e-6 && weakest >= strongest - 1e-6);
    if (params.max_echoes == 0) assert_int_equal(left, 0);
    else assert_true(far <= params.max_echoes && (far + left <= params.max_echoes || left > 0));
    assert_forgotten(c);
    rs_test_ok(c, rs_decode(c, tokens, 9));
    rs_test_free(c);
    rs_test_free(shifted);
    return far;
}

static void test_takes_what_echoes(void **state) {
    const rs_model *model = *state;
    const rs_span one[] = {{40, 52}}, many[] = {{0, 4}, {4, 7}, {60, 75}, {100, 101}}, last[] = {{150, N}};
    assert_true(check(model, one, 1, (rs_erase_params){0}) > 5);
    const uint32_t all = check(model, one, 1, (rs_erase_params){.repair_tokens = 1, .echo_bound = 0.05F});
    assert_true(all > check(model, one, 1, (rs_erase_params){.repair_tokens = 1, .echo_bound = 0.5F}));
    assert_int_equal(check(model, one, 1, (rs_erase_params){.echo_bound = 1000}), 0);
    for (uint32_t most = 1; most <= all; most += 3) {
        const uint32_t far = check(
            model, one, 1, (rs_erase_params){.repair_tokens = 1, .echo_bound = 0.05F, .max_echoes = most});
        assert_true(far > most / 2);
    }
    assert_true(check(model, many, 4, (rs_erase_params){.repair_tokens = 3}) > 5);
    assert_int_equal(check(model, last, 1, (rs_erase_params){0}), 0);
}

/* How far the rows of `a` are from those of `b`, relative to these, behind position `first`. */
static double distance(const rs_context *a, const rs_context *b, uint32_t first) {
    double difference = 0, length = 0;
    for (uint32_t i = first; i < a->n_tokens; i++) {
        for (uint32_t s = 0; s < a->kv.n_streams; s++) {
            float rows[4][RS_HEAD_DIM_MAX];
            rs_test_row(a, s, a->positions[i], rows[0], rows[1]);
            rs_test_row(b, s, b->positions[i], rows[2], rows[3]);
            for (uint32_t d = 0; d < a->model->shape.head_dim; d++) {
                difference += pow(rows[0][d] - rows[2][d], 2) + pow(rows[1][d] - rows[3][d], 2);
                length += pow(rows[2][d], 2) + pow(rows[3][d], 2);
            }
        }
    }
    return sqrt(difference / length);
}

/* When all of the suffix is encoded again it is what an exact erase gives, but for the order of sums: for
 * that the gap must be closed before and not behind. */
static void test_all_of_it_is_exact(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    rs_test_make_text(tokens, N, 6);
    const rs_span span = {40, 52};
    rs_context *exact = read_text(model, tokens), *shifted = read_text(model, tokens);
    rs_test_ok(exact, rs_erase(exact, &span, 1, NULL, NULL));
    rs_test_ok(shifted, rs_erase(shifted, &span, 1, &(rs_erase_params){.method = RS_ERASE_SHIFT}, NULL));
    const rs_erase_params methods[] = {
        {.method = RS_ERASE_ADAPTIVE, .repair_tokens = N},
        {.method = RS_ERASE_REPAIR, .repair_tokens = N, .close_gap = true},
    };
    const double far = distance(shifted, exact, 40);
    for (size_t m = 0; m < 2; m++) {
        rs_context *c = read_text(model, tokens);
        rs_test_ok(c, rs_erase(c, &span, 1, &methods[m], NULL));
        const double near = distance(c, exact, 40);
        printf("# figure: rows behind a hole off by %.4f of their length from an exact erase's, when all are "
               "encoded again (none: %.4f)\n",
               near, far);
        assert_true(near < 0.02 && far > 5 * near);
        rs_test_free(c);
    }
    rs_test_free(exact);
    rs_test_free(shifted);
}

/* Entries that were steered are what an eraser has made them. */
static void test_leaves_steered_tokens(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    rs_test_make_text(tokens, N, 7);
    rs_adapter *steer =
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "steer", .rank = 8, .size = 0.02F});
    rs_context *c = read_text(model, tokens), *shifted = read_text(model, tokens);
    const rs_erase_params steering = {.method = RS_ERASE_STEER, .adapter = steer};
    rs_erase_report report;
    rs_test_ok(c, rs_erase(c, &(rs_span){60, 70}, 1, &steering, NULL));
    rs_test_ok(shifted, rs_erase(shifted, &(rs_span){60, 70}, 1, &steering, NULL));
    rs_test_ok(shifted,
               rs_erase(shifted, &(rs_span){40, 50}, 1, &(rs_erase_params){.method = RS_ERASE_SHIFT}, NULL));
    rs_test_ok(c, rs_erase(c, &(rs_span){40, 50}, 1,
                           &(rs_erase_params){.method = RS_ERASE_ADAPTIVE, .repair_tokens = N}, &report));
    assert_int_equal(report.n_recomputed, N - 50 - 10);
    for (int32_t p = 50; p < 60; p++) assert_true(same_rows(c, shifted, p));
    for (int32_t p = 60; p < 140; p++) assert_false(same_rows(c, shifted, p));
    rs_test_free(c);
    rs_test_free(shifted);
    rs_adapter_free(steer);
}

/* What echoes the new words has not seen them yet. */
static void test_new_words_count_too(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    for (int32_t i = 0; i < N; i++) tokens[i] = 100 + i % 70;
    tokens[120] = 80;
    const int32_t new[] = {80};
    const rs_erase_params adaptive = {.method = RS_ERASE_ADAPTIVE, .repair_tokens = 2, .echo_bound = 0.4F};
    rs_context *c = read_text(model, tokens);
    rs_erase_report report;
    /* 135 to 142, in front, are left twice, the second time from 105 on: from .5 echoes grow to 2.08. 143,
     * erased, is at 113 alone, and 80, new, at 43 and at 120: 2.66 there, 1.06 here, .44 at 124. */
    rs_test_ok(c, rs_replace(c, (rs_span){43, 44}, new, 1, &adaptive, &report));
    assert_int_equal(report.n_recomputed, 1 + 2 + 20);
    assert_forgotten(c);
    rs_test_free(c);
}

static void test_bad_bounds_are_named(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    rs_test_make_text(tokens, N, 8);
    rs_context *c = read_text(model, tokens), *untouched = read_text(model, tokens);
    const float bounds[] = {-1, NAN, INFINITY};
    for (size_t i = 0; i < 3; i++) {
        const rs_erase_params params = {.method = RS_ERASE_ADAPTIVE, .echo_bound = bounds[i]};
        assert_int_equal(rs_erase(c, &(rs_span){4, 9}, 1, &params, NULL), RS_INVALID_ARGUMENT);
        assert_non_null(strstr(rs_context_message(c), "echo_bound"));
        assert_int_equal(rs_replace(c, (rs_span){4, 9}, tokens, 1, &params, NULL), RS_INVALID_ARGUMENT);
        rs_test_same_cache(untouched, c);
    }
    rs_test_free(c);
    rs_test_free(untouched);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_what_echoes),     cmocka_unit_test(test_all_of_it_is_exact),
        cmocka_unit_test(test_leaves_steered_tokens), cmocka_unit_test(test_new_words_count_too),
        cmocka_unit_test(test_bad_bounds_are_named),
    };
    return cmocka_run_group_tests_name("adaptive repair", tests, rs_test_set_up_tiny, rs_test_tear_down);
}
