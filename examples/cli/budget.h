/* --budget: entries, a share of a full cache, or bytes. */
#ifndef RASURE_EXAMPLES_BUDGET_H
#define RASURE_EXAMPLES_BUDGET_H

#include "engine.h"

/* Puts what `text` says into the policy's parameters; NULL leaves the default. */
cli_exit cli_set_budget(const cli_engine *engine, const char *text, rs_context_params *params);

#endif
