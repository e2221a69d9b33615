/* What changes a context, in random order, under policies of every kind: what must be so after each call. The
 * log of a failure is what led to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/edit.h"
#include "tests/support/adapter_builder.h"
#include "tests/support/gates_builder.h"
#include "tests/support/state_builder.h"
#include "tests/support/support.h"

enum { N_CTX = 96, STEPS = 25, LOG = 4096, N_POLICIES = 9, MAX_STREAMS = 64, MAX_SPANS = 2 };

/* A context with all that is needed to try it. */
typedef struct trial {
    const rs_model *model;
    const rs_adapter *steer, *bridge;
    rs_context *c, *other; /* copies go from one to the other */
    rs_context *loaded;    /* takes what is saved */
    rs_context *reader;    /* a full cache, for what reading gives */
    rs_test_state before;  /* what the last edit began with; {NULL, 0}: there was none */
    char log[LOG];
    size_t log_bytes;
} trial;

static uint32_t seed;

static uint32_t below(uint32_t n) {
    seed = seed * 1664525U + 1013904223U;
    return (seed >> 8) % n;
}

__attribute__((format(printf, 2, 3))) static void note(trial *t, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(t->log + t->log_bytes, LOG - t->log_bytes, format, arguments);
    va_end(arguments);
    assert_true(n > 0 && (size_t)n < LOG - t->log_bytes);
    t->log_bytes += (size_t)n;
}

/* -------------------------------------------------------------------------------------------- checks -- */

static void check(const trial *t, bool holds, const char *what) {
    if (!holds) fail_msg("%s, after %s", what, t->log);
}

/* Pages that hold nothing are empty to the byte, and none is lost. */
static void check_pages(const trial *t, const rs_kv *kv) {
    uint32_t n_used = 0;
    for (uint32_t s = 0; s < kv->n_streams; s++) n_used += kv->streams[s].n_pages;
    check(t, n_used + kv->n_free == kv->n_pages, "a page is lost");
    for (uint32_t i = 0; i < kv->n_free; i++) {
        const rs_kv_page page = rs_kv_get_page(kv, kv->free_pages[i]);
        bool is_empty = true;
        for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++)
            is_empty = is_empty && page.position[e] == RS_KV_HOLE && page.view.k_scale[e] == 0 &&
                       page.view.v_scale[e] == 0;
        for (uint32_t k = 0; k < RS_PAGE_ENTRIES * kv->head_dim; k++)
            is_empty = is_empty && page.view.k[k] == 0 && page.view.v[k] == 0;
        check(t, is_empty, "a free page is not empty");
    }
}

static void check_list(const trial *t) {
    const rs_context *c = t->c;
    for (uint32_t i = c->n_tokens; i < N_CTX; i++)
        check(t, c->tokens[i] == 0 && c->positions[i] == 0 && c->turns[i] == 0,
              "the list has an end that is not 0");
    check(t, c->first_cheap == RS_NOTHING_CHEAP || c->first_cheap < c->n_tokens,
          "what is cheap is not there");
    check(t, c->head_end <= c->next_position, "the head ends behind the end");
}

static void check_saves(trial *t) {
    const rs_test_state saved = rs_test_save(t->c);
    check(t, saved.data != NULL, "it cannot be saved");
    check(t, rs_context_load(t->loaded, saved.data, saved.bytes) == RS_OK, rs_context_message(t->loaded));
    free(saved.data);
}

/* In front of what is cheap a full cache holds what reading its tokens at their positions gives. */
static void check_rows(trial *t) {
    const rs_context *c = t->c;
    rs_context *reader = t->reader;
    const uint32_t n = c->first_cheap < c->n_tokens ? c->first_cheap : c->n_tokens;
    const size_t bytes = c->kv.head_dim * sizeof(float);
    if (c->params.policy.policy != RS_POLICY_FULL || n == 0) return;
    rs_context_reset(reader);
    memcpy(reader->tokens, c->tokens, n * sizeof *c->tokens);
    memcpy(reader->positions, c->positions, n * sizeof *c->positions);
    reader->n_tokens = n;
    reader->next_position = c->positions[n - 1] + 1;
    uint32_t done = 0;
    rs_test_ok(reader, rs_edit_read_again(reader, 0, &done));
    for (uint32_t s = 0; s < c->kv.n_streams; s++) {
        for (uint32_t i = 0; i < n; i++) {
            float rows[4][RS_HEAD_DIM_MAX];
            check(t, rs_test_holds(c, s, c->positions[i]), "a token has no entry");
            rs_test_row(c, s, c->positions[i], rows[0], rows[1]);
            rs_test_row(reader, s, c->positions[i], rows[2], rows[3]);
            check(t, memcmp(rows[0], rows[2], bytes) == 0 && memcmp(rows[1], rows[3], bytes) == 0,
                  "a row is not what reading gives");
        }
    }
}

static void check_all(trial *t) {
    check(t, !t->c->poisoned, "it is poisoned");
    check_pages(t, &t->c->kv);
    check_pages(t, &t->c->draft.kv);
    check_list(t);
    check_saves(t);
    check_rows(t);
}

/* ------------------------------------------------------------------------------------------- actions -- */

static void make_tokens(const trial *t, int32_t *tokens, uint32_t n) {
    const uint32_t n_words =
        t->model->shape.n_vocab < 40 ? t->model->shape.n_vocab : 40; /* they come again */
    for (uint32_t i = 0; i < n; i++) tokens[i] = (int32_t)below(n_words);
}

/* Within the context, often at one of its ends. */
static rs_span any_span(const rs_context *c) {
    const int32_t end = c->next_position;
    rs_span span = {below(8) == 0 ? 0 : (int32_t)below((uint32_t)end), end};
    if (below(8) > 0) span.end = span.begin + 1 + (int32_t)below(12);
    if (span.end > end) span.end = end;
    return span;
}

static rs_erase_params any_params(const trial *t, const int32_t *filler) {
    rs_erase_params p = {.method = (rs_erase_method)below(RS_ERASE_AUTO + 1),
                         .repair_tokens = below(8),
                         .repair_fraction = 0.2F,
                         .echo_bound = below(2) == 0 ? 0.05F : 0,
                         .force = true};
    const bool leaves_gap =
        p.method == RS_ERASE_DROP || p.method == RS_ERASE_REPAIR || p.method == RS_ERASE_BRIDGE;
    p.close_gap = leaves_gap && below(2) == 0;
    if (p.method == RS_ERASE_STEER || p.method == RS_ERASE_LEARNED) p.adapter = t->steer;
    if (p.method == RS_ERASE_BRIDGE || (p.method == RS_ERASE_PROGRESSIVE && below(2) == 0))
        p.adapter = t->bridge;
    if (p.method == RS_ERASE_AUTO) p.max_kl = below(2) == 0 ? 0.02F : 0.1F;
    if (p.method != RS_ERASE_REFILL) return p;
    p.filler = filler;
    p.n_filler = 3;
    p.window = below(3) == 0 ? 0 : 1 + below(6);
    p.sinks = below(3);
    return p;
}

static rs_status erase(trial *t) {
    int32_t filler[3];
    make_tokens(t, filler, 3);
    const rs_erase_params p = any_params(t, filler);
    rs_span spans[MAX_SPANS] = {any_span(t->c)};
    spans[1].begin = spans[0].end + (int32_t)below(6);
    spans[1].end = spans[1].begin + 1 + (int32_t)below(6);
    const size_t n = below(3) == 0 && spans[1].end <= t->c->next_position ? 2 : 1;
    for (size_t i = 0; i < n; i++) note(t, " [%d, %d)", spans[i].begin, spans[i].end);
    note(t, " %s%s k=%u", rs_erase_method_name(p.method), p.close_gap ? "+shift" : "", p.repair_tokens);
    return rs_erase(t->c, spans, n, &p, NULL);
}

static rs_status replace(trial *t) {
    static const rs_erase_method methods[] = {RS_ERASE_EXACT, RS_ERASE_DROP, RS_ERASE_REPAIR, RS_ERASE_BRIDGE,
                                              RS_ERASE_ADAPTIVE};
    int32_t tokens[10];
    rs_erase_params p = {.method = methods[below(5)], .repair_tokens = 1 + below(6), .force = true};
    if (p.method == RS_ERASE_BRIDGE) p.adapter = t->bridge;
    if (p.method != RS_ERASE_EXACT) p.close_gap = below(2) == 0;
    const rs_span span = any_span(t->c);
    const uint32_t n = 1 + below(10);
    make_tokens(t, tokens, n);
    note(t, " [%d, %d) by %u %s%s", span.begin, span.end, n, rs_erase_method_name(p.method),
         p.close_gap ? "+shift" : "");
    return rs_replace(t->c, span, tokens, n, &p, NULL);
}

static rs_status decode(trial *t) {
    int32_t tokens[40];
    const uint32_t n = 1 + below(t->c->n_tokens < 10 ? 40 : 20);
    make_tokens(t, tokens, n);
    note(t, " %u", n);
    return rs_decode(t->c, tokens, n);
}

static rs_status refine(trial *t) {
    const uint32_t n = below(3) == 0 ? 0 : 1 + below(30);
    note(t, " %u", n);
    return rs_refine(t->c, n, 0, NULL);
}

static rs_status cut(trial *t) {
    const int32_t end = t->c->next_position, near = end - (int32_t)below(6);
    const int32_t position = below(2) == 0 ? (int32_t)below((uint32_t)end) : near > 0 ? near : 0;
    note(t, " %d", position);
    return rs_truncate(t->c, position);
}

static rs_status set_head(trial *t) {
    const int32_t position = (int32_t)below((uint32_t)t->c->next_position + 1);
    note(t, " %d", position);
    return rs_context_set_head(t->c, position);
}

static rs_status reset(trial *t) {
    rs_context_reset(t->c);
    return RS_OK;
}

static rs_status copy(trial *t) {
    const rs_status status = rs_context_copy(t->other, t->c);
    rs_context *const from = t->c;
    if (status != RS_OK) return status;
    t->c = t->other;
    t->other = from;
    return status;
}

static rs_status find_echoes(trial *t) {
    const rs_span span = any_span(t->c);
    rs_echo echoes[] = {{.span = {span.end, span.end + 3}}, {.span = {span.end, t->c->next_position}}};
    note(t, " [%d, %d)", span.begin, span.end);
    return rs_find_echoes(t->c, &span, 1, echoes, 2);
}

/* To the byte, but for logits. */
static rs_status undo(trial *t) {
    const rs_status status = rs_undo(t->c);
    if (status != RS_OK || t->before.data == NULL) return status;
    const rs_test_state now = rs_test_save(t->c);
    check(t, now.bytes == t->before.bytes && memcmp(now.data, t->before.data, now.bytes) == 0,
          "undoing is not exact");
    free(now.data);
    return status;
}

typedef struct action {
    const char *name;
    rs_status (*run)(trial *t);
    uint32_t weight;
    bool edits; /* can be undone */
} action;

static const action actions[] = {
    {"decode", decode, 3, false},     {"erase", erase, 9, true},
    {"replace", replace, 3, true},    {"undo", undo, 3, false},
    {"refine", refine, 3, false},     {"truncate", cut, 3, false},
    {"copy", copy, 2, false},         {"find_echoes", find_echoes, 1, false},
    {"set_head", set_head, 2, false}, {"reset", reset, 1, false},
};

static const action *any_action(void) {
    uint32_t all = 0;
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) all += actions[i].weight;
    uint32_t left = below(all);
    const action *a = actions;
    while (left >= a->weight) left -= a++->weight;
    return a;
}

/* One action, and what is so after it. Refusals change nothing that the checks would not see. */
static void step(trial *t) {
    const action *a = t->c->n_tokens < 10 ? &actions[0] : any_action();
    rs_test_state before = {NULL, 0};
    if (a->edits) {
        t->c->has_logits = false; /* which no edit leaves, and undoing does not bring back */
        before = rs_test_save(t->c);
    }
    note(t, " %s", a->name);
    const rs_status status = a->run(t);
    note(t, status == RS_OK ? ";" : " (%s);", rs_status_name(status));
    if (a->edits && status == RS_OK) {
        free(t->before.data);
        t->before = before;
    } else {
        free(before.data);
    }
    check_all(t);
}

static void try_one(trial *t, const rs_policy_params *policy) {
    const rs_context_params params = {.n_ctx = N_CTX,
                                      .n_batch = 5 + below(12),
                                      .policy = *policy,
                                      .refine = below(4) > 0,
                                      .undo_bytes = below(3) == 0   ? 0
                                                    : below(3) == 0 ? 9000
                                                                    : 1 << 22};
    const rs_context_params plain = {.n_ctx = N_CTX, .n_batch = params.n_batch, .policy = *policy};
    t->c = rs_test_context_of(t->model, &params);
    t->other = rs_test_context_of(t->model, &params);
    t->loaded = rs_test_context_of(t->model, &plain);
    t->before = (rs_test_state){NULL, 0};
    t->log_bytes = 0;
    note(t, "%s, chunks of %u, refine %d, undo %zu:", rs_policy_name(policy->policy), params.n_batch,
         params.refine, params.undo_bytes);
    for (int i = 0; i < STEPS; i++) step(t);
    free(t->before.data);
    rs_test_free(t->c);
    rs_test_free(t->other);
    rs_test_free(t->loaded);
}

static void test_any_order(void **state) {
    const rs_model *model = *state;
    rs_adapter *steer = rs_test_adapter(
        model, &(rs_test_adapter_spec){.kind = "steer", .rank = 8, .size = 0.02F, .window = 16, .sinks = 2});
    rs_adapter *bridge = rs_test_adapter(
        model, &(rs_test_adapter_spec){
                   .kind = "bridge", .rank = 8, .size = 0.02F, .window = 16, .sinks = 2, .bridge_tokens = 6});
    rs_gates *gates = rs_test_gates(
        model, &(rs_test_gates_spec){
                   .form = "tied", .scope = "global", .width = 32, .features = 64, .bias = 2, .size = 0.3F});
    bool heads[MAX_STREAMS];
    for (uint32_t s = 0; s < MAX_STREAMS; s++) heads[s] = s % 3 == 1;
    const rs_policy_params policies[N_POLICIES] = {
        {.policy = RS_POLICY_FULL},
        {.policy = RS_POLICY_HEADS, .sinks = 3, .window = 9, .rewind = 4, .full_heads = heads},
        {.policy = RS_POLICY_RANDOM, .sinks = 2, .window = 5, .budget = 20, .full_heads = heads},
        {.policy = RS_POLICY_WINDOW, .sinks = 3, .window = 9, .rewind = 4},
        {.policy = RS_POLICY_KEYNORM, .sinks = 2, .window = 5, .budget = 20},
        {.policy = RS_POLICY_SNAPKV, .keep = 0.4F, .observers = 3, .decoded = 96},
        {.policy = RS_POLICY_PYRAMIDKV, .keep = 0.4F, .observers = 3, .patched = true, .decoded = 96},
        {.policy = RS_POLICY_GATES, .sinks = 2, .window = 5, .budget = 24, .gates = gates},
        {.policy = RS_POLICY_HEAD_GATES, .sinks = 2, .window = 5, .budget = 20, .gates = gates},
    };
    trial t = {.model = model, .steer = steer, .bridge = bridge, .reader = rs_test_context(model, N_CTX, 16)};
    const int n_trials = RS_TEST_SANITIZED ? 60 : 200;
    for (int i = 0; i < n_trials; i++) {
        seed = (uint32_t)i;
        try_one(&t, &policies[i % 2 == 0 ? 0 : 1 + (size_t)(i / 2) % (N_POLICIES - 1)]);
    }
    rs_test_free(t.reader);
    rs_adapter_free(steer);
    rs_adapter_free(bridge);
    rs_gates_free(gates);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_order)};
    return cmocka_run_group_tests_name("any order", tests, rs_test_set_up_tiny, rs_test_tear_down);
}
