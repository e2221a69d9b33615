/* Writing JSON with jansson. */
#include "json.h"

#include <math.h>
#include <string.h>

#include "text.h"

json_t *cli_json_string(const char *text, size_t bytes) {
    cli_text clean = {0};
    cli_text_reserve(&clean, bytes);
    for (size_t i = 0; i < bytes;) {
        const size_t length = cli_utf8_length(text + i, bytes - i);
        if (cli_is_utf8(text + i, length)) cli_text_add(&clean, text + i, length);
        else cli_text_add(&clean, "\xef\xbf\xbd", 3);
        i += length;
    }
    json_t *string = json_stringn(clean.data, clean.bytes);
    cli_text_free(&clean);
    return string;
}

void cli_json_set_text(json_t *object, const char *name, const char *text) {
    json_object_set_new(object, name, cli_json_string(text, strlen(text)));
}

void cli_json_set_int(json_t *object, const char *name, uint64_t value) {
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

void cli_json_set_real(json_t *object, const char *name, double value) {
    json_object_set_new(object, name, isnan(value) ? json_null() : json_real(value));
}

void cli_json_print(FILE *stream, json_t *value, int indent) {
    json_dumpf(value, stream,
               (size_t)JSON_REAL_PRECISION(9) | (indent > 0 ? (size_t)JSON_INDENT(indent) : 0));
    fputc('\n', stream);
    json_decref(value);
}
