/* Growing byte buffers, files, UTF-8 and strict numbers. */
#include "text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "terminal.h"

void *cli_reallocate(void *memory, size_t count, size_t size) {
    void *moved = count <= SIZE_MAX / size ? realloc(memory, count > 0 ? count * size : size) : NULL;
    if (moved == NULL) exit((int)cli_fail(CLI_FAILED, "no memory for %zu times %zu bytes", count, size));
    return moved;
}

void *cli_allocate(size_t count, size_t size) {
    return cli_reallocate(NULL, count, size);
}

void cli_text_reserve(cli_text *text, size_t more) {
    const size_t needed = text->bytes + more + 1;
    if (needed <= text->capacity) return;
    text->capacity = needed > text->capacity * 2 ? needed : text->capacity * 2;
    text->data = cli_reallocate(text->data, text->capacity, 1);
}

void cli_text_add(cli_text *text, const char *data, size_t bytes) {
    cli_text_reserve(text, bytes);
    if (bytes > 0) memcpy(text->data + text->bytes, data, bytes);
    text->bytes += bytes;
    text->data[text->bytes] = '\0';
}

void cli_text_free(cli_text *text) {
    free(text->data);
    *text = (cli_text){0};
}

cli_exit cli_text_read(cli_text *text, const char *path) {
    FILE *file = path == NULL ? stdin : fopen(path, "rb");
    if (file == NULL) return cli_fail(CLI_USAGE, "%s: %s", path, strerror(errno));
    size_t got;
    do {
        cli_text_reserve(text, 65536);
        got = fread(text->data + text->bytes, 1, 65536, file);
        text->bytes += got;
        text->data[text->bytes] = '\0';
    } while (got > 0);
    const int failed = ferror(file) ? errno : 0;
    if (path != NULL) fclose(file);
    if (failed != 0) return cli_fail(CLI_USAGE, "%s: %s", path == NULL ? "stdin" : path, strerror(failed));
    return CLI_OK;
}

const char *cli_find(const char *text, size_t bytes, const char *what, size_t what_bytes) {
    for (size_t i = 0; what_bytes <= bytes && i <= bytes - what_bytes; i++)
        if (memcmp(text + i, what, what_bytes) == 0) return text + i;
    return NULL;
}

/* Bytes of the character at `text`, or 0 where it is broken (overlong forms and surrogates included). */
static size_t utf8_character(const unsigned char *text, size_t bytes) {
    const unsigned char first = text[0];
    if (first < 0x80) return 1;
    const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || bytes < length) return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] > 0x9f)) return 0;
    if ((first == 0xf0 && text[1] < 0x90) || (first == 0xf4 && text[1] > 0x8f)) return 0;
    return length;
}

size_t cli_utf8_length(const char *text, size_t bytes) {
    const size_t length = utf8_character((const unsigned char *)text, bytes);
    return length > 0 ? length : 1;
}

bool cli_is_utf8(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes;) {
        const size_t length = utf8_character((const unsigned char *)text + i, bytes - i);
        if (length == 0) return false;
        i += length;
    }
    return true;
}

bool cli_parse_u64(const char *text, uint64_t *value) {
    uint64_t sum = 0;
    if (*text == '\0') return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') return false;
        const unsigned digit = (unsigned)(*text - '0');
        if (sum > (UINT64_MAX - digit) / 10) return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

bool cli_parse_real(const char *text, double *value) {
    if ((*text < '0' || *text > '9') && *text != '.') return false;
    if (text[strspn(text, "0123456789.eE+-")] != '\0') return false; /* no hexadecimal, no "inf" */
    char *end;
    const double parsed = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(parsed)) return false;
    *value = parsed;
    return true;
}
