/* Writing JSON with jansson in the few forms that the commands need. */
#ifndef RASURE_EXAMPLES_JSON_H
#define RASURE_EXAMPLES_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Text from anywhere as a JSON string: bytes that are no UTF-8 become U+FFFD. */
json_t *cli_json_string(const char *text, size_t bytes);

void cli_json_set_text(json_t *object, const char *name, const char *text);
void cli_json_set_int(json_t *object, const char *name, uint64_t value);
/* NaN becomes null. */
void cli_json_set_real(json_t *object, const char *name, double value);

/* Writes the value and a line end, indented or on one line, and releases it. */
void cli_json_print(FILE *stream, json_t *value, int indent);

#endif
