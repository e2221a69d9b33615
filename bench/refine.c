/*
 * What "cheap now, exact later" costs: a progressive erase against the cheap one that it begins with and the
 * exact one that it ends as, the calls of rs_refine between them, the exchange of the caches, and the zeroing
 * of the old one. The span stands in the middle of the context. Prints one JSON object a line.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "contexts.h"
#include "ports/port.h"

enum { SPAN = 64, SHORTEST = 512, BATCH = 128, MAX_ROUNDS = 101 };

typedef enum figure { CHEAP, PROGRESSIVE, EXACT, CHUNK, REFINE, EXCHANGE, ZERO, ZERO_CALL, N_FIGURES } figure;

static const char *const names[N_FIGURES] = {
    "adaptive", "progressive", "exact",    "longest call of rs_refine",
    "refine",   "exchange",    "zero all", "longest call that zeroes"};

typedef struct bench {
    rs_model *model;
    const int32_t *tokens;
    bench_context read, copy;
    uint32_t length;
    double ms[N_FIGURES][MAX_ROUNDS];
    double reported; /* when the progress callback was called last */
} bench;

static double now_ms(void) {
    return (double)rs_port_clock_ns() / 1e6;
}

/* Milliseconds of one erase, in a copy. */
static double erase(const bench *b, rs_erase_method method) {
    rs_context *c = b->copy.context;
    const int32_t begin = (int32_t)b->length / 2;
    rs_erase_report report;
    bench_must(rs_context_copy(c, b->read.context), rs_context_message(c));
    bench_must(rs_erase(c, &(rs_span){begin, begin + SPAN}, 1, &(rs_erase_params){.method = method}, &report),
               rs_context_message(c));
    return report.ms;
}

static bool note(void *user, uint32_t done, uint32_t total) {
    (void)done, (void)total;
    ((bench *)user)->reported = now_ms();
    return true;
}

static uint32_t n_cheap(const rs_context *c) {
    rs_context_info info;
    rs_context_get_info(c, &info);
    return info.n_cheap;
}

static void keep_longest(double *longest, double ms) {
    if (ms > *longest) *longest = ms;
}

/* After a progressive erase: a chunk a call, as an application with something else to do would. */
static void refine(bench *b, size_t round) {
    rs_context *c = b->copy.context;
    uint32_t left = 1;
    for (int f = CHUNK; f < N_FIGURES; f++) b->ms[f][round] = 0;
    rs_context_set_progress(c, note, b);
    while (left > 0) {
        const bool reads = n_cheap(c) > 0;
        const double start = now_ms();
        bench_must(rs_refine(c, BATCH, 0, &left), rs_context_message(c));
        const double end = now_ms(), ms = end - start;
        b->ms[reads ? REFINE : ZERO][round] += ms;
        keep_longest(&b->ms[reads ? CHUNK : ZERO_CALL][round], ms);
        if (reads && n_cheap(c) == 0) b->ms[EXCHANGE][round] = end - b->reported;
    }
    rs_context_set_progress(c, NULL, NULL);
}

static void print(bench *b, size_t rounds) {
    for (int f = 0; f < N_FIGURES; f++) {
        const double median = bench_median(b->ms[f], rounds);
        printf("{\"what\": \"%s\", \"context\": %" PRIu32 ", \"span\": %d, \"n\": %zu, \"ms\": %.4f, "
               "\"least\": %.4f, \"most\": %.4f}\n",
               names[f], b->length, SPAN, rounds, median, b->ms[f][0], b->ms[f][rounds - 1]);
    }
    fflush(stdout);
}

static void measure(bench *b, size_t rounds) {
    const rs_context_params params = {.n_ctx = b->length, .n_batch = BATCH, .refine = true};
    b->read = bench_open(b->model, &(rs_context_params){.n_ctx = b->length, .n_batch = BATCH});
    b->copy = bench_open(b->model, &params);
    bench_must(rs_decode(b->read.context, b->tokens, b->length), rs_context_message(b->read.context));
    for (size_t r = 0; r <= rounds; r++) { /* the first warms up */
        const size_t round = r > 0 ? r - 1 : 0;
        fprintf(stderr, "\r%" PRIu32 " tokens, round %zu of %zu", b->length, r, rounds);
        b->ms[CHEAP][round] = erase(b, RS_ERASE_ADAPTIVE);
        b->ms[EXACT][round] = erase(b, RS_ERASE_EXACT);
        b->ms[PROGRESSIVE][round] = erase(b, RS_ERASE_PROGRESSIVE);
        refine(b, round);
    }
    fputc('\n', stderr);
    print(b, rounds);
    bench_close(&b->read);
    bench_close(&b->copy);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fputs(
            "Usage: bench_refine MODEL THREADS ROUNDS LONGEST\n\n"
            "Erases a span of 64 tokens from the middle of contexts of 512 tokens and twice as many up to\n"
            "LONGEST, at once and later. Prints one JSON object a line; bench/refine.sh makes a table and a\n"
            "picture of them.\n",
            stderr);
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    static bench b;
    const size_t rounds = strtoul(argv[3], NULL, 10);
    const unsigned long longest = strtoul(argv[4], NULL, 10);
    if (rounds < 1 || rounds > MAX_ROUNDS || longest < SHORTEST || longest > 131072)
        bench_die("ROUNDS is 1 to 101, LONGEST 512 to 131,072");
    b.model = bench_load_model(argv[1], argv[2]);
    int32_t *tokens = bench_make_tokens(b.model, longest);
    b.tokens = tokens;
    for (b.length = SHORTEST; b.length <= longest; b.length *= 2) measure(&b, rounds);
    free(tokens);
    rs_model_free(b.model);
    return 0;
}
