/* Checking and tokenizing cases of erasing. */
#include "eval_cases.h"

#include <stdlib.h>
#include <string.h>

static cli_exit check(const cli_line *line) {
    static const cli_field three_pieces[] = {
        {"prefix", false, false, false}, {"span", false, false, true}, {"suffix", false, false, false}};
    static const cli_field others[] = {
        {"question", false, false, true}, {"cue", false, true, false},    {"answers", true, false, false},
        {"leaks", true, false, false},    {"target", false, true, false}, {"leak_target", false, true, false},
        {"pieces", true, true, false},    {"rivals", true, true, false},  {"replacement", false, true, true},
    };
    const json_t *json = line->json, *pieces = json_object_get(json, "pieces");
    const json_t *markers = json_object_get(json, "markers");
    cli_exit code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < sizeof others / sizeof others[0]; i++)
        code = cli_check_field(line, json, &others[i]);
    for (size_t i = 0; code == CLI_OK && pieces == NULL && i < 3; i++)
        code = cli_check_field(line, json, &three_pieces[i]);
    if (code != CLI_OK) return code;
    const size_t n = json_array_size(pieces);
    if (pieces != NULL && (n < 3 || n % 2 == 0))
        return cli_line_wrong(line, "\"pieces\" are not kept, erased, kept, ..., kept");
    if (n > 3 && json_object_get(json, "replacement") != NULL)
        return cli_line_wrong(line, "\"replacement\" is for one span, and \"pieces\" have several");
    if (markers != NULL && !json_is_boolean(markers))
        return cli_line_wrong(line, "\"markers\" is neither true nor false");
    return CLI_OK;
}

cli_exit cli_add_piece(const cli_engine *engine, cli_tokens *tokens, const json_t *piece, uint32_t flags) {
    return piece == NULL
               ? CLI_OK
               : cli_add_text(engine, tokens, json_string_value(piece), json_string_length(piece), flags);
}

bool cli_is_piece(const json_t *json, size_t least, size_t n) {
    return json_is_integer(json) && json_integer_value(json) >= (json_int_t)least &&
           json_integer_value(json) < (json_int_t)n;
}

cli_exit cli_add_pieces(const cli_engine *engine, cli_tokens *tokens, const json_t *pieces, bool markers,
                        rs_span *spans) {
    cli_exit code = CLI_OK;
    for (size_t i = 0; i < json_array_size(pieces) && code == CLI_OK; i++) {
        const int32_t begin = (int32_t)tokens->count;
        code = cli_add_piece(engine, tokens, json_array_get(pieces, i),
                             i == 0 || markers ? RS_TOKENIZE_SPECIAL : 0);
        spans[i] = (rs_span){begin, (int32_t)tokens->count};
    }
    return code;
}

/* Pieces are kept and erased in turns. The template's markers are in the first one and in the question only,
 * unless the case says otherwise. */
static cli_exit tokenize(const cli_engine *engine, cli_case *c) {
    static const char *const names[] = {"prefix", "span", "suffix"};
    const json_t *pieces = json_object_get(c->json, "pieces");
    const size_t n = pieces != NULL ? json_array_size(pieces) : 3;
    const bool markers = json_is_true(json_object_get(c->json, "markers"));
    c->spans = cli_allocate(n / 2, sizeof *c->spans);
    cli_exit code = CLI_OK;
    for (size_t i = 0; i < n && code == CLI_OK; i++) {
        const json_t *piece = pieces != NULL ? json_array_get(pieces, i) : json_object_get(c->json, names[i]);
        const int32_t begin = (int32_t)c->context.count;
        code = cli_add_piece(engine, &c->context, piece, i == 0 || markers ? RS_TOKENIZE_SPECIAL : 0);
        if (i % 2 == 1) c->spans[c->n_spans++] = (rs_span){begin, (int32_t)c->context.count};
    }
    const json_t *json = c->json;
    if (code == CLI_OK)
        code = cli_add_piece(engine, &c->replacement, json_object_get(json, "replacement"), 0);
    if (code == CLI_OK)
        code = cli_add_piece(engine, &c->question, json_object_get(json, "question"), RS_TOKENIZE_SPECIAL);
    if (code == CLI_OK) code = cli_add_piece(engine, &c->question, json_object_get(json, "cue"), 0);
    if (code == CLI_OK) code = cli_add_piece(engine, &c->target, json_object_get(json, "target"), 0);
    if (code == CLI_OK) code = cli_add_piece(engine, &c->leak, json_object_get(json, "leak_target"), 0);
    const json_t *rivals = json_object_get(json, "rivals");
    c->rivals = cli_allocate(json_array_size(rivals) + 1, sizeof *c->rivals);
    for (; c->n_rivals < json_array_size(rivals) && code == CLI_OK; c->n_rivals++) {
        c->rivals[c->n_rivals] = (cli_tokens){0};
        code = cli_add_piece(engine, &c->rivals[c->n_rivals], json_array_get(rivals, c->n_rivals), 0);
    }
    return code;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static cli_exit add_case(cli_cases *cases, const cli_engine *engine, const cli_line *line) {
    cases->items = cli_reallocate(cases->items, cases->count + 1, sizeof *cases->items);
    cli_case *c = &cases->items[cases->count++];
    *c = (cli_case){
        .json = line->json,
        .path = line->path,
        .line = line->number,
        .answers = json_object_get(line->json, "answers"),
        .leaks = json_object_get(line->json, "leaks"),
    };
    cli_exit code = check(line);
    if (code == CLI_OK) code = tokenize(engine, c);
    const size_t asked = c->context.count + c->replacement.count + c->question.count;
    cases->longest = larger(cases->longest, asked + larger(c->target.count, c->leak.count));
    for (size_t i = 0; i < c->n_rivals; i++)
        cases->longest = larger(cases->longest, asked + c->rivals[i].count);
    cases->longest_target = larger(cases->longest_target, c->target.count);
    return code;
}

cli_exit cli_cases_make(cli_cases *cases, const cli_engine *engine, const cli_lines *lines) {
    *cases = (cli_cases){0};
    cli_exit code = CLI_OK;
    for (size_t i = 0; i < lines->count && code == CLI_OK; i++)
        code = add_case(cases, engine, &lines->items[i]);
    return code;
}

void cli_cases_free(cli_cases *cases) {
    for (size_t i = 0; i < cases->count; i++) {
        cli_tokens_free(&cases->items[i].context);
        cli_tokens_free(&cases->items[i].replacement);
        cli_tokens_free(&cases->items[i].question);
        cli_tokens_free(&cases->items[i].target);
        cli_tokens_free(&cases->items[i].leak);
        for (size_t k = 0; k < cases->items[i].n_rivals; k++) cli_tokens_free(&cases->items[i].rivals[k]);
        free(cases->items[i].rivals);
        free(cases->items[i].spans);
    }
    free(cases->items);
    *cases = (cli_cases){0};
}

static bool same_tokens(const cli_tokens *a, const cli_tokens *b) {
    return a->count == b->count && (a->count == 0 || memcmp(a->ids, b->ids, a->count * sizeof *a->ids) == 0);
}

bool cli_same_erase(const cli_case *a, const cli_case *b) {
    return same_tokens(&a->context, &b->context) && same_tokens(&a->replacement, &b->replacement) &&
           a->n_spans == b->n_spans && memcmp(a->spans, b->spans, a->n_spans * sizeof *a->spans) == 0;
}
