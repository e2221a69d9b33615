/* The jobs of `rasure eval`. */
#ifndef RASURE_EXAMPLES_EVAL_H
#define RASURE_EXAMPLES_EVAL_H

#include <stdio.h>

#include "engine.h"
#include "eval_lines.h"
#include "eval_probe.h"

typedef struct cli_eval {
    cli_engine *engine; /* with its model, without a context */
    const cli_lines *lines;
    const char *methods; /* of erasing, with commas */
    bool one_by_one;     /* erase a case's spans in calls of their own */
    uint32_t max_tokens; /* of an answer */
    uint32_t n_samples;  /* answers to draw besides the greedy one */
    uint64_t seed;       /* of the first */
    bool json;           /* results as JSON */
    FILE *per_case;      /* NULL: not wanted */
    const char *save;    /* folder for the contexts that erases leave; NULL: not wanted */
} cli_eval;

/* What each erase method does to the answers. */
cli_exit cli_eval_erase(const cli_eval *job);

/* Whether the list names methods: to be asked before anything is loaded. */
cli_exit cli_eval_check_methods(const char *methods);

/* What the cache that the policy keeps still knows. */
cli_exit cli_eval_keep(const cli_eval *job);

/* Which later pieces depend on one. */
cli_exit cli_eval_echo(const cli_eval *job);

/* Which of them the lines are for. */
bool cli_eval_is_keep(const cli_lines *lines);
bool cli_eval_is_echo(const cli_lines *lines);

#endif
