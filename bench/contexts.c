#include "contexts.h"

#include <stdio.h>
#include <stdlib.h>

void bench_die(const char *message) {
    fprintf(stderr, "bench: %s\n", message);
    exit(1);
}

void bench_must(rs_status status, const char *message) {
    if (status != RS_OK) bench_die(message);
}

rs_model *bench_load_model(const char *path, const char *threads) {
    rs_model *model;
    rs_error error;
    rs_model_params params = rs_model_default_params();
    params.threads = (uint32_t)strtoul(threads, NULL, 10);
    bench_must(rs_model_load(path, &params, &model, &error), error.message);
    return model;
}

int32_t *bench_make_tokens(const rs_model *model, size_t n) {
    rs_model_info info;
    rs_model_get_info(model, &info);
    int32_t *tokens = malloc(n * sizeof *tokens);
    if (tokens == NULL) bench_die("no memory");
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525U + 1013904223U;
        tokens[i] = (int32_t)((state >> 8) % info.n_vocab);
    }
    return tokens;
}

bench_context bench_open(const rs_model *model, const rs_context_params *params) {
    bench_context c;
    rs_error error;
    size_t bytes;
    bench_must(rs_context_size(model, params, &bytes, &error), error.message);
    c.memory = aligned_alloc(64, bytes);
    if (c.memory == NULL) bench_die("no memory for a context");
    bench_must(rs_context_init(c.memory, bytes, model, params, &c.context, &error), error.message);
    return c;
}

void bench_close(bench_context *c) {
    rs_context_wipe(c->context);
    free(c->memory);
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, size_t n) {
    qsort(values, n, sizeof *values, ascending);
    return values[n / 2];
}
