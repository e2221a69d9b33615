/* What the tool writes beside its results: errors, colours, and progress on stderr. */
#ifndef RASURE_EXAMPLES_TERMINAL_H
#define RASURE_EXAMPLES_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli.h"

#if defined(__GNUC__)
#define CLI_PRINTF(format_index, first_arg) __attribute__((format(printf, format_index, first_arg)))
#else
#define CLI_PRINTF(format_index, first_arg)
#endif

/* Prints "rasure: sentence" to stderr and returns `code`. */
cli_exit cli_fail(cli_exit code, const char *format, ...) CLI_PRINTF(2, 3);

typedef enum cli_style { CLI_PLAIN, CLI_BOLD, CLI_DIM, CLI_RED, CLI_GREEN, CLI_YELLOW, CLI_CYAN } cli_style;

/* The escape sequence that begins a style, to be ended by CLI_PLAIN. "" when `stream` is no terminal, when
 * NO_COLOR is set (no-color.org) or TERM is "dumb". */
const char *cli_style_of(FILE *stream, cli_style style);

/* Monotonic milliseconds. */
double cli_now_ms(void);

/*
 * Progress of something that may take long: silent for the first second, then one line that is repainted on
 * a terminal, or a line every ten seconds elsewhere. `what` and `unit` must live as long as it runs.
 */
typedef struct cli_progress {
    const char *what; /* "reading" */
    const char *unit; /* "tokens" */
    double started, shown;
    bool visible;
} cli_progress;

void cli_progress_begin(cli_progress *progress, const char *what, const char *unit);
void cli_progress_update(cli_progress *progress, uint64_t done, uint64_t total);
/* Removes the line from a terminal. */
void cli_progress_end(cli_progress *progress);

/* Writes text to a terminal or a file: whole on a file, without control characters on a terminal, so that a
 * model cannot move the cursor or rename the window. */
void cli_print_text(FILE *stream, const char *text, size_t bytes);

/* Writes text as one line of at most `columns` characters; the end of what does not fit is "...". */
void cli_print_excerpt(FILE *stream, const char *text, size_t bytes, size_t columns);

/* A number of a table on stdout; "-" for NaN. */
void cli_print_cell(double value, int width, int digits);

#endif
