/* What the cache holds under policies that evict, against a slow and obvious shadow: a list of the tokens'
 * positions, and for each stream which of them it has, changed by the rules of rasure.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/context.h"
#include "tests/support/gates_builder.h"
#include "tests/support/state_builder.h"
#include "tests/support/support.h"

enum { N_CTX = 160, STEPS = 40, MAX_STREAMS = 64, SLACK = 16, HEAD = 1 };

typedef struct shadow {
    int32_t positions[N_CTX]; /* of the tokens */
    bool held[MAX_STREAMS][N_CTX];
    uint32_t n_tokens;
} shadow;

typedef struct trial {
    const rs_model *model;
    rs_context_params params;
    rs_context *c;
    shadow s;
    int32_t next;
    uint32_t n_evicted, n_exact, n_back, n_refused; /* so that the rules have been needed */
} trial;

static uint32_t seed;

static uint32_t below(uint32_t n) {
    seed = seed * 1664525U + 1013904223U;
    return (seed >> 8) % n;
}

/* ------------------------------------------------------------------------------------------ the rules -- */

/* Where all between sinks and window go. */
static bool is_plain(rs_policy policy) {
    return policy == RS_POLICY_WINDOW || policy == RS_POLICY_HEADS;
}

/* Where what goes is neither all nor the oldest: which of them, the cache says; how many and from where, the
 * shadow. */
static bool is_told(rs_policy policy) {
    return policy == RS_POLICY_RANDOM || policy == RS_POLICY_KEYNORM || policy == RS_POLICY_GATES ||
           policy == RS_POLICY_SNAPKV;
}

static bool keeps_everything(const trial *t, uint32_t stream) {
    const bool *heads = t->params.policy.full_heads;
    return heads != NULL && heads[stream];
}

static uint32_t count_held(const trial *t, uint32_t stream) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->s.n_tokens; i++) n += t->s.held[stream][i];
    return n;
}

/* Of a chunk; not longer than the tokens that choose, it stays whole. */
static uint32_t kept_of_chunk(const rs_policy_params *p, uint32_t chunk) {
    const uint32_t share = (uint32_t)(p->keep * (float)chunk);
    if (chunk <= p->observers) return chunk;
    return share > p->observers ? share : p->observers;
}

/* Entries of a stream that go when a chunk has been read: all that may; or so many that the budget is left,
 * once there are SLACK more. With a budget for all streams at once, what the cache lacks
 * (check_budget_of_all). */
static uint32_t wanted(const trial *t, uint32_t stream, uint32_t chunk) {
    const rs_policy_params *p = &t->params.policy;
    const uint32_t held = count_held(t, stream);
    if (keeps_everything(t, stream)) return 0;
    if (is_plain(p->policy) || p->policy == RS_POLICY_GATES) return held;
    if (p->policy == RS_POLICY_SNAPKV) return chunk - kept_of_chunk(p, chunk);
    return held > p->budget + SLACK ? held - p->budget : 0;
}

static void evict(trial *t, uint32_t stream, uint32_t chunk) {
    const rs_policy_params *p = &t->params.policy;
    const bool by_chunk = p->policy == RS_POLICY_SNAPKV;
    const uint32_t n = t->s.n_tokens, first = by_chunk ? n - chunk : p->sinks;
    const uint32_t behind = by_chunk ? p->observers : p->window + p->rewind;
    uint32_t left = wanted(t, stream, chunk);
    for (uint32_t i = first; i + behind < n && left > 0; i++) {
        bool *held = &t->s.held[stream][i];
        if (!*held || (is_told(p->policy) && rs_test_holds(t->c, stream, t->s.positions[i]))) continue;
        *held = false;
        t->n_evicted++;
        left--;
    }
}

static void evict_from_all(trial *t, uint32_t chunk) {
    for (uint32_t s = 0; s < t->c->kv.n_streams; s++) evict(t, s, chunk);
}

/* ----------------------------------------------------------------------------------------- operations -- */

static void append(trial *t, uint32_t count) {
    int32_t tokens[N_CTX];
    for (uint32_t i = 0; i < count; i++) tokens[i] = (int32_t)below(40);
    rs_test_ok(t->c, rs_decode(t->c, tokens, count));
    while (count > 0) {
        const uint32_t chunk = count < t->params.n_batch ? count : t->params.n_batch;
        for (uint32_t i = 0; i < chunk; i++) {
            t->s.positions[t->s.n_tokens] = t->next++;
            for (uint32_t s = 0; s < t->c->kv.n_streams; s++) t->s.held[s][t->s.n_tokens] = true;
            t->s.n_tokens++;
        }
        evict_from_all(t, chunk);
        count -= chunk;
    }
}

/* Tokens at [begin, end) go, and those behind move up by `by`. */
static void take_out(trial *t, rs_span span, int32_t by) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->s.n_tokens; i++) {
        const int32_t position = t->s.positions[i];
        if (position >= span.begin && position < span.end) continue;
        t->s.positions[n] = position >= span.end ? position - by : position;
        for (uint32_t s = 0; s < t->c->kv.n_streams; s++) t->s.held[s][n] = t->s.held[s][i];
        n++;
    }
    t->s.n_tokens = n;
    t->next -= by;
}

/* Some tokens, which end before the last one does. */
static rs_span draw_span(const trial *t) {
    const int32_t begin = (int32_t)below((uint32_t)t->next - 1), left = t->next - 1 - begin;
    const int32_t length = 1 + (int32_t)below(15);
    return (rs_span){begin, begin + (length < left ? length : left)};
}

static void erase(trial *t) {
    static const rs_erase_params ways[] = {
        {.method = RS_ERASE_DROP},
        {.method = RS_ERASE_DROP, .close_gap = true},
        {.method = RS_ERASE_REPAIR, .repair_tokens = 4},
        {.method = RS_ERASE_REPAIR, .repair_tokens = 4, .close_gap = true},
        {.method = RS_ERASE_SHIFT},
    };
    const rs_erase_params *way = &ways[below(5)];
    const bool closes = way->close_gap || way->method == RS_ERASE_SHIFT;
    const rs_span span = draw_span(t);
    if (rs_erase(t->c, &span, 1, way, NULL) == RS_OK) take_out(t, span, closes ? span.end - span.begin : 0);
}

/* What stood behind the span follows it without a gap. What was read again, that or everything, is held by
 * all streams, and then evicted from. Of policies that count what they leave, chunks would matter: only where
 * all goes that may. */
static void erase_exactly(trial *t) {
    const rs_span span = draw_span(t);
    rs_erase_report report;
    if (!is_plain(t->params.policy.policy)) return;
    if (rs_erase(t->c, &span, 1, &(rs_erase_params){.method = RS_ERASE_EXACT}, &report) != RS_OK) return;
    take_out(t, span, 0);
    t->next = span.begin;
    for (uint32_t i = 0; i < t->s.n_tokens; i++)
        if (t->s.positions[i] >= span.begin) t->s.positions[i] = t->next++;
    for (uint32_t i = t->s.n_tokens - report.n_recomputed; i < t->s.n_tokens; i++)
        for (uint32_t s = 0; s < t->c->kv.n_streams; s++) t->s.held[s][i] = true;
    if (report.n_recomputed > 0) evict_from_all(t, report.n_recomputed);
    t->n_exact++;
}

/* Going back is allowed only to where sinks and window are, and to everywhere as long as nothing has gone. */
static void go_back(trial *t) {
    const rs_policy_params *p = &t->params.policy;
    const int32_t position = t->next - 1 - (int32_t)below(7);
    if (position < HEAD) return;
    if (rs_truncate(t->c, position) != RS_OK) {
        assert_true(t->n_evicted > 0);
        t->n_refused++;
        return;
    }
    take_out(t, (rs_span){position, t->next}, 0);
    t->next = position;
    t->n_back++;
    const uint32_t n = t->s.n_tokens;
    for (uint32_t s = 0; s < t->c->kv.n_streams; s++)
        for (uint32_t i = 0; i < n; i++)
            if (p->policy != RS_POLICY_SNAPKV && (i < p->sinks || i + p->window >= n))
                assert_true(t->s.held[s][i]);
}

static void save_and_load(trial *t) {
    const rs_test_state saved = rs_test_save(t->c);
    assert_non_null(saved.data);
    rs_test_free(t->c);
    t->c = rs_test_context_of(t->model, &t->params);
    rs_test_ok(t->c, rs_context_load(t->c, saved.data, saved.bytes));
    free(saved.data);
}

/* --------------------------------------------------------------------------------------------- checks -- */

static void check_budget_of_all(const trial *t) {
    const uint32_t n_streams = t->c->kv.n_streams;
    uint32_t held = 0;
    for (uint32_t s = 0; s < n_streams; s++) held += count_held(t, s);
    assert_true(held <= n_streams * (t->params.policy.budget + SLACK));
}

static void check(const trial *t) {
    assert_int_equal(t->c->n_tokens, t->s.n_tokens);
    assert_int_equal(t->c->next_position, t->next);
    assert_memory_equal(t->c->positions, t->s.positions, t->s.n_tokens * sizeof *t->s.positions);
    for (uint32_t s = 0; s < t->c->kv.n_streams; s++) {
        assert_int_equal(t->c->kv.streams[s].n_live, count_held(t, s));
        for (uint32_t i = 0; i < t->s.n_tokens; i++)
            assert_int_equal(rs_test_holds(t->c, s, t->s.positions[i]), t->s.held[s][i]);
    }
    if (t->params.policy.policy == RS_POLICY_GATES) check_budget_of_all(t);
}

static void try_one(trial *t, const rs_policy_params *policy) {
    t->params = (rs_context_params){.n_ctx = N_CTX, .n_batch = 3 + below(14), .policy = *policy};
    t->c = rs_test_context_of(t->model, &t->params);
    t->s.n_tokens = 0;
    t->next = 0;
    for (int i = 0; i < STEPS; i++) {
        const uint32_t action = t->s.n_tokens < 10 ? 0 : below(9), count = 1 + below(40);
        if (t->next + (int32_t)count > N_CTX) break;
        if (action < 4) append(t, count);
        else if (action < 6) erase(t);
        else if (action == 6) go_back(t);
        else if (action == 7) erase_exactly(t);
        else save_and_load(t);
        check(t);
    }
    rs_test_free(t->c);
}

static void test_what_is_held(void **state) {
    trial t = {.model = *state};
    /* Each token of a head loses as much as the others: the oldest is worth least. */
    rs_gates *gates = rs_test_gates(
        t.model, &(rs_test_gates_spec){.form = "constant", .scope = "head", .bias = 1, .bias_step = 0.5F});
    rs_gates *global = rs_test_gates(
        t.model, &(rs_test_gates_spec){.form = "constant", .scope = "global", .bias = 1, .bias_step = 0.5F});
    bool heads[MAX_STREAMS];
    for (uint32_t s = 0; s < MAX_STREAMS; s++) heads[s] = s % 3 == 1;
    const rs_policy_params policies[] = {
        {.policy = RS_POLICY_WINDOW, .sinks = 3, .window = 9, .rewind = 4},
        {.policy = RS_POLICY_HEADS, .sinks = 2, .window = 12, .rewind = 3, .full_heads = heads},
        {.policy = RS_POLICY_RANDOM, .sinks = 2, .window = 5, .budget = 20, .full_heads = heads},
        {.policy = RS_POLICY_KEYNORM, .sinks = 2, .window = 5, .rewind = 2, .budget = 24},
        {.policy = RS_POLICY_HEAD_GATES, .sinks = 2, .window = 5, .budget = 20, .gates = gates},
        {.policy = RS_POLICY_GATES, .sinks = 2, .window = 5, .budget = 24, .floor = 9, .gates = global},
        {.policy = RS_POLICY_SNAPKV, .keep = 0.5F, .observers = 3, .decoded = N_CTX, .full_heads = heads},
    };
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        uint32_t n_evicted = 0;
        t.n_exact = t.n_back = t.n_refused = 0;
        for (uint32_t round = 0; round < 16; round++) {
            seed = round;
            t.n_evicted = 0;
            try_one(&t, &policies[i]);
            n_evicted += t.n_evicted;
        }
        assert_true(n_evicted > 2000 && t.n_back > 3 && t.n_refused > 3);
        assert_true(t.n_exact > 3 || !is_plain(policies[i].policy));
    }
    rs_gates_free(gates);
    rs_gates_free(global);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_is_held)};
    return cmocka_run_group_tests(tests, rs_test_set_up_tiny, rs_test_tear_down);
}
