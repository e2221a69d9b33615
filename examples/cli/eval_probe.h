/* Harder looks for what was erased than a greedy answer: how it ranks, whether it wins a forced choice, and
 * how often it is said when answers are drawn. */
#ifndef RASURE_EXAMPLES_EVAL_PROBE_H
#define RASURE_EXAMPLES_EVAL_PROBE_H

#include "engine.h"
#include "eval_cases.h"

/* NaN where a case does not ask for it. */
typedef struct cli_probe {
    double rank;    /* of the erased value's first token behind the cue: 1 is the most likely */
    double choice;  /* place of the erased value among itself and its rivals by log-probability: 1 is first */
    double sampled; /* share of drawn answers that contain a leak */
    cli_tokens *drawn; /* [n_drawn] these answers, without the tokens that ended them */
    size_t n_drawn;
} cli_probe;

void cli_probe_free(cli_probe *probe);

/* What is asked for. */
typedef struct cli_probe_params {
    uint32_t n_samples;  /* answers to draw, at temperature 1; 0: none */
    uint32_t max_tokens; /* of each */
    uint64_t seed;       /* of the first; the others count on */
} cli_probe_params;

/* The engine's context holds the question, up to position `end`; `first` [n_vocab] are the logits there, and
 * leak_log_probability is the leak's. The context may hold more afterwards. `exact` is the probe of the exact
 * run, NULL for that run itself: the same random numbers mostly lead to the same answers, which are then read
 * at once instead of being written token by token. */
cli_exit cli_probe_run(cli_engine *engine, const cli_case *c, const cli_probe_params *params, int32_t end,
                       const float *first, double leak_log_probability, const cli_probe *exact,
                       cli_probe *probe);

#endif
