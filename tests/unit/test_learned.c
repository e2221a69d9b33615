/* Erasing through adapters: what is written where, what is left alone, and what may not matter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/edit.h"
#include "tests/support/adapter_builder.h"
#include "tests/support/support.h"

enum { N_CTX = 160, N = 120, WINDOW = 20, SINKS = 4, K = 10 };

typedef struct fixture {
    const char *file;
    rs_model *model;
    rs_adapter *steer, *bridge, *no_steer, *no_bridge; /* the last two change nothing */
    int32_t tokens[N];
} fixture;

static rs_adapter *adapter(const rs_model *model, const char *kind, float size, uint32_t window) {
    return rs_test_adapter(model, &(rs_test_adapter_spec){.kind = kind,
                                                          .rank = 8,
                                                          .window = window,
                                                          .sinks = SINKS,
                                                          .bridge_tokens = K,
                                                          .size = size,
                                                          .seed = 7});
}

static int set_up(void **state) {
    fixture *f = *state;
    f->model = rs_test_load(rs_test_golden_path(f->file), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    f->steer = adapter(f->model, "steer", 2.0f, WINDOW);
    f->bridge = adapter(f->model, "bridge", 2.0f, WINDOW);
    f->no_steer = adapter(f->model, "steer", 0.0f, 0);
    f->no_bridge = adapter(f->model, "bridge", 0.0f, WINDOW);
    for (uint32_t i = 0; i < N; i++) f->tokens[i] = (int32_t)((i * 2 + 17) % f->model->shape.n_vocab);
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    rs_adapter_free(f->steer);
    rs_adapter_free(f->bridge);
    rs_adapter_free(f->no_steer);
    rs_adapter_free(f->no_bridge);
    rs_model_free(f->model);
    return 0;
}

static rs_context *prefilled(const fixture *f, uint32_t n_batch) {
    rs_context *c = rs_test_context(f->model, N_CTX, n_batch);
    rs_test_ok(c, rs_decode(c, f->tokens, N));
    return c;
}

static rs_erase_report erase(rs_context *c, rs_span span, const rs_erase_params *params) {
    rs_erase_report report;
    rs_test_ok(c, rs_erase(c, &span, 1, params, &report));
    return report;
}

/* Key and value rows at `position` in every stream, [n_streams][2 * head_dim]. */
static void rows_at(const rs_context *c, int32_t position, float *rows) {
    const uint32_t head_dim = c->model->shape.head_dim;
    for (uint32_t s = 0; s < c->kv.n_streams; s++, rows += 2 * (size_t)head_dim)
        rs_test_row(c, s, position, rows, rows + head_dim);
}

static bool same_row(const rs_context *a, int32_t at_a, const rs_context *b, int32_t at_b) {
    const size_t n = (size_t)a->kv.n_streams * 2 * a->model->shape.head_dim;
    float *rows = malloc(2 * n * sizeof *rows);
    assert_non_null(rows);
    rows_at(a, at_a, rows);
    rows_at(b, at_b, rows + n);
    const bool same = memcmp(rows, rows + n, n * sizeof *rows) == 0;
    free(rows);
    return same;
}

static void assert_rows_equal(const rs_context *a, const rs_context *b, int32_t begin, int32_t end) {
    for (int32_t i = begin; i < end; i++)
        if (!same_row(a, i, b, i)) fail_msg("the rows at %d differ", (int)i);
}

static void assert_rows_differ(const rs_context *a, const rs_context *b, int32_t begin, int32_t end) {
    for (int32_t i = begin; i < end; i++)
        if (same_row(a, i, b, i)) fail_msg("the rows at %d are the same", (int)i);
}

/* ------------------------------------------------------------------------------------------ steer -- */

/* An adapter that changes nothing gives the span's rows back as prefill wrote them, whatever the chunks. */
static void test_steer_without_effect(void **state) {
    const fixture *f = *state;
    const rs_span spans[] = {{0, 1}, {0, 40}, {20, 37}, {N - 9, N}, {0, N}};
    const uint32_t batches[] = {64, 7, 1};
    for (size_t b = 0; b < 3; b++) {
        for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
            rs_context *a = prefilled(f, batches[b]), *before = prefilled(f, 64);
            const rs_erase_params params = {.method = RS_ERASE_STEER, .adapter = f->no_steer};
            const rs_erase_report report = erase(a, spans[i], &params);
            const uint32_t length = (uint32_t)(spans[i].end - spans[i].begin);
            assert_int_equal(report.n_erased, length);
            assert_int_equal(report.n_steered, length);
            assert_int_equal(report.n_recomputed + report.n_rotated, 0);
            assert_int_equal(report.next_position, N);
            assert_rows_equal(a, before, 0, N);
            rs_test_free(a);
            rs_test_free(before);
        }
    }
}

/* One with an effect rewrites every row of the span, and no other; the tokens are gone from the list. */
static void test_steer_keeps_to_its_span(void **state) {
    const fixture *f = *state;
    rs_context *a = prefilled(f, 16), *before = prefilled(f, 64);
    const rs_erase_params params = {.method = RS_ERASE_LEARNED, .adapter = f->steer};
    const rs_erase_report report = erase(a, (rs_span){33, 70}, &params);
    assert_int_equal(report.method, RS_ERASE_STEER);
    assert_rows_equal(a, before, 0, 33);
    assert_rows_differ(a, before, 33, 70);
    assert_rows_equal(a, before, 70, N);
    assert_int_equal(a->n_tokens, N);
    assert_null(rs_logits(a, NULL));
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(a->tokens[i], i >= 33 && i < 70 ? RS_TOKEN_GONE : f->tokens[i]);
    rs_test_free(a);
    rs_test_free(before);
}

/* Neither chunks nor threads nor what comes behind the span matter, nor doing it twice. */
static void test_steer_depends_on_prefix_and_span(void **state) {
    const fixture *f = *state;
    const rs_span span = {33, 70};
    const rs_erase_params params = {.method = RS_ERASE_STEER, .adapter = f->steer};
    rs_context *a = prefilled(f, 64), *b = prefilled(f, 7);
    erase(a, span, &params);
    erase(b, span, &params);
    rs_test_same_cache(a, b);
    const rs_erase_report again = erase(b, span, &params);
    assert_int_equal(again.n_steered, 0);
    assert_int_equal(again.n_erased, 0);
    rs_test_same_cache(a, b);
    rs_test_free(b);

    b = rs_test_context(f->model, N_CTX, 64);
    rs_test_ok(b, rs_decode(b, f->tokens, 70));
    rs_test_ok(b, rs_decode(b, f->tokens, 12));
    erase(b, span, &params);
    assert_rows_equal(a, b, 0, 70);
    rs_test_free(b);

    rs_model *model = rs_test_load(rs_test_golden_path(f->file), RS_LINEAR_NATIVE, RS_ISA_AUTO, 3);
    rs_adapter *other = adapter(model, "steer", 2.0f, WINDOW);
    b = rs_test_context(model, N_CTX, 64);
    rs_test_ok(b, rs_decode(b, f->tokens, N));
    const rs_erase_params there = {.method = RS_ERASE_STEER, .adapter = other};
    erase(b, span, &there);
    rs_test_same_cache(a, b);
    rs_test_free(b);
    rs_adapter_free(other);
    rs_model_free(model);
    rs_test_free(a);
}

/* Several spans are erased from left to right, adjoining ones too. */
static void test_steer_of_several_spans(void **state) {
    const fixture *f = *state;
    const rs_span spans[] = {{5, 12}, {12, 30}, {60, 61}};
    const rs_erase_params params = {.method = RS_ERASE_STEER, .adapter = f->steer};
    rs_context *a = prefilled(f, 64), *b = prefilled(f, 64);
    rs_test_ok(a, rs_erase(a, spans, 3, &params, NULL));
    for (int i = 0; i < 3; i++) erase(b, spans[i], &params);
    rs_test_same_cache(a, b);
    rs_test_free(a);
    rs_test_free(b);
}

/* Repairing behind the span changes those tokens and no others. */
static void test_steer_and_repair(void **state) {
    const fixture *f = *state;
    rs_context *a = prefilled(f, 64), *b = prefilled(f, 64);
    rs_erase_params params = {.method = RS_ERASE_STEER, .adapter = f->steer};
    erase(a, (rs_span){33, 50}, &params);
    params.repair_tokens = 16;
    const rs_erase_report report = erase(b, (rs_span){33, 50}, &params);
    assert_int_equal(report.n_steered, 17);
    assert_int_equal(report.n_recomputed, 16);
    assert_rows_equal(a, b, 0, 50);
    assert_false(same_row(a, 51, b, 51));
    assert_rows_equal(a, b, 66, N);
    rs_test_free(a);
    rs_test_free(b);
}

/* What comes later: passes leave steered entries alone, exact takes them out, the sampler passes over them.
 */
static void test_life_after_steering(void **state) {
    const fixture *f = *state;
    const rs_erase_params steer = {.method = RS_ERASE_STEER, .adapter = f->steer};
    rs_context *a = prefilled(f, 64), *steered = prefilled(f, 64), *b = rs_test_context(f->model, N_CTX, 64);
    erase(a, (rs_span){40, 50}, &steer);
    erase(steered, (rs_span){40, 50}, &steer);
    const rs_erase_params repair = {.method = RS_ERASE_REPAIR, .repair_tokens = 40};
    const rs_erase_report report = erase(a, (rs_span){20, 30}, &repair);
    assert_int_equal(report.n_recomputed, 30); /* forty entries, ten of which have no token */
    assert_rows_equal(a, steered, 40, 50);

    const rs_erase_params exact = {.method = RS_ERASE_EXACT};
    erase(a, (rs_span){10, 15}, &exact);
    rs_test_ok(b, rs_decode(b, f->tokens, 10));
    rs_test_ok(b, rs_decode(b, f->tokens + 15, 5));
    rs_test_ok(b, rs_decode(b, f->tokens + 30, 10));
    rs_test_ok(b, rs_decode(b, f->tokens + 50, N - 50));
    rs_test_same_cache(a, b);

    rs_generate_params generate = rs_generate_default_params();
    generate.max_tokens = 4;
    generate.sampler.repetition_penalty = 1.3f;
    rs_test_ok(steered, rs_decode(steered, f->tokens, 1));
    rs_test_ok(steered, rs_generate(steered, &generate, NULL));
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    assert_int_equal(erase(steered, (rs_span){38, 52}, &drop).n_erased, 14);
    rs_test_free(a);
    rs_test_free(b);
    rs_test_free(steered);
}

/* ----------------------------------------------------------------------------------------- bridge -- */

/* Without effect it is a windowed repair of as many tokens, and of none it is drop. */
static void test_bridge_without_effect(void **state) {
    const fixture *f = *state;
    const rs_span spans[] = {{0, 3}, {2, 9}, {40, 52}, {70, 71}, {N - 14, N - 5}, {100, N}};
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        rs_context *a = prefilled(f, 64), *b = prefilled(f, 7);
        const rs_erase_params bridge = {.method = RS_ERASE_BRIDGE, .adapter = f->no_bridge};
        const rs_erase_params repair = {
            .method = RS_ERASE_REPAIR, .repair_tokens = K, .window = WINDOW, .sinks = SINKS};
        const rs_erase_report report = erase(a, spans[i], &bridge);
        const uint32_t suffix = (uint32_t)(N - spans[i].end);
        assert_int_equal(report.n_recomputed, suffix < K ? suffix : K);
        erase(b, spans[i], &repair);
        rs_test_same_cache(a, b);
        rs_test_free(a);
        rs_test_free(b);
    }
    rs_adapter *none = rs_test_adapter(
        f->model, &(rs_test_adapter_spec){.kind = "bridge", .rank = 8, .size = 2.0f, .bridge_tokens = 0});
    rs_context *a = prefilled(f, 64), *b = prefilled(f, 64);
    const rs_erase_params bridge = {.method = RS_ERASE_BRIDGE, .adapter = none};
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    erase(a, (rs_span){40, 52}, &bridge);
    erase(b, (rs_span){40, 52}, &drop);
    rs_test_same_cache(a, b);
    rs_test_free(a);
    rs_test_free(b);
    rs_adapter_free(none);
}

/* The rows that it writes are the same whatever stood in the span, and no others change. */
static void test_bridge_never_sees_the_span(void **state) {
    const fixture *f = *state;
    fixture other = *f;
    for (uint32_t i = 40; i < 52; i++) other.tokens[i] = f->tokens[i] + 1;
    rs_context *a = prefilled(f, 64), *b = prefilled(&other, 64), *before = prefilled(f, 64);
    const rs_erase_params params = {.method = RS_ERASE_LEARNED, .adapter = f->bridge};
    assert_int_equal(erase(a, (rs_span){40, 52}, &params).method, RS_ERASE_BRIDGE);
    erase(b, (rs_span){40, 52}, &params);
    assert_rows_equal(a, b, 52, 52 + K);
    assert_rows_differ(a, before, 52, 52 + K);
    assert_rows_equal(a, before, 52 + K, N);
    assert_false(same_row(a, N - 1, b, N - 1)); /* they were read with the span in sight */
    rs_test_free(a);
    rs_test_free(b);
    rs_test_free(before);
}

/* Entries outside the window may hold anything. */
static void test_bridge_sees_its_window(void **state) {
    const fixture *f = *state;
    rs_context *a = prefilled(f, 64), *b = prefilled(f, 64), *c = prefilled(f, 64);
    float noise[RS_HEAD_DIM_MAX];
    int8_t scratch[RS_HEAD_DIM_MAX];
    for (int d = 0; d < RS_HEAD_DIM_MAX; d++) noise[d] = (float)(d % 7) - 3.0f;
    for (uint32_t s = 0; s < b->kv.n_streams; s++) {
        const rs_kv_stream *stream = &b->kv.streams[s];
        rs_kv_cursor at;
        assert_true(rs_kv_seek(&b->kv, stream, SINKS, &at));
        for (int32_t p = SINKS; p < 60 - WINDOW; p++) {
            rs_kv_store(&b->kv, f->model->kernels, stream, at, noise, noise, scratch);
            assert_true(rs_kv_next(&b->kv, stream, &at));
        }
        assert_true(rs_kv_seek(&c->kv, &c->kv.streams[s], 60 - WINDOW, &at));
        rs_kv_store(&c->kv, f->model->kernels, &c->kv.streams[s], at, noise, noise, scratch);
    }
    const rs_erase_params params = {.method = RS_ERASE_BRIDGE, .adapter = f->bridge};
    const rs_span span = {60, 70};
    erase(a, span, &params);
    erase(b, span, &params);
    erase(c, span, &params);
    assert_rows_equal(a, b, 70, 70 + K);
    assert_false(same_row(a, 70 + K - 1, c, 70 + K - 1)); /* the first entry of the window counts */
    rs_test_free(a);
    rs_test_free(b);
    rs_test_free(c);
}

/* Gaps are closed as shift does it, and then the passes run. */
static void test_bridge_closes_the_gap(void **state) {
    const fixture *f = *state;
    const rs_span spans[] = {{30, 42}, {60, 65}};
    const uint32_t holes[] = {30, 48}; /* closed up */
    rs_context *a = prefilled(f, 64), *b = prefilled(f, 64);
    const rs_erase_params bridge = {.method = RS_ERASE_BRIDGE, .adapter = f->bridge, .close_gap = true};
    const rs_erase_params shift = {.method = RS_ERASE_SHIFT};
    rs_erase_report report;
    rs_test_ok(a, rs_erase(a, spans, 2, &bridge, &report));
    assert_int_equal(report.n_rotated, N - 30 - 17);
    assert_int_equal(report.n_recomputed, 2 * K);
    assert_int_equal(report.next_position, N - 17);
    rs_test_ok(b, rs_erase(b, spans, 2, &shift, NULL));
    uint32_t done = 0;
    for (int i = 0; i < 2; i++) {
        const rs_visible visible = rs_edit_visible(b, SINKS, WINDOW, holes[i]);
        rs_test_ok(b, rs_edit_encode(b, holes[i], holes[i] + K, visible, f->bridge, &done));
    }
    assert_int_equal(done, 2 * K);
    rs_test_same_cache(b, a);
    rs_test_ok(a, rs_decode(a, f->tokens, 3));
    rs_test_free(a);
    rs_test_free(b);
}

/* Shift is drop that closes the gap. */
static void test_drop_that_closes_the_gap(void **state) {
    const fixture *f = *state;
    rs_context *a = prefilled(f, 64), *b = prefilled(f, 64);
    const rs_erase_params shift = {.method = RS_ERASE_SHIFT};
    const rs_erase_params drop = {.method = RS_ERASE_DROP, .close_gap = true};
    erase(a, (rs_span){30, 42}, &shift);
    erase(b, (rs_span){30, 42}, &drop);
    rs_test_same_cache(a, b);
    rs_test_free(a);
    rs_test_free(b);
}

/* ---------------------------------------------------------------------------------------- refusals -- */

static void test_refused(void **state) {
    const fixture *f = *state;
    rs_model *model = rs_test_load(rs_test_golden_path(f->file), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    rs_context *c = rs_test_context(model, N_CTX, 64), *before = rs_test_context(model, N_CTX, 64);
    rs_test_ok(c, rs_decode(c, f->tokens, N));
    rs_test_ok(before, rs_decode(before, f->tokens, N));
    rs_adapter *steer = adapter(model, "steer", 1.0f, WINDOW);
    const struct {
        rs_erase_params params;
        rs_status status;
    } bad[] = {
        {{.method = RS_ERASE_LEARNED}, RS_UNSUPPORTED},
        {{.method = RS_ERASE_LEARNED, .adapter = f->steer}, RS_MISMATCH}, /* of another rs_model */
        {{.method = RS_ERASE_BRIDGE, .adapter = steer}, RS_MISMATCH},
        {{.method = RS_ERASE_STEER, .adapter = steer, .close_gap = true}, RS_INVALID_ARGUMENT},
        {{.method = RS_ERASE_EXACT, .close_gap = true}, RS_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(rs_erase(c, &(rs_span){4, 9}, 1, &bad[i].params, NULL), bad[i].status);
        assert_true(strlen(rs_context_message(c)) > 10);
        rs_test_same_cache(c, before);
    }
    rs_adapter_free(steer);
    rs_test_free(c);
    rs_test_free(before);
    rs_model_free(model);
}

static void test_head_is_protected(void **state) {
    const fixture *f = *state;
    rs_context *c = prefilled(f, 64), *before = prefilled(f, 64);
    assert_int_equal(rs_context_set_head(c, -1), RS_OUT_OF_RANGE);
    assert_int_equal(rs_context_set_head(c, N + 1), RS_OUT_OF_RANGE);
    rs_test_ok(c, rs_context_set_head(c, 12));
    for (int method = RS_ERASE_EXACT; method <= RS_ERASE_REFILL; method++) {
        rs_erase_params params = rs_erase_default_params();
        params.method = (rs_erase_method)method;
        params.adapter = method == RS_ERASE_STEER ? f->steer : f->bridge;
        params.filler = f->tokens;
        params.n_filler = 3;
        assert_int_equal(rs_erase(c, &(rs_span){11, 20}, 1, &params, NULL), RS_INVALID_ARGUMENT);
        assert_non_null(strstr(rs_context_message(c), "force"));
        rs_test_same_cache(c, before);
    }
    rs_erase_params params = {.method = RS_ERASE_SHIFT};
    erase(c, (rs_span){12, 20}, &params);
    assert_int_equal(c->head_end, 12);
    params.force = true;
    erase(c, (rs_span){4, 8}, &params);
    assert_int_equal(c->head_end, 8);
    params.method = RS_ERASE_EXACT;
    erase(c, (rs_span){6, 20}, &params);
    assert_int_equal(c->head_end, 6);
    rs_test_ok(c, rs_truncate(c, 3));
    assert_int_equal(c->head_end, 3);
    rs_context_reset(c);
    assert_int_equal(c->head_end, 0);
    rs_test_free(c);
    rs_test_free(before);
}

int main(void) {
    static fixture qwen3 = {.file = "tiny-qwen3.gguf"}, gemma3 = {.file = "tiny-gemma3.gguf"},
                   llama = {.file = "tiny-llama.gguf"};
    static fixture *const fixtures[] = {&qwen3, &gemma3, &llama};
    static const struct CMUnitTest each[] = {
        cmocka_unit_test_setup_teardown(test_steer_without_effect, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_steer_keeps_to_its_span, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_steer_depends_on_prefix_and_span, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_steer_of_several_spans, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_steer_and_repair, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_life_after_steering, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bridge_without_effect, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bridge_never_sees_the_span, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bridge_sees_its_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bridge_closes_the_gap, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_drop_that_closes_the_gap, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_head_is_protected, set_up, tear_down),
    };
    enum { N_EACH = sizeof each / sizeof *each, N_FIXTURES = sizeof fixtures / sizeof *fixtures };
    struct CMUnitTest tests[N_FIXTURES * N_EACH];
    for (size_t i = 0; i < N_FIXTURES * N_EACH; i++) {
        tests[i] = each[i % N_EACH];
        tests[i].initial_state = fixtures[i / N_EACH];
    }
    return cmocka_run_group_tests_name("learned", tests, NULL, NULL);
}
