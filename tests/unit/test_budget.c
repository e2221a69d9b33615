/* Budgets in bytes: what they become, and that it is neither more nor less than they allow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/context.h"
#include "tests/support/support.h"

enum { N_CTX = 1024, N_BATCH = 16, SINKS = 4, MAX_STREAMS = 64 };

static int set_up(void **state) {
    *state = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 2);
    return 0;
}

static int tear_down(void **state) {
    rs_model_free(*state);
    return 0;
}

static rs_context_params with(rs_policy policy, const bool *full_heads) {
    return (rs_context_params){.n_ctx = N_CTX,
                               .n_batch = N_BATCH,
                               .policy = {.policy = policy,
                                          .sinks = SINKS,
                                          .window = 24,
                                          .rewind = 2,
                                          .observers = 4,
                                          .decoded = 32,
                                          .full_heads = full_heads}};
}

static size_t cache_size(const rs_model *model, const rs_context_params *params) {
    size_t bytes = 0;
    rs_error error = {0};
    assert_int_equal(rs_context_cache_size(model, params, &bytes, &error), RS_OK);
    return bytes;
}

/* The parameters as a context has them, with one step more of what the budget was for. */
static rs_context_params a_step_more(const rs_context *c) {
    rs_context_params params = c->params;
    params.policy.budget_bytes = 0;
    switch (params.policy.policy) {
    case RS_POLICY_WINDOW:
    case RS_POLICY_HEADS: params.policy.window++; break;
    case RS_POLICY_RANDOM:
    case RS_POLICY_KEYNORM: params.policy.budget++; break;
    default: params.policy.keep += 1.0F / 4096; break;
    }
    return params;
}

static void test_a_budget_is_used_up(void **state) {
    static const rs_policy policies[] = {RS_POLICY_WINDOW,  RS_POLICY_HEADS,  RS_POLICY_RANDOM,
                                         RS_POLICY_KEYNORM, RS_POLICY_SNAPKV, RS_POLICY_PYRAMIDKV};
    const rs_model *model = *state;
    bool heads[MAX_STREAMS] = {true};
    const rs_context_params full = with(RS_POLICY_FULL, NULL);
    const size_t of_full = cache_size(model, &full);
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        rs_context_params params = with(policies[i], policies[i] == RS_POLICY_HEADS ? heads : NULL);
        params.policy.budget_bytes = of_full / 2;
        rs_context *c = rs_test_context_of(model, &params);
        rs_context_info info;
        assert_int_equal(rs_context_get_info(c, &info), RS_OK);
        assert_int_equal(info.cache_bytes, cache_size(model, &params));
        assert_true(info.cache_bytes <= of_full / 2);
        assert_true(info.cache_bytes > of_full / 3);
        const rs_context_params more = a_step_more(c);
        assert_true(cache_size(model, &more) > of_full / 2);
        assert_int_equal(info.policy.window, c->policy.params.window);
        assert_int_equal(info.policy.budget, c->policy.params.budget);
        rs_test_free(c);
    }
}

/* A budget that is more than everything takes gives everything. */
static void test_more_than_enough(void **state) {
    const rs_model *model = *state;
    rs_context_params params = with(RS_POLICY_WINDOW, NULL), full = with(RS_POLICY_FULL, NULL);
    params.policy.budget_bytes = full.policy.budget_bytes = 2 * cache_size(model, &full);
    rs_context *c = rs_test_context_of(model, &params), *all = rs_test_context_of(model, &full);
    int32_t tokens[N_CTX];
    for (int32_t i = 0; i < N_CTX; i++) tokens[i] = i % 50;
    rs_test_ok(c, rs_decode(c, tokens, N_CTX));
    rs_test_ok(all, rs_decode(all, tokens, N_CTX));
    rs_test_same_cache(c, all);
    rs_test_free(c);
    rs_test_free(all);
}

static void test_too_little(void **state) {
    const rs_model *model = *state;
    for (rs_policy policy = RS_POLICY_FULL; policy <= RS_POLICY_PYRAMIDKV; policy++) {
        bool heads[MAX_STREAMS] = {true};
        rs_context_params params = with(policy, policy == RS_POLICY_HEADS ? heads : NULL);
        rs_error error = {0};
        size_t bytes = 77;
        params.policy.budget_bytes = 100;
        assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_NO_SPACE);
        assert_int_equal(bytes, 77);
        /* The sentence names a number of bytes that would do. */
        const char *takes = strstr(error.message, "takes ");
        assert_non_null(takes);
        params.policy.budget_bytes = strtoul(takes + 6, NULL, 10);
        assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_OK);
        params.policy.budget_bytes--;
        assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_NO_SPACE);
    }
}

/* What is wrong otherwise is not called too little. */
static void test_wrong_beside_a_budget(void **state) {
    const rs_model *model = *state;
    rs_context_params params = with(RS_POLICY_KEYNORM, NULL);
    rs_error error = {0};
    size_t bytes;
    params.policy.window = 0;
    params.policy.budget_bytes = 1 << 20;
    assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_context_cache_size(NULL, &params, &bytes, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_context_cache_size(model, &params, NULL, &error), RS_INVALID_ARGUMENT);
}

static void test_streams(void **state) {
    const rs_model *model = *state;
    bool heads[MAX_STREAMS] = {false, true};
    const rs_context_params params = with(RS_POLICY_HEADS, heads);
    rs_context *c = rs_test_context_of(model, &params);
    uint32_t entries[MAX_STREAMS] = {0};
    int32_t tokens[100] = {0};
    size_t count;
    rs_test_ok(c, rs_decode(c, tokens, 100));
    assert_int_equal(rs_context_streams(c, entries, 2, &count), RS_OK);
    assert_int_equal(count, c->kv.n_streams);
    assert_int_equal(entries[0], SINKS + 24 + 2);
    assert_int_equal(entries[1], 100);
    assert_int_equal(entries[2], 0);
    assert_int_equal(rs_context_streams(c, NULL, 1, &count), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_context_streams(c, NULL, 0, NULL), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_context_streams(NULL, entries, 2, &count), RS_INVALID_ARGUMENT);
    rs_test_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_budget_is_used_up),
        cmocka_unit_test(test_more_than_enough),
        cmocka_unit_test(test_too_little),
        cmocka_unit_test(test_wrong_beside_a_budget),
        cmocka_unit_test(test_streams),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
