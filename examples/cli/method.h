/* Erase methods as they are named on the command line, and the adapters that some of them need. */
#ifndef RASURE_EXAMPLES_METHOD_H
#define RASURE_EXAMPLES_METHOD_H

#include "engine.h"

typedef struct cli_method {
    char name[48];
    rs_erase_params params; /* its filler is the engine's, once it is bound */
} cli_method;

/* For the help of options that take a method. */
#define CLI_METHODS                                                                                          \
    "exact, drop, shift, adaptive, auto:kl=0.05, auto:ms=20, repair:16, repair:15%, steer,\n"                \
    "steer:full, steer+repair:16, repair:16:windowed, bridge, bridge:16:window=32, learned,\n"               \
    "refill; +shift closes the gap"

/* Says so and is CLI_USAGE where the text is none. */
cli_exit cli_parse_method(const char *text, size_t bytes, cli_method *method);

/* Gives a method what it needs: the engine's first eraser of its kind, if there is one, or the filler. */
cli_exit cli_bind_method(cli_engine *engine, cli_method *method);

#endif
