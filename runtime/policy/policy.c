/* Streaming heads: sinks and a window (arXiv 2309.17453, section 3; by head: arXiv 2506.17121, section 4). */
#include "runtime/policy/policy.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/status.h"

enum { MAX_COUNT = 1 << 20 };

rs_status rs_policy_check(const rs_policy_params *params, rs_error *error) {
    switch (params->policy) {
    case RS_POLICY_FULL: return RS_OK;
    case RS_POLICY_WINDOW: break;
    case RS_POLICY_HEADS:
        if (params->full_heads == NULL)
            return rs_fail(error, RS_INVALID_ARGUMENT, "the heads policy needs full_heads");
        break;
    default: return rs_fail(error, RS_INVALID_ARGUMENT, "%d is no policy", (int)params->policy);
    }
    if (params->window < 1 || params->window > MAX_COUNT)
        return rs_fail(error, RS_INVALID_ARGUMENT, "window is %" PRIu32 ", must be 1 to %d", params->window,
                       MAX_COUNT);
    if (params->sinks > MAX_COUNT || params->rewind > MAX_COUNT)
        return rs_fail(error, RS_INVALID_ARGUMENT, "sinks are %" PRIu32 ", rewind is %" PRIu32 ", at most %d",
                       params->sinks, params->rewind, MAX_COUNT);
    return RS_OK;
}

/* Entries that stay behind the sinks. */
static uint32_t window(const rs_policy_params *params) {
    return params->window + params->rewind;
}

static bool is_local(const rs_policy_params *params, uint32_t stream) {
    return params->policy == RS_POLICY_WINDOW ||
           (params->policy == RS_POLICY_HEADS && !params->full_heads[stream]);
}

uint32_t rs_policy_room(const rs_policy_params *params, uint32_t stream, uint32_t n_ctx, uint32_t n_batch) {
    if (!is_local(params, stream)) return n_ctx;
    /* The page where the sinks end and that where the window begins have holes. */
    const uint32_t room = params->sinks + window(params) + n_batch + 2 * RS_PAGE_ENTRIES;
    return room < n_ctx ? room : n_ctx;
}

void rs_policy_layout(rs_policy_state *policy, rs_arena *arena, uint32_t n_streams) {
    if (policy->params.policy != RS_POLICY_HEADS) return;
    bool *copy = rs_arena_take(arena, "context", n_streams, sizeof *copy);
    if (copy == NULL) return;
    memcpy(copy, policy->params.full_heads, n_streams * sizeof *copy);
    policy->params.full_heads = copy;
}

bool rs_policy_same(const rs_policy_state *a, const rs_policy_state *b, uint32_t n_streams) {
    if (a->params.policy != b->params.policy) return false;
    if (a->params.policy == RS_POLICY_FULL) return true;
    if (a->params.sinks != b->params.sinks || a->params.window != b->params.window ||
        a->params.rewind != b->params.rewind)
        return false;
    return a->params.policy != RS_POLICY_HEADS ||
           memcmp(a->params.full_heads, b->params.full_heads, n_streams * sizeof(bool)) == 0;
}

typedef struct plan {
    const rs_policy_params *params;
    rs_span middle; /* positions between the sinks and the window */
} plan;

static rs_span range_of(const void *user, uint32_t stream) {
    const plan *p = user;
    return is_local(p->params, stream) ? p->middle : (rs_span){0, 0};
}

void rs_policy_evict(rs_policy_state *policy, rs_kv *kv, rs_team *team, const int32_t *positions,
                     uint32_t n_tokens) {
    const rs_policy_params *params = &policy->params;
    if (params->policy == RS_POLICY_FULL || n_tokens <= params->sinks + window(params)) return;
    const plan p = {params, {positions[params->sinks], positions[n_tokens - window(params)]}};
    rs_kv_remove_each(kv, team, range_of, &p);
    rs_span *evicted = &policy->evicted;
    if (evicted->begin >= evicted->end) *evicted = p.middle;
    if (p.middle.begin < evicted->begin) evicted->begin = p.middle.begin;
    if (p.middle.end > evicted->end) evicted->end = p.middle.end;
}

void rs_policy_cut(rs_policy_state *policy, int32_t position) {
    if (policy->evicted.end > position) policy->evicted.end = position;
    if (policy->evicted.begin >= policy->evicted.end) policy->evicted = (rs_span){0, 0};
}

/* Whether the sinks and the last `wanted` before token n_tokens are there. */
static bool holds(const rs_policy_state *policy, const int32_t *positions, uint32_t n_tokens,
                  uint32_t wanted) {
    const uint32_t sinks = policy->params.sinks;
    if (policy->evicted.begin >= policy->evicted.end) return true;
    const uint32_t at_first = n_tokens < sinks ? n_tokens : sinks;
    if (at_first > 0 && positions[at_first - 1] >= policy->evicted.begin) return false;
    const uint32_t left = n_tokens - at_first, first = left > wanted ? n_tokens - wanted : at_first;
    return first == n_tokens || positions[first] >= policy->evicted.end;
}

bool rs_policy_is_whole(const rs_policy_state *policy, const int32_t *positions, uint32_t n_tokens) {
    return holds(policy, positions, n_tokens, window(&policy->params));
}

bool rs_policy_can_go_back(const rs_policy_state *policy, const int32_t *positions, uint32_t n_tokens) {
    return holds(policy, positions, n_tokens, policy->params.window);
}
