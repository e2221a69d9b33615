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
    "exact           all that is behind is read again\n"                                                     \
    "drop, shift     nothing is; the gap stays, or is closed\n"                                              \
    "repair:16       drop, and 16 tokens behind are read again (15%: a share of all behind;\n"               \
    "                :windowed, :window=64: they see so many tokens before the gap)\n"                       \
    "adaptive        shift, 16 tokens, and those that use words of the span again\n"                         \
    "                (:echo=0.3, :most=64)\n"                                                                \
    "auto:kl=0.05    the quickest that is expected within so many nats of exact; auto:ms=20\n"               \
    "bridge, steer   by an --eraser (bridge:32, :window=64, :full, steer+repair:16);\n"                      \
    "                learned: either\n"                                                                      \
    "refill          other text is read in its place\n"                                                      \
    "+shift closes the gap that drop, repair and bridge leave"

/* Says so and is CLI_USAGE where the text is none. */
cli_exit cli_parse_method(const char *text, size_t bytes, cli_method *method);

/* Whether it has a use for an eraser. */
bool cli_takes_eraser(const cli_method *method);

/* Gives a method what it needs: the engine's first eraser of its kind, or the filler. */
cli_exit cli_bind_method(cli_engine *engine, cli_method *method);

#endif
