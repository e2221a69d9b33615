/* A budget in bytes becomes the largest parameter that a policy can have for it. */
#ifndef RASURE_RUNTIME_POLICY_BUDGET_H
#define RASURE_RUNTIME_POLICY_BUDGET_H

#include "rasure/rasure.h"

/* What the cache takes with these parameters. Does not fall as what is searched for rises. */
typedef rs_status (*rs_budget_cost_fn)(void *user, const rs_policy_params *params, size_t *bytes,
                                       rs_error *error);

/* Fills in window, budget or keep, whichever the policy goes by, so that the cost is at most
 * params->budget_bytes. RS_NO_SPACE with the bytes that would do when not even the least fits. The other
 * parameters MUST be valid. */
rs_status rs_budget_fit(rs_policy_params *params, rs_budget_cost_fn cost, void *user, rs_error *error);

#endif
