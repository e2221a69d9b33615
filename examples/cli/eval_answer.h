/* Answers as `rasure eval` gets and scores them. */
#ifndef RASURE_EXAMPLES_EVAL_ANSWER_H
#define RASURE_EXAMPLES_EVAL_ANSWER_H

#include <jansson.h>

#include "engine.h"

/* Chooses the most likely token again and again, `token` first, until the model ends (*ended) or there are
 * `most` in `answer`. The engine's context holds what comes before `token`. */
rs_status cli_answer_greedily(const cli_engine *engine, int32_t token, uint32_t most, cli_tokens *answer,
                              bool *ended);

/* Gives `each` the logits from which the `count` tokens `ids` come that follow a question: `first` [n_vocab],
 * those behind the question, and those after each of `ids` but the last. The engine's context holds the
 * question up to position `end`; what it holds behind is taken back first. */
rs_status cli_follow(const cli_engine *engine, int32_t end, const float *first, const int32_t *ids,
                     size_t count, rs_logits_fn each, void *user);

/* The log-probability of a text, for cli_follow: `ids` go on at each call. */
typedef struct cli_likelihood {
    const int32_t *ids;
    double sum;
} cli_likelihood;
bool cli_add_likelihood(void *user, int32_t position, const float *logits, size_t n_vocab);

/* Whether the normalised answer holds, in the sense of `holds`, any of the strings of `list`. */
bool cli_answer_any(const json_t *list, const cli_text *answer,
                    bool (*holds)(const cli_text *answer, const cli_text *wanted));

/* Copies the fields that say what a case is. */
void cli_json_copy_case(json_t *row, const json_t *json);

#endif
