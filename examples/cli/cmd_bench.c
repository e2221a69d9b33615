/*
 * rasure bench: how fast this model reads, writes and erases here. Token ids come from a fixed pseudo-random
 * sequence, so that two runs do the same work; every figure is a median over the repetitions, after a
 * warm-up that counts for nothing.
 */
#define _DEFAULT_SOURCE /* getrusage */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "engine.h"
#include "json.h"
#include "measure.h"
#include "method.h"
#include "policy.h"
#include "terminal.h"

/* Ways to erase that need no eraser. */
static const char *const plain[] = {"exact", "drop", "shift", "repair:15%", "adaptive"};
enum { N_PLAIN = sizeof plain / sizeof *plain, MAX_METHODS = N_PLAIN + CLI_LIST_MAX };
enum { MAX_REPEAT = 100, ERASE_CONTEXT = 512, WARM_UP = 4 };

typedef struct series {
    double values[MAX_REPEAT];
    size_t n;
} series;

/* A way to erase, and what it took. */
typedef struct way {
    cli_method method;
    series ms;
    uint32_t recomputed; /* tokens that went through the model */
} way;

typedef struct bench {
    cli_engine engine;
    cli_tokens tokens;
    uint32_t prefill, decode, depth, repeat, span;
    series prefill_ms, decode_ms;
    series prefill_policy, decode_policy; /* shares of that time that the policy took */
    way ways[MAX_METHODS];
    size_t n_ways;
    rs_footprint footprint; /* of the last reading */
    cli_progress progress;
    uint64_t steps_done, steps;
} bench;

/* Ordinary tokens: those that stand for some text and end nothing. */
static cli_exit make_tokens(bench *b, size_t count) {
    uint64_t state = 0x9e3779b97f4a7c15U;
    while (b->tokens.count < count) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        const int32_t id = (int32_t)((state >> 33) % b->engine.info.n_vocab);
        size_t bytes;
        rs_error error;
        if (rs_detokenize(b->engine.model, &id, 1, false, NULL, 0, &bytes, &error) != RS_OK)
            return cli_call_failed(&error);
        if (bytes > 0 && !rs_token_is_end(b->engine.model, id)) cli_tokens_add(&b->tokens, &id, 1);
    }
    return CLI_OK;
}

static void step(bench *b) {
    cli_progress_update(&b->progress, ++b->steps_done, b->steps);
}

/* An empty context that has read `depth` tokens. */
static rs_status start_at(bench *b, uint32_t depth) {
    rs_context_reset(b->engine.context);
    return depth > 0 ? rs_decode(b->engine.context, b->tokens.ids, depth) : RS_OK;
}

/* Reads `count` tokens behind the first `depth`, all at once or one by one, and takes down how long it took,
 * and the policy's share of that. */
static rs_status time_reading(bench *b, uint32_t count, bool one_by_one, series *ms, series *policy) {
    if (count == 0) return RS_OK;
    const int32_t *ids = b->tokens.ids + b->depth;
    rs_status status = start_at(b, b->depth);
    rs_footprint before;
    rs_context_footprint(b->engine.context, &before);
    const double started = cli_now_ms();
    if (!one_by_one && status == RS_OK) status = rs_decode(b->engine.context, ids, count);
    for (uint32_t i = 0; one_by_one && i < count && status == RS_OK; i++)
        status = rs_decode(b->engine.context, &ids[i], 1);
    const double took = cli_now_ms() - started;
    ms->values[ms->n++] = took;
    rs_context_footprint(b->engine.context, &b->footprint);
    policy->values[policy->n++] = (b->footprint.policy_ms - before.policy_ms) / took;
    step(b);
    return status;
}

static uint32_t erase_context(const bench *b) {
    return b->depth > 0 ? b->depth : ERASE_CONTEXT;
}

static cli_exit add_way(bench *b, const char *name) {
    way *w = &b->ways[b->n_ways++];
    const cli_exit code = cli_parse_method(name, strlen(name), &w->method);
    return code == CLI_OK ? cli_bind_method(&b->engine, &w->method) : code;
}

/* The plain ways, and what each eraser is for. */
static cli_exit choose_ways(bench *b) {
    cli_exit code = CLI_OK;
    if (b->span == 0) return code;
    for (size_t i = 0; i < N_PLAIN && code == CLI_OK; i++) code = add_way(b, plain[i]);
    for (size_t i = 0; i < b->engine.n_erasers && code == CLI_OK; i++) {
        rs_adapter_info info;
        rs_adapter_get_info(b->engine.erasers[i], &info);
        code = add_way(b, info.kind == RS_ADAPTER_STEER ? "steer" : "bridge");
        b->ways[b->n_ways - 1].method.params.adapter = b->engine.erasers[i];
    }
    return code;
}

static rs_status time_erase(bench *b, way *w) {
    const int32_t begin = (int32_t)((erase_context(b) - b->span) / 2);
    const rs_span span = {begin, begin + (int32_t)b->span};
    rs_erase_report report = {0};
    rs_status status = start_at(b, erase_context(b));
    if (status == RS_OK) status = rs_erase(b->engine.context, &span, 1, &w->method.params, &report);
    w->ms.values[w->ms.n++] = report.ms;
    w->recomputed = report.n_recomputed + report.n_steered;
    step(b);
    return status;
}

static cli_exit measure(bench *b) {
    /* The warm-up: as much as is measured, so that no repetition is the first to touch its memory. */
    rs_status status = start_at(b, b->prefill);
    if (status == RS_OK) status = start_at(b, 0);
    for (uint32_t i = 0; i < WARM_UP && status == RS_OK; i++)
        status = rs_decode(b->engine.context, b->tokens.ids, 1);
    b->steps = b->repeat * ((uint64_t)(b->prefill > 0) + (uint64_t)(b->decode > 0) + b->n_ways);
    cli_progress_begin(&b->progress, "measuring", "steps");
    for (uint32_t r = 0; r < b->repeat && status == RS_OK; r++) {
        status = time_reading(b, b->prefill, false, &b->prefill_ms, &b->prefill_policy);
        if (status == RS_OK) status = time_reading(b, b->decode, true, &b->decode_ms, &b->decode_policy);
        for (size_t i = 0; i < b->n_ways && status == RS_OK; i++) status = time_erase(b, &b->ways[i]);
    }
    cli_progress_end(&b->progress);
    return status == RS_OK ? CLI_OK : cli_context_failed(&b->engine, status);
}

/* The highest amount of memory that this process had, the mapped weights included. */
static uint64_t peak_rss(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

static double median(series *s) {
    return cli_percentile(s->values, s->n, 0.5);
}

static double rate(uint32_t tokens, double ms) {
    return (double)tokens * 1000.0 / ms;
}

static json_t *rate_range(uint32_t tokens, series *s) {
    json_t *range = json_array();
    if (s->n == 0) return range;
    json_array_append_new(range, json_real(rate(tokens, cli_percentile(s->values, s->n, 1.0))));
    json_array_append_new(range, json_real(rate(tokens, cli_percentile(s->values, s->n, 0.0))));
    return range;
}

static json_t *footprint(const rs_footprint *kv) {
    json_t *object = json_object();
    cli_json_set_real(object, "held", (double)kv->held / (double)kv->full);
    cli_json_set_real(object, "held_at_once", (double)kv->held_at_once / (double)kv->full);
    cli_json_set_int(object, "peak_entries", kv->peak_entries);
    cli_json_set_int(object, "peak_bytes", kv->peak_bytes);
    return object;
}

static void print_json(bench *b, const rs_context_info *context) {
    const rs_model_info *info = &b->engine.info;
    json_t *root = json_object(), *erase = json_object(), *recomputed = json_object();
    for (size_t i = 0; i < b->n_ways; i++) {
        cli_json_set_real(erase, b->ways[i].method.name, median(&b->ways[i].ms));
        cli_json_set_int(recomputed, b->ways[i].method.name, b->ways[i].recomputed);
    }
    cli_json_set_text(root, "model", b->engine.setup->model);
    cli_json_set_text(root, "isa", rs_isa_name(info->isa));
    cli_json_set_text(root, "linear", cli_linear_name(info->linear));
    cli_json_set_int(root, "threads", info->threads);
    cli_json_set_int(root, "batch", context->n_batch);
    cli_json_set_int(root, "prefill", b->prefill);
    cli_json_set_int(root, "decode", b->decode);
    cli_json_set_int(root, "depth", b->depth);
    cli_json_set_int(root, "repeat", b->repeat);
    cli_json_set_real(root, "prefill_tok_s", rate(b->prefill, median(&b->prefill_ms)));
    json_object_set_new(root, "prefill_tok_s_range", rate_range(b->prefill, &b->prefill_ms));
    cli_json_set_real(root, "decode_tok_s", rate(b->decode, median(&b->decode_ms)));
    json_object_set_new(root, "decode_tok_s_range", rate_range(b->decode, &b->decode_ms));
    cli_json_set_real(root, "prefill_policy_share", median(&b->prefill_policy));
    cli_json_set_real(root, "decode_policy_share", median(&b->decode_policy));
    cli_json_set_real(root, "load_ms", b->engine.load_ms);
    cli_json_set_int(root, "peak_rss_bytes", peak_rss());
    cli_json_set_int(root, "arena_bytes", context->arena_bytes);
    cli_json_set_int(root, "cache_bytes", context->cache_bytes);
    json_object_set_new(root, "policy", cli_policy_json(&b->engine));
    if (b->footprint.full > 0) json_object_set_new(root, "kv_footprint", footprint(&b->footprint));
    cli_json_set_int(root, "erase_span", b->span);
    cli_json_set_int(root, "erase_context", erase_context(b));
    json_object_set_new(root, "erase_ms", erase);
    json_object_set_new(root, "erase_recomputed", recomputed);
    cli_json_print(stdout, root, 2);
}

static void print_rate(const char *what, uint32_t tokens, uint32_t depth, series *s) {
    if (s->n == 0) return;
    const double middle = median(s);
    printf("%-10s %9.1f tok/s   (%.1f to %.1f)   %u tokens behind %u\n", what, rate(tokens, middle),
           rate(tokens, cli_percentile(s->values, s->n, 1.0)),
           rate(tokens, cli_percentile(s->values, s->n, 0.0)), tokens, depth);
}

static void print_table(bench *b, const rs_context_info *context) {
    const rs_model_info *info = &b->engine.info;
    printf("%s, %s, %s linear layers, %u thread%s, median of %u\n\n", b->engine.setup->model,
           rs_isa_name(info->isa), cli_linear_name(info->linear), info->threads,
           info->threads == 1 ? "" : "s", b->repeat);
    print_rate("prefill", b->prefill, b->depth, &b->prefill_ms);
    print_rate("decode", b->decode, b->depth, &b->decode_ms);
    for (size_t i = 0; i < b->n_ways; i++) {
        way *w = &b->ways[i];
        printf("%-10s %9.2f ms      (%.2f to %.2f)   %u of %u tokens erased, %u recomputed\n", w->method.name,
               median(&w->ms), cli_percentile(w->ms.values, w->ms.n, 0.0),
               cli_percentile(w->ms.values, w->ms.n, 1.0), b->span, erase_context(b), w->recomputed);
    }
    putchar('\n');
    cli_print_policy(stdout, &b->engine);
    printf("load       %9.1f ms\nmemory     %9.1f MB at the peak, %.1f MB of it the context's arena\n",
           b->engine.load_ms, (double)peak_rss() / 1e6, (double)context->arena_bytes / 1e6);
}

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static cli_exit run(const cli_command *command, int argc, char **argv) {
    bench b = {.prefill = 512, .decode = 64, .repeat = 3, .span = 32};
    bool json = false;
    cli_list erasers = {0};
    const cli_option options[] = {
        {0, "prefill", "N", "tokens to read (default 512; 0: leave it out)", .u32 = &b.prefill,
         .max = 262144},
        {0, "decode", "N", "tokens to write (default 64; 0: leave it out)", .u32 = &b.decode, .max = 262144},
        {0, "depth", "N", "tokens already in the context (default 0)", .u32 = &b.depth, .max = 262144},
        {0, "repeat", "N", "repetitions, 1 to 100 (default 3)", .u32 = &b.repeat, .min = 1,
         .max = MAX_REPEAT},
        {0, "span", "N",
         "tokens to erase from the middle of the depth, or of 512 tokens without --depth\n"
         "(default 32; 0: leave it out)",
         .u32 = &b.span, .max = 262144},
        {0, "eraser", "PATH", "an adapter whose way to erase is measured too; may be given twice",
         .list = &erasers},
        {0, "json", NULL, "one JSON object", .flag = &json},
    };
    cli_setup setup;
    cli_exit code;
    int first;
    if (!cli_parse(command, options, sizeof options / sizeof options[0], &setup, argc, argv, &first, &code))
        return code;
    if (first < argc) return cli_unexpected(command, argv[first]);
    if (b.span >= erase_context(&b))
        return cli_fail(CLI_USAGE, "bench: --span %u: the context has %u tokens only", b.span,
                        erase_context(&b));
    const uint32_t reading = b.depth + larger(b.prefill, b.decode),
                   erasing = b.span > 0 ? erase_context(&b) : 0;
    const uint32_t needed = larger(larger(reading, erasing), WARM_UP);
    if (setup.ctx > 0 && setup.ctx < needed)
        return cli_fail(CLI_USAGE, "bench: --ctx %u: this needs %u tokens", setup.ctx, needed);

    code = cli_open_model(&b.engine, &setup);
    if (code == CLI_OK) code = cli_open_erasers(&b.engine, &erasers);
    if (code == CLI_OK) code = choose_ways(&b);
    if (code == CLI_OK) code = cli_open_context(&b.engine, needed);
    if (code == CLI_OK) code = make_tokens(&b, needed);
    if (code == CLI_OK) code = measure(&b);
    if (code == CLI_OK) {
        rs_context_info context;
        rs_context_get_info(b.engine.context, &context);
        (json ? print_json : print_table)(&b, &context);
    }
    cli_tokens_free(&b.tokens);
    cli_close(&b.engine);
    return code;
}

const cli_command cli_command_bench = {
    "bench",
    "how fast this model reads, writes and erases here",
    "[options]",
    "Measures prefill (reading --prefill tokens), decode (writing --decode tokens one by one), both behind\n"
    "--depth tokens that are already in the context, and each way to erase --span tokens. Medians, after a\n"
    "warm-up; in brackets the slowest and the fastest. The tokens are arbitrary: adaptive, which encodes\n"
    "again what comes back to the erased words, has less to do than in most texts.",
    run,
};
