/* New tokens in place of a span: shorter, as long, longer, by every method that goes with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/context.h"
#include "tests/support/adapter_builder.h"
#include "tests/support/support.h"

enum { N_CTX = 300, N_BATCH = 16, N = 150, BEGIN = 40, END = 60, MOST = 90 };

static const rs_span span = {BEGIN, END};
static const uint32_t lengths[] = {1, 7, END - BEGIN, 35, MOST}; /* of what comes in its place */
enum { N_LENGTHS = sizeof lengths / sizeof *lengths };

typedef struct texts {
    int32_t old[N], new[MOST];
} texts;

static texts make_texts(const rs_model *model) {
    texts t;
    rs_test_make_tokens(model, t.old, N);
    for (uint32_t i = 0; i < MOST; i++) t.new[i] = (int32_t)((i * 53 + 7) % model->shape.n_vocab);
    return t;
}

static rs_context *read_old(const rs_model *model, const texts *t) {
    rs_context *c =
        rs_test_context_of(model, &(rs_context_params){.n_ctx = N_CTX, .n_batch = N_BATCH, .refine = true});
    rs_test_ok(c, rs_decode(c, t->old, N));
    return c;
}

/* What a context holds that has read the new tokens in place of the old from the start, the suffix from
 * `position` on. */
static rs_context *read_new(const rs_model *model, const texts *t, uint32_t n, int32_t position) {
    rs_context *c = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(c, rs_decode(c, t->old, BEGIN));
    rs_test_ok(c, rs_decode(c, t->new, n));
    c->next_position = position;
    rs_test_ok(c, rs_decode(c, t->old + END, N - END));
    return c;
}

static void test_exactly(void **state) {
    const rs_model *model = *state;
    const texts t = make_texts(model);
    for (size_t i = 0; i < N_LENGTHS; i++) {
        const uint32_t n = lengths[i];
        rs_context *c = read_old(model, &t), *fresh = read_new(model, &t, n, BEGIN + (int32_t)n);
        rs_erase_report report;
        rs_test_ok(c, rs_replace(c, span, t.new, n, NULL, &report));
        assert_int_equal(report.n_erased, END - BEGIN);
        assert_int_equal(report.n_recomputed, n + N - END);
        assert_int_equal(report.next_position, fresh->next_position);
        assert_null(rs_logits(c, NULL));
        rs_test_same_cache(fresh, c);
        rs_test_free(c);
        rs_test_free(fresh);
    }
}

/* Repairing all of the suffix is exact; so is refining whatever was left. */
static void test_repaired_and_refined(void **state) {
    const rs_model *model = *state;
    const texts t = make_texts(model);
    rs_adapter *bridge =
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "bridge", .rank = 8, .size = 0.02F});
    const rs_erase_params methods[] = {
        {.method = RS_ERASE_REPAIR, .repair_fraction = 1.0F}, {.method = RS_ERASE_REPAIR, .repair_tokens = 5},
        {.method = RS_ERASE_ADAPTIVE, .repair_tokens = 5},    {.method = RS_ERASE_DROP},
        {.method = RS_ERASE_BRIDGE, .adapter = bridge},       {.method = RS_ERASE_LEARNED, .adapter = bridge},
    };
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
        for (size_t i = 0; i < N_LENGTHS; i++) {
            const uint32_t n = lengths[i];
            for (int asked = 0; asked <= 1; asked++) {
                const bool close = asked == 1 || methods[m].method == RS_ERASE_ADAPTIVE;
                const int32_t behind = BEGIN + (int32_t)n;
                rs_context *c = read_old(model, &t);
                rs_context *fresh = read_new(model, &t, n, close || behind > END ? behind : END);
                rs_erase_params params = methods[m];
                params.close_gap = asked == 1;
                rs_erase_report report;
                rs_context_info info;
                rs_test_ok(c, rs_replace(c, span, t.new, n, &params, &report));
                assert_int_equal(report.n_rotated, behind > END || (close && behind < END) ? N - END : 0);
                assert_int_equal(rs_context_get_info(c, &info), RS_OK);
                assert_int_equal(info.n_cheap, N - END);
                assert_memory_equal(c->tokens, fresh->tokens, fresh->n_tokens * sizeof *c->tokens);
                assert_memory_equal(c->positions, fresh->positions, fresh->n_tokens * sizeof *c->positions);
                assert_int_equal(c->next_position, fresh->next_position);
                if (m == 0) rs_test_same_cache(fresh, c);
                uint32_t left;
                rs_test_ok(c, rs_refine(c, 0, 0, &left));
                rs_test_same_cache(fresh, c);
                rs_test_free(c);
                rs_test_free(fresh);
            }
        }
    }
    rs_adapter_free(bridge);
}

/* At the very beginning, at the very end, and in place of the last tokens. */
static void test_at_the_ends(void **state) {
    const rs_model *model = *state;
    const texts t = make_texts(model);
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    const rs_span ends[] = {{0, 5}, {N - 5, N}, {N - 1, N}};
    for (size_t i = 0; i < 3; i++) {
        rs_context *c = read_old(model, &t), *fresh = rs_test_context(model, N_CTX, N_BATCH);
        rs_test_ok(c, rs_replace(c, ends[i], t.new, 9, &drop, NULL));
        if (ends[i].begin > 0) rs_test_ok(fresh, rs_decode(fresh, t.old, (size_t)ends[i].begin));
        rs_test_ok(fresh, rs_decode(fresh, t.new, 9));
        if (ends[i].end < N)
            rs_test_ok(fresh, rs_decode(fresh, t.old + ends[i].end, (size_t)(N - ends[i].end)));
        rs_test_ok(c, rs_refine(c, 0, 0, NULL));
        rs_test_same_cache(fresh, c);
        rs_test_ok(c, rs_decode(c, t.old, 20));
        rs_test_ok(fresh, rs_decode(fresh, t.old, 20));
        rs_test_same_cache(fresh, c);
        rs_test_free(c);
        rs_test_free(fresh);
    }
}

/* Older gaps and steered tokens: an exact replacement closes and forgets them. */
static void test_over_older_erases(void **state) {
    const rs_model *model = *state;
    const texts t = make_texts(model);
    rs_adapter *steer =
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "steer", .rank = 8, .size = 0.02F});
    const rs_erase_params steered = {.method = RS_ERASE_STEER, .adapter = steer};
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    rs_context *c = read_old(model, &t), *fresh = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(c, rs_erase(c, &(rs_span){80, 90}, 1, &steered, NULL));
    rs_test_ok(c, rs_erase(c, &(rs_span){100, 110}, 1, &drop, NULL));
    rs_test_ok(c, rs_context_set_head(c, 70));
    rs_erase_params force = rs_erase_default_params();
    assert_int_equal(rs_replace(c, span, t.new, 12, &force, NULL), RS_INVALID_ARGUMENT); /* in the head */
    force.force = true;
    rs_test_ok(c, rs_replace(c, span, t.new, 12, &force, NULL));
    assert_int_equal(c->head_end, 62);
    rs_test_ok(fresh, rs_decode(fresh, t.old, BEGIN));
    rs_test_ok(fresh, rs_decode(fresh, t.new, 12));
    rs_test_ok(fresh, rs_decode(fresh, t.old + END, 20));
    rs_test_ok(fresh, rs_decode(fresh, t.old + 90, 10));
    rs_test_ok(fresh, rs_decode(fresh, t.old + 110, N - 110));
    rs_test_same_cache(fresh, c);
    rs_adapter_free(steer);
    rs_test_free(c);
    rs_test_free(fresh);
}

/* Of a protected head that ends within the span, what is in front of the span stays protected. */
static void test_head_within_the_span(void **state) {
    const rs_model *model = *state;
    const texts t = make_texts(model);
    const rs_erase_method methods[] = {RS_ERASE_EXACT, RS_ERASE_DROP, RS_ERASE_REPAIR, RS_ERASE_ADAPTIVE};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        rs_context *c = read_old(model, &t);
        rs_erase_params force = rs_erase_default_params();
        force.method = methods[i];
        force.force = true;
        rs_test_ok(c, rs_context_set_head(c, BEGIN + 2));
        rs_test_ok(c, rs_replace(c, span, t.new, 12, &force, NULL));
        assert_int_equal(c->head_end, BEGIN);
        rs_test_free(c);
    }
}

/* A progressive erase behind a gap at the very beginning, into which new tokens come. */
static void test_at_the_beginning_of_a_gap(void **state) {
    const rs_model *model = *state;
    const texts t = make_texts(model);
    const rs_erase_params drop = {.method = RS_ERASE_DROP}, progressive = {.method = RS_ERASE_PROGRESSIVE};
    rs_context *c = read_old(model, &t);
    rs_test_ok(c, rs_erase(c, &(rs_span){0, 5}, 1, &drop, NULL));
    rs_test_ok(c, rs_erase(c, &(rs_span){20, 25}, 1, &progressive, NULL));
    rs_test_ok(c, rs_replace(c, (rs_span){0, 10}, t.new, 3, &drop, NULL));
    assert_int_equal(c->n_tokens, N - 5 - 5 - 5 + 3);
    rs_test_free(c);
}

static void refused(rs_context *c, rs_span where, const int32_t *tokens, size_t n,
                    const rs_erase_params *params, rs_status status, const char *phrase) {
    assert_int_equal(rs_replace(c, where, tokens, n, params, NULL), status);
    if (strstr(rs_context_message(c), phrase) == NULL)
        fail_msg("%s: not in: %s", phrase, rs_context_message(c));
}

/* Whatever is wrong is said, and changes nothing. */
static void test_refusals(void **state) {
    const rs_model *model = *state;
    const texts t = make_texts(model);
    rs_adapter *steer =
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "steer", .rank = 8, .size = 0.02F});
    rs_context *c = read_old(model, &t), *before = read_old(model, &t);
    const int32_t wrong[] = {1, -2}, many[N_CTX] = {0};
    refused(c, span, NULL, 3, NULL, RS_INVALID_ARGUMENT, "no tokens");
    refused(c, span, t.new, 0, NULL, RS_INVALID_ARGUMENT, "no tokens");
    refused(c, span, wrong, 2, NULL, RS_OUT_OF_RANGE, "token 1 is -2");
    refused(c, (rs_span){50, 50}, t.new, 3, NULL, RS_OUT_OF_RANGE, "not a range");
    refused(c, (rs_span){N - 1, N + 1}, t.new, 3, NULL, RS_OUT_OF_RANGE, "not a range");
    refused(c, span, many, N_CTX - N + END - BEGIN + 1, NULL, RS_NO_SPACE, "do not fit");
    refused(c, span, many, SIZE_MAX, NULL, RS_NO_SPACE, "do not fit");
    refused(c, span, t.new, 3, &(rs_erase_params){.method = RS_ERASE_SHIFT}, RS_INVALID_ARGUMENT, "shift");
    refused(c, span, t.new, 3, &(rs_erase_params){.method = RS_ERASE_STEER, .adapter = steer},
            RS_INVALID_ARGUMENT, "steer");
    refused(c, span, t.new, 3, &(rs_erase_params){.method = RS_ERASE_LEARNED, .adapter = steer}, RS_MISMATCH,
            "steer");
    refused(c, span, t.new, 3, &(rs_erase_params){.method = RS_ERASE_BRIDGE}, RS_UNSUPPORTED, "adapter");
    rs_test_same_cache(before, c);
    rs_test_ok(c, rs_replace(c, span, many, N_CTX - N + END - BEGIN, NULL, NULL)); /* all there is room for */
    assert_int_equal(c->n_tokens, N_CTX);
    rs_context *window = rs_test_context_of(
        model, &(rs_context_params){.n_ctx = N_CTX,
                                    .n_batch = N_BATCH,
                                    .policy = {.policy = RS_POLICY_WINDOW, .sinks = 4, .window = 20}});
    rs_test_ok(window, rs_decode(window, t.old, N));
    refused(window, span, t.new, 3, NULL, RS_UNSUPPORTED, "full cache");
    assert_int_equal(rs_replace(NULL, span, t.new, 3, NULL, NULL), RS_INVALID_ARGUMENT);
    rs_test_free(window);
    rs_test_free(before);
    rs_test_free(c);
    rs_adapter_free(steer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exactly),           cmocka_unit_test(test_repaired_and_refined),
        cmocka_unit_test(test_at_the_ends),       cmocka_unit_test(test_at_the_beginning_of_a_gap),
        cmocka_unit_test(test_over_older_erases), cmocka_unit_test(test_head_within_the_span),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("replacing", tests, rs_test_set_up_tiny, rs_test_tear_down);
}
