/* Errors, colours, progress, and text that is safe for a terminal. */
#define _POSIX_C_SOURCE 200809L

#include "terminal.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "text.h"

cli_exit cli_fail(cli_exit code, const char *format, ...) {
    fflush(stdout);
    fputs("rasure: ", stderr);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return code;
}

/* Whether escape sequences mean anything on this stream. */
static bool is_terminal(FILE *stream) {
    const char *term = getenv("TERM");
    return isatty(fileno(stream)) && !(term != NULL && strcmp(term, "dumb") == 0);
}

const char *cli_style_of(FILE *stream, cli_style style) {
    static const char *const sequences[] = {
        [CLI_PLAIN] = "\x1b[0m",  [CLI_BOLD] = "\x1b[1m",    [CLI_DIM] = "\x1b[2m",   [CLI_RED] = "\x1b[31m",
        [CLI_GREEN] = "\x1b[32m", [CLI_YELLOW] = "\x1b[33m", [CLI_CYAN] = "\x1b[36m",
    };
    const char *no_color = getenv("NO_COLOR");
    if ((no_color != NULL && *no_color != '\0') || !is_terminal(stream)) return "";
    return sequences[style];
}

double cli_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

void cli_progress_begin(cli_progress *progress, const char *what, const char *unit) {
    *progress = (cli_progress){.what = what, .unit = unit, .started = cli_now_ms()};
}

void cli_progress_update(cli_progress *progress, uint64_t done, uint64_t total) {
    const bool terminal = is_terminal(stderr);
    const double now = cli_now_ms(), elapsed = now - progress->started;
    if (elapsed < 1000.0 || (progress->visible && now - progress->shown < (terminal ? 100.0 : 10000.0)))
        return;
    progress->visible = true;
    progress->shown = now;
    fprintf(stderr, "%s%s %llu of %llu %s", terminal ? "\r" : "", progress->what, (unsigned long long)done,
            (unsigned long long)total, progress->unit);
    if (done > 0 && done < total) {
        const double left = elapsed * (double)(total - done) / (double)done;
        fprintf(stderr, ", %.0f s left", ceil(left / 1000.0));
    }
    fputs(terminal ? "\x1b[K" : "\n", stderr);
    fflush(stderr);
}

void cli_progress_end(cli_progress *progress) {
    if (progress->visible && is_terminal(stderr)) fputs("\r\x1b[K", stderr);
    progress->visible = false;
}

static bool is_control(char c) {
    return ((unsigned char)c < 0x20 && c != '\n' && c != '\t') || c == 0x7f;
}

void cli_print_text(FILE *stream, const char *text, size_t bytes) {
    if (!is_terminal(stream)) {
        if (bytes > 0) fwrite(text, 1, bytes, stream);
        return;
    }
    for (size_t i = 0; i < bytes; i++) fputc(is_control(text[i]) ? '?' : text[i], stream);
}

void cli_print_excerpt(FILE *stream, const char *text, size_t bytes, size_t columns) {
    while (bytes > 0 && strchr(" \n\t\r", text[0]) != NULL) text++, bytes--;
    while (bytes > 0 && strchr(" \n\t\r", text[bytes - 1]) != NULL) bytes--;

    size_t characters = 0;
    for (size_t i = 0; i < bytes; i += cli_utf8_length(text + i, bytes - i)) characters++;
    const size_t shown = characters <= columns ? characters : columns - 3;
    for (size_t i = 0, n = 0; n < shown; n++) {
        const size_t length = cli_utf8_length(text + i, bytes - i);
        const bool broken = length == 1 && (unsigned char)text[i] >= 0x80;
        if (text[i] == '\n' || text[i] == '\t') fputc(' ', stream);
        else if (broken || is_control(text[i])) fputc('?', stream);
        else fwrite(text + i, 1, length, stream);
        i += length;
    }
    if (shown < characters) fputs("...", stream);
}

void cli_print_cell(double value, int width, int digits) {
    if (isnan(value)) printf("%*s", width, "-");
    else printf("%*.*f", width, digits, value);
}
