/* Answers that are streamed to stdout: the options for them, and the writing. */
#ifndef RASURE_EXAMPLES_ANSWER_H
#define RASURE_EXAMPLES_ANSWER_H

#include <signal.h>
#include <stdio.h>

#include "engine.h"

typedef struct cli_answer {
    rs_generate_params params;
    cli_list stops;
} cli_answer;

enum { CLI_N_ANSWER_OPTIONS = 9 };

/* The defaults, and the options that change them. */
void cli_answer_options(cli_answer *answer, cli_option options[CLI_N_ANSWER_OPTIONS]);

/* Checks after parsing, so that nothing is read for an answer that cannot be given. */
cli_exit cli_answer_check(cli_answer *answer);

/* Generates from the current logits and streams the text. `stop` (may be NULL) ends it when it is not 0. */
cli_exit cli_answer_stream(cli_engine *engine, const cli_answer *answer, const volatile sig_atomic_t *stop,
                           rs_generate_report *report);

/* "12 tokens in 340 ms, 35.3 tok/s" on stderr. */
void cli_print_rate(const char *what, uint64_t tokens, double ms);

/* What an erase did, in a line. */
void cli_print_erase(FILE *stream, const rs_erase_report *report);

/* A line about how much of the KV cache was held for how long. */
void cli_print_footprint(FILE *stream, const rs_context *context);

#endif
