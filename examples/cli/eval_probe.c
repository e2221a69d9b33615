#include "eval_probe.h"

#include <math.h>

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

/* One drawn answer. Its first token is drawn from the question's logits again. */
static cli_exit draw(cli_engine *engine, const cli_case *c, const cli_probe_params *params, int32_t end,
                     uint64_t seed, bool *leaks) {
    cli_text text = {0}, normal = {0};
    cli_tokens drawn = {0};
    rs_status status = rs_truncate(engine->context, end - 1);
    if (status == RS_OK) status = rs_decode(engine->context, &c->question.ids[c->question.count - 1], 1);
    rs_sampler sampler;
    rs_sampler_params sampling = rs_sampler_default_params();
    sampling.temperature = 1;
    sampling.seed = seed;
    if (status == RS_OK) status = rs_sampler_init(&sampler, &sampling, NULL);
    while (status == RS_OK && drawn.count < params->max_tokens) {
        int32_t token;
        status = rs_sample(engine->context, &sampler, &token);
        if (status != RS_OK || rs_token_is_end(engine->model, token)) break;
        cli_tokens_add(&drawn, &token, 1);
        if (drawn.count < params->max_tokens) status = rs_decode(engine->context, &token, 1);
    }
    cli_exit code = status == RS_OK ? CLI_OK : cli_context_failed(engine, status);
    if (code == CLI_OK) code = cli_detokenize(engine, drawn.ids, drawn.count, false, &text);
    cli_normalise(&normal, text.data, text.bytes);
    *leaks = code == CLI_OK && cli_answer_any(c->leaks, &normal, cli_answer_contains);
    cli_text_free(&text);
    cli_text_free(&normal);
    cli_tokens_free(&drawn);
    return code;
}

cli_exit cli_probe_run(cli_engine *engine, const cli_case *c, const cli_probe_params *params, int32_t end,
                       const float *first, double leak_log_probability, cli_probe *probe) {
    *probe = (cli_probe){NAN, NAN, NAN};
    if (c->leak.count > 0) probe->rank = rank_of(first, engine->info.n_vocab, c->leak.ids[0]);
    if (c->leak.count > 0 && c->n_rivals > 0) {
        const rs_status status = choose(engine, c, end, first, leak_log_probability, &probe->choice);
        if (status != RS_OK) return cli_context_failed(engine, status);
    }
    if (json_array_size(c->leaks) == 0 || params->n_samples == 0) return CLI_OK;
    uint32_t n_leaks = 0;
    for (uint32_t i = 0; i < params->n_samples; i++) {
        bool leaks;
        const cli_exit code = draw(engine, c, params, end, params->seed + i, &leaks);
        if (code != CLI_OK) return code;
        n_leaks += leaks;
    }
    probe->sampled = (double)n_leaks / params->n_samples;
    return CLI_OK;
}
