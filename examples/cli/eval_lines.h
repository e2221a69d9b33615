/* The files of `rasure eval`: one JSON object a line, and what is demanded of its fields. */
#ifndef RASURE_EXAMPLES_EVAL_LINES_H
#define RASURE_EXAMPLES_EVAL_LINES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "cli.h"

typedef struct cli_line {
    json_t *json;     /* an object with an "id" */
    const char *path; /* where it stands, for sentences about it */
    size_t number;    /* from 1 */
} cli_line;

typedef struct cli_lines {
    cli_line *items;
    size_t count;
} cli_lines;

/* Reads at most `limit` lines (0: all) that are not empty. What is wrong is said as "FILE:LINE: sentence",
 * exit code 2, as by all of the functions here. `path` must live as long. To be freed in any case. */
cli_exit cli_lines_load(cli_lines *lines, const char *path, size_t limit);
void cli_lines_free(cli_lines *lines);

/* One field's demands. */
typedef struct cli_field {
    const char *name;
    bool list; /* an array of strings, none of them empty; else a string */
    bool optional;
    bool filled; /* must not be empty */
} cli_field;

/* `json` is the line's object, or one inside it. */
cli_exit cli_check_field(const cli_line *line, const json_t *json, const cli_field *field);

/* "FILE:LINE: sentence". */
cli_exit cli_line_wrong(const cli_line *line, const char *sentence);

#endif
