/* Growing byte buffers, files, UTF-8 and strict numbers. Memory that the system refuses ends the tool. */
#ifndef RASURE_EXAMPLES_TEXT_H
#define RASURE_EXAMPLES_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli.h"

/* malloc and realloc of count * size bytes that do not return NULL: exit code 1 with a sentence instead. */
void *cli_allocate(size_t count, size_t size);
void *cli_reallocate(void *memory, size_t count, size_t size);

/* Bytes with a zero behind them; {0} is empty. */
typedef struct cli_text {
    char *data;
    size_t bytes, capacity;
} cli_text;

void cli_text_reserve(cli_text *text, size_t more);
void cli_text_add(cli_text *text, const char *data, size_t bytes);
void cli_text_free(cli_text *text);

/* Appends the whole of a file, or of stdin when `path` is NULL. */
cli_exit cli_text_read(cli_text *text, const char *path);

/* The first place of `what` in `text`, or NULL. Either may hold zeros. */
const char *cli_find(const char *text, size_t bytes, const char *what, size_t what_bytes);

/* Bytes of the UTF-8 character that `text` begins with, 1 to 4; 1 where it is broken. */
size_t cli_utf8_length(const char *text, size_t bytes);
bool cli_is_utf8(const char *text, size_t bytes);

/* The whole string is a number: true. No sign, no space, no trailing text. */
bool cli_parse_u64(const char *text, uint64_t *value);
bool cli_parse_real(const char *text, double *value);

#endif
