/*
 * How long an erase takes, by method, length of the context and length of the span. Every context is read
 * once and kept; before each erase only the span and what follows it are read again, so the span stands near
 * the end of a context of the length that counts, TAIL tokens before it ends. Methods whose cost grows with
 * the suffix (exact) are measured with the span in the middle as well. Machines are shared: before and after
 * each erase a fixed piece of arithmetic on as many threads shows how fast this one is at the moment. Prints
 * one JSON object a line.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rasure/rasure.h"

enum { TAIL = 256, MAX_CONTEXTS = 8, MAX_ERASERS = 2, MAX_METHODS = 8, MAX_ROUNDS = 101, MAX_THREADS = 64 };

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
    void *memory[MAX_CONTEXTS];
    rs_context *contexts[MAX_CONTEXTS];
    int32_t *tokens; /* of the longest context */
    size_t rounds, n_threads;
} bench;

static void die(const char *message) {
    fprintf(stderr, "bench_erase: %s\n", message);
    exit(1);
}

static void must(rs_status status, const char *message) {
    if (status != RS_OK) die(message);
}

static void open_context(bench *b, size_t i) {
    const rs_context_params params = {b->lengths[i], 128};
    rs_error error;
    size_t bytes;
    must(rs_context_size(b->model, &params, &bytes, &error), error.message);
    b->memory[i] = aligned_alloc(64, bytes);
    if (b->memory[i] == NULL) die("no memory for a context");
    must(rs_context_init(b->memory[i], bytes, b->model, &params, &b->contexts[i], &error), error.message);
    fprintf(stderr, "reading %" PRIu32 " tokens\n", b->lengths[i]);
    must(rs_decode(b->contexts[i], b->tokens, b->lengths[i]), rs_context_message(b->contexts[i]));
}

static void add_method(bench *b, const char *name, rs_erase_params params) {
    b->methods[b->n_methods++] = (method){name, params};
}

static void choose_methods(bench *b, size_t n_erasers) {
    add_method(b, "drop", (rs_erase_params){.method = RS_ERASE_DROP});
    add_method(b, "shift", (rs_erase_params){.method = RS_ERASE_SHIFT});
    add_method(b, "repair:16", (rs_erase_params){.method = RS_ERASE_REPAIR, .repair_tokens = 16});
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

/* Milliseconds that a thread takes for arithmetic that is always the same, about one and a half. */
static void *fixed_work(void *ms) {
    enum { LANES = 64, TURNS = 600000 };
    float x[LANES] = {0.0F}, sum = 0.0F;
    struct timespec begin, end;
    timespec_get(&begin, TIME_UTC);
    for (int turn = 0; turn < TURNS; turn++)
        for (int i = 0; i < LANES; i++) x[i] = x[i] * 0.999F + 0.5F;
    timespec_get(&end, TIME_UTC);
    for (int i = 0; i < LANES; i++) sum += x[i];
    if (sum <= 0.0F) die("the control came to nothing"); /* it is there so that the loop is not left out */
    *(double *)ms = (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) * 1e-6;
    return NULL;
}

/* What the slowest of as many threads as erase takes for it: half as long again or twice as long when another
 * guest is at work, or when the host has put two threads on one core. */
static double control(const bench *b) {
    pthread_t threads[MAX_THREADS];
    double ms[MAX_THREADS], slowest = 0.0;
    for (size_t i = 1; i < b->n_threads; i++)
        if (pthread_create(&threads[i], NULL, fixed_work, &ms[i]) != 0) die("no thread for the control");
    fixed_work(&ms[0]);
    for (size_t i = 1; i < b->n_threads; i++) pthread_join(threads[i], NULL);
    for (size_t i = 0; i < b->n_threads; i++) slowest = ms[i] > slowest ? ms[i] : slowest;
    return slowest;
}

/* One erase, in milliseconds, and the slower of the controls before and after it. */
typedef struct timing {
    double ms, control;
} timing;

/* The context is as before when it returns. */
static timing erase(const bench *b, size_t context, const method *m, int32_t begin, int32_t length) {
    rs_context *c = b->contexts[context];
    rs_erase_report report;
    const double before = control(b);
    must(rs_erase(c, &(rs_span){begin, begin + length}, 1, &m->params, &report), rs_context_message(c));
    const double after = control(b);
    must(rs_truncate(c, begin), rs_context_message(c));
    must(rs_decode(c, b->tokens + begin, b->lengths[context] - (uint32_t)begin), rs_context_message(c));
    return (timing){report.ms, before > after ? before : after};
}

/* What is measured: a span of a context, and the times of each method. */
typedef struct cell {
    size_t context;
    int32_t begin, length;
    timing times[MAX_METHODS][MAX_ROUNDS];
} cell;

/* All times in the order of the rounds: what is made of them is the reader's. */
static void print(const bench *b, const cell *c, const char *name, const timing *times, size_t n) {
    printf("{\"method\": \"%s\", \"context\": %" PRIu32 ", \"span\": %" PRId32 ", \"suffix\": %" PRId32, name,
           b->lengths[c->context], c->length, (int32_t)b->lengths[c->context] - c->begin - c->length);
    for (size_t i = 0; i < n; i++) printf("%s%.4f", i == 0 ? ", \"ms\": [" : ", ", times[i].ms);
    for (size_t i = 0; i < n; i++) printf("%s%.4f", i == 0 ? "], \"control\": [" : ", ", times[i].control);
    puts("]}");
    fflush(stdout);
}

/* Cells and methods in turns, so that what disturbs one disturbs all. */
static void measure(const bench *b, cell *cells, size_t n_cells) {
    for (size_t r = 0; r <= b->rounds; r++) { /* the first warms up */
        fprintf(stderr, "\rround %zu of %zu", r, b->rounds);
        for (size_t i = 0; i < n_cells; i++) {
            for (size_t m = 0; m < b->n_methods; m++)
                cells[i].times[m][r > 0 ? r - 1 : 0] =
                    erase(b, cells[i].context, &b->methods[m], cells[i].begin, cells[i].length);
        }
    }
    fputc('\n', stderr);
    for (size_t i = 0; i < n_cells; i++)
        for (size_t m = 0; m < b->n_methods; m++)
            print(b, &cells[i], b->methods[m].name, cells[i].times[m], b->rounds);
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
    timing exact_times[ROUNDS];
    c = (cell){
        .context = context, .begin = (int32_t)(b->lengths[context] / 2), .length = spans[SPAN_OF_CONTEXTS]};
    for (size_t r = 0; r < ROUNDS; r++) {
        fprintf(stderr, "in the middle of %" PRIu32 ", round %zu of %d\n", b->lengths[context], r + 1,
                ROUNDS);
        exact_times[r] = erase(b, context, &exact, c.begin, c.length);
        for (size_t m = 0; m < b->n_methods; m++)
            c.times[m][r] = erase(b, context, &b->methods[m], c.begin, c.length);
    }
    print(b, &c, exact.name, exact_times, ROUNDS);
    for (size_t m = 0; m < b->n_methods; m++) print(b, &c, b->methods[m].name, c.times[m], ROUNDS);
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
    rs_model_params params = rs_model_default_params();
    params.threads = (uint32_t)strtoul(argv[2], NULL, 10);
    b.rounds = strtoul(argv[3], NULL, 10);
    b.n_threads = params.threads;
    const unsigned long longest = strtoul(argv[4], NULL, 10);
    if (b.n_threads < 1 || b.n_threads > MAX_THREADS || b.rounds < 1 || b.rounds > MAX_ROUNDS ||
        longest < 2048 || longest > 131072)
        die("THREADS is 1 to 64, ROUNDS 1 to 101, LONGEST 2,048 to 131,072");
    must(rs_model_load(argv[1], &params, &b.model, &error), error.message);
    for (int i = 5; i < argc; i++)
        must(rs_adapter_load(b.model, argv[i], &b.erasers[i - 5], &error), error.message);
    choose_methods(&b, (size_t)argc - 5);

    rs_model_info info;
    rs_model_get_info(b.model, &info);
    for (uint32_t n = 1024; n <= longest; n *= 2) b.lengths[b.n_contexts++] = n;
    b.tokens = malloc(longest * sizeof *b.tokens);
    if (b.tokens == NULL) die("no memory");
    uint32_t state = 1;
    for (size_t i = 0; i < longest; i++) {
        state = state * 1664525U + 1013904223U;
        b.tokens[i] = (int32_t)((state >> 8) % info.n_vocab);
    }
    for (size_t i = 0; i < b.n_contexts; i++) open_context(&b, i);
    measure_near_the_end(&b);
    for (size_t i = 0; i < b.n_contexts; i++)
        if (b.lengths[i] == 8192) measure_in_the_middle(&b, i);

    for (size_t i = 0; i < b.n_contexts; i++) {
        rs_context_wipe(b.contexts[i]);
        free(b.memory[i]);
    }
    free(b.tokens);
    for (size_t i = 0; i < MAX_ERASERS; i++) rs_adapter_free(b.erasers[i]);
    rs_model_free(b.model);
    return 0;
}
