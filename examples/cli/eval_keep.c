/*
 * What the cache still knows that the policy keeps: questions about a context that was read before, and the
 * likelihood of long texts by position. Whatever is compared is compared afterwards, from the file of single
 * outcomes: every policy and budget is a run of its own over the same cases.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval.h"
#include "eval_answer.h"
#include "eval_cases.h"
#include "json.h"
#include "measure.h"
#include "terminal.h"

enum { BUCKET = 512 }; /* positions whose likelihoods are summed up together */

typedef struct question {
    const json_t *json;
    cli_tokens tokens; /* and the cue behind it */
    cli_tokens wanted; /* the first of the answers */
} question;

typedef struct keep_case {
    const cli_line *line;
    cli_tokens context; /* all pieces, or the text */
    rs_span *pieces;    /* where each lies in the context; NULL for a text */
    question *questions;
    size_t n_questions;
    size_t needed; /* tokens, the longest answers included */
} keep_case;

/* Sums of a task. */
typedef struct tally {
    const char *task;
    size_t n, matched, n_tokens;
    double log_probability, nll;
} tally;

typedef struct keep {
    const cli_eval *job;
    cli_engine *engine;
    rs_context *aside; /* where a wanted answer is followed */
    void *aside_memory;
    keep_case *cases;
    size_t n_cases;
    tally *tallies;
    size_t n_tallies;
    float *first;      /* [n_vocab] logits behind a question */
    uint32_t *streams; /* [n_layers * n_kv_heads] entries behind the context */
    double footprint;  /* summed over the cases */
} keep;

bool cli_eval_is_keep(const cli_lines *lines) {
    const json_t *json = lines->items[0].json;
    return json_object_get(json, "questions") != NULL || json_object_get(json, "text") != NULL;
}

/* -------------------------------------------------------------------------------------------- cases -- */

static cli_exit check_question(const cli_line *line, const json_t *json, size_t n_pieces) {
    static const cli_field fields[] = {
        {"question", false, false, true}, {"cue", false, true, false}, {"answers", true, false, true}};
    const json_t *evidence = json_object_get(json, "evidence");
    cli_exit code = json_is_object(json) ? CLI_OK : cli_line_wrong(line, "a question is not an object");
    for (size_t i = 0; i < sizeof fields / sizeof fields[0] && code == CLI_OK; i++)
        code = cli_check_field(line, json, &fields[i]);
    if (code == CLI_OK && evidence != NULL && !json_is_array(evidence))
        code = cli_line_wrong(line, "\"evidence\" is not an array");
    for (size_t i = 0; i < json_array_size(evidence) && code == CLI_OK; i++) {
        const json_t *piece = json_array_get(evidence, i);
        if (!cli_is_piece(piece, 0, n_pieces))
            code = cli_line_wrong(line, "\"evidence\" has an item that is the number of no piece");
    }
    return code;
}

static cli_exit check(const cli_line *line) {
    static const cli_field pieces = {"pieces", true, false, true}, text = {"text", false, false, true};
    static const cli_field task = {"task", false, false, true};
    const json_t *json = line->json, *questions = json_object_get(json, "questions");
    const json_t *markers = json_object_get(json, "markers");
    cli_exit code = cli_check_field(line, json, &task);
    if (code != CLI_OK) return code;
    if (json_object_get(json, "text") != NULL) return cli_check_field(line, json, &text);
    code = cli_check_field(line, json, &pieces);
    if (code != CLI_OK) return code;
    if (json_array_size(questions) == 0)
        return cli_line_wrong(line, "\"questions\" is missing, empty, or no array");
    if (markers != NULL && !json_is_boolean(markers))
        return cli_line_wrong(line, "\"markers\" is neither true nor false");
    const size_t n_pieces = json_array_size(json_object_get(json, "pieces"));
    for (size_t i = 0; i < json_array_size(questions) && code == CLI_OK; i++)
        code = check_question(line, json_array_get(questions, i), n_pieces);
    return code;
}

static cli_exit tokenize_question(const cli_engine *engine, const json_t *json, question *q) {
    q->json = json;
    cli_exit code = cli_add_piece(engine, &q->tokens, json_object_get(json, "question"), RS_TOKENIZE_SPECIAL);
    if (code == CLI_OK) code = cli_add_piece(engine, &q->tokens, json_object_get(json, "cue"), 0);
    if (code == CLI_OK)
        code = cli_add_piece(engine, &q->wanted, json_array_get(json_object_get(json, "answers"), 0), 0);
    return code;
}

static cli_exit tokenize_questions(const cli_engine *engine, const json_t *list, uint32_t max_tokens,
                                   keep_case *c) {
    cli_exit code = CLI_OK;
    c->questions = cli_allocate(json_array_size(list), sizeof *c->questions);
    for (size_t i = 0; i < json_array_size(list) && code == CLI_OK; i++) {
        question *q = &c->questions[c->n_questions++];
        *q = (question){0};
        code = tokenize_question(engine, json_array_get(list, i), q);
        c->needed += q->tokens.count + (q->wanted.count > max_tokens ? q->wanted.count : max_tokens);
    }
    return code;
}

static cli_exit tokenize(const cli_engine *engine, uint32_t max_tokens, keep_case *c) {
    const json_t *json = c->line->json, *text = json_object_get(json, "text");
    const json_t *pieces = json_object_get(json, "pieces");
    cli_exit code = CLI_OK;
    if (text != NULL) {
        code = cli_add_piece(engine, &c->context, text, RS_TOKENIZE_BOS);
        c->needed = c->context.count;
        return code;
    }
    const bool markers = json_is_true(json_object_get(json, "markers"));
    c->pieces = cli_allocate(json_array_size(pieces), sizeof *c->pieces);
    code = cli_add_pieces(engine, &c->context, pieces, markers, c->pieces);
    c->needed = c->context.count;
    return code == CLI_OK ? tokenize_questions(engine, json_object_get(json, "questions"), max_tokens, c)
                          : code;
}

static cli_exit make_cases(keep *k) {
    const cli_lines *lines = k->job->lines;
    cli_exit code = CLI_OK;
    k->cases = cli_allocate(lines->count, sizeof *k->cases);
    for (size_t i = 0; i < lines->count && code == CLI_OK; i++) {
        keep_case *c = &k->cases[k->n_cases++];
        *c = (keep_case){.line = &lines->items[i]};
        code = check(c->line);
        if (code == CLI_OK) code = tokenize(k->engine, k->job->max_tokens, c);
        if (code == CLI_OK && c->context.count == 0)
            code = cli_line_wrong(c->line, "there is nothing to read");
    }
    return code;
}

static void free_cases(keep *k) {
    for (size_t i = 0; i < k->n_cases; i++) {
        keep_case *c = &k->cases[i];
        for (size_t q = 0; q < c->n_questions; q++) {
            cli_tokens_free(&c->questions[q].tokens);
            cli_tokens_free(&c->questions[q].wanted);
        }
        cli_tokens_free(&c->context);
        free(c->pieces);
        free(c->questions);
    }
    free(k->cases);
}

/* ------------------------------------------------------------------------------------------ outcomes -- */

static tally *tally_of(keep *k, const cli_line *line) {
    const char *task = json_string_value(json_object_get(line->json, "task"));
    for (size_t i = 0; i < k->n_tallies; i++)
        if (strcmp(k->tallies[i].task, task) == 0) return &k->tallies[i];
    k->tallies = cli_reallocate(k->tallies, k->n_tallies + 1, sizeof *k->tallies);
    k->tallies[k->n_tallies] = (tally){.task = task};
    return &k->tallies[k->n_tallies++];
}

/* What the cache took in this case; `read_ms` for the context. */
static void add_cache(const keep *k, const keep_case *c, double read_ms, json_t *row) {
    const rs_context *context = k->engine->context;
    rs_footprint held;
    rs_context_info info;
    size_t n;
    rs_context_footprint(context, &held);
    rs_context_get_info(context, &info);
    (void)rs_context_streams(context, NULL, 0, &n);
    cli_json_set_int(row, "n_context", c->context.count);
    cli_json_set_int(row, "kv_bytes", info.cache_bytes);
    cli_json_set_int(row, "peak_bytes", held.peak_bytes);
    cli_json_set_int(row, "full_entries", held.full);
    cli_json_set_int(row, "held_entries", held.held);
    cli_json_set_real(row, "footprint", (double)held.held / (double)held.full);
    cli_json_set_real(row, "read_ms", read_ms);
    cli_json_set_real(row, "policy_ms", held.policy_ms);
    json_t *streams = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(streams, json_integer((json_int_t)k->streams[i]));
    json_object_set_new(row, "streams", streams);
}

static json_t *evidence_of(const keep_case *c, const question *q) {
    const json_t *evidence = json_object_get(q->json, "evidence");
    json_t *ranges = json_array();
    for (size_t i = 0; i < json_array_size(evidence); i++) {
        const rs_span piece = c->pieces[json_integer_value(json_array_get(evidence, i))];
        json_array_append_new(ranges, json_pack("[ii]", piece.begin, piece.end));
    }
    return ranges;
}

static void note_streams(const keep *k) {
    size_t n;
    (void)rs_context_streams(k->engine->context, NULL, 0, &n);
    (void)rs_context_streams(k->engine->context, k->streams, n, &n);
}

/* ---------------------------------------------------------------------------------------------- runs -- */

/* Where the end of what is read chooses, the first question is its end. */
static bool is_shown_the_question(const keep *k) {
    return k->engine->setup->policy.patched;
}

/* How likely the wanted answer is behind the question that was just read. */
static rs_status follow_wanted(const keep *k, const question *q, double *log_probability) {
    cli_likelihood likely = {.ids = q->wanted.ids};
    cli_add_likelihood(&likely, 0, k->first, k->engine->info.n_vocab);
    rs_status status = rs_context_copy(k->aside, k->engine->context);
    if (status == RS_OK && q->wanted.count > 1)
        status = rs_decode_each(k->aside, q->wanted.ids, q->wanted.count - 1, cli_add_likelihood, &likely);
    *log_probability = likely.sum;
    return status;
}

static cli_exit ask(keep *k, const keep_case *c, size_t number, double read_ms) {
    const question *q = &c->questions[number];
    const size_t n_vocab = k->engine->info.n_vocab;
    cli_tokens answer = {0};
    cli_text text = {0}, normal = {0};
    double log_probability = 0;
    bool ended = false;
    rs_status status = RS_OK;
    if (number > 0 || !is_shown_the_question(k))
        status = rs_decode(k->engine->context, q->tokens.ids, q->tokens.count);
    if (status == RS_OK) {
        memcpy(k->first, rs_logits(k->engine->context, NULL), n_vocab * sizeof *k->first);
        status = follow_wanted(k, q, &log_probability);
    }
    if (status == RS_OK)
        status = cli_answer_question(
            k->engine, &(cli_answering){.choose = cli_choose_most_likely, .most = k->job->max_tokens},
            k->first, &answer, &ended);
    cli_exit code = status == RS_OK ? cli_detokenize(k->engine, answer.ids, answer.count, false, &text)
                                    : cli_context_failed(k->engine, status);
    if (code == CLI_OK) {
        cli_normalise(&normal, text.data, text.bytes);
        const bool matched = cli_answer_any(json_object_get(q->json, "answers"), &normal, cli_answer_begins);
        tally *t = tally_of(k, c->line);
        t->n++;
        t->matched += matched;
        t->log_probability += log_probability;
        if (k->job->per_case != NULL) {
            json_t *row = json_object();
            cli_json_copy_case(row, c->line->json);
            cli_json_set_int(row, "question", number);
            json_object_set_new(row, "answer", cli_json_string(text.data, text.bytes));
            json_object_set_new(row, "exact_match", json_boolean(matched));
            cli_json_set_real(row, "answer_logprob", log_probability);
            json_object_set_new(row, "evidence", evidence_of(c, q));
            add_cache(k, c, read_ms, row);
            cli_json_print(k->job->per_case, row, 0);
        }
    }
    cli_tokens_free(&answer);
    cli_text_free(&text);
    cli_text_free(&normal);
    return code;
}

static cli_exit ask_all(keep *k, const keep_case *c) {
    cli_tokens read = {0};
    cli_tokens_add(&read, c->context.ids, c->context.count);
    if (is_shown_the_question(k))
        cli_tokens_add(&read, c->questions[0].tokens.ids, c->questions[0].tokens.count);
    const double started = cli_now_ms();
    const rs_status status = rs_decode(k->engine->context, read.ids, read.count);
    const double read_ms = cli_now_ms() - started;
    cli_tokens_free(&read);
    if (status != RS_OK) return cli_context_failed(k->engine, status);
    note_streams(k);
    cli_exit code = CLI_OK;
    for (size_t i = 0; i < c->n_questions && code == CLI_OK; i++) code = ask(k, c, i, read_ms);
    return code;
}

/* Negative log-likelihoods by position. */
typedef struct text_run {
    const cli_tokens *tokens;
    size_t at; /* the token that the next logits are for */
    json_t *buckets;
    size_t n; /* tokens of the bucket at hand */
    double nll, total;
} text_run;

static void end_bucket(text_run *run) {
    if (run->n == 0) return;
    const size_t begin = run->at - run->n;
    json_array_append_new(
        run->buckets, json_pack("[iiif]", (int)begin, (int)run->at, (int)run->n, run->nll / (double)run->n));
    run->n = 0;
    run->nll = 0;
}

static bool add_token(void *user, int32_t position, const float *logits, size_t n_vocab) {
    text_run *run = user;
    (void)position;
    if (run->at == run->tokens->count) return true;
    const double nll = -cli_log_probability(logits, n_vocab, (size_t)run->tokens->ids[run->at++]);
    run->nll += nll;
    run->total += nll;
    run->n++;
    if (run->at % BUCKET == 0) end_bucket(run);
    return true;
}

static cli_exit read_text(keep *k, const keep_case *c) {
    text_run run = {.tokens = &c->context, .at = 1, .buckets = json_array()};
    const double started = cli_now_ms();
    const rs_status status =
        rs_decode_each(k->engine->context, c->context.ids, c->context.count, add_token, &run);
    const double read_ms = cli_now_ms() - started;
    end_bucket(&run);
    if (status != RS_OK) {
        json_decref(run.buckets);
        return cli_context_failed(k->engine, status);
    }
    note_streams(k);
    tally *t = tally_of(k, c->line);
    t->n++;
    t->n_tokens += run.at - 1;
    t->nll += run.total;
    if (k->job->per_case == NULL) {
        json_decref(run.buckets);
        return CLI_OK;
    }
    json_t *row = json_object();
    cli_json_copy_case(row, c->line->json);
    json_object_set_new(row, "nll", run.buckets);
    add_cache(k, c, read_ms, row);
    cli_json_print(k->job->per_case, row, 0);
    return CLI_OK;
}

static cli_exit run_all(keep *k) {
    cli_progress progress;
    cli_progress_begin(&progress, "evaluating", "cases");
    cli_exit code = CLI_OK;
    for (size_t i = 0; i < k->n_cases && code == CLI_OK; i++) {
        rs_footprint held;
        rs_context_reset(k->engine->context);
        code = k->cases[i].pieces != NULL ? ask_all(k, &k->cases[i]) : read_text(k, &k->cases[i]);
        rs_context_footprint(k->engine->context, &held);
        k->footprint += held.full > 0 ? (double)held.held / (double)held.full : 0;
        cli_progress_update(&progress, i + 1, k->n_cases);
    }
    cli_progress_end(&progress);
    return code;
}

/* --------------------------------------------------------------------------------------------- report -- */

static double mean(double sum, size_t n) {
    return n > 0 ? sum / (double)n : NAN;
}

static void report(const keep *k) {
    rs_context_info info;
    rs_context_get_info(k->engine->context, &info);
    if (!k->job->json)
        printf("%s%-16s %6s %8s %8s %8s%s\n", cli_style_of(stdout, CLI_BOLD), "task", "n", "match", "log P",
               "NLL", cli_style_of(stdout, CLI_PLAIN));
    for (size_t i = 0; i < k->n_tallies; i++) {
        const tally *t = &k->tallies[i];
        const bool text = t->n_tokens > 0;
        const double match = text ? NAN : mean((double)t->matched, t->n);
        const double log_probability = text ? NAN : mean(t->log_probability, t->n);
        const double nll = mean(t->nll, t->n_tokens);
        if (k->job->json) {
            json_t *row = json_object();
            cli_json_set_text(row, "task", t->task);
            cli_json_set_int(row, "n", t->n);
            cli_json_set_real(row, "exact_match", match);
            cli_json_set_real(row, "answer_logprob", log_probability);
            cli_json_set_real(row, "nll", nll);
            cli_json_print(stdout, row, 0);
        } else {
            printf("%-16s %6zu", t->task, t->n);
            cli_print_cell(match, 9, 3);
            cli_print_cell(log_probability, 9, 3);
            cli_print_cell(nll, 9, 4);
            putchar('\n');
        }
    }
    const double footprint = mean(k->footprint, k->n_cases);
    if (k->job->json) {
        json_t *row = json_object();
        cli_json_set_int(row, "cache_bytes", info.cache_bytes);
        cli_json_set_real(row, "footprint", footprint);
        cli_json_print(stdout, row, 0);
    } else {
        printf("\nfootprint %.1f %%, cache %.2f MB\n", 100 * footprint, (double)info.cache_bytes / 1e6);
    }
}

cli_exit cli_eval_keep(const cli_eval *job) {
    keep k = {.job = job, .engine = job->engine};
    cli_exit code = make_cases(&k);
    size_t needed = 0;
    for (size_t i = 0; i < k.n_cases; i++) needed = k.cases[i].needed > needed ? k.cases[i].needed : needed;
    if (code == CLI_OK && needed > 1048576) code = cli_fail(CLI_USAGE, "a case needs %zu tokens", needed);
    if (code == CLI_OK) code = cli_open_context(k.engine, (uint32_t)needed);
    if (code == CLI_OK) code = cli_open_twin(k.engine, &k.aside, &k.aside_memory);
    if (code == CLI_OK) {
        k.first = cli_allocate(k.engine->info.n_vocab, sizeof *k.first);
        k.streams =
            cli_allocate((size_t)k.engine->info.n_layers * k.engine->info.n_kv_heads, sizeof *k.streams);
        code = run_all(&k);
    }
    if (code == CLI_OK) report(&k);
    free(k.first);
    free(k.streams);
    free(k.tallies);
    free_cases(&k);
    rs_context_wipe(k.aside);
    free(k.aside_memory);
    return code;
}
