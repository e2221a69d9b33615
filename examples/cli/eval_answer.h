/* Answers as `rasure eval` gets and scores them. */
#ifndef RASURE_EXAMPLES_EVAL_ANSWER_H
#define RASURE_EXAMPLES_EVAL_ANSWER_H

#include <jansson.h>

#include "engine.h"

/* The next token of an answer from its logits [n_vocab], and from its place in the answer. */
typedef size_t (*cli_choose_fn)(void *user, const float *logits, size_t n_vocab, size_t place);

/* That which is most likely; `user` is not used. */
size_t cli_choose_most_likely(void *user, const float *logits, size_t n_vocab, size_t place);

/* How a question is answered. */
typedef struct cli_answering {
    cli_choose_fn choose;
    void *user;
    uint32_t most; /* tokens, 1 or more */
    /* An answer of at most `most` tokens that is expected, or NULL: it is read at once, and the answer goes
     * on by itself where it is another. What follows only matters where there is one. */
    const cli_tokens *draft;
    int32_t end;        /* position at which the question ends */
    rs_logits_fn along; /* is given all logits along the draft, as by cli_follow; NULL: nobody */
    void *along_user;
} cli_answering;

/* Chooses tokens until the model ends (*ended) or there are `most` in `answer`, which is empty. The engine's
 * context holds the question, and `first` [n_vocab] are the logits behind it. */
rs_status cli_answer_question(const cli_engine *engine, const cli_answering *how, const float *first,
                              cli_tokens *answer, bool *ended);

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
