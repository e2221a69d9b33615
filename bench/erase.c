/*
 * How long an erase takes, by method, length of the context and length of the span. Every context is read
 * once; erases are made in a copy. The span stands TAIL tokens before the end of the context; methods whose
 * cost grows with the suffix (exact) are measured with the span in the middle as well. Prints one JSON object
 * a line.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contexts.h"

enum { TAIL = 256, MAX_CONTEXTS = 8, MAX_ERASERS = 2, MAX_METHODS = 8, MAX_ROUNDS = 101 };

static const int32_t spans[] = {16, 64, 256, 1024};
enum { N_SPANS = sizeof spans / sizeof *spans, SPAN_OF_CONTEXTS = 1 };

typedef struct method {
    const char *name;
    rs_erase_params params;
} method;

typedef struct bench {
    rs_model *model;
    rs_adapter *erasers[MAX_ERASERS];
    method methods[MAX_METHODS];
    size_t n_methods;
    uint32_t lengths[MAX_CONTEXTS];
    size_t n_contexts;
    bench_context contexts[MAX_CONTEXTS], copy; /* the copy has room for the longest */
    int32_t *tokens;                            /* of the longest context */
    size_t rounds;
} bench;

static bench_context open_context(const bench *b, uint32_t n_tokens) {
    return bench_open(b->model, &(rs_context_params){.n_ctx = n_tokens, .n_batch = 128});
}

static void read_context(bench *b, size_t i) {
    b->contexts[i] = open_context(b, b->lengths[i]);
    fprintf(stderr, "reading %" PRIu32 " tokens\n", b->lengths[i]);
    bench_must(rs_decode(b->contexts[i].context, b->tokens, b->lengths[i]),
               rs_context_message(b->contexts[i].context));
}

static void add_method(bench *b, const char *name, rs_erase_params params) {
    b->methods[b->n_methods++] = (method){name, params};
}

static void choose_methods(bench *b, size_t n_erasers) {
    add_method(b, "drop", (rs_erase_params){.method = RS_ERASE_DROP});
    add_method(b, "shift", (rs_erase_params){.method = RS_ERASE_SHIFT});
    add_method(b, "repair:16", (rs_erase_params){.method = RS_ERASE_REPAIR, .repair_tokens = 16});
    add_method(b, "adaptive", (rs_erase_params){.method = RS_ERASE_ADAPTIVE});
    for (size_t i = 0; i < n_erasers; i++) {
        rs_adapter_info info;
        rs_adapter_get_info(b->erasers[i], &info);
        rs_erase_params params = {.method = RS_ERASE_LEARNED, .adapter = b->erasers[i]};
        if (info.kind == RS_ADAPTER_BRIDGE) {
            params.repair_tokens = 16;
            add_method(b, "bridge:16", params);
        } else {
            add_method(b, "steer", params);
        }
    }
}

/* Copying has driven the weights out of the caches, where a context that is in use would have them. */
static void read_a_token(const bench *b, rs_context *c) {
    rs_context_info info;
    rs_context_get_info(c, &info);
    bench_must(rs_truncate(c, info.next_position - 1), rs_context_message(c));
    bench_must(rs_decode(c, b->tokens + info.n_tokens - 1, 1), rs_context_message(c));
}

/* Milliseconds of one erase. */
static double erase(const bench *b, size_t context, const method *m, int32_t begin, int32_t length) {
    rs_erase_report report;
    rs_context *copy = b->copy.context;
    bench_must(rs_context_copy(copy, b->contexts[context].context), rs_context_message(copy));
    read_a_token(b, copy);
    bench_must(rs_erase(copy, &(rs_span){begin, begin + length}, 1, &m->params, &report),
               rs_context_message(copy));
    return report.ms;
}

/* What is measured: a span of a context, and the milliseconds of each method. */
typedef struct cell {
    size_t context;
    int32_t begin, length;
    double ms[MAX_METHODS][MAX_ROUNDS];
} cell;

static void print(const bench *b, const cell *c, const char *name, double *ms, size_t n) {
    const double median = bench_median(ms, n);
    printf("{\"method\": \"%s\", \"context\": %" PRIu32 ", \"span\": %" PRId32 ", \"suffix\": %" PRId32
           ", \"n\": %zu, \"ms\": %.4f, \"least\": %.4f, \"most\": %.4f}\n",
           name, b->lengths[c->context], c->length, (int32_t)b->lengths[c->context] - c->begin - c->length, n,
           median, ms[0], ms[n - 1]);
    fflush(stdout);
}

/* Cells and methods in turns, so that what disturbs one disturbs all. */
static void measure(const bench *b, cell *cells, size_t n_cells) {
    for (size_t r = 0; r <= b->rounds; r++) { /* the first warms up */
        fprintf(stderr, "\rround %zu of %zu", r, b->rounds);
        for (size_t i = 0; i < n_cells; i++) {
            for (size_t m = 0; m < b->n_methods; m++)
                cells[i].ms[m][r > 0 ? r - 1 : 0] =
                    erase(b, cells[i].context, &b->methods[m], cells[i].begin, cells[i].length);
        }
    }
    fputc('\n', stderr);
    for (size_t i = 0; i < n_cells; i++)
        for (size_t m = 0; m < b->n_methods; m++)
            print(b, &cells[i], b->methods[m].name, cells[i].ms[m], b->rounds);
}

/* A span of 64 in every context, and spans of every length in one. */
static void measure_near_the_end(const bench *b) {
    static cell cells[MAX_CONTEXTS + N_SPANS];
    size_t n = 0;
    for (size_t i = 0; i < b->n_contexts; i++)
        cells[n++] = (cell){.context = i, .length = spans[SPAN_OF_CONTEXTS]};
    for (size_t s = 0; s < N_SPANS; s++)
        if (s != SPAN_OF_CONTEXTS) cells[n++] = (cell){.context = 1, .length = spans[s]};
    for (size_t i = 0; i < n; i++)
        cells[i].begin = (int32_t)b->lengths[cells[i].context] - TAIL - cells[i].length;
    measure(b, cells, n);
}

/* The span in the middle of a context: exact against the others. */
static void measure_in_the_middle(const bench *b, size_t context) {
    enum { ROUNDS = 3 };
    const method exact = {"exact", {.method = RS_ERASE_EXACT}};
    static cell c;
    double exact_ms[ROUNDS];
    c = (cell){
        .context = context, .begin = (int32_t)(b->lengths[context] / 2), .length = spans[SPAN_OF_CONTEXTS]};
    for (size_t r = 0; r < ROUNDS; r++) {
        fprintf(stderr, "in the middle of %" PRIu32 ", round %zu of %d\n", b->lengths[context], r + 1,
                ROUNDS);
        exact_ms[r] = erase(b, context, &exact, c.begin, c.length);
        for (size_t m = 0; m < b->n_methods; m++)
            c.ms[m][r] = erase(b, context, &b->methods[m], c.begin, c.length);
    }
    print(b, &c, exact.name, exact_ms, ROUNDS);
    for (size_t m = 0; m < b->n_methods; m++) print(b, &c, b->methods[m].name, c.ms[m], ROUNDS);
}

int main(int argc, char **argv) {
    if (argc < 5 || argc > 5 + MAX_ERASERS) {
        fputs(
            "Usage: bench_erase MODEL THREADS ROUNDS LONGEST [ERASER...]\n\n"
            "Erases spans of 16 to 1,024 tokens by drop, shift, repair:16 and what the erasers are for, in\n"
            "contexts of 1,024 tokens and twice as many up to LONGEST, and in the middle of 8,192 against\n"
            "exact. Prints one JSON object a line; bench/erase.sh makes a table and a picture of them.\n",
            stderr);
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    static bench b;
    rs_error error;
    b.rounds = strtoul(argv[3], NULL, 10);
    const unsigned long longest = strtoul(argv[4], NULL, 10);
    if (b.rounds < 1 || b.rounds > MAX_ROUNDS || longest < 2048 || longest > 131072)
        bench_die("ROUNDS is 1 to 101, LONGEST 2,048 to 131,072");
    b.model = bench_load_model(argv[1], argv[2]);
    for (int i = 5; i < argc; i++)
        bench_must(rs_adapter_load(b.model, argv[i], &b.erasers[i - 5], &error), error.message);
    choose_methods(&b, (size_t)argc - 5);

    for (uint32_t n = 1024; n <= longest; n *= 2) b.lengths[b.n_contexts++] = n;
    b.tokens = bench_make_tokens(b.model, longest);
    for (size_t i = 0; i < b.n_contexts; i++) read_context(&b, i);
    b.copy = open_context(&b, b.lengths[b.n_contexts - 1]);
    measure_near_the_end(&b);
    for (size_t i = 0; i < b.n_contexts; i++)
        if (b.lengths[i] == 8192) measure_in_the_middle(&b, i);

    for (size_t i = 0; i < b.n_contexts; i++) bench_close(&b.contexts[i]);
    bench_close(&b.copy);
    free(b.tokens);
    for (size_t i = 0; i < MAX_ERASERS; i++) rs_adapter_free(b.erasers[i]);
    rs_model_free(b.model);
    return 0;
}
