/* Reading, checking and tokenizing the cases of `rasure eval`. */
#include "eval_cases.h"

#include <stdlib.h>
#include <string.h>

#include "terminal.h"

/* One field's demands. */
typedef struct field {
    const char *name;
    bool list; /* an array of strings, else a string */
    bool optional;
    bool filled; /* must not be empty */
} field;

static cli_exit check_field(const json_t *json, const field *f, const char *path, size_t line) {
    const json_t *value = json_object_get(json, f->name);
    if (value == NULL && f->optional) return CLI_OK;
    if (value == NULL) return cli_fail(CLI_USAGE, "%s:%zu: \"%s\" is missing", path, line, f->name);
    if (f->list ? !json_is_array(value) : !json_is_string(value))
        return cli_fail(CLI_USAGE, "%s:%zu: \"%s\" is not %s", path, line, f->name,
                        f->list ? "an array of strings" : "a string");
    for (size_t k = 0; f->list && k < json_array_size(value); k++)
        if (!json_is_string(json_array_get(value, k)) || json_string_length(json_array_get(value, k)) == 0)
            return cli_fail(CLI_USAGE, "%s:%zu: \"%s\" has an item that is no string, or an empty one", path,
                            line, f->name);
    if (f->filled && json_string_length(value) == 0)
        return cli_fail(CLI_USAGE, "%s:%zu: \"%s\" is empty", path, line, f->name);
    return CLI_OK;
}

static cli_exit check(const json_t *json, const char *path, size_t line) {
    static const field three_pieces[] = {
        {"prefix", false, false, false}, {"span", false, false, true}, {"suffix", false, false, false}};
    static const field others[] = {
        {"question", false, false, true}, {"cue", false, true, false},    {"answers", true, false, false},
        {"leaks", true, false, false},    {"target", false, true, false}, {"leak_target", false, true, false},
        {"pieces", true, true, false},
    };
    if (!json_is_object(json)) return cli_fail(CLI_USAGE, "%s:%zu: not a JSON object", path, line);
    const json_t *id = json_object_get(json, "id"), *pieces = json_object_get(json, "pieces");
    const json_t *markers = json_object_get(json, "markers");
    if (!json_is_string(id) && !json_is_integer(id))
        return cli_fail(CLI_USAGE, "%s:%zu: \"id\" is missing, or neither a string nor a whole number", path,
                        line);
    cli_exit code = CLI_OK;
    for (size_t i = 0; code == CLI_OK && i < sizeof others / sizeof others[0]; i++)
        code = check_field(json, &others[i], path, line);
    for (size_t i = 0; code == CLI_OK && pieces == NULL && i < 3; i++)
        code = check_field(json, &three_pieces[i], path, line);
    if (code != CLI_OK) return code;
    const size_t n = json_array_size(pieces);
    if (pieces != NULL && (n < 3 || n % 2 == 0))
        return cli_fail(CLI_USAGE, "%s:%zu: \"pieces\" are not kept, erased, kept, ..., kept", path, line);
    if (markers != NULL && !json_is_boolean(markers))
        return cli_fail(CLI_USAGE, "%s:%zu: \"markers\" is neither true nor false", path, line);
    return CLI_OK;
}

static cli_exit add_piece(const cli_engine *engine, cli_tokens *tokens, const json_t *piece, uint32_t flags) {
    return piece == NULL
               ? CLI_OK
               : cli_add_text(engine, tokens, json_string_value(piece), json_string_length(piece), flags);
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
        code = add_piece(engine, &c->context, piece, i == 0 || markers ? RS_TOKENIZE_SPECIAL : 0);
        if (i % 2 == 1) c->spans[c->n_spans++] = (rs_span){begin, (int32_t)c->context.count};
    }
    const json_t *json = c->json;
    if (code == CLI_OK)
        code = add_piece(engine, &c->question, json_object_get(json, "question"), RS_TOKENIZE_SPECIAL);
    if (code == CLI_OK) code = add_piece(engine, &c->question, json_object_get(json, "cue"), 0);
    if (code == CLI_OK) code = add_piece(engine, &c->target, json_object_get(json, "target"), 0);
    if (code == CLI_OK) code = add_piece(engine, &c->leak, json_object_get(json, "leak_target"), 0);
    return code;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static cli_exit add_case(cli_cases *cases, const cli_engine *engine, const char *path, size_t line,
                         const char *text, size_t bytes) {
    json_error_t error;
    cases->items = cli_reallocate(cases->items, cases->count + 1, sizeof *cases->items);
    cli_case *c = &cases->items[cases->count];
    *c = (cli_case){.json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error), .line = line};
    if (c->json == NULL) return cli_fail(CLI_USAGE, "%s:%zu: no JSON: %s", path, line, error.text);
    cases->count++;
    cli_exit code = check(c->json, path, line);
    if (code == CLI_OK) code = tokenize(engine, c);
    c->id = json_object_get(c->json, "id");
    c->answers = json_object_get(c->json, "answers");
    c->leaks = json_object_get(c->json, "leaks");
    const size_t asked = c->context.count + c->question.count;
    cases->longest = larger(cases->longest, asked + larger(c->target.count, c->leak.count));
    cases->longest_target = larger(cases->longest_target, c->target.count);
    return code;
}

cli_exit cli_cases_load(cli_cases *cases, const cli_engine *engine, const char *path, size_t limit) {
    *cases = (cli_cases){0};
    cli_text file = {0};
    cli_exit code = cli_text_read(&file, path);
    size_t line = 0;
    for (size_t i = 0; code == CLI_OK && i < file.bytes && (limit == 0 || cases->count < limit);) {
        const char *end = memchr(file.data + i, '\n', file.bytes - i);
        const size_t length = end != NULL ? (size_t)(end - file.data) - i : file.bytes - i;
        line++;
        if (strspn(file.data + i, " \t\r") < length)
            code = add_case(cases, engine, path, line, file.data + i, length);
        i += length + 1;
    }
    if (code == CLI_OK && cases->count == 0) code = cli_fail(CLI_USAGE, "%s: there are no cases in it", path);
    cli_text_free(&file);
    return code;
}

void cli_cases_free(cli_cases *cases) {
    for (size_t i = 0; i < cases->count; i++) {
        cli_tokens_free(&cases->items[i].context);
        cli_tokens_free(&cases->items[i].question);
        cli_tokens_free(&cases->items[i].target);
        cli_tokens_free(&cases->items[i].leak);
        free(cases->items[i].spans);
        json_decref(cases->items[i].json);
    }
    free(cases->items);
    *cases = (cli_cases){0};
}

bool cli_same_erase(const cli_case *a, const cli_case *b) {
    return a->context.count == b->context.count && a->n_spans == b->n_spans &&
           memcmp(a->context.ids, b->context.ids, a->context.count * sizeof *a->context.ids) == 0 &&
           memcmp(a->spans, b->spans, a->n_spans * sizeof *a->spans) == 0;
}
