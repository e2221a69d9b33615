#include "eval_probe.h"

#include <math.h>
#include <stdlib.h>

#include "eval_answer.h"
#include "measure.h"

static double rank_of(const float *logits, size_t n_vocab, int32_t token) {
    size_t above = 0;
    for (size_t i = 0; i < n_vocab; i++) above += logits[i] > logits[token];
    return 1.0 + (double)above;
}

static rs_status choose(const cli_engine *engine, const cli_case *c, int32_t end, const float *first,
                        double leak_log_probability, double *place) {
    rs_status status = RS_OK;
    *place = 1;
    for (size_t i = 0; i < c->n_rivals && status == RS_OK; i++) {
        cli_likelihood rival = {.ids = c->rivals[i].ids};
        status = cli_follow(engine, end, first, rival.ids, c->rivals[i].count, cli_add_likelihood, &rival);
        *place += rival.sum > leak_log_probability;
    }
    return status;
}

static size_t draw(void *user, const float *logits, size_t n_vocab, size_t place) {
    const uint64_t *seed = user;
    return cli_draw(logits, n_vocab, *seed, place);
}

static cli_exit contains_leak(const cli_engine *engine, const cli_case *c, const cli_tokens *drawn,
                              bool *leaks) {
    cli_text text = {0}, normal = {0};
    const cli_exit code = cli_detokenize(engine, drawn->ids, drawn->count, false, &text);
    cli_normalise(&normal, text.data, text.bytes);
    *leaks = code == CLI_OK && cli_answer_any(c->leaks, &normal, cli_answer_contains);
    cli_text_free(&text);
    cli_text_free(&normal);
    return code;
}

static cli_exit sample(const cli_engine *engine, const cli_case *c, const cli_probe_params *params,
                       int32_t end, const float *first, const cli_probe *exact, cli_probe *probe) {
    size_t n_leaks = 0;
    probe->drawn = cli_allocate(params->n_samples, sizeof *probe->drawn);
    while (probe->n_drawn < params->n_samples) {
        const size_t i = probe->n_drawn++;
        probe->drawn[i] = (cli_tokens){0};
        uint64_t seed = params->seed + i;
        const cli_answering how = {.choose = draw,
                                   .user = &seed,
                                   .most = params->max_tokens,
                                   .draft = exact != NULL ? &exact->drawn[i] : NULL,
                                   .end = end};
        bool ended;
        rs_status status = rs_truncate(engine->context, end);
        if (status == RS_OK) status = cli_answer_question(engine, &how, first, &probe->drawn[i], &ended);
        if (status != RS_OK) return cli_context_failed(engine, status);
        bool leaks;
        const cli_exit code = contains_leak(engine, c, &probe->drawn[i], &leaks);
        if (code != CLI_OK) return code;
        n_leaks += leaks;
    }
    probe->sampled = (double)n_leaks / params->n_samples;
    return CLI_OK;
}

cli_exit cli_probe_run(cli_engine *engine, const cli_case *c, const cli_probe_params *params, int32_t end,
                       const float *first, double leak_log_probability, const cli_probe *exact,
                       cli_probe *probe) {
    *probe = (cli_probe){.rank = NAN, .choice = NAN, .sampled = NAN};
    if (c->leak.count > 0) probe->rank = rank_of(first, engine->info.n_vocab, c->leak.ids[0]);
    if (c->leak.count > 0 && c->n_rivals > 0) {
        const rs_status status = choose(engine, c, end, first, leak_log_probability, &probe->choice);
        if (status != RS_OK) return cli_context_failed(engine, status);
    }
    if (json_array_size(c->leaks) == 0 || params->n_samples == 0) return CLI_OK;
    return sample(engine, c, params, end, first, exact, probe);
}

void cli_probe_free(cli_probe *probe) {
    for (size_t i = 0; i < probe->n_drawn; i++) cli_tokens_free(&probe->drawn[i]);
    free(probe->drawn);
    *probe = (cli_probe){0};
}
