/* Answers, likelihoods, and whether an answer is right. */
#include "eval_answer.h"

#include "measure.h"

size_t cli_choose_most_likely(void *user, const float *logits, size_t n_vocab, size_t place) {
    (void)user;
    (void)place;
    return cli_most_likely(logits, n_vocab);
}

/* An answer on its way. */
typedef struct answering {
    const cli_engine *engine;
    const cli_answering *how;
    cli_tokens *answer;
    bool ended, parted; /* by the model; from the draft */
} answering;

static bool is_complete(const answering *a) {
    return a->ended || a->answer->count == a->how->most;
}

static void choose(answering *a, const float *logits, size_t n_vocab) {
    const cli_tokens *draft = a->how->draft;
    const size_t place = a->answer->count;
    const int32_t token = (int32_t)a->how->choose(a->how->user, logits, n_vocab, place);
    a->ended = rs_token_is_end(a->engine->model, token);
    if (a->ended) return;
    cli_tokens_add(a->answer, &token, 1);
    a->parted = draft == NULL || place >= draft->count || draft->ids[place] != token;
}

static bool choose_along(void *user, int32_t position, const float *logits, size_t n_vocab) {
    answering *a = user;
    if (a->how->along != NULL) a->how->along(a->how->along_user, position, logits, n_vocab);
    if (!a->parted && !is_complete(a)) choose(a, logits, n_vocab);
    return true;
}

static rs_status begin_along(answering *a, const float *first) {
    const cli_tokens *draft = a->how->draft;
    const size_t rows = draft->count < a->how->most ? draft->count + 1 : draft->count;
    const rs_status status = cli_follow(a->engine, a->how->end, first, draft->ids, rows, choose_along, a);
    if (status != RS_OK || is_complete(a)) return status;
    return rs_truncate(a->engine->context, a->how->end + (int32_t)a->answer->count - 1);
}

rs_status cli_answer_question(const cli_engine *engine, const cli_answering *how, const float *first,
                              cli_tokens *answer, bool *ended) {
    answering a = {.engine = engine, .how = how, .answer = answer};
    rs_status status = RS_OK;
    if (how->draft != NULL) status = begin_along(&a, first);
    else choose(&a, first, engine->info.n_vocab);
    while (status == RS_OK && !is_complete(&a)) {
        status = rs_decode(engine->context, &answer->ids[answer->count - 1], 1);
        if (status == RS_OK) choose(&a, rs_logits(engine->context, NULL), engine->info.n_vocab);
    }
    *ended = a.ended;
    return status;
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
