/* Erase methods as they are named on the command line, and the adapters that some of them need. */
#ifndef RASURE_EXAMPLES_METHOD_H
#define RASURE_EXAMPLES_METHOD_H

#include "engine.h"

typedef struct cli_method {
    char name[48];
    rs_erase_params params;
} cli_method;

/* For the help of options that take a method. */
#define CLI_METHODS                                                                                          \
    "exact, drop, shift, repair:16, repair:15%, repair:16:windowed, steer,\n"                                \
    "steer:full, steer+repair:16, bridge, bridge:16, learned; +shift closes the gap"

/* False: it is none; say so with cli_bad_method. */
bool cli_parse_method(const char *text, size_t bytes, cli_method *method);
cli_exit cli_bad_method(const char *text, size_t bytes);

/* Gives a method the engine's first eraser of its kind, if it needs one and there is one. */
void cli_bind_method(const cli_engine *engine, cli_method *method);

#endif
