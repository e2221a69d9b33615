/* Retention gates: their files, what they say of entries, and one ranking over all streams. */
#include <math.h>
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

enum { N_CTX = 300, N_BATCH = 16, SINKS = 4, WINDOW = 8, MAX_STREAMS = 64 };

static const rs_test_gates_spec every_form[] = {
    {.form = "tied", .scope = "global", .width = 32, .features = 64, .bias = 2, .size = 0.3F},
    {.form = "rows",
     .scope = "global",
     .width = 64,
     .features = 32,
     .bias = 2,
     .bias_step = 0.5F,
     .size = 0.3F},
    {.form = "untied", .scope = "head", .width = 32, .bias = 2, .bias_step = 0.1F, .size = 0.3F},
    {.form = "constant", .scope = "global", .bias = -3, .bias_step = 0.5F},
};
enum { FORMS = sizeof every_form / sizeof *every_form };

static rs_context *gated(const rs_model *model, const rs_gates *gates, rs_policy policy, uint32_t budget,
                         uint32_t floor) {
    return rs_test_context_of(model, &(rs_context_params){.n_ctx = N_CTX,
                                                          .n_batch = N_BATCH,
                                                          .policy = {.policy = policy,
                                                                     .sinks = SINKS,
                                                                     .window = WINDOW,
                                                                     .budget = budget,
                                                                     .floor = floor,
                                                                     .gates = gates}});
}

/* The policy that takes these. */
static rs_policy policy_of(const rs_gates *gates) {
    return gates->by_head ? RS_POLICY_HEAD_GATES : RS_POLICY_GATES;
}

static float lambda_of(const rs_context *c, uint32_t stream, int32_t position) {
    rs_kv_cursor at;
    assert_true(rs_kv_seek(&c->kv, &c->kv.streams[stream], position, &at));
    return rs_kv_lambda(&c->kv, &c->kv.streams[stream], at);
}

/* --------------------------------------------------------------------------------------------- files -- */

static void test_info(void **state) {
    const rs_model *model = *state;
    for (size_t i = 0; i < FORMS; i++) {
        rs_gates *gates = rs_test_gates(model, &every_form[i]);
        rs_gates_info info;
        assert_int_equal(rs_gates_get_info(gates, &info), RS_OK);
        assert_string_equal(info.form, every_form[i].form);
        assert_int_equal(info.by_head, strcmp(every_form[i].scope, "head") == 0);
        assert_int_equal(info.width, every_form[i].width);
        assert_int_equal(info.budget, 64);
        assert_int_equal(info.length, 0);
        assert_string_equal(info.name, "a test");
        assert_true(info.n_params > 0 && info.bytes >= info.n_params);
        rs_gates_free(gates);
    }
    rs_gates_free(NULL);
}

/* Wider than the model, or with a width that means nothing. */
static void test_widths(void **state) {
    const rs_model *model = *state;
    const rs_test_gates_spec specs[] = {
        {.form = "tied", .scope = "global", .width = 512, .features = 64, .bias = 2, .size = 0.3F},
        {.form = "constant", .scope = "global", .width = 32, .bias = -3, .bias_step = 0.5F},
    };
    int32_t tokens[40];
    rs_test_make_tokens(model, tokens, 40);
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        rs_gates *gates = rs_test_gates(model, &specs[i]);
        rs_gates_info info;
        assert_int_equal(rs_gates_get_info(gates, &info), RS_OK);
        assert_int_equal(info.width, i == 0 ? 512 : 0);
        rs_context *c = gated(model, gates, RS_POLICY_GATES, 60, 4);
        rs_test_ok(c, rs_decode(c, tokens, 39));
        rs_test_ok(c, rs_decode(c, tokens + 39, 1));
        rs_test_free(c);
        rs_gates_free(gates);
    }
}

static void refused(const rs_model *model, const rs_test_gates_spec *spec, rs_status status,
                    const char *phrase) {
    gguf_builder *builder = rs_test_gates_file(model, spec);
    rs_gates *gates = (rs_gates *)(uintptr_t)1;
    rs_error error = {0};
    size_t bytes;
    const void *data = gguf_build(builder, &bytes);
    assert_int_equal(rs_gates_load_memory(model, data, bytes, &gates, &error), status);
    assert_null(gates);
    if (strstr(error.message, phrase) == NULL) fail_msg("%s: not in: %s", phrase, error.message);
    gguf_builder_free(builder);
}

static void test_refused_files(void **state) {
    const rs_model *model = *state;
    rs_test_gates_spec spec = every_form[0];
    spec.flip_fingerprint = 1;
    refused(model, &spec, RS_MISMATCH, "rasure.adapter.fingerprint");
    spec = every_form[0];
    spec.form = "square";
    refused(model, &spec, RS_UNSUPPORTED, "rasure.gates.form: square");
    spec = every_form[0];
    spec.scope = "world";
    refused(model, &spec, RS_UNSUPPORTED, "rasure.gates.scope: world");
    spec = every_form[0];
    spec.width = 64;
    spec.left_out = "blk.1.gate.1.weight";
    refused(model, &spec, RS_BAD_FILE, "blk.1.gate.1.weight is missing");
    spec = every_form[0];
    spec.features = 32 * model->shape.n_kv_heads + 1;
    refused(model, &spec, RS_MISMATCH, "features");
    spec = every_form[0];
    spec.left_out = "gate.out.bias";
    refused(model, &spec, RS_BAD_FILE, "gate.out.bias is missing");
    spec.left_out = "blk.0.gate.0.bias";
    refused(model, &spec, RS_BAD_FILE, "blk.0.gate.0.bias is missing");
    spec = every_form[0];
    spec.extra = "blk.0.gate.2.bias";
    refused(model, &spec, RS_UNSUPPORTED, "1 of ");
    spec = every_form[0];
    spec.bad = "gate.out.weight";
    refused(model, &spec, RS_BAD_FILE, "gate.out.weight, row 0");
    spec = every_form[3];
    spec.bad = "blk.1.gate.out.bias";
    refused(model, &spec, RS_BAD_FILE, "blk.1.gate.out.bias, row 0");
    rs_gates *gates;
    rs_error error;
    assert_int_equal(rs_gates_load_memory(model, NULL, 4, &gates, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_gates_load_memory(model, "", 0, &gates, &error), RS_BAD_FILE);
    assert_int_equal(rs_gates_load(model, "/no/such/file", &gates, &error), RS_IO);
    assert_int_equal(rs_gates_load(model, NULL, &gates, &error), RS_INVALID_ARGUMENT);
}

static void test_refused_policies(void **state) {
    const rs_model *model = *state;
    rs_gates *gates = rs_test_gates(model, &every_form[3]);
    rs_model *other = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    bool heads[MAX_STREAMS] = {true};
    const rs_policy_params good = {.policy = RS_POLICY_GATES,
                                   .sinks = SINKS,
                                   .window = WINDOW,
                                   .budget = 20,
                                   .floor = 4,
                                   .gates = gates};
    rs_context_params params = {.n_ctx = 64, .n_batch = 16, .policy = good};
    rs_error error;
    size_t bytes;
    assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_OK);
    assert_int_equal(rs_context_size(other, &params, &bytes, &error), RS_MISMATCH);
    params.policy.gates = NULL;
    assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_INVALID_ARGUMENT);
    params.policy = good;
    params.policy.floor = 21;
    assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_INVALID_ARGUMENT);
    params.policy = good;
    params.policy.budget = SINKS + WINDOW - 1;
    assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_INVALID_ARGUMENT);
    params.policy = good;
    params.policy.full_heads = heads;
    assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_INVALID_ARGUMENT);
    params.policy.policy = RS_POLICY_HEAD_GATES;
    assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_OK);
    rs_gates *by_head = rs_test_gates(model, &every_form[2]);
    params.policy = good;
    params.policy.gates = by_head;
    assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_MISMATCH);
    assert_non_null(strstr(error.message, "rasure.gates.scope: head"));
    params.policy.policy = RS_POLICY_HEAD_GATES;
    assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_OK);
    rs_gates_free(gates);
    rs_gates_free(by_head);
    rs_model_free(other);
}

/* --------------------------------------------------------------------------------------------- lambdas -- */

/* Constant gates say of every entry of a head the logarithm of the same sigmoid. */
static void test_constant_lambdas(void **state) {
    const rs_model *model = *state;
    rs_gates *gates = rs_test_gates(model, &every_form[3]);
    rs_context *c = gated(model, gates, RS_POLICY_GATES, N_CTX, 0);
    int32_t tokens[40];
    rs_test_make_tokens(model, tokens, 40);
    rs_test_ok(c, rs_decode(c, tokens, 40));
    for (uint32_t s = 0; s < c->kv.n_streams; s++) {
        const double z = -3.0 + 0.5 * s, wanted = -log1p(exp(-z));
        for (int32_t p = 0; p < 40; p++) {
            const double found = (double)lambda_of(c, s, p);
            assert_true(fabs(found - wanted) < 1e-5 * fabs(wanted));
        }
    }
    rs_test_free(c);
    rs_gates_free(gates);
}

/* Very long lifetimes do not become eternal: the logarithm is kept, not the share. */
static void test_small_lambdas(void **state) {
    const rs_model *model = *state;
    rs_gates *gates = rs_test_gates(
        model, &(rs_test_gates_spec){.form = "constant", .scope = "global", .bias = 18, .bias_step = 100});
    const rs_gate_layer *layer = &gates->layers[0];
    assert_true(fabs((double)rs_gates_lambda(gates, layer, 0, NULL) + 1.522998e-8) < 1e-13);
    assert_true(rs_gates_lambda(gates, layer, 1, NULL) <= 0 &&
                rs_gates_lambda(gates, layer, 1, NULL) > -1e-40F);
    rs_gates_free(gates);
}

/* However tokens come, on one thread or two, natively or beside XNNPACK's layers: the gates say the same. */
static void test_lambdas_do_not_depend_on_chunks(void **state) {
    const rs_model *model = *state;
    rs_model *single = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    int32_t tokens[40];
    rs_test_make_tokens(model, tokens, 40);
    for (size_t i = 0; i < FORMS; i++) {
        rs_gates *gates = rs_test_gates(model, &every_form[i]), *same = rs_test_gates(single, &every_form[i]);
        rs_context *c = gated(model, gates, policy_of(gates), N_CTX, 0);
        rs_context *d = gated(single, same, policy_of(same), N_CTX, 0);
        rs_test_ok(c, rs_decode(c, tokens, 40));
        for (uint32_t t = 0; t < 40; t++) rs_test_ok(d, rs_decode(d, tokens + t, 1));
        bool differ = false;
        for (uint32_t s = 0; s < c->kv.n_streams; s++) {
            for (int32_t p = 0; p < 40; p++) {
                assert_true(lambda_of(c, s, p) == lambda_of(d, s, p));
                assert_true(lambda_of(c, s, p) <= 0);
                differ = differ || lambda_of(c, s, p) != lambda_of(c, 0, 0);
            }
        }
        assert_true(differ);
        rs_test_free(c);
        rs_test_free(d);
        rs_gates_free(gates);
        rs_gates_free(same);
    }
    rs_model_free(single);
}

/* With room for everything nothing is evicted, and the cache is that of no policy, to the bit. */
static void test_enough_for_all(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    for (size_t i = 0; i < FORMS; i++) {
        rs_gates *gates = rs_test_gates(model, &every_form[i]);
        rs_context *c = gated(model, gates, policy_of(gates), N_CTX, 4);
        rs_context *full = rs_test_context(model, N_CTX, N_BATCH);
        rs_test_ok(c, rs_decode(c, tokens, N_CTX));
        rs_test_ok(full, rs_decode(full, tokens, N_CTX));
        rs_test_same_cache(c, full);
        assert_memory_equal(rs_logits(c, NULL), rs_logits(full, NULL), model->shape.n_vocab * sizeof(float));
        rs_test_free(c);
        rs_test_free(full);
        rs_gates_free(gates);
    }
}

/* Gates and an adapter's products have one input: neither changes what the other makes of it. */
static void test_adapter_beside_gates(void **state) {
    const rs_model *model = *state;
    const rs_test_adapter_spec spec = {
        .kind = "bridge", .rank = 8, .size = 2.0F, .window = 8, .bridge_tokens = 6};
    rs_adapter *adapter = rs_test_adapter(model, &spec);
    const rs_erase_params erase = {.method = RS_ERASE_BRIDGE, .adapter = adapter};
    int32_t tokens[100];
    rs_test_make_tokens(model, tokens, 100);
    for (size_t i = 0; i < FORMS; i++) {
        rs_gates *gates = rs_test_gates(model, &every_form[i]);
        rs_context *c = gated(model, gates, policy_of(gates), N_CTX, 4);
        rs_context *full = rs_test_context(model, N_CTX, N_BATCH);
        const uint32_t last = c->kv.n_streams - 1;
        rs_test_ok(c, rs_decode(c, tokens, 100));
        rs_test_ok(full, rs_decode(full, tokens, 100));
        const float before = lambda_of(c, last, 50);
        rs_test_ok(c, rs_erase(c, &(rs_span){30, 50}, 1, &erase, NULL));
        rs_test_ok(full, rs_erase(full, &(rs_span){30, 50}, 1, &erase, NULL));
        rs_test_same_cache(c, full);
        assert_true(every_form[i].width == 0 || lambda_of(c, last, 50) != before);
        rs_test_free(c);
        rs_test_free(full);
        rs_gates_free(gates);
    }
    rs_adapter_free(adapter);
}

/* ------------------------------------------------------------------------------------------- eviction -- */

/* An entry as the obvious way sees it. */
typedef struct entry {
    float score;
    int32_t position;
    uint32_t stream;
    bool kept;
} entry;

static int goes_first(const void *a, const void *b) {
    const entry *x = *(entry *const *)a, *y = *(entry *const *)b;
    if (x->score < y->score || x->score > y->score) return x->score < y->score ? -1 : 1;
    if (x->position != y->position) return x->position < y->position ? -1 : 1;
    return (x->stream > y->stream) - (x->stream < y->stream);
}

/* Marks what stays: what is pinned, the best of each stream up to the floor, and the best of the others. */
static void choose(entry *entries, size_t n, uint32_t n_streams, const rs_ranked_plan *plan) {
    entry **order = malloc(n * sizeof *order);
    uint64_t kept = 0;
    uint32_t of_stream[MAX_STREAMS] = {0};
    for (size_t i = 0; i < n; i++) {
        entry *e = order[i] = &entries[i];
        const rs_span middle = e->stream < plan->n_read ? plan->middle : plan->middle_of_rest;
        e->kept = e->position < middle.begin || e->position >= middle.end;
        kept += e->kept;
        of_stream[e->stream] += e->kept;
    }
    qsort(order, n, sizeof *order, goes_first);
    for (size_t i = n; i-- > 0;) {
        if (order[i]->kept || of_stream[order[i]->stream] >= plan->floor) continue;
        order[i]->kept = true;
        of_stream[order[i]->stream]++;
        kept++;
    }
    for (size_t i = n; i-- > 0 && kept < plan->budget;) {
        kept += !order[i]->kept;
        order[i]->kept = true;
    }
    assert_true(n_streams <= MAX_STREAMS);
    free(order);
}

/* Random scores, many of them equal, streams of all lengths, floors and pins: the same as by sorting. */
static void test_ranking(void **state) {
    const rs_model *model = *state;
    rs_gates *gates = rs_test_gates(model, &every_form[3]);
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    srand(6);
    for (int round = 0; round < 60; round++) {
        rs_context *c = gated(model, gates, RS_POLICY_GATES, N_CTX, 0);
        const uint32_t n = 30 + (uint32_t)rand() % 200, n_streams = c->kv.n_streams;
        rs_test_ok(c, rs_decode(c, tokens, n));
        entry *entries = calloc((size_t)n * n_streams, sizeof *entries);
        size_t count = 0;
        const int kinds = 1 + rand() % 4; /* of lambdas: few of them make many ties */
        for (uint32_t s = 0; s < n_streams; s++) {
            rs_kv_stream *stream = &c->kv.streams[s];
            const int rare = 1 + rand() % 5;
            for (int32_t p = 0; p < (int32_t)n; p++) {
                rs_kv_cursor at;
                assert_true(rs_kv_seek(&c->kv, stream, p, &at));
                if (rand() % rare > 0 && stream->n_live > 1) {
                    rs_kv_clear(&c->kv, stream, at);
                    continue;
                }
                const float lambda = kinds == 1   ? 0.0F
                                     : kinds == 2 ? -0.25F * (float)(rand() % 3)
                                     : kinds == 3 ? -0.5F
                                                  : -expf(-(float)(rand() % 1000) / 50.0F);
                rs_kv_set_lambda(&c->kv, stream, at, lambda);
                entries[count++] = (entry){lambda * (float)((int32_t)n - p), p, s, false};
            }
        }
        rs_kv_give_back(&c->kv);
        const int32_t begin = rand() % 8, end = (int32_t)n - rand() % 10;
        const rs_ranked_plan plan = {.now = (int32_t)n - 1,
                                     .middle = {begin, end},
                                     .n_read = (uint32_t)rand() % (n_streams + 1),
                                     .middle_of_rest = {begin, end - rand() % 12},
                                     .budget = (uint64_t)rand() % (count + 5),
                                     .floor = (uint32_t)rand() % 12};
        choose(entries, count, n_streams, &plan);
        (void)rs_ranked_evict(&c->policy.ranked, &plan, &c->kv, &c->team);
        uint64_t kept = 0;
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(rs_test_holds(c, entries[i].stream, entries[i].position), entries[i].kept);
            kept += entries[i].kept;
        }
        uint64_t live = 0;
        for (uint32_t s = 0; s < n_streams; s++) live += c->kv.streams[s].n_live;
        assert_int_equal(live, kept);
        free(entries);
        rs_test_free(c);
    }
    rs_gates_free(gates);
}

/* Equal lambdas everywhere: a window of the same length in every stream. */
static void test_equal_lambdas_are_a_window(void **state) {
    const rs_model *model = *state;
    rs_gates *gates =
        rs_test_gates(model, &(rs_test_gates_spec){.form = "constant", .scope = "global", .bias = 1});
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = gated(model, gates, RS_POLICY_GATES, 40, 4),
               *h = gated(model, gates, RS_POLICY_HEAD_GATES, 40, 4);
    rs_test_ok(c, rs_decode(c, tokens, 200));
    rs_test_ok(h, rs_decode(h, tokens, 200));
    for (int i = 0; i < 2; i++) {
        const rs_context *of = i == 0 ? c : h;
        const uint32_t live = of->kv.streams[0].n_live;
        assert_true(live >= 40 && live <= 40 + rs_scored_slack(40));
        for (uint32_t s = 0; s < of->kv.n_streams; s++) {
            assert_int_equal(of->kv.streams[s].n_live, live);
            for (int32_t p = 0; p < 200; p++)
                assert_int_equal(rs_test_holds(of, s, p), p < SINKS || p >= 200 - (int32_t)live + SINKS);
        }
    }
    rs_test_free(c);
    rs_test_free(h);
    rs_gates_free(gates);
}

/* One head that forgets nothing fills, the others stay at floor and window, and no more than the budget is
 * there, through chunks and single tokens. */
static void test_one_head_takes_all(void **state) {
    const rs_model *model = *state;
    rs_gates *gates = rs_test_gates(
        model, &(rs_test_gates_spec){.form = "constant", .scope = "global", .bias = 15, .bias_step = -14});
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    enum { BUDGET = 30, FLOOR = 16 };
    rs_context *c = gated(model, gates, RS_POLICY_GATES, BUDGET, FLOOR);
    const uint32_t n_streams = c->kv.n_streams;
    for (uint32_t at = 0; at < N_CTX;) {
        const uint32_t count = at % 3 == 0 && at + 30 < N_CTX ? 30 : 1;
        rs_test_ok(c, rs_decode(c, tokens + at, count));
        at += count;
        uint64_t live = 0;
        for (uint32_t s = 0; s < n_streams; s++) {
            assert_true(c->kv.streams[s].n_live >= (at < FLOOR ? at : FLOOR));
            live += c->kv.streams[s].n_live;
        }
        assert_true(live <= (uint64_t)n_streams * (BUDGET + rs_scored_slack(BUDGET)));
    }
    assert_int_equal(c->kv.streams[n_streams - 1].n_live >= FLOOR, 1);
    assert_true(c->kv.streams[0].n_live > 2 * BUDGET);
    rs_test_free(c);
    rs_gates_free(gates);
}

static uint64_t live_entries(const rs_context *c) {
    uint64_t live = 0;
    for (uint32_t s = 0; s < c->kv.n_streams; s++) live += c->kv.streams[s].n_live;
    return live;
}

/* Upper layers have yet to read the chunk when lower ones make room: whatever their gates say, they read it
 * with the window before it. */
static void test_rest_keeps_its_window(void **state) {
    const rs_model *model = *state;
    rs_gates *gates = rs_test_gates(
        model, &(rs_test_gates_spec){.form = "constant", .scope = "global", .bias = 15, .bias_step = -14});
    int32_t tokens[N_CTX], positions[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    for (int32_t p = 0; p < N_CTX; p++) positions[p] = p;
    rs_context *c = gated(model, gates, RS_POLICY_GATES, SINKS + WINDOW, 0);
    const rs_streams read = {0, rs_policy_layers_at_once(&c->policy) * model->shape.n_kv_heads};
    assert_true(read.count < c->kv.n_streams);
    rs_test_ok(c, rs_decode(c, tokens, 100));
    const uint64_t most = rs_policy_most_kept_of_all(&c->policy), added = (uint64_t)read.count * N_BATCH;
    while (live_entries(c) + added <= most) rs_test_ok(c, rs_decode(c, tokens + c->n_tokens, 1));

    const uint32_t before = c->n_tokens, end = before + N_BATCH;
    rs_kv_append(&c->kv, read, positions + before, N_BATCH);
    rs_policy_evict(&c->policy, &c->kv, &c->team, read,
                    &(rs_policy_chunk_read){.positions = positions, .n_tokens = end, .count = N_BATCH});
    assert_int_equal(live_entries(c), c->kv.n_streams * (SINKS + WINDOW));
    for (uint32_t s = 0; s < c->kv.n_streams; s++) {
        const uint32_t newest = s < read.count ? end : before;
        for (uint32_t p = newest - WINDOW; p < newest; p++) assert_true(rs_test_holds(c, s, (int32_t)p));
    }
    rs_test_free(c);
    rs_gates_free(gates);
}

/* What a small budget keeps of one chunk, a larger one keeps too. */
static void test_budgets_are_nested(void **state) {
    const rs_model *model = *state;
    rs_gates *gates = rs_test_gates(model, &every_form[0]);
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *kept[2];
    for (int i = 0; i < 2; i++) {
        kept[i] = rs_test_context_of(model, &(rs_context_params){.n_ctx = N_CTX,
                                                                 .n_batch = 128,
                                                                 .policy = {.policy = RS_POLICY_GATES,
                                                                            .window = WINDOW,
                                                                            .budget = i == 0 ? 20 : 50,
                                                                            .gates = gates}});
        rs_test_ok(kept[i], rs_decode(kept[i], tokens, 128));
    }
    for (uint32_t s = 0; s < kept[0]->kv.n_streams; s++)
        for (int32_t p = 0; p < 128; p++)
            if (rs_test_holds(kept[0], s, p)) assert_true(rs_test_holds(kept[1], s, p));
    for (int i = 0; i < 2; i++) rs_test_free(kept[i]);
    rs_gates_free(gates);
}

/* Copies, drops and exact erases of a cache that gates have thinned. */
static void test_erasing(void **state) {
    const rs_model *model = *state;
    rs_gates *gates = rs_test_gates(model, &every_form[0]);
    int32_t tokens[N_CTX], others[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = gated(model, gates, RS_POLICY_GATES, 30, 4),
               *d = gated(model, gates, RS_POLICY_GATES, 30, 4);
    rs_test_ok(c, rs_decode(c, tokens, 150));
    rs_test_ok(d, rs_context_copy(d, c));
    rs_test_same_cache(c, d);
    rs_test_ok(c, rs_erase(c, &(rs_span){120, 140}, 1, &(rs_erase_params){.method = RS_ERASE_DROP}, NULL));
    for (uint32_t s = 0; s < c->kv.n_streams; s++)
        for (int32_t p = 120; p < 140; p++) assert_false(rs_test_holds(c, s, p));
    rs_test_ok(c, rs_decode(c, tokens + 150, 100));

    rs_test_ok(d, rs_erase(d, &(rs_span){120, 140}, 1, NULL, NULL));
    memcpy(others, tokens, 120 * sizeof *others);
    memcpy(others + 120, tokens + 140, 10 * sizeof *others);
    rs_context *fresh = gated(model, gates, RS_POLICY_GATES, 30, 4);
    rs_test_ok(fresh, rs_decode(fresh, others, 130));
    rs_test_same_cache(d, fresh);
    rs_test_free(c);
    rs_test_free(d);
    rs_test_free(fresh);
    rs_gates_free(gates);
}

/* The pool holds what the budget says and no more; weights of gates count. */
static void test_bytes(void **state) {
    const rs_model *model = *state;
    rs_gates *gates = rs_test_gates(model, &every_form[0]);
    rs_gates_info of_gates;
    rs_context_info info;
    assert_int_equal(rs_gates_get_info(gates, &of_gates), RS_OK);
    rs_context_params params = {
        .n_ctx = N_CTX,
        .n_batch = N_BATCH,
        .policy = {
            .policy = RS_POLICY_GATES, .window = WINDOW, .floor = 4, .gates = gates, .budget_bytes = 1}};
    rs_error error;
    size_t bytes;
    assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_NO_SPACE);
    params.policy.budget_bytes = of_gates.bytes + 60000;
    rs_context *c = rs_test_context_of(model, &params);
    assert_int_equal(rs_context_get_info(c, &info), RS_OK);
    assert_true(info.cache_bytes <= params.policy.budget_bytes);
    assert_true(info.cache_bytes > params.policy.budget_bytes - 4000);
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_test_ok(c, rs_decode(c, tokens, N_CTX));
    assert_true(c->policy.evicted.end > 0);
    rs_test_free(c);
    rs_gates_free(gates);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_widths),
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_refused_policies),
        cmocka_unit_test(test_constant_lambdas),
        cmocka_unit_test(test_small_lambdas),
        cmocka_unit_test(test_lambdas_do_not_depend_on_chunks),
        cmocka_unit_test(test_enough_for_all),
        cmocka_unit_test(test_adapter_beside_gates),
        cmocka_unit_test(test_ranking),
        cmocka_unit_test(test_equal_lambdas_are_a_window),
        cmocka_unit_test(test_one_head_takes_all),
        cmocka_unit_test(test_rest_keeps_its_window),
        cmocka_unit_test(test_budgets_are_nested),
        cmocka_unit_test(test_erasing),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, rs_test_set_up_tiny, rs_test_tear_down);
}
