/* Greedy answers, likelihoods, and whether an answer is right. */
#include "eval_answer.h"

#include "measure.h"

rs_status cli_answer_greedily(const cli_engine *engine, int32_t token, uint32_t most, cli_tokens *answer,
                              bool *ended) {
    for (;;) {
        *ended = rs_token_is_end(engine->model, token);
        if (*ended) return RS_OK;
        cli_tokens_add(answer, &token, 1);
        if (answer->count == most) return RS_OK;
        const rs_status status = rs_decode(engine->context, &token, 1);
        if (status != RS_OK) return status;
        token = (int32_t)cli_most_likely(rs_logits(engine->context, NULL), engine->info.n_vocab);
    }
}

rs_status cli_follow(const cli_engine *engine, int32_t end, const float *first, const int32_t *ids,
                     size_t count, rs_logits_fn each, void *user) {
    each(user, end - 1, first, engine->info.n_vocab);
    rs_status status = rs_truncate(engine->context, end);
    if (status == RS_OK && count > 1) status = rs_decode_each(engine->context, ids, count - 1, each, user);
    return status;
}

bool cli_add_likelihood(void *user, int32_t position, const float *logits, size_t n_vocab) {
    cli_likelihood *l = user;
    (void)position;
    l->sum += cli_log_probability(logits, n_vocab, (size_t)*l->ids++);
    return true;
}

bool cli_answer_any(const json_t *list, const cli_text *answer,
                    bool (*holds)(const cli_text *, const cli_text *)) {
    bool found = false;
    for (size_t i = 0; i < json_array_size(list) && !found; i++) {
        const json_t *item = json_array_get(list, i);
        cli_text wanted = {0};
        cli_normalise(&wanted, json_string_value(item), json_string_length(item));
        found = holds(answer, &wanted);
        cli_text_free(&wanted);
    }
    return found;
}

void cli_json_copy_case(json_t *row, const json_t *json) {
    static const char *const copied[] = {"id", "context", "task", "probe", "family", "split"};
    for (size_t i = 0; i < sizeof copied / sizeof copied[0]; i++)
        if (json_object_get(json, copied[i]) != NULL)
            json_object_set(row, copied[i], json_object_get(json, copied[i]));
}
