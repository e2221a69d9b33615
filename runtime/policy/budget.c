/* The search for what a number of bytes is enough for. */
#include "runtime/policy/budget.h"

#include <inttypes.h>

#include "runtime/status.h"

/* Shares are searched for in steps of 1 / KEEP_STEPS. */
enum { MOST = 1 << 20, KEEP_STEPS = 4096 };

typedef struct knob {
    const char *name; /* of its least value, in a sentence */
    uint32_t least, most;
} knob;

static knob knob_of(const rs_policy_params *params) {
    const uint32_t pinned = params->sinks + params->window + params->rewind;
    const uint32_t floor = params->policy == RS_POLICY_GATES ? params->floor : 0;
    switch (params->policy) {
    case RS_POLICY_WINDOW: return (knob){"a window of one token", 1, MOST};
    case RS_POLICY_HEADS:
        return (knob){"a window of one token beside the heads that keep everything", 1, MOST};
    case RS_POLICY_RANDOM:
    case RS_POLICY_KEYNORM:
    case RS_POLICY_GATES:
    case RS_POLICY_HEAD_GATES:
        return (knob){"a stream of sinks and window", pinned > floor ? pinned : floor, 4 * MOST};
    case RS_POLICY_SNAPKV:
    case RS_POLICY_PYRAMIDKV: return (knob){"what the observers are of each chunk", 1, KEEP_STEPS};
    case RS_POLICY_FULL: break;
    }
    return (knob){"a full cache", 0, 0};
}

static void turn(rs_policy_params *params, uint32_t value) {
    switch (params->policy) {
    case RS_POLICY_WINDOW:
    case RS_POLICY_HEADS: params->window = value; break;
    case RS_POLICY_RANDOM:
    case RS_POLICY_KEYNORM:
    case RS_POLICY_GATES:
    case RS_POLICY_HEAD_GATES: params->budget = value; break;
    case RS_POLICY_SNAPKV:
    case RS_POLICY_PYRAMIDKV: params->keep = (float)value / (float)KEEP_STEPS; break;
    case RS_POLICY_FULL: break;
    }
}

rs_status rs_budget_fit(rs_policy_params *params, rs_budget_cost_fn cost, void *user, rs_error *error) {
    const knob k = knob_of(params);
    rs_policy_params tried = *params;
    size_t bytes;
    turn(&tried, k.least);
    RS_TRY(cost(user, &tried, &bytes, error));
    if (bytes > params->budget_bytes) {
        return rs_fail(error, RS_NO_SPACE,
                       "a budget of %zu bytes is too small: %s takes %zu, chunks and tables included",
                       params->budget_bytes, k.name, bytes);
    }
    uint32_t fits = k.least, above = k.most + 1;
    while (above - fits > 1) {
        const uint32_t middle = fits + (above - fits) / 2;
        turn(&tried, middle);
        RS_TRY(cost(user, &tried, &bytes, error));
        if (bytes <= params->budget_bytes) fits = middle;
        else above = middle;
    }
    turn(params, fits);
    return RS_OK;
}
