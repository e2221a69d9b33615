/* What a context keeps, said to people and to programs. */
#ifndef RASURE_EXAMPLES_POLICY_H
#define RASURE_EXAMPLES_POLICY_H

#include <jansson.h>
#include <stdio.h>

#include "engine.h"

/* "policy   window: the first 64 tokens and the last 412", a line. */
void cli_print_policy(FILE *stream, const cli_engine *engine);

/* The same as an object: the policy's name, and those of its numbers that it has a use for. */
json_t *cli_policy_json(const cli_engine *engine);

#endif
