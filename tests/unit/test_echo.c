/* What depends on a span: against readings with and without it, made by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/adapter_builder.h"
#include "tests/support/support.h"

enum { N_CTX = 160, N_BATCH = 16, N = 100 };

static rs_context *refining(const rs_model *model) {
    return rs_test_context_of(model,
                              &(rs_context_params){.n_ctx = N_CTX, .n_batch = N_BATCH, .refine = true});
}

/* The log-likelihood of every token, by the position of the token. */
typedef struct likelihoods {
    const int32_t *tokens; /* those that are read, from position `first` on */
    int32_t first;
    double log_p[N + 1]; /* of the token at a position, when the one before it has been read */
} likelihoods;

static bool note(void *user, int32_t position, const float *logits, size_t n_vocab) {
    likelihoods *l = user;
    double sum = 0;
    for (size_t i = 0; i < n_vocab; i++) sum += exp((double)logits[i]);
    if (position + 1 < N) l->log_p[position + 1] = (double)logits[l->tokens[position + 1]] - log(sum);
    return true;
}

/* Reads all tokens; those of the spans are taken out as soon as they have been read, where asked. */
static void read_by_hand(const rs_model *model, const int32_t *tokens, const rs_span *spans, size_t n_spans,
                         bool without, likelihoods *l) {
    rs_context *c = rs_test_context(model, N_CTX, N_BATCH);
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    int32_t at = 0;
    l->tokens = tokens;
    for (size_t i = 0; i <= n_spans; i++) {
        const int32_t end = i < n_spans ? spans[i].end : N;
        if (end > at) rs_test_ok(c, rs_decode_each(c, tokens + at, (size_t)(end - at), note, l));
        if (without && i < n_spans) rs_test_ok(c, rs_erase(c, &spans[i], 1, &drop, NULL));
        at = end;
    }
    rs_test_free(c);
}

/* Or directly behind one: one of the readings does not see what is in front of that token. */
static bool is_of_a_span(const rs_span *spans, size_t n_spans, int32_t position) {
    for (size_t i = 0; i < n_spans; i++)
        if (position >= spans[i].begin && position <= spans[i].end) return true;
    return false;
}

static void check(const rs_model *model, const rs_span *spans, size_t n_spans, rs_echo *echoes, size_t n) {
    int32_t tokens[N];
    static likelihoods with, without;
    rs_test_make_tokens(model, tokens, N);
    read_by_hand(model, tokens, spans, n_spans, false, &with);
    read_by_hand(model, tokens, spans, n_spans, true, &without);
    rs_context *c = refining(model), *twin = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(c, rs_decode(c, tokens, N));
    rs_test_ok(twin, rs_decode(twin, tokens, N));
    rs_test_ok(c, rs_find_echoes(c, spans, n_spans, echoes, n));
    for (size_t i = 0; i < n; i++) {
        double nats = 0;
        for (int32_t p = echoes[i].span.begin; p < echoes[i].span.end; p++)
            if (!is_of_a_span(spans, n_spans, p)) nats += with.log_p[p] - without.log_p[p];
        if (fabs(nats - (double)echoes[i].nats) > 1e-3)
            fail_msg("[%d, %d): %g, by hand %g", (int)echoes[i].span.begin, (int)echoes[i].span.end,
                     (double)echoes[i].nats, nats);
        if (i > 0) assert_true(echoes[i - 1].nats >= echoes[i].nats);
    }
    assert_null(rs_logits(c, NULL));
    rs_test_same_cache(c, twin);
    assert_int_equal(c->draft.kv.n_free, c->draft.kv.n_pages);
    rs_test_ok(c, rs_decode(c, tokens, 5));
    rs_test_ok(twin, rs_decode(twin, tokens, 5));
    rs_test_same_cache(c, twin);
    rs_test_free(c);
    rs_test_free(twin);
}

static void test_one_span(void **state) {
    rs_echo echoes[] = {{.span = {20, 30}}, {.span = {30, 55}}, {.span = {55, 56}}, {.span = {70, N}}};
    check(*state, &(rs_span){11, 20}, 1, echoes, 4);
    assert_true(fabsf(echoes[0].nats) > 0.01F); /* something to compare */
}

/* At the very start, several, adjoining; candidates overlap, and one of them has some of a span. */
static void test_more_spans(void **state) {
    rs_echo echoes[] = {{.span = {60, 80}}, {.span = {20, 40}}, {.span = {30, 50}}};
    check(*state, (rs_span[]){{0, 3}, {40, 45}, {45, 60}}, 3, echoes, 3);
    assert_true(fabsf(echoes[0].nats) > 0.01F);
}

/* Every token, and every token again: all are there in the end, and equal ones stand as in the text. */
static void test_many_candidates(void **state) {
    enum { FIRST = 20, EACH = N - FIRST };
    rs_echo echoes[2 * EACH];
    bool seen[2][N] = {{false}};
    for (int32_t i = 0; i < EACH; i++) {
        const int32_t p = FIRST + (i * 37) % EACH; /* in no order */
        echoes[i] = (rs_echo){.span = {p, p + 1}};
        echoes[EACH + i] = (rs_echo){.span = {p, p + 1}};
    }
    check(*state, &(rs_span){11, FIRST}, 1, echoes, (size_t)2 * EACH);
    for (int32_t i = 0; i < 2 * EACH; i++) {
        const int32_t p = echoes[i].span.begin;
        assert_false(seen[1][p]);
        seen[1][p] = seen[0][p];
        seen[0][p] = true;
        if (i > 0 && echoes[i - 1].nats == echoes[i].nats) assert_true(echoes[i - 1].span.begin <= p);
    }
}

/* They are in neither reading, so it is as if they had been dropped, but for the token behind them. */
static void test_steered_tokens_are_skipped(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    rs_test_make_tokens(model, tokens, N);
    rs_adapter *steer =
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "steer", .rank = 8, .size = 1});
    const rs_erase_params params = {.method = RS_ERASE_STEER, .adapter = steer};
    rs_context *c = refining(model);
    rs_test_ok(c, rs_decode(c, tokens, N));
    rs_test_ok(c, rs_erase(c, &(rs_span){50, 60}, 1, &params, NULL));
    rs_echo steered[] = {{.span = {30, 50}}, {.span = {61, 80}}},
            dropped[] = {{.span = {30, 50}}, {.span = {61, 80}}};
    rs_test_ok(c, rs_find_echoes(c, &(rs_span){10, 20}, 1, steered, 2));
    assert_int_equal(c->tokens[55], RS_TOKEN_GONE);
    rs_context *other = refining(model);
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    rs_test_ok(other, rs_decode(other, tokens, N));
    rs_test_ok(other, rs_erase(other, &(rs_span){50, 60}, 1, &drop, NULL));
    rs_test_ok(other, rs_find_echoes(other, &(rs_span){10, 20}, 1, dropped, 2));
    assert_memory_equal(steered, dropped, sizeof steered);
    rs_adapter_free(steer);
    rs_test_free(c);
    rs_test_free(other);
}

/* Refining that was under way begins again, and ends as it would have. */
static void test_refining_goes_on(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    rs_test_make_tokens(model, tokens, N);
    rs_context *c = refining(model), *exact = refining(model);
    const rs_erase_params progressive = {.method = RS_ERASE_PROGRESSIVE};
    rs_test_ok(c, rs_decode(c, tokens, N));
    rs_test_ok(exact, rs_decode(exact, tokens, N));
    rs_test_ok(c, rs_erase(c, &(rs_span){20, 30}, 1, &progressive, NULL));
    rs_test_ok(exact, rs_erase(exact, &(rs_span){20, 30}, 1, NULL, NULL));
    uint32_t left;
    rs_test_ok(c, rs_refine(c, 1, 0, &left));
    rs_echo echo = {.span = {60, 70}};
    rs_test_ok(c, rs_find_echoes(c, &(rs_span){40, 50}, 1, &echo, 1));
    rs_test_ok(c, rs_refine(c, 0, 0, &left));
    rs_test_same_cache(c, exact);
    rs_test_free(c);
    rs_test_free(exact);
}

static bool stop(void *user, uint32_t done, uint32_t total) {
    int *calls = user;
    assert_true(done <= total);
    return --*calls > 0;
}

typedef struct onlooker {
    const rs_context *context;
    size_t kv_bytes;
    int calls;
} onlooker;

static bool look(void *user, uint32_t done, uint32_t total) {
    onlooker *o = user;
    rs_context_info info;
    assert_true(done <= total);
    assert_int_equal(rs_context_get_info(o->context, &info), RS_OK);
    assert_int_equal(info.kv_bytes, o->kv_bytes);
    o->calls++;
    return true;
}

/* Who looks at the context meanwhile sees it as it is, and not the cache that is read into. */
static void test_progress_sees_the_context(void **state) {
    int32_t tokens[N];
    rs_test_make_tokens(*state, tokens, N);
    rs_context *c =
        rs_test_context_of(*state, &(rs_context_params){.n_ctx = N_CTX, .n_batch = 8, .refine = true});
    rs_test_ok(c, rs_decode(c, tokens, N));
    rs_context_info info;
    assert_int_equal(rs_context_get_info(c, &info), RS_OK);
    onlooker o = {c, info.kv_bytes, 0};
    rs_echo echo = {.span = {30, N}};
    rs_context_set_progress(c, look, &o);
    rs_test_ok(c, rs_find_echoes(c, &(rs_span){10, 20}, 1, &echo, 1));
    assert_true(o.calls > 4);
    rs_test_free(c);
}

static void test_refused(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    rs_test_make_tokens(model, tokens, N);
    rs_context *plain = rs_test_context(model, N_CTX, N_BATCH), *c = refining(model);
    rs_test_ok(plain, rs_decode(plain, tokens, N));
    rs_test_ok(c, rs_decode(c, tokens, N));
    const rs_span span = {10, 20};
    rs_echo echo = {{30, 40}, 7};
    assert_int_equal(rs_find_echoes(NULL, &span, 1, &echo, 1), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_find_echoes(plain, &span, 1, &echo, 1), RS_UNSUPPORTED);
    assert_int_equal(rs_find_echoes(c, NULL, 1, &echo, 1), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_find_echoes(c, &span, 1, NULL, 1), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_find_echoes(c, &span, 1, &echo, 0), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_find_echoes(c, &(rs_span){20, 10}, 1, &echo, 1), RS_OUT_OF_RANGE);
    const rs_span bad[] = {{30, 30}, {40, 30}, {15, 40}, {30, N + 1}, {-1, 40}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rs_echo candidate = {bad[i], 7};
        assert_int_equal(rs_find_echoes(c, &span, 1, &candidate, 1), RS_OUT_OF_RANGE);
        assert_true(candidate.nats > 6.9F);
    }
    assert_non_null(rs_logits(c, NULL));
    int calls = 2;
    rs_context_set_progress(c, stop, &calls);
    assert_int_equal(rs_find_echoes(c, &span, 1, &echo, 1), RS_STOPPED);
    assert_int_equal(c->draft.kv.n_free, c->draft.kv.n_pages);
    rs_test_same_cache(c, plain);
    rs_test_free(c);
    rs_test_free(plain);
    const rs_policy_params window = {.policy = RS_POLICY_WINDOW, .sinks = 4, .window = 24};
    c = rs_test_context_of(model, &(rs_context_params){N_CTX, N_BATCH, window, .refine = true});
    rs_test_ok(c, rs_decode(c, tokens, N));
    assert_int_equal(rs_find_echoes(c, &span, 1, &echo, 1), RS_UNSUPPORTED);
    rs_test_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_span),
        cmocka_unit_test(test_more_spans),
        cmocka_unit_test(test_many_candidates),
        cmocka_unit_test(test_steered_tokens_are_skipped),
        cmocka_unit_test(test_refining_goes_on),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_progress_sees_the_context),
    };
    return cmocka_run_group_tests_name("echo", tests, rs_test_set_up_tiny, rs_test_tear_down);
}
