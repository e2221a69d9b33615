/* Answers that are streamed to stdout. */
#include "answer.h"

#include <string.h>

#include "terminal.h"

void cli_answer_options(cli_answer *answer, cli_option options[CLI_N_ANSWER_OPTIONS]) {
    *answer = (cli_answer){.params = rs_generate_default_params()};
    answer->params.max_tokens = 256;
    rs_sampler_params *sampler = &answer->params.sampler;
    const cli_option all[CLI_N_ANSWER_OPTIONS] = {
        {'n', "max-tokens", "N", "longest answer in tokens (default 256; 0: until the cache is full)",
         .u32 = &answer->params.max_tokens, .max = 1048576},
        {0, "stop", "TEXT", "end the answer before this text; up to 16 of them", .list = &answer->stops},
        {0, "temp", "T", "temperature, 0 to 100 (default 0: always the most likely token)",
         .real = &sampler->temperature, .max = 100},
        {0, "top-k", "N", "keep the N most likely tokens (default 0: all)", .u32 = &sampler->top_k,
         .max = 1048576},
        {0, "top-p", "P", "keep the smallest set with this probability (default 1: all)",
         .real = &sampler->top_p, .max = 1},
        {0, "min-p", "P", "drop tokens below this share of the most likely (default 0)",
         .real = &sampler->min_p, .max = 1},
        {0, "repeat-penalty", "X", "above 1: tokens seen before become less likely (default 1)",
         .real = &sampler->repetition_penalty, .max = 100},
        {0, "repeat-window", "N", "how many of the last tokens count for that (default 0: all)",
         .u32 = &sampler->repetition_window, .max = 1048576},
        {0, "seed", "N", "same seed, same text (default 0)", .u64 = &sampler->seed},
    };
    memcpy(options, all, sizeof all);
}

cli_exit cli_answer_check(cli_answer *answer) {
    for (size_t i = 0; i < answer->stops.count; i++) {
        const size_t bytes = strlen(answer->stops.items[i]);
        if (bytes == 0 || bytes > 128)
            return cli_fail(CLI_USAGE, "--stop: %zu bytes; 1 to 128 are possible", bytes);
    }
    answer->params.stop_strings = answer->stops.items;
    answer->params.n_stop_strings = answer->stops.count;
    rs_error error;
    rs_sampler sampler;
    if (rs_sampler_init(&sampler, &answer->params.sampler, &error) != RS_OK)
        return cli_fail(CLI_USAGE, "%s", error.message);
    return CLI_OK;
}

typedef struct stream {
    const volatile sig_atomic_t *stop;
} stream;

static bool on_text(void *user, const char *text, size_t bytes) {
    const stream *s = user;
    cli_print_text(stdout, text, bytes);
    fflush(stdout);
    return s->stop == NULL || *s->stop == 0;
}

cli_exit cli_answer_stream(cli_engine *engine, const cli_answer *answer, const volatile sig_atomic_t *stop,
                           rs_generate_report *report) {
    stream s = {stop};
    rs_generate_params params = answer->params;
    params.on_text = on_text;
    params.user = &s;
    const rs_status status = rs_generate(engine->context, &params, report);
    return status == RS_OK ? CLI_OK : cli_context_failed(engine, status);
}

void cli_print_rate(const char *what, uint64_t tokens, double ms) {
    fprintf(stderr, "%-8s %llu tokens in %.0f ms", what, (unsigned long long)tokens, ms);
    if (tokens > 0 && ms > 0.0) fprintf(stderr, ", %.1f tok/s", (double)tokens * 1000.0 / ms);
    fputc('\n', stderr);
}

void cli_print_erase(FILE *stream, const rs_erase_report *report) {
    fprintf(stream, "erased   %u tokens", report->n_erased);
    if (report->n_spans > 1) fprintf(stream, " of %u spans", report->n_spans);
    fprintf(stream, " by %s in %.2f ms: %u recomputed, %u moved\n", rs_erase_method_name(report->method),
            report->ms, report->n_recomputed, report->n_rotated);
    if (report->expected_kl_most > 0)
        fprintf(stream,
                "expected KL to exact of %.4f nats, in 95 %% of cases below %.4f, as fitted on "
                "SmolLM2-135M-Instruct\n",
                (double)report->expected_kl, (double)report->expected_kl_most);
}

void cli_print_footprint(FILE *stream, const rs_context *context) {
    rs_footprint kv;
    rs_context_footprint(context, &kv);
    if (kv.full == 0) return;
    fprintf(
        stream,
        "held     %.1f %% of what a full cache holds (%.1f %% with chunks at once), %.1f MB at the peak\n",
        100.0 * (double)kv.held / (double)kv.full, 100.0 * (double)kv.held_at_once / (double)kv.full,
        (double)kv.peak_bytes / 1e6);
}
