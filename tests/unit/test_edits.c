/* Caches under a policy against a slow, obvious shadow of what each stream holds: tokens are read, erased and
 * taken back at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/context.h"
#include "tests/support/gates_builder.h"
#include "tests/support/state_builder.h"
#include "tests/support/support.h"

enum { N_CTX = 300, N_BATCH = 16, SINKS = 4, WINDOW = 24, BUDGET = 48, FLOOR = 40, MAX_STREAMS = 64 };

typedef struct shadow {
    const rs_context *context; /* whose policy it has */
    float lambda[MAX_STREAMS]; /* of the gates, the same for all entries of a stream */
    bool held[MAX_STREAMS][N_CTX];
    int32_t positions[N_CTX];
    uint32_t n;
    int32_t next;
} shadow;

static uint32_t n_live(const shadow *s, uint32_t stream) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++) n += s->held[stream][i];
    return n;
}

/* ------------------------------------------------------------------------------------------- eviction -- */

/* What lies between sinks and window. */
static void evict_middle(shadow *s, uint32_t stream) {
    for (uint32_t i = SINKS; i + WINDOW < s->n; i++) s->held[stream][i] = false;
}

typedef struct entry {
    float score;
    uint32_t index, stream; /* of the list; the older has the lower */
    bool stays;
} entry;

static int lower_first(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->score < y->score || x->score > y->score) return x->score < y->score ? -1 : 1;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    return (x->stream > y->stream) - (x->stream < y->stream);
}

/* The lowest of some streams together, until they hold the budget on average; not those that are among the
 * best of their stream up to the floor. Nothing as long as they hold no more than the budget and its slack.
 */
static void evict_lowest(shadow *s, uint32_t first, uint32_t count, uint32_t floor) {
    static entry entries[MAX_STREAMS * N_CTX];
    uint32_t n = 0, live = 0, of_stream[MAX_STREAMS] = {0}; /* that are sure to stay */
    for (uint32_t stream = first; stream < first + count; stream++) {
        live += n_live(s, stream);
        of_stream[stream] = n_live(s, stream);
        for (uint32_t i = SINKS; i + WINDOW < s->n; i++) {
            if (!s->held[stream][i]) continue;
            const float age = (float)(s->positions[s->n - 1] + 1 - s->positions[i]);
            entries[n++] = (entry){s->lambda[stream] * age, i, stream, false};
            of_stream[stream]--;
        }
    }
    if (live <= count * (BUDGET + rs_scored_slack(BUDGET))) return;
    qsort(entries, n, sizeof *entries, lower_first);
    for (uint32_t e = n; e-- > 0;) {
        if (of_stream[entries[e].stream] >= floor) continue;
        entries[e].stays = true;
        of_stream[entries[e].stream]++;
    }
    for (uint32_t e = 0; e < n && live > count * BUDGET; e++) {
        if (entries[e].stays) continue;
        s->held[entries[e].stream][entries[e].index] = false;
        live--;
    }
}

/* What goes when streams [first, end) have read a chunk. */
static void evict(shadow *s, uint32_t first, uint32_t end) {
    const rs_policy_params *params = &s->context->params.policy;
    if (s->n <= SINKS + WINDOW) return;
    if (params->policy == RS_POLICY_GATES) {
        evict_lowest(s, 0, s->context->kv.n_streams, FLOOR);
        return;
    }
    for (uint32_t stream = first; stream < end; stream++) {
        if (params->policy == RS_POLICY_HEAD_GATES) evict_lowest(s, stream, 1, 0);
        else if (!params->full_heads[stream]) evict_middle(s, stream);
    }
}

/* -------------------------------------------------------------------------------------------- edits -- */

/* Tokens [s->n, end) of the list come, some layers after the others. */
static void shadow_read(shadow *s, uint32_t end) {
    const rs_context *c = s->context;
    const uint32_t at_once = rs_policy_layers_at_once(&c->policy) * c->model->shape.n_kv_heads;
    while (s->n < end) {
        const uint32_t begin = s->n, chunk = end - begin < N_BATCH ? end - begin : N_BATCH;
        for (uint32_t stream = 0; stream < c->kv.n_streams; stream++)
            for (uint32_t i = begin; i < begin + chunk; i++) s->held[stream][i] = false;
        s->n += chunk;
        for (uint32_t first = 0; first < c->kv.n_streams; first += at_once) {
            const uint32_t left = c->kv.n_streams - first, n = left < at_once ? left : at_once;
            for (uint32_t stream = first; stream < first + n; stream++)
                for (uint32_t i = begin; i < begin + chunk; i++) s->held[stream][i] = true;
            evict(s, first, first + n);
        }
    }
}

static void shadow_append(shadow *s, uint32_t count) {
    for (uint32_t i = s->n; i < s->n + count; i++) s->positions[i] = s->next++;
    shadow_read(s, s->n + count);
}

static void shadow_erase(shadow *s, rs_span span, bool close) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->positions[i] >= span.begin && s->positions[i] < span.end) continue;
        const bool moves = close && s->positions[i] >= span.end;
        s->positions[kept] = s->positions[i] - (moves ? span.end - span.begin : 0);
        for (uint32_t stream = 0; stream < MAX_STREAMS; stream++) s->held[stream][kept] = s->held[stream][i];
        kept++;
    }
    s->n = kept;
    if (close) s->next -= span.end - span.begin;
}

/* Token `index` goes, those behind it move up, and the last n_recomputed are read again. */
static void shadow_exact(shadow *s, uint32_t index, uint32_t n_recomputed) {
    const int32_t begin = s->positions[index];
    shadow_erase(s, (rs_span){begin, begin + 1}, false);
    const uint32_t left = s->n;
    for (uint32_t i = index; i < left; i++) s->positions[i] = begin + (int32_t)(i - index);
    s->next = begin + (int32_t)(left - index);
    s->n = left - n_recomputed;
    shadow_read(s, left);
}

/* All that a window over the first n tokens would hold is there. */
static bool is_whole(const shadow *s, uint32_t n) {
    for (uint32_t stream = 0; stream < s->context->kv.n_streams; stream++)
        for (uint32_t i = 0; i < n; i++)
            if (!s->held[stream][i] && (i < SINKS || i + WINDOW >= n)) return false;
    return true;
}

static void check(const rs_context *c, const shadow *s) {
    assert_int_equal(c->n_tokens, s->n);
    assert_int_equal(c->next_position, s->next);
    for (uint32_t stream = 0; stream < c->kv.n_streams; stream++) {
        for (uint32_t i = 0; i < s->n; i++)
            assert_int_equal(rs_test_holds(c, stream, s->positions[i]), s->held[stream][i]);
        assert_int_equal(c->kv.streams[stream].n_live, n_live(s, stream));
    }
}

/* Spans that are there or gone, by two methods that recompute nothing, and by one that does. */
static void erase_some(rs_context *c, shadow *s, uint32_t what) {
    const uint32_t first = (uint32_t)rand() % (s->n - 1);
    const uint32_t last = what == 2 ? first : first + (uint32_t)rand() % (s->n - first);
    const rs_span span = {s->positions[first], s->positions[last] + 1};
    static const rs_erase_method methods[] = {RS_ERASE_DROP, RS_ERASE_SHIFT, RS_ERASE_EXACT};
    rs_erase_report report;
    rs_test_ok(c, rs_erase(c, &span, 1, &(rs_erase_params){.method = methods[what]}, &report));
    if (what == 2) shadow_exact(s, first, report.n_recomputed);
    else shadow_erase(s, span, what == 1);
}

/* Whether it could be had. A refusal may be over-careful where erases have changed what counts as a sink. */
static bool go_back(rs_context *c, shadow *s) {
    const uint32_t n =
        rand() % 2 == 0 ? (uint32_t)rand() % (SINKS + 1) : s->n - 1 - (uint32_t)rand() % (s->n - 1);
    const int32_t position = s->positions[n];
    const rs_status status = rs_truncate(c, position);
    if (status != RS_OK) {
        assert_int_equal(status, RS_UNSUPPORTED);
        return false;
    }
    assert_true(is_whole(s, n));
    s->n = n;
    s->next = position;
    return true;
}

/* Whatever a context has been through, it is what it was when it has been saved and loaded. */
static void save_and_load(rs_context *c) {
    const rs_test_state state = rs_test_save(c);
    assert_non_null(state.data);
    rs_context_reset(c);
    rs_test_ok(c, rs_context_load(c, state.data, state.bytes));
    free(state.data);
}

static void edit_at_random(rs_context *c, shadow *s, const int32_t *tokens, int n_steps) {
    uint32_t refused = 0, gone_back = 0;
    for (int step = 0; step < n_steps; step++) {
        const uint32_t what = (uint32_t)rand() % 8, count = 1 + (uint32_t)rand() % 40;
        if (s->n + count > N_CTX) {
            rs_context_reset(c);
            s->n = 0;
            s->next = 0;
        }
        if (what < 4 || s->n < 12) {
            rs_test_ok(c, rs_decode(c, tokens + s->n, count));
            shadow_append(s, count);
        } else if (what < 7) {
            erase_some(c, s, what - 4);
        } else {
            const bool done = go_back(c, s);
            gone_back += done;
            refused += !done;
        }
        if (step % 5 == 0) save_and_load(c);
        check(c, s);
    }
    assert_true(refused > 5 && gone_back > 5);
}

static void edit(const rs_model *model, const rs_policy_params *policy) {
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = rs_test_context_of(
        model, &(rs_context_params){.n_ctx = N_CTX, .n_batch = N_BATCH, .policy = *policy});
    shadow *s = calloc(1, sizeof *s);
    s->context = c;
    rs_test_ok(c, rs_decode(c, tokens, 1));
    for (uint32_t stream = 0; policy->gates != NULL && stream < c->kv.n_streams; stream++)
        s->lambda[stream] = rs_kv_lambda(&c->kv, &c->kv.streams[stream], (rs_kv_cursor){0, 0});
    rs_context_reset(c);
    srand(11);
    edit_at_random(c, s, tokens, 400);
    free(s);
    rs_test_free(c);
}

/* ------------------------------------------------------------------------------------------ policies -- */

static int set_up(void **state) {
    rs_model *model = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 2);
    assert_true(model->shape.n_layers * model->shape.n_kv_heads <= MAX_STREAMS);
    *state = model;
    return 0;
}

static int tear_down(void **state) {
    rs_model_free(*state);
    return 0;
}

/* Every third head keeps everything. */
static void test_heads(void **state) {
    bool full_heads[MAX_STREAMS];
    for (uint32_t s = 0; s < MAX_STREAMS; s++) full_heads[s] = s % 3 == 1;
    edit(*state, &(rs_policy_params){
                     .policy = RS_POLICY_HEADS, .sinks = SINKS, .window = WINDOW, .full_heads = full_heads});
}

static void edit_gated(const rs_model *model, rs_policy policy, uint32_t floor) {
    rs_gates *gates = rs_test_gates(
        model, &(rs_test_gates_spec){.form = "constant", .scope = "global", .bias = 5, .bias_step = -1});
    edit(model, &(rs_policy_params){.policy = policy,
                                    .sinks = SINKS,
                                    .window = WINDOW,
                                    .budget = BUDGET,
                                    .floor = floor,
                                    .gates = gates});
    rs_gates_free(gates);
}

static void test_gates(void **state) {
    edit_gated(*state, RS_POLICY_GATES, FLOOR);
}

static void test_head_gates(void **state) {
    edit_gated(*state, RS_POLICY_HEAD_GATES, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_gates),
        cmocka_unit_test(test_head_gates),
    };
    return cmocka_run_group_tests_name("edits under a policy", tests, set_up, tear_down);
}
