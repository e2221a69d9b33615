/* Going back to before the last edit: every byte of the cache, whatever has been read since. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/context.h"
#include "tests/support/adapter_builder.h"
#include "tests/support/gates_builder.h"
#include "tests/support/support.h"

enum { N_CTX = 300, N_BATCH = 16, SINKS = 4, WINDOW = 24, AREA = 1 << 22 };

static rs_context *with_area(const rs_model *model, const rs_policy_params *policy, size_t bytes) {
    return rs_test_context_of(
        model,
        &(rs_context_params){
            .n_ctx = N_CTX, .n_batch = N_BATCH, .policy = *policy, .refine = true, .undo_bytes = bytes});
}

static bool can_undo(const rs_context *c) {
    rs_context_info info;
    assert_int_equal(rs_context_get_info(c, &info), RS_OK);
    return info.can_undo;
}

/* All that a cache is: its pages' bytes, its tables, its free pages, the list. */
typedef struct snapshot {
    unsigned char *memory;
    uint32_t *tables, *free_pages, n_free;
    int32_t tokens[N_CTX], positions[N_CTX], next_position;
    uint32_t n_tokens, first_cheap, *counts;
} snapshot;

static uint32_t *tables_of(const rs_kv *kv) {
    uint32_t *all = calloc(kv->table_pages, sizeof *all), *table = all;
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        memcpy(table, kv->streams[s].pages, kv->streams[s].n_pages * sizeof *table);
        table += kv->streams[s].max_pages;
    }
    return all;
}

static uint32_t *counts_of(const rs_kv *kv) {
    uint32_t *counts = calloc(3 * kv->n_streams, sizeof *counts);
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        const uint32_t of[] = {kv->streams[s].n_pages, kv->streams[s].n_used, kv->streams[s].n_live};
        memcpy(counts + 3 * (size_t)s, of, sizeof of);
    }
    return counts;
}

static snapshot take(const rs_context *c) {
    const rs_kv *kv = &c->kv;
    snapshot s = {.memory = malloc(kv->n_pages * kv->page_bytes),
                  .tables = tables_of(kv),
                  .counts = counts_of(kv),
                  .free_pages = calloc(kv->n_pages, sizeof *kv->free_pages),
                  .n_free = kv->n_free,
                  .next_position = c->next_position,
                  .n_tokens = c->n_tokens,
                  .first_cheap = c->first_cheap};
    memcpy(s.memory, kv->memory, kv->n_pages * kv->page_bytes);
    memcpy(s.free_pages, kv->free_pages, kv->n_free * sizeof *kv->free_pages);
    memcpy(s.tokens, c->tokens, c->n_tokens * sizeof *c->tokens);
    memcpy(s.positions, c->positions, c->n_tokens * sizeof *c->positions);
    return s;
}

static void check_same(const rs_context *c, const snapshot *s) {
    const rs_kv *kv = &c->kv;
    uint32_t *tables = tables_of(kv), *counts = counts_of(kv);
    assert_int_equal(c->n_tokens, s->n_tokens);
    assert_int_equal(c->next_position, s->next_position);
    assert_int_equal(c->first_cheap, s->first_cheap);
    assert_memory_equal(c->tokens, s->tokens, c->n_tokens * sizeof *c->tokens);
    assert_memory_equal(c->positions, s->positions, c->n_tokens * sizeof *c->positions);
    assert_memory_equal(counts, s->counts, 3 * kv->n_streams * sizeof *counts);
    assert_memory_equal(tables, s->tables, kv->table_pages * sizeof *tables);
    assert_int_equal(kv->n_free, s->n_free);
    assert_memory_equal(kv->free_pages, s->free_pages, kv->n_free * sizeof *kv->free_pages);
    assert_memory_equal(kv->memory, s->memory, kv->n_pages * kv->page_bytes);
    free(tables);
    free(counts);
}

static void drop(snapshot *s) {
    free(s->memory);
    free(s->tables);
    free(s->counts);
    free(s->free_pages);
}

/* Nothing of what could have been gone back to is left in the area. */
static void check_forgotten(const rs_context *c) {
    const rs_kv_journal *journal = &c->undo.journal;
    assert_false(can_undo(c));
    for (size_t i = 0; i < journal->max_pages * c->kv.page_bytes; i++) assert_int_equal(journal->pages[i], 0);
    for (uint32_t i = 0; i < c->params.n_ctx; i++)
        assert_true(c->undo.tokens[i] == 0 && c->undo.positions[i] == 0);
}

/* Every method, under policies of every kind, with nothing or much read since. */
static void test_every_method(void **state) {
    const rs_model *model = *state;
    const int32_t filler = 7, fresh[] = {3, 1, 4, 1, 5};
    rs_adapter *steer =
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "steer", .rank = 8, .size = 0.02F});
    rs_adapter *bridge =
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "bridge", .rank = 8, .size = 0.02F});
    rs_gates *gates = rs_test_gates(
        model, &(rs_test_gates_spec){.form = "constant", .scope = "global", .bias = 5, .bias_step = -1});
    const rs_policy_params policies[] = {
        {.policy = RS_POLICY_FULL},
        {.policy = RS_POLICY_WINDOW, .sinks = SINKS, .window = WINDOW},
        {.policy = RS_POLICY_GATES, .sinks = SINKS, .window = WINDOW, .budget = 60, .gates = gates},
        {.policy = RS_POLICY_SNAPKV, .keep = 0.5F, .observers = 4, .decoded = 60},
    };
    const rs_span spans[] = {{0, 3}, {40, 60}, {100, 101}, {140, 150}};
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    for (size_t p = 0; p < sizeof policies / sizeof *policies; p++) {
        rs_context *c = with_area(model, &policies[p], AREA);
        for (int method = RS_ERASE_EXACT; method <= RS_ERASE_AUTO + 1; method++) {
            for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
                const bool replaces = method > RS_ERASE_AUTO;
                if (replaces && p > 0) continue;
                rs_context_reset(c);
                rs_test_ok(c, rs_decode(c, tokens, 150));
                snapshot before = take(c);
                rs_erase_params params = rs_erase_default_params();
                params.method = replaces ? RS_ERASE_DROP : (rs_erase_method)method;
                params.adapter = method == RS_ERASE_STEER ? steer : bridge;
                params.filler = &filler;
                params.n_filler = 1;
                params.max_kl = 0.01F * (float)(i + 1);
                if (replaces) rs_test_ok(c, rs_replace(c, spans[i], fresh, 5, &params, NULL));
                else rs_test_ok(c, rs_erase(c, &spans[i], 1, &params, NULL));
                assert_true(can_undo(c));
                if (i % 2 == 0) rs_test_ok(c, rs_decode(c, tokens, 40));
                if (method % 3 == 0) rs_test_ok(c, rs_refine(c, 1, 0, NULL));
                if (i % 2 == 0) rs_test_ok(c, rs_decode(c, tokens, 3));
                /* Refining may have come to its end, where there was little to do. */
                if (can_undo(c)) {
                    rs_test_ok(c, rs_undo(c));
                    assert_null(rs_logits(c, NULL));
                    check_same(c, &before);
                }
                check_forgotten(c);
                drop(&before);
            }
        }
        rs_test_free(c);
    }
    rs_adapter_free(steer);
    rs_adapter_free(bridge);
    rs_gates_free(gates);
}

/* After going back the context goes on as if nothing had been. */
static void test_goes_on(void **state) {
    const rs_model *model = *state;
    const rs_policy_params full = {.policy = RS_POLICY_FULL};
    const rs_erase_params shift = {.method = RS_ERASE_SHIFT};
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = with_area(model, &full, AREA), *never = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(c, rs_decode(c, tokens, 120));
    rs_test_ok(never, rs_decode(never, tokens, 120));
    rs_test_ok(c, rs_erase(c, &(rs_span){10, 50}, 1, &shift, NULL));
    rs_test_ok(c, rs_decode(c, tokens, 60));
    rs_test_ok(c, rs_truncate(c, 20)); /* to before the end of what was erased */
    rs_test_ok(c, rs_decode(c, tokens, 90));
    rs_test_ok(c, rs_undo(c));
    rs_test_ok(c, rs_decode(c, tokens + 120, 50));
    rs_test_ok(never, rs_decode(never, tokens + 120, 50));
    rs_test_same_cache(never, c);
    assert_memory_equal(rs_logits(c, NULL), rs_logits(never, NULL), model->shape.n_vocab * sizeof(float));
    rs_test_free(c);
    rs_test_free(never);
}

/* What refining has read of a text that came after a cut below the edit is of no use when that is taken back.
 */
static void test_refines_what_it_was(void **state) {
    const rs_model *model = *state;
    const rs_erase_params drop_rows = {.method = RS_ERASE_DROP};
    const rs_policy_params full = {.policy = RS_POLICY_FULL};
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = with_area(model, &full, AREA), *never = with_area(model, &full, AREA);
    rs_context *const both[] = {c, never};
    for (int i = 0; i < 2; i++) {
        rs_test_ok(both[i], rs_decode(both[i], tokens, 120));
        rs_test_ok(both[i], rs_erase(both[i], &(rs_span){5, 8}, 1, &drop_rows, NULL));
    }
    rs_test_ok(c, rs_erase(c, &(rs_span){60, 70}, 1, &drop_rows, NULL));
    rs_test_ok(c, rs_truncate(c, 20));
    rs_test_ok(c, rs_decode(c, tokens + 60, 40));
    rs_test_ok(c, rs_refine(c, 2 * N_BATCH, 0, NULL));
    assert_true(c->draft.n_read > 20 && c->draft.n_read < c->n_tokens);
    rs_test_ok(c, rs_undo(c));
    for (int i = 0; i < 2; i++) rs_test_ok(both[i], rs_refine(both[i], 0, 0, NULL));
    rs_test_same_cache(never, c);
    rs_test_free(c);
    rs_test_free(never);
}

static void refused(rs_context *c, rs_status status, const char *phrase) {
    assert_int_equal(rs_undo(c), status);
    if (strstr(rs_context_message(c), phrase) == NULL)
        fail_msg("%s: not in: %s", phrase, rs_context_message(c));
}

static void test_what_cannot_be_had(void **state) {
    const rs_model *model = *state;
    const rs_policy_params full = {.policy = RS_POLICY_FULL};
    const rs_erase_params drop_rows = {.method = RS_ERASE_DROP};
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *without = rs_test_context(model, N_CTX, N_BATCH), *c = with_area(model, &full, AREA);
    refused(without, RS_UNSUPPORTED, "without an undo area");
    rs_forget_undo(without);
    rs_forget_undo(NULL);
    refused(c, RS_UNSUPPORTED, "nothing to take back");
    rs_test_ok(c, rs_decode(c, tokens, 100));
    refused(c, RS_UNSUPPORTED, "nothing to take back");
    rs_test_ok(c, rs_erase(c, &(rs_span){10, 20}, 1, &drop_rows, NULL));
    rs_forget_undo(c);
    check_forgotten(c);
    refused(c, RS_UNSUPPORTED, "forgotten");
    rs_test_ok(c, rs_erase(c, &(rs_span){30, 40}, 1, &drop_rows, NULL));
    rs_test_ok(c, rs_undo(c));
    refused(c, RS_UNSUPPORTED, "nothing"); /* one step back, and no further */
    rs_test_ok(c, rs_erase(c, &(rs_span){30, 40}, 1, &drop_rows, NULL));
    rs_test_ok(c, rs_refine(c, 0, 0, NULL));
    check_forgotten(c); /* the cache is another */
    rs_test_ok(c, rs_erase(c, &(rs_span){50, 60}, 1, &drop_rows, NULL));
    rs_context_reset(c);
    check_forgotten(c);

    /* Too small for a long suffix, large enough for a span. */
    rs_context *small = with_area(model, &full, 2 * (size_t)c->kv.n_streams * c->kv.page_bytes);
    rs_test_ok(small, rs_decode(small, tokens, 200));
    rs_test_ok(small, rs_erase(small, &(rs_span){18, 30}, 1, &drop_rows, NULL));
    rs_test_ok(small, rs_undo(small));
    rs_test_ok(small, rs_erase(small, &(rs_span){18, 30}, 1, NULL, NULL));
    assert_false(can_undo(small));
    refused(small, RS_NO_SPACE, "more have changed");
    rs_test_ok(without, rs_decode(without, tokens, 18));
    rs_test_ok(without, rs_decode(without, tokens + 30, 170));
    rs_test_same_cache(without, small); /* which is none the worse for it */
    check_forgotten(small);
    rs_test_ok(small, rs_erase(small, &(rs_span){14, 20}, 1, &drop_rows, NULL));
    assert_true(can_undo(small));
    rs_test_ok(small, rs_decode(small, tokens, 1)); /* a page that the erase has left alone */
    assert_false(can_undo(small));
    check_forgotten(small);
    refused(small, RS_NO_SPACE, "more have changed");
    rs_forget_undo(small);
    refused(small, RS_UNSUPPORTED, "nothing");
    rs_test_free(small);
    rs_test_free(without);
    rs_test_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_method),
        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_refines_what_it_was),
        cmocka_unit_test(test_what_cannot_be_had),
    };
    return cmocka_run_group_tests_name("undoing", tests, rs_test_set_up_tiny, rs_test_tear_down);
}
