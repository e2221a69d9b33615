/* Reading JSON line by line, and checking fields. */
#include "eval_lines.h"

#include <stdlib.h>
#include <string.h>

#include "terminal.h"
#include "text.h"

cli_exit cli_line_wrong(const cli_line *line, const char *sentence) {
    return cli_fail(CLI_USAGE, "%s:%zu: %s", line->path, line->number, sentence);
}

cli_exit cli_check_field(const cli_line *line, const json_t *json, const cli_field *f) {
    const json_t *value = json_object_get(json, f->name);
    const char *path = line->path;
    const size_t number = line->number;
    if (value == NULL && f->optional) return CLI_OK;
    if (value == NULL) return cli_fail(CLI_USAGE, "%s:%zu: \"%s\" is missing", path, number, f->name);
    if (f->list ? !json_is_array(value) : !json_is_string(value))
        return cli_fail(CLI_USAGE, "%s:%zu: \"%s\" is not %s", path, number, f->name,
                        f->list ? "an array of strings" : "a string");
    for (size_t k = 0; f->list && k < json_array_size(value); k++)
        if (!json_is_string(json_array_get(value, k)) || json_string_length(json_array_get(value, k)) == 0)
            return cli_fail(CLI_USAGE, "%s:%zu: \"%s\" has an item that is no string, or an empty one", path,
                            number, f->name);
    const size_t length = f->list ? json_array_size(value) : json_string_length(value);
    if (f->filled && length == 0)
        return cli_fail(CLI_USAGE, "%s:%zu: \"%s\" is empty", path, number, f->name);
    return CLI_OK;
}

static cli_exit add_line(cli_lines *lines, const char *path, size_t number, const char *text, size_t bytes) {
    json_error_t error;
    lines->items = cli_reallocate(lines->items, lines->count + 1, sizeof *lines->items);
    cli_line *line = &lines->items[lines->count];
    *line = (cli_line){json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error), path, number};
    if (line->json == NULL) return cli_fail(CLI_USAGE, "%s:%zu: no JSON: %s", path, number, error.text);
    lines->count++;
    if (!json_is_object(line->json)) return cli_line_wrong(line, "not a JSON object");
    const json_t *id = json_object_get(line->json, "id");
    if (!json_is_string(id) && !json_is_integer(id))
        return cli_line_wrong(line, "\"id\" is missing, or neither a string nor a whole number");
    return CLI_OK;
}

cli_exit cli_lines_load(cli_lines *lines, const char *path, size_t limit) {
    *lines = (cli_lines){0};
    cli_text file = {0};
    cli_exit code = cli_text_read(&file, path);
    size_t number = 0;
    for (size_t i = 0; code == CLI_OK && i < file.bytes && (limit == 0 || lines->count < limit);) {
        const char *end = memchr(file.data + i, '\n', file.bytes - i);
        const size_t length = end != NULL ? (size_t)(end - file.data) - i : file.bytes - i;
        number++;
        if (strspn(file.data + i, " \t\r") < length)
            code = add_line(lines, path, number, file.data + i, length);
        i += length + 1;
    }
    if (code == CLI_OK && lines->count == 0) code = cli_fail(CLI_USAGE, "%s: there are no cases in it", path);
    cli_text_free(&file);
    return code;
}

void cli_lines_free(cli_lines *lines) {
    for (size_t i = 0; i < lines->count; i++) json_decref(lines->items[i].json);
    free(lines->items);
    *lines = (cli_lines){0};
}
