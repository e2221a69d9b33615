/* Retention gates against the float32 reference: what they say, and what is kept for it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/context.h"
#include "tests/support/support.h"

enum { MAX_TOKENS = 64, MAX_ENTRIES = 128, MAX_STREAMS = 64, N_CTX = 256 };

static FILE *open_golden(const char *name) {
    FILE *file = fopen(rs_test_golden_path(name), "r");
    if (file == NULL) fail_msg("%s is missing", name);
    return file;
}

static void skip_line(FILE *file) {
    int c;
    while ((c = fgetc(file)) != '\n' && c != EOF) continue;
}

/* Reads numbers up to the end of the line. */
static uint32_t read_line(FILE *file, double *values, uint32_t most) {
    uint32_t n = 0;
    for (int c = 0; c != '\n' && n < most; c = fgetc(file))
        assert_int_equal(fscanf(file, "%lf", &values[n++]), 1);
    return n;
}

/* int8 layers before and in the gates: a z, and so the logarithm of -lambda, is a little off. */
static void test_lambdas(void **state) {
    static const char *const forms[] = {"tied", "rows", "untied", "constant"};
    rs_model *model = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 2);
    (void)state;
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        char name[64];
        double numbers[MAX_TOKENS];
        int32_t tokens[MAX_TOKENS];
        rs_gates *gates;
        rs_error error;
        (void)snprintf(name, sizeof name, "tiny-qwen3.gates-%s.gguf", forms[f]);
        if (rs_gates_load(model, rs_test_golden_path(name), &gates, &error) != RS_OK)
            fail_msg("%s", error.message);
        (void)snprintf(name, sizeof name, "tiny-qwen3.gates-%s.tsv", forms[f]);
        FILE *file = open_golden(name);
        const uint32_t n = read_line(file, numbers, MAX_TOKENS);
        for (uint32_t i = 0; i < n; i++) tokens[i] = (int32_t)numbers[i];
        rs_context *c = rs_test_context_of(
            model,
            &(rs_context_params){
                .n_ctx = N_CTX,
                .n_batch = 32,
                .policy = {.policy = RS_POLICY_HEAD_GATES, .window = 1, .budget = N_CTX, .gates = gates}});
        rs_test_ok(c, rs_decode(c, tokens, n));
        double worst = 0, sum = 0;
        for (uint32_t s = 0; s < c->kv.n_streams; s++) {
            assert_int_equal(read_line(file, numbers, MAX_TOKENS), n);
            for (uint32_t i = 0; i < n; i++) {
                rs_kv_cursor at;
                assert_true(rs_kv_seek(&c->kv, &c->kv.streams[s], (int32_t)i, &at));
                const double found = (double)rs_kv_lambda(&c->kv, &c->kv.streams[s], at);
                const double off = fabs(log(-found) - log(-numbers[i]));
                worst = off > worst ? off : worst;
                sum += off;
            }
        }
        print_message("# figure: %s gates: log(-lambda) off by %.4f at most, %.5f in the mean\n", forms[f],
                      worst, sum / (n * c->kv.n_streams));
        const bool constant = strcmp(forms[f], "constant") == 0;
        assert_true(worst < (constant ? 1e-5 : 0.6) && sum < (constant ? 1e-5 : 0.06) * n * c->kv.n_streams);
        fclose(file);
        rs_test_free(c);
        rs_gates_free(gates);
    }
    rs_model_free(model);
}

typedef struct stream_case {
    uint32_t n;
    int32_t position[MAX_ENTRIES];
    float lambda[MAX_ENTRIES];
    int kept[MAX_ENTRIES];
} stream_case;

static void read_stream(FILE *file, stream_case *s) {
    char lambda[64];
    assert_int_equal(fscanf(file, "%u", &s->n), 1);
    assert_true(s->n <= MAX_ENTRIES);
    for (uint32_t i = 0; i < s->n; i++) {
        assert_int_equal(fscanf(file, "%d %63s %d", &s->position[i], lambda, &s->kept[i]), 3);
        s->lambda[i] = strtof(lambda, NULL);
    }
}

/* Fills a cache's streams with a case's entries. */
static void fill(rs_kv *kv, const stream_case *streams) {
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        rs_kv_stream *stream = &kv->streams[s];
        uint32_t i = 0;
        rs_kv_cursor at;
        bool more = rs_kv_seek(kv, stream, 0, &at);
        while (more) {
            const rs_kv_cursor here = at;
            const int32_t position = rs_kv_position(kv, stream, here);
            more = rs_kv_next(kv, stream, &at);
            if (i < streams[s].n && streams[s].position[i] == position) {
                rs_kv_set_lambda(kv, stream, here, streams[s].lambda[i++]);
            } else {
                rs_kv_clear(kv, stream, here);
            }
        }
    }
    rs_kv_give_back(kv);
}

static uint32_t room(const void *user, uint32_t stream) {
    (void)user;
    (void)stream;
    return MAX_ENTRIES;
}

static void test_decisions(void **state) {
    FILE *file = open_golden("gates_kept.tsv");
    uint32_t scope, n_streams, budget, floor, sinks, window, decided = 0;
    int32_t now, all[MAX_ENTRIES];
    (void)state;
    for (int32_t p = 0; p < MAX_ENTRIES; p++) all[p] = p;
    while (fscanf(file, "%u %u %u %u %u %u %d", &scope, &n_streams, &budget, &floor, &sinks, &window, &now) ==
           7) {
        static stream_case streams[MAX_STREAMS];
        assert_true(n_streams <= MAX_STREAMS && now < MAX_ENTRIES);
        skip_line(file);
        for (uint32_t s = 0; s < n_streams; s++) read_stream(file, &streams[s]);

        const rs_kv_shape shape = {.n_streams = n_streams, .head_dim = 16, .has_lambda = true, .room = room};
        rs_kv kv;
        rs_ranked_work ranked;
        rs_team team = {.threads = 1};
        rs_arena arena;
        rs_arena_open(&arena, NULL, 0);
        rs_kv_layout(&kv, &arena, &shape);
        rs_ranked_layout(&ranked, &arena, n_streams, 1);
        const size_t bytes = arena.front + arena.back;
        void *memory = aligned_alloc(RS_ARENA_ALIGN, bytes);
        assert_non_null(memory);
        rs_arena_open(&arena, memory, bytes);
        rs_kv_layout(&kv, &arena, &shape);
        rs_ranked_layout(&ranked, &arena, n_streams, 1);
        rs_kv_reset(&kv);
        rs_kv_append(&kv, rs_kv_all(&kv), all, (uint32_t)now + 1);
        fill(&kv, streams);

        const rs_span middle = {(int32_t)sinks, now - (int32_t)window + 1};
        rs_scored scratch[MAX_ENTRIES];
        if (scope == 0) {
            const rs_ranked_plan plan = {.now = now,
                                         .middle = middle,
                                         .n_read = n_streams,
                                         .budget = (uint64_t)budget * n_streams,
                                         .floor = floor};
            (void)rs_ranked_evict(&ranked, &plan, &kv, &team);
        } else {
            const rs_scored_plan plan = {.policy = RS_POLICY_HEAD_GATES,
                                         .middle = middle,
                                         .now = now,
                                         .budget = budget,
                                         .scratch = scratch,
                                         .scratch_entries = MAX_ENTRIES};
            (void)rs_scored_evict(&plan, &kv, &team, rs_kv_all(&kv));
        }
        for (uint32_t s = 0; s < n_streams; s++) {
            /* A stream by itself is looked at only when it is well above its budget. */
            const bool waits = scope == 1 && streams[s].n <= budget + rs_scored_slack(budget);
            for (uint32_t i = 0; i < streams[s].n; i++) {
                rs_kv_cursor at;
                const int32_t p = streams[s].position[i];
                const bool found =
                    rs_kv_seek(&kv, &kv.streams[s], p, &at) && rs_kv_position(&kv, &kv.streams[s], at) == p;
                assert_int_equal(found, waits || streams[s].kept[i]);
            }
            decided += !waits;
        }
        rs_arena_unpoison(memory, bytes);
        free(memory);
    }
    assert_true(decided > 50);
    fclose(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lambdas),
        cmocka_unit_test(test_decisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
