/* What the benchmarks of erasing and refining share: a model, contexts of made-up tokens, and order. */
#ifndef RASURE_BENCH_CONTEXTS_H
#define RASURE_BENCH_CONTEXTS_H

#include "rasure/rasure.h"

typedef struct bench_context {
    rs_context *context;
    void *memory;
} bench_context;

/* Ends the program with a sentence. */
void bench_die(const char *message);
void bench_must(rs_status status, const char *message);

rs_model *bench_load_model(const char *path, const char *threads);

/* n token ids, the same each time; to be freed. */
int32_t *bench_make_tokens(const rs_model *model, size_t n);

bench_context bench_open(const rs_model *model, const rs_context_params *params);
void bench_close(bench_context *c);

/* Sorts `n` numbers, and gives the middle one. */
double bench_median(double *values, size_t n);

#endif
