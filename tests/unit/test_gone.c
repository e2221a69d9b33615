/* What is left of a span in a context's memory when it has been erased, by whatever method: nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/forward.h"
#include "tests/support/adapter_builder.h"
#include "tests/support/support.h"

enum { N_CTX = 160, N = 120, SPAN_BEGIN = 40, SPAN_END = 56, N_SPAN = SPAN_END - SPAN_BEGIN };

typedef struct fixture {
    const char *file;
    rs_model *model;
    rs_adapter *steer, *bridge;
    int32_t tokens[N];
} fixture;

static rs_adapter *adapter(const rs_model *model, const char *kind) {
    return rs_test_adapter(
        model,
        &(rs_test_adapter_spec){
            .kind = kind, .rank = 8, .size = 2.0F, .window = 16, .sinks = 2, .bridge_tokens = 8, .seed = 1});
}

static int set_up(void **state) {
    fixture *f = *state;
    f->model = rs_test_load(rs_test_golden_path(f->file), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    f->steer = adapter(f->model, "steer");
    f->bridge = adapter(f->model, "bridge");
    assert_true(f->model->shape.n_vocab > 2 * N); /* so that no token comes twice */
    rs_test_make_tokens(f->model, f->tokens, N);
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    rs_adapter_free(f->steer);
    rs_adapter_free(f->bridge);
    rs_model_free(f->model);
    return 0;
}

typedef struct remains {
    int8_t keys[N_SPAN][RS_HEAD_DIM_MAX], values[N_SPAN][RS_HEAD_DIM_MAX]; /* the span's, of one stream */
} remains;

static void raw_row(const rs_kv *kv, uint32_t page_id, uint32_t slot, int8_t *key, int8_t *value) {
    const rs_kv_page page = rs_kv_get_page(kv, page_id);
    for (uint32_t d = 0; d < kv->head_dim; d++) {
        key[d] = page.view.k[(d / 4) * RS_PAGE_ENTRIES * 4 + slot * 4 + d % 4];
        value[d] = page.view.v[(slot / 4) * kv->head_dim * 4 + d * 4 + slot % 4];
    }
}

/* How many slots of the whole page memory, free pages included, hold one of the rows. */
static uint32_t count_rows(const rs_kv *kv, const remains *rows) {
    uint32_t found = 0;
    for (uint32_t p = 0; p < kv->n_pages; p++) {
        for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) {
            int8_t key[RS_HEAD_DIM_MAX], value[RS_HEAD_DIM_MAX];
            raw_row(kv, p, e, key, value);
            for (uint32_t i = 0; i < N_SPAN; i++) {
                found += memcmp(key, rows->keys[i], kv->head_dim) == 0 ||
                         memcmp(value, rows->values[i], kv->head_dim) == 0;
            }
        }
    }
    return found;
}

/* How often two neighbouring tokens of the span stand side by side anywhere in the context's memory. */
__attribute__((no_sanitize("address"))) static uint32_t count_ids(const rs_context *c,
                                                                  const int32_t *tokens) {
    const volatile int32_t *at = (const volatile int32_t *)c;
    uint32_t found = 0;
    for (size_t i = 0; i + 1 < c->bytes / sizeof *at; i++) {
        for (int t = SPAN_BEGIN; t + 1 < SPAN_END; t++)
            found += at[i] == tokens[t] && at[i + 1] == tokens[t + 1];
    }
    return found;
}

__attribute__((no_sanitize("address"))) static size_t nonzero_scratch(const rs_context *c) {
    const volatile unsigned char *at = (const volatile unsigned char *)c + c->bytes - c->scratch_bytes;
    size_t found = 0;
    for (size_t i = 0; i < c->scratch_bytes; i++) found += at[i] != 0;
    return found;
}

/* The span's rows in every stream, malloc'ed. */
static remains *take_rows(const rs_context *c) {
    remains *all = calloc(c->kv.n_streams, sizeof *all);
    assert_non_null(all);
    for (uint32_t s = 0; s < c->kv.n_streams; s++) {
        for (int32_t i = 0; i < N_SPAN; i++) {
            rs_kv_cursor at;
            assert_true(rs_kv_seek(&c->kv, &c->kv.streams[s], SPAN_BEGIN + i, &at));
            raw_row(&c->kv, c->kv.streams[s].pages[at.page_index], at.slot, all[s].keys[i], all[s].values[i]);
        }
    }
    return all;
}

static uint32_t count_all_rows(const rs_context *c, const remains *all) {
    uint32_t found = 0;
    for (uint32_t s = 0; s < c->kv.n_streams; s++)
        found += count_rows(&c->kv, &all[s]) + count_rows(&c->draft.kv, &all[s]);
    return found;
}

typedef struct way {
    const char *name;
    rs_erase_params params;
    bool replaces, echoes_first, refines_after;
} way;

static void take_out(rs_context *c, const way *w) {
    static const int32_t instead[] = {7, 9, 11};
    const rs_span span = {SPAN_BEGIN, SPAN_END};
    rs_echo echoes[] = {{.span = {60, 70}}, {.span = {80, 90}}};
    if (w->echoes_first) rs_test_ok(c, rs_find_echoes(c, &span, 1, echoes, 2));
    if (w->replaces) rs_test_ok(c, rs_replace(c, span, instead, 3, &w->params, NULL));
    else rs_test_ok(c, rs_erase(c, &span, 1, &w->params, NULL));
    if (w->refines_after) rs_test_ok(c, rs_refine(c, 0, 0, NULL));
}

/* STEER's rows are computed from the span's; they are others, as this adapter changes much. */
static void check(const fixture *f, const way *w, const rs_context_params *params) {
    rs_context *c = rs_test_context_of(f->model, params);
    rs_test_ok(c, rs_decode(c, f->tokens, N));
    remains *all = take_rows(c);
    assert_true(count_all_rows(c, all) >= N_SPAN * c->kv.n_streams); /* the scan finds what is there */
    assert_true(count_ids(c, f->tokens) >= N_SPAN - 1);
    assert_true(nonzero_scratch(c) > 0);

    take_out(c, w);
    rs_forget_undo(c);
    const uint32_t rows = count_all_rows(c, all), ids = count_ids(c, f->tokens);
    const size_t scratch = nonzero_scratch(c);
    if (rows + ids + scratch > 0)
        fail_msg("%s, policy %s: %u rows, %u pairs of tokens, %zu bytes of scratch are left", w->name,
                 rs_policy_name(params->policy.policy), rows, ids, scratch);
    free(all);
    rs_test_free(c);
}

static void test_every_method(void **state) {
    const fixture *f = *state;
    static const int32_t filler[] = {3, 5};
    const way ways[] = {
        {.name = "exact", .params = {.method = RS_ERASE_EXACT}},
        {.name = "drop", .params = {.method = RS_ERASE_DROP}},
        {.name = "drop, gap closed", .params = {.method = RS_ERASE_DROP, .close_gap = true}},
        {.name = "shift", .params = {.method = RS_ERASE_SHIFT}},
        {.name = "repair", .params = {.method = RS_ERASE_REPAIR, .repair_tokens = 8}},
        {.name = "adaptive", .params = {.method = RS_ERASE_ADAPTIVE}},
        {.name = "auto", .params = {.method = RS_ERASE_AUTO, .max_kl = 0.01F}},
        {.name = "refill", .params = {.method = RS_ERASE_REFILL, .filler = filler, .n_filler = 2}},
        {.name = "steer", .params = {.method = RS_ERASE_STEER, .adapter = f->steer}},
        {.name = "bridge", .params = {.method = RS_ERASE_BRIDGE, .adapter = f->bridge}},
        {.name = "bridge, gap closed",
         .params = {.method = RS_ERASE_BRIDGE, .adapter = f->bridge, .close_gap = true}},
        {.name = "learned", .params = {.method = RS_ERASE_LEARNED, .adapter = f->bridge}},
    };
    const rs_policy_params policies[] = {{.policy = RS_POLICY_FULL},
                                         {.policy = RS_POLICY_WINDOW, .sinks = 4, .window = 100}};
    for (size_t p = 0; p < sizeof policies / sizeof *policies; p++) {
        const rs_context_params plain = {.n_ctx = N_CTX, .n_batch = 64, .policy = policies[p]};
        rs_context_params more = plain;
        more.refine = true;
        more.undo_bytes = 1 << 20;
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            check(f, &ways[w], &plain);
            check(f, &ways[w], &more);
        }
    }
}

/* With new tokens, or in a second cache; the window's tokens are all there still when the span goes. */
static void test_every_other_way(void **state) {
    const fixture *f = *state;
    const way ways[] = {
        {.name = "progressive", .params = {.method = RS_ERASE_PROGRESSIVE}},
        {.name = "progressive, by a bridge",
         .params = {.method = RS_ERASE_PROGRESSIVE, .adapter = f->bridge}},
        {.name = "progressive, refined", .params = {.method = RS_ERASE_PROGRESSIVE}, .refines_after = true},
        {.name = "drop, refined", .params = {.method = RS_ERASE_DROP}, .refines_after = true},
        {.name = "drop, echoes sought before", .params = {.method = RS_ERASE_DROP}, .echoes_first = true},
        {.name = "replace, exact", .params = {.method = RS_ERASE_EXACT}, .replaces = true},
        {.name = "replace, drop", .params = {.method = RS_ERASE_DROP}, .replaces = true},
        {.name = "replace, repair",
         .params = {.method = RS_ERASE_REPAIR, .repair_tokens = 8},
         .replaces = true},
        {.name = "replace, adaptive", .params = {.method = RS_ERASE_ADAPTIVE}, .replaces = true},
        {.name = "replace, bridge",
         .params = {.method = RS_ERASE_BRIDGE, .adapter = f->bridge},
         .replaces = true},
        {.name = "replace, refined",
         .params = {.method = RS_ERASE_DROP},
         .replaces = true,
         .refines_after = true},
    };
    rs_context_params params = {.n_ctx = N_CTX, .n_batch = 64, .refine = true, .undo_bytes = 1 << 20};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) check(f, &ways[w], &params);
    params.policy = (rs_policy_params){.policy = RS_POLICY_WINDOW, .sinks = 4, .window = 100};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
        if (!ways[w].replaces && !ways[w].echoes_first)
            check(f, &ways[w], &params); /* which need a full cache */
}

static void test_reset_and_wipe(void **state) {
    const fixture *f = *state;
    rs_context *c = rs_test_context(f->model, N_CTX, 64);
    rs_test_ok(c, rs_decode(c, f->tokens, N));
    remains *all = take_rows(c);
    rs_context_reset(c);
    assert_int_equal(count_all_rows(c, all), 0);
    assert_int_equal(count_ids(c, f->tokens), 0);
    assert_int_equal(nonzero_scratch(c), 0);
    const size_t bytes = c->bytes;
    rs_context_wipe(c);
    const unsigned char *memory = (const unsigned char *)c;
    for (size_t i = 0; i < bytes; i++) assert_int_equal(memory[i], 0);
    free(all);
    free(c);
}

#define GONE_TEST(test, fixture)                                                                             \
    { #test, test, set_up, tear_down, fixture }

int main(void) {
    static fixture llama = {.file = "tiny-llama-linear.gguf"}, gemma = {.file = "tiny-gemma3.gguf"};
    const struct CMUnitTest tests[] = {
        GONE_TEST(test_every_method, &llama),    GONE_TEST(test_every_method, &gemma),
        GONE_TEST(test_every_other_way, &llama), GONE_TEST(test_every_other_way, &gemma),
        GONE_TEST(test_reset_and_wipe, &llama),
    };
    return cmocka_run_group_tests_name("gone", tests, NULL, NULL);
}
