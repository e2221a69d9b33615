/*
 * What each erase method does to the answers of prepared cases, some of which put new text in the span's
 * place. Every method gets the same context; the exact edit is the reference that the others are held
 * against, in the text of the answer and in the next-token distributions along it. Cases that follow each
 * other and edit the same context in the same way are a group: it is read and edited once for all of them.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eval.h"
#include "eval_answer.h"
#include "eval_cases.h"
#include "eval_save.h"
#include "json.h"
#include "measure.h"
#include "method.h"
#include "terminal.h"

enum { GROUP = 8 }; /* cases of a group, at most */

/* One method and what is known of it so far. */
typedef struct column {
    cli_method method;
    bool none; /* nothing is erased */
    size_t n, matched, n_with_answers, leaked, n_with_leaks, agreed, n_with_target, n_with_leak;
    double kl_sum, target_kl_sum, leak_sum;
    double *erase_ms; /* [n] */
} column;

/* What one method did in one case. */
typedef struct outcome {
    cli_text text;     /* of the answer */
    cli_tokens tokens; /* the same, without the token that ended it */
    bool ended;        /* by the model itself */
    double kl;
    double target_kl;            /* mean along the case's target; NaN where it has none */
    double leak_log_probability; /* of the case's leak; NaN where it has none */
    cli_probe probe;
    rs_erase_report erased;
} outcome;

/* The exact run of a case: logits at every position from which a token of its answer, and of the case's
 * target, came. */
typedef struct reference {
    outcome run;
    float *logits; /* [positions][n_vocab], room for max_tokens + 1 rows */
    size_t positions;
    float *target_logits; /* [longest target][n_vocab] */
} reference;

typedef struct eval {
    const cli_eval *job;
    cli_engine *engine;
    rs_context *read; /* the current group's context, before any erase */
    void *read_memory;
    cli_cases cases;
    column *columns;
    size_t n_columns;
    reference exact[GROUP]; /* of the cases of the current group */
    float *first;           /* [n_vocab] logits after the question, of the run at hand */
} eval;

static void outcome_clear(outcome *o) {
    cli_text_free(&o->text);
    cli_tokens_free(&o->tokens);
    cli_probe_free(&o->probe);
    *o = (outcome){0};
}

/* ------------------------------------------------------------------------------------------ one run -- */

/* Takes down the logits along a text (of the exact run), or compares them (of the others). */
typedef struct along {
    float *rows; /* [positions][n_vocab] */
    bool is_exact;
    size_t position;
    double kl_sum;
} along;

static bool compare_row(void *user, int32_t position, const float *logits, size_t n_vocab) {
    along *a = user;
    (void)position;
    float *row = a->rows + a->position * n_vocab;
    if (a->is_exact) memcpy(row, logits, n_vocab * sizeof *row);
    else a->kl_sum += cli_kl(row, logits, n_vocab);
    a->position++;
    return true;
}

/* What follows the question, whose logits are in e->first. */
static rs_status follow(const eval *e, int32_t end, const int32_t *ids, size_t count, rs_logits_fn each,
                        void *user) {
    return cli_follow(e->engine, end, e->first, ids, count, each, user);
}

/* The exact answer, and the logits from which its tokens came. */
static rs_status answer_exactly(eval *e, reference *exact, int32_t end) {
    outcome *o = &exact->run;
    const cli_answering how = {.choose = cli_choose_most_likely, .most = e->job->max_tokens};
    rs_status status = cli_answer_question(e->engine, &how, e->first, &o->tokens, &o->ended);
    exact->positions = o->tokens.count + (o->ended ? 1 : 0);
    along answer = {.rows = exact->logits, .is_exact = true};
    if (status == RS_OK) status = follow(e, end, o->tokens.ids, exact->positions, compare_row, &answer);
    return status;
}

/* The method's answer, and how near it comes along the exact one. */
static rs_status answer(eval *e, const reference *exact, int32_t end, outcome *o) {
    along answer = {.rows = exact->logits};
    const cli_answering how = {.choose = cli_choose_most_likely,
                               .most = e->job->max_tokens,
                               .draft = &exact->run.tokens,
                               .end = end,
                               .along = compare_row,
                               .along_user = &answer};
    const rs_status status = cli_answer_question(e->engine, &how, e->first, &o->tokens, &o->ended);
    o->kl = answer.kl_sum / (double)exact->positions;
    return status;
}

/* How near the method comes along the case's target, and how likely the leak is. */
static rs_status measure(eval *e, const cli_case *c, const reference *exact, int32_t end, outcome *o) {
    along target = {.rows = exact->target_logits, .is_exact = o == &exact->run};
    cli_likelihood leak = {.ids = c->leak.ids};
    rs_status status = RS_OK;
    if (c->target.count > 0) status = follow(e, end, c->target.ids, c->target.count, compare_row, &target);
    if (status == RS_OK && c->leak.count > 0)
        status = follow(e, end, c->leak.ids, c->leak.count, cli_add_likelihood, &leak);
    o->target_kl = c->target.count > 0 ? target.kl_sum / (double)c->target.count : NAN;
    o->leak_log_probability = c->leak.count > 0 ? leak.sum : NAN;
    return status;
}

/* The spans in calls of their own, the first one first; `total` is what all of them did. */
static rs_status erase_one_by_one(rs_context *context, const cli_case *c, const rs_erase_params *params,
                                  rs_erase_report *total) {
    rs_status status = RS_OK;
    int32_t closed = 0; /* positions by which the later spans have moved up */
    for (size_t i = 0; i < c->n_spans && status == RS_OK; i++) {
        rs_context_info before;
        rs_erase_report report;
        rs_context_get_info(context, &before);
        const rs_span span = {c->spans[i].begin - closed, c->spans[i].end - closed};
        status = rs_erase(context, &span, 1, params, &report);
        if (status != RS_OK) break;
        closed += before.next_position - report.next_position;
        report.n_erased += total->n_erased;
        report.n_recomputed += total->n_recomputed;
        report.n_steered += total->n_steered;
        report.ms += total->ms;
        *total = report;
    }
    return status;
}

/* Does to a context what the case and the method say. The reference takes all spans at once. */
static rs_status edit(const eval *e, rs_context *context, const cli_case *c, const rs_erase_params *params,
                      rs_erase_report *done) {
    *done = (rs_erase_report){0};
    if (c->replacement.count > 0)
        return rs_replace(context, c->spans[0], c->replacement.ids, c->replacement.count, params, done);
    if (e->job->one_by_one && params->method != RS_ERASE_EXACT)
        return erase_one_by_one(context, c, params, done);
    return rs_erase(context, c->spans, c->n_spans, params, done);
}

/* Takes the group's context as it was read, and edits it. */
static cli_exit erase(eval *e, const cli_case *c, const column *col, rs_erase_report *erased) {
    rs_context *context = e->engine->context;
    *erased = (rs_erase_report){0};
    rs_status status = rs_context_copy(context, e->read);
    if (status == RS_OK && !col->none) status = edit(e, context, c, &col->method.params, erased);
    if (status != RS_OK) return cli_context_failed(e->engine, status);
    return e->job->save != NULL ? cli_eval_save(e->engine, e->job->save, c->line, col->method.name) : CLI_OK;
}

/* Asks, answers, is compared (or is the exact run itself, `o`), and leaves the context as it was. */
static cli_exit ask(eval *e, const cli_case *c, reference *exact, const rs_erase_report *erased, outcome *o) {
    rs_context *context = e->engine->context;
    rs_context_info before, after;
    outcome_clear(o);
    o->erased = *erased;
    rs_context_get_info(context, &before);
    rs_status status = rs_decode(context, c->question.ids, c->question.count);
    rs_context_get_info(context, &after);
    const int32_t end = after.next_position;
    if (status == RS_OK) {
        memcpy(e->first, rs_logits(context, NULL), e->engine->info.n_vocab * sizeof *e->first);
        status = o == &exact->run ? answer_exactly(e, exact, end) : answer(e, exact, end, o);
    }
    if (status == RS_OK) status = measure(e, c, exact, end, o);
    if (status == RS_OK) {
        const cli_exit code = cli_probe_run(
            e->engine, c, &(cli_probe_params){e->job->n_samples, e->job->max_tokens, e->job->seed}, end,
            e->first, o->leak_log_probability, o == &exact->run ? NULL : &exact->run.probe, &o->probe);
        if (code != CLI_OK) return code;
    }
    if (status == RS_OK) status = rs_truncate(context, before.next_position);
    if (status != RS_OK) return cli_context_failed(e->engine, status);
    return cli_detokenize(e->engine, o->tokens.ids, o->tokens.count, false, &o->text);
}

/* ------------------------------------------------------------------------------------------ scoring -- */

/* What auto took, and what it expected of it. */
static void set_choice(json_t *row, const rs_erase_report *erased) {
    cli_json_set_text(row, "taken", rs_erase_method_name(erased->method));
    cli_json_set_real(row, "expected_kl", (double)erased->expected_kl);
    cli_json_set_real(row, "expected_kl_most", (double)erased->expected_kl_most);
    cli_json_set_real(row, "expected_ms", erased->expected_ms);
}

static void score(eval *e, const cli_case *c, column *col, const outcome *reference, const outcome *o) {
    const cli_text *exact = &reference->text;
    cli_text normal = {0};
    cli_normalise(&normal, o->text.data, o->text.bytes);
    const bool matched = cli_answer_any(c->answers, &normal, cli_answer_begins);
    const bool leaked = cli_answer_any(c->leaks, &normal, cli_answer_contains);
    const bool agreed = o->text.bytes == exact->bytes &&
                        (exact->bytes == 0 || memcmp(o->text.data, exact->data, exact->bytes) == 0);
    cli_text_free(&normal);

    col->erase_ms[col->n] = o->erased.ms;
    col->n++;
    col->n_with_answers += json_array_size(c->answers) > 0;
    col->n_with_leaks += json_array_size(c->leaks) > 0;
    col->matched += matched;
    col->leaked += leaked;
    col->agreed += agreed;
    col->kl_sum += o->kl;
    const double leak_above = o->leak_log_probability - reference->leak_log_probability;
    if (!isnan(o->target_kl)) {
        col->n_with_target++;
        col->target_kl_sum += o->target_kl;
    }
    if (!isnan(leak_above)) {
        col->n_with_leak++;
        col->leak_sum += leak_above;
    }
    if (e->job->per_case == NULL) return;

    json_t *row = json_object();
    cli_json_copy_case(row, c->json);
    cli_json_set_text(row, "method", col->method.name);
    json_object_set_new(row, "answer", cli_json_string(o->text.data, o->text.bytes));
    json_object_set_new(row, "exact_match",
                        json_array_size(c->answers) > 0 ? json_boolean(matched) : json_null());
    json_object_set_new(row, "leak", json_array_size(c->leaks) > 0 ? json_boolean(leaked) : json_null());
    cli_json_set_real(row, "kl_to_exact", o->kl);
    cli_json_set_real(row, "kl_target", o->target_kl);
    cli_json_set_real(row, "leak_logprob", o->leak_log_probability);
    cli_json_set_real(row, "leak_minus_clean", leak_above);
    cli_json_set_real(row, "leak_rank", o->probe.rank);
    cli_json_set_real(row, "leak_choice", o->probe.choice);
    cli_json_set_real(row, "leak_sampled", o->probe.sampled);
    json_object_set_new(row, "agree_with_exact", json_boolean(agreed));
    cli_json_set_real(row, "erase_ms", col->none ? NAN : o->erased.ms);
    cli_json_set_int(row, "n_context", c->context.count);
    cli_json_set_int(row, "n_erased", o->erased.n_erased);
    cli_json_set_int(row, "n_recomputed", o->erased.n_recomputed + o->erased.n_steered);
    if (col->method.params.method == RS_ERASE_AUTO && !col->none) set_choice(row, &o->erased);
    cli_json_print(e->job->per_case, row, 0);
}

/* How many cases from `first` on are a group. */
static size_t group_size(const cli_cases *cases, size_t first) {
    const cli_case *c = &cases->items[first];
    size_t n = 1;
    while (n < GROUP && first + n < cases->count && cli_same_erase(c, &c[n])) n++;
    return n;
}

static cli_exit read_context(const eval *e, const cli_case *c) {
    rs_context_reset(e->read);
    if (rs_decode(e->read, c->context.ids, c->context.count) == RS_OK) return CLI_OK;
    return cli_fail(CLI_FAILED, "%s", rs_context_message(e->read));
}

/* Makes the exact run of every case of a group. */
static cli_exit run_exact(eval *e, const cli_case *cases, size_t count) {
    const column exact = {.method = {.name = "exact", .params = rs_erase_default_params()}};
    rs_erase_report erased;
    cli_exit code = erase(e, cases, &exact, &erased);
    for (size_t i = 0; i < count && code == CLI_OK; i++)
        code = ask(e, &cases[i], &e->exact[i], &erased, &e->exact[i].run);
    return code;
}

/* Every case of a group after a column's method. */
static cli_exit run_column(eval *e, const cli_case *cases, size_t count, column *col) {
    if (!col->none && col->method.params.method == RS_ERASE_EXACT) {
        for (size_t i = 0; i < count; i++) score(e, &cases[i], col, &e->exact[i].run, &e->exact[i].run);
        return CLI_OK;
    }
    rs_erase_report erased;
    cli_exit code = erase(e, cases, col, &erased);
    for (size_t i = 0; i < count && code == CLI_OK; i++) {
        outcome o = {0};
        code = ask(e, &cases[i], &e->exact[i], &erased, &o);
        if (code == CLI_OK) score(e, &cases[i], col, &e->exact[i].run, &o);
        outcome_clear(&o);
    }
    return code;
}

static cli_exit run_all(eval *e) {
    cli_progress progress;
    cli_progress_begin(&progress, "evaluating", "runs");
    size_t done = 0;
    const size_t total = e->cases.count * e->n_columns;
    cli_exit code = CLI_OK;
    for (size_t i = 0, count; i < e->cases.count && code == CLI_OK; i += count) {
        const cli_case *cases = &e->cases.items[i];
        count = group_size(&e->cases, i);
        code = read_context(e, cases);
        if (code == CLI_OK) code = run_exact(e, cases, count);
        for (size_t k = 0; k < e->n_columns && code == CLI_OK; k++) {
            code = run_column(e, cases, count, &e->columns[k]);
            done += count;
            cli_progress_update(&progress, done, total);
        }
    }
    cli_progress_end(&progress);
    return code;
}

/* ----------------------------------------------------------------------------------------- reporting -- */

static double mean(double sum, size_t n) {
    return n > 0 ? sum / (double)n : NAN;
}

static double share(size_t part, size_t whole) {
    return mean((double)part, whole);
}

static void print_json(column *col) {
    json_t *row = json_object();
    cli_json_set_text(row, "method", col->method.name);
    cli_json_set_int(row, "n", col->n);
    cli_json_set_real(row, "exact_match", share(col->matched, col->n_with_answers));
    cli_json_set_real(row, "leak_rate", share(col->leaked, col->n_with_leaks));
    cli_json_set_real(row, "kl_to_exact", mean(col->kl_sum, col->n));
    cli_json_set_real(row, "kl_target", mean(col->target_kl_sum, col->n_with_target));
    cli_json_set_real(row, "leak_minus_clean", mean(col->leak_sum, col->n_with_leak));
    cli_json_set_real(row, "agree_with_exact", share(col->agreed, col->n));
    cli_json_set_real(row, "erase_ms_p50", col->none ? NAN : cli_percentile(col->erase_ms, col->n, 0.5));
    cli_json_set_real(row, "erase_ms_p95", col->none ? NAN : cli_percentile(col->erase_ms, col->n, 0.95));
    cli_json_print(stdout, row, 0);
}

static void print_row(column *col) {
    printf("%-18s %5zu", col->method.name, col->n);
    cli_print_cell(share(col->matched, col->n_with_answers), 8, 2);
    cli_print_cell(share(col->leaked, col->n_with_leaks), 8, 2);
    cli_print_cell(mean(col->kl_sum, col->n), 13, 4);
    cli_print_cell(mean(col->target_kl_sum, col->n_with_target), 9, 4);
    cli_print_cell(mean(col->leak_sum, col->n_with_leak), 8, 2);
    cli_print_cell(share(col->agreed, col->n), 8, 2);
    cli_print_cell(col->none ? NAN : cli_percentile(col->erase_ms, col->n, 0.5), 11, 2);
    cli_print_cell(col->none ? NAN : cli_percentile(col->erase_ms, col->n, 0.95), 9, 2);
    putchar('\n');
}

static void report(eval *e, bool json) {
    if (!json)
        printf("%s%-18s %5s %7s %7s %12s %8s %7s %7s %10s %8s%s\n", cli_style_of(stdout, CLI_BOLD), "method",
               "n", "match", "leak", "KL to exact", "on text", "log P", "agree", "erase p50", "p95 ms",
               cli_style_of(stdout, CLI_PLAIN));
    for (size_t k = 0; k < e->n_columns; k++) (json ? print_json : print_row)(&e->columns[k]);
}

/* --------------------------------------------------------------------------------------- preparation -- */

static cli_exit parse_methods(eval *e, const char *list) {
    cli_exit code = CLI_OK;
    for (const char *rest = list; rest != NULL && code == CLI_OK;) {
        const char *comma = strchr(rest, ',');
        const size_t bytes = comma != NULL ? (size_t)(comma - rest) : strlen(rest);
        column col = {.none = bytes == 4 && memcmp(rest, "none", 4) == 0};
        if (col.none) memcpy(col.method.name, "none", 5);
        else code = cli_parse_method(rest, bytes, &col.method);
        e->columns = cli_reallocate(e->columns, e->n_columns + 1, sizeof *e->columns);
        e->columns[e->n_columns++] = col;
        rest = comma != NULL ? comma + 1 : NULL;
    }
    return code;
}

/* Finds out on a single token whether every method can be had, before the long work begins. New text stands
 * for all if the first case has it. */
static cli_exit try_methods(eval *e) {
    cli_case first = e->cases.items[0];
    first.spans = &(rs_span){0, 1};
    first.n_spans = 1;
    rs_status status = RS_OK;
    for (size_t k = 0; k < e->n_columns && status == RS_OK; k++) {
        if (e->columns[k].none) continue;
        rs_erase_report report;
        rs_context_reset(e->engine->context);
        status = rs_decode(e->engine->context, first.context.ids, 1);
        if (status == RS_OK)
            status = edit(e, e->engine->context, &first, &e->columns[k].method.params, &report);
    }
    return status == RS_OK ? CLI_OK : cli_context_failed(e->engine, status);
}

static cli_exit open_context(const eval *e) {
    const cli_setup *setup = e->engine->setup;
    for (size_t i = 0; i < e->cases.count; i++) {
        const cli_case *c = &e->cases.items[i];
        const size_t after = c->target.count > c->leak.count ? c->target.count : c->leak.count;
        const size_t needed = c->context.count + c->replacement.count + c->question.count +
                              (after > e->job->max_tokens ? after : e->job->max_tokens);
        if (needed > (setup->ctx > 0 ? setup->ctx : 1048576U))
            return cli_fail(CLI_USAGE, "%s:%zu: the case needs a context of %zu tokens; --ctx allows %u",
                            c->path, c->line, needed, setup->ctx > 0 ? setup->ctx : 1048576U);
    }
    return cli_open_context(e->engine, (uint32_t)(e->cases.longest + e->job->max_tokens));
}

static cli_exit evaluate(eval *e) {
    cli_exit code = open_context(e);
    if (code == CLI_OK) code = cli_open_twin(e->engine, &e->read, &e->read_memory);
    if (code == CLI_OK) code = try_methods(e);
    if (code != CLI_OK) return code;
    const size_t n_vocab = e->engine->info.n_vocab;
    for (size_t i = 0; i < GROUP; i++) {
        e->exact[i].logits = cli_allocate((e->job->max_tokens + 1) * n_vocab, sizeof(float));
        e->exact[i].target_logits = cli_allocate((e->cases.longest_target + 1) * n_vocab, sizeof(float));
    }
    e->first = cli_allocate(n_vocab, sizeof *e->first);
    for (size_t k = 0; k < e->n_columns; k++)
        e->columns[k].erase_ms = cli_allocate(e->cases.count, sizeof(double));
    code = run_all(e);
    if (code == CLI_OK) report(e, e->job->json);
    return code;
}

cli_exit cli_eval_check_methods(const char *methods) {
    eval e = {0};
    const cli_exit code = parse_methods(&e, methods);
    free(e.columns);
    return code;
}

cli_exit cli_eval_erase(const cli_eval *job) {
    eval e = {.job = job, .engine = job->engine};
    cli_exit code = parse_methods(&e, job->methods);
    for (size_t k = 0; k < e.n_columns && code == CLI_OK; k++)
        code = cli_bind_method(e.engine, &e.columns[k].method);
    if (code == CLI_OK) code = cli_cases_make(&e.cases, e.engine, job->lines);
    if (code == CLI_OK) code = evaluate(&e);

    for (size_t k = 0; k < e.n_columns; k++) free(e.columns[k].erase_ms);
    free(e.columns);
    for (size_t i = 0; i < GROUP; i++) {
        outcome_clear(&e.exact[i].run);
        free(e.exact[i].logits);
        free(e.exact[i].target_logits);
    }
    free(e.first);
    cli_cases_free(&e.cases);
    rs_context_wipe(e.read);
    free(e.read_memory);
    return code;
}
