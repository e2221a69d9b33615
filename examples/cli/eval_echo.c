/*
 * Which later pieces of a text depend on one that is to be erased: rs_find_echoes, and how it ranks those
 * that are known to.
 */
#include <math.h>
#include <stdlib.h>

#include "eval.h"
#include "eval_answer.h"
#include "eval_cases.h"
#include "json.h"
#include "measure.h"
#include "terminal.h"

typedef struct echo_case {
    const cli_line *line;
    cli_tokens context; /* all pieces */
    rs_span *pieces;    /* where each lies */
    size_t n_pieces, erased;
} echo_case;

typedef struct echo_eval {
    const cli_eval *job;
    cli_engine *engine;
    echo_case *cases;
    size_t n_cases, longest;
    rs_echo *echoes; /* of the case at hand, by piece until they are ranked */
    double *nats;    /* by piece */
    /* Over all cases with pieces that are known to depend: */
    size_t n_known, n_first; /* ... and those whose strongest piece is one of them */
    double order;            /* shares of pairs of one that does and one that does not in the right order */
    double *ms;              /* [n_cases] */
} echo_eval;

bool cli_eval_is_echo(const cli_lines *lines) {
    return json_object_get(lines->items[0].json, "depends_on") != NULL;
}

/* -------------------------------------------------------------------------------------------- cases -- */

static cli_exit check(const cli_line *line) {
    static const cli_field pieces = {"pieces", true, false, true};
    const json_t *json = line->json, *erased = json_object_get(json, "depends_on");
    const json_t *dependent = json_object_get(json, "dependent");
    const cli_exit code = cli_check_field(line, json, &pieces);
    if (code != CLI_OK) return code;
    const size_t n = json_array_size(json_object_get(json, "pieces"));
    if (!cli_is_piece(erased, 0, n - 1))
        return cli_line_wrong(line, "\"depends_on\" is not the number of a piece with one behind it");
    if (dependent != NULL && !json_is_array(dependent))
        return cli_line_wrong(line, "\"dependent\" is not an array");
    for (size_t i = 0; i < json_array_size(dependent); i++)
        if (!cli_is_piece(json_array_get(dependent, i), (size_t)json_integer_value(erased) + 1, n))
            return cli_line_wrong(line, "\"dependent\" has an item that is the number of no piece behind");
    return CLI_OK;
}

static cli_exit tokenize(const cli_engine *engine, echo_case *c) {
    const json_t *pieces = json_object_get(c->line->json, "pieces");
    c->n_pieces = json_array_size(pieces);
    c->erased = (size_t)json_integer_value(json_object_get(c->line->json, "depends_on"));
    c->pieces = cli_allocate(c->n_pieces, sizeof *c->pieces);
    cli_exit code = cli_add_pieces(engine, &c->context, pieces, false, c->pieces);
    for (size_t i = 0; i < c->n_pieces && code == CLI_OK; i++)
        if (c->pieces[i].begin == c->pieces[i].end) code = cli_line_wrong(c->line, "a piece has no token");
    return code;
}

static cli_exit make_cases(echo_eval *e) {
    cli_exit code = CLI_OK;
    e->cases = cli_allocate(e->job->lines->count, sizeof *e->cases);
    size_t most = 0;
    for (; e->n_cases < e->job->lines->count && code == CLI_OK; e->n_cases++) {
        echo_case *c = &e->cases[e->n_cases];
        *c = (echo_case){.line = &e->job->lines->items[e->n_cases]};
        code = check(c->line);
        if (code == CLI_OK) code = tokenize(e->engine, c);
        e->longest = c->context.count > e->longest ? c->context.count : e->longest;
        most = c->n_pieces > most ? c->n_pieces : most;
    }
    e->echoes = cli_allocate(most, sizeof *e->echoes);
    e->nats = cli_allocate(most, sizeof *e->nats);
    e->ms = cli_allocate(e->n_cases, sizeof *e->ms);
    return code;
}

/* ------------------------------------------------------------------------------------------ running -- */

static bool depends(const echo_case *c, size_t piece) {
    const json_t *dependent = json_object_get(c->line->json, "dependent");
    for (size_t i = 0; i < json_array_size(dependent); i++)
        if (json_integer_value(json_array_get(dependent, i)) == (json_int_t)piece) return true;
    return false;
}

static void score(echo_eval *e, const echo_case *c) {
    size_t strongest = c->erased + 1, pairs = 0;
    double right = 0;
    for (size_t i = c->erased + 1; i < c->n_pieces; i++) {
        if (e->nats[i] > e->nats[strongest]) strongest = i;
        for (size_t k = c->erased + 1; k < c->n_pieces && depends(c, i); k++) {
            if (depends(c, k)) continue;
            pairs++;
            right += e->nats[i] > e->nats[k] ? 1 : e->nats[i] == e->nats[k] ? 0.5 : 0;
        }
    }
    if (pairs == 0) return;
    e->n_known++;
    e->n_first += depends(c, strongest);
    e->order += right / (double)pairs;
}

static void write_case(const echo_eval *e, const echo_case *c, double ms) {
    json_t *row = json_object(), *nats = json_array();
    cli_json_copy_case(row, c->line->json);
    for (size_t i = 0; i < c->n_pieces; i++)
        json_array_append_new(nats, i > c->erased ? json_real(e->nats[i]) : json_null());
    json_object_set_new(row, "nats", nats);
    cli_json_set_int(row, "n_context", c->context.count);
    cli_json_set_real(row, "ms", ms);
    cli_json_print(e->job->per_case, row, 0);
}

static cli_exit run_case(echo_eval *e, size_t index) {
    const echo_case *c = &e->cases[index];
    rs_context *context = e->engine->context;
    const size_t n = c->n_pieces - c->erased - 1;
    for (size_t i = 0; i < n; i++) e->echoes[i] = (rs_echo){.span = c->pieces[c->erased + 1 + i]};
    rs_context_reset(context);
    rs_status status = rs_decode(context, c->context.ids, c->context.count);
    const double start = cli_now_ms();
    if (status == RS_OK) status = rs_find_echoes(context, &c->pieces[c->erased], 1, e->echoes, n);
    e->ms[index] = cli_now_ms() - start;
    if (status != RS_OK) return cli_context_failed(e->engine, status);
    for (size_t i = 0; i < n; i++) {
        size_t piece = c->erased + 1;
        while (c->pieces[piece].begin != e->echoes[i].span.begin) piece++;
        e->nats[piece] = (double)e->echoes[i].nats;
    }
    score(e, c);
    if (e->job->per_case != NULL) write_case(e, c, e->ms[index]);
    return CLI_OK;
}

static void report(echo_eval *e) {
    const double first = e->n_known > 0 ? (double)e->n_first / (double)e->n_known : NAN;
    const double order = e->n_known > 0 ? e->order / (double)e->n_known : NAN;
    const double ms = cli_percentile(e->ms, e->n_cases, 0.5);
    if (e->job->json) {
        json_t *row = json_object();
        cli_json_set_int(row, "n", e->n_cases);
        cli_json_set_int(row, "known", e->n_known);
        cli_json_set_real(row, "first", first);
        cli_json_set_real(row, "order", order);
        cli_json_set_real(row, "ms_p50", ms);
        cli_json_print(stdout, row, 0);
        return;
    }
    printf("%s%8s %8s %8s %8s %8s%s\n", cli_style_of(stdout, CLI_BOLD), "n", "known", "first", "order",
           "p50 ms", cli_style_of(stdout, CLI_PLAIN));
    printf("%8zu %8zu", e->n_cases, e->n_known);
    cli_print_cell(first, 9, 3);
    cli_print_cell(order, 9, 3);
    cli_print_cell(ms, 9, 1);
    putchar('\n');
}

static cli_exit run_all(echo_eval *e) {
    cli_progress progress;
    e->engine->refine = true;
    cli_exit code = cli_open_context(e->engine, (uint32_t)e->longest);
    cli_progress_begin(&progress, "evaluating", "cases");
    for (size_t i = 0; i < e->n_cases && code == CLI_OK; i++) {
        code = run_case(e, i);
        cli_progress_update(&progress, i + 1, e->n_cases);
    }
    cli_progress_end(&progress);
    if (code == CLI_OK) report(e);
    return code;
}

cli_exit cli_eval_echo(const cli_eval *job) {
    echo_eval e = {.job = job, .engine = job->engine};
    cli_exit code = make_cases(&e);
    if (code == CLI_OK) code = run_all(&e);
    for (size_t i = 0; i < e.n_cases; i++) {
        cli_tokens_free(&e.cases[i].context);
        free(e.cases[i].pieces);
    }
    free(e.cases);
    free(e.echoes);
    free(e.nats);
    free(e.ms);
    return code;
}
