/* Parameters, room, and what goes: ranges between sinks and window, or single entries there. */
#include "runtime/policy/policy.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/status.h"

enum { MAX_COUNT = 1 << 20 };

static bool has_scores(const rs_policy_params *params) {
    return params->policy == RS_POLICY_RANDOM || params->policy == RS_POLICY_KEYNORM;
}

/* Entries that stay behind the sinks. */
static uint32_t window(const rs_policy_params *params) {
    return params->window + params->rewind;
}

rs_status rs_policy_check(const rs_policy_params *params, rs_error *error) {
    if (params->policy == RS_POLICY_FULL) return RS_OK;
    if ((int)params->policy < RS_POLICY_FULL || params->policy > RS_POLICY_KEYNORM)
        return rs_fail(error, RS_INVALID_ARGUMENT, "%d is no policy", (int)params->policy);
    if (params->policy == RS_POLICY_HEADS && params->full_heads == NULL)
        return rs_fail(error, RS_INVALID_ARGUMENT, "the heads policy needs full_heads");
    if (params->window < 1 || params->window > MAX_COUNT)
        return rs_fail(error, RS_INVALID_ARGUMENT, "window is %" PRIu32 ", must be 1 to %d", params->window,
                       MAX_COUNT);
    if (params->sinks > MAX_COUNT || params->rewind > MAX_COUNT)
        return rs_fail(error, RS_INVALID_ARGUMENT, "sinks are %" PRIu32 ", rewind is %" PRIu32 ", at most %d",
                       params->sinks, params->rewind, MAX_COUNT);
    const uint32_t least = params->sinks + window(params);
    if (has_scores(params) && (params->budget < least || params->budget > 4 * MAX_COUNT)) {
        return rs_fail(error, RS_INVALID_ARGUMENT,
                       "budget is %" PRIu32 ", must be %" PRIu32 " (sinks, window and rewind) to %d",
                       params->budget, least, 4 * MAX_COUNT);
    }
    return RS_OK;
}

/* Whether a stream loses entries. */
static bool is_local(const rs_policy_params *params, uint32_t stream) {
    return params->policy != RS_POLICY_FULL &&
           (params->full_heads == NULL || params->policy == RS_POLICY_WINDOW || !params->full_heads[stream]);
}

uint32_t rs_policy_room(const rs_policy_params *params, uint32_t stream, uint32_t n_ctx, uint32_t n_batch) {
    if (!is_local(params, stream)) return n_ctx;
    const uint32_t kept =
        has_scores(params) ? params->budget + RS_SCORED_SLACK : params->sinks + window(params);
    /* The page where the sinks end and that where the window begins have holes. */
    const uint32_t room = kept + n_batch + 2 * RS_PAGE_ENTRIES;
    return room < n_ctx ? room : n_ctx;
}

void rs_policy_layout(rs_policy_state *policy, rs_arena *arena, uint32_t n_streams, uint32_t n_batch,
                      uint32_t threads) {
    const rs_policy_params *params = &policy->params;
    if (has_scores(params)) {
        policy->scratch_entries = params->budget + RS_SCORED_SLACK + n_batch;
        policy->scratch = rs_arena_take(arena, "policy", (size_t)threads * policy->scratch_entries,
                                        sizeof *policy->scratch);
    }
    if (params->full_heads == NULL || params->policy == RS_POLICY_FULL) return;
    bool *copy = rs_arena_take(arena, "policy", n_streams, sizeof *copy);
    if (copy == NULL) return;
    memcpy(copy, params->full_heads, n_streams * sizeof *copy);
    policy->params.full_heads = copy;
}

bool rs_policy_same(const rs_policy_state *a, const rs_policy_state *b, uint32_t n_streams) {
    const rs_policy_params *x = &a->params, *y = &b->params;
    if (x->policy != y->policy) return false;
    if (x->policy == RS_POLICY_FULL) return true;
    if (x->sinks != y->sinks || x->window != y->window || x->rewind != y->rewind) return false;
    if (has_scores(x) && x->budget != y->budget) return false;
    for (uint32_t s = 0; s < n_streams; s++)
        if (is_local(x, s) != is_local(y, s)) return false;
    return true;
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
    const rs_span middle = {positions[params->sinks], positions[n_tokens - window(params)]};
    if (has_scores(params)) {
        const rs_scored_plan scored = {params->policy,     middle,          params->budget,
                                       params->full_heads, policy->scratch, policy->scratch_entries};
        if (!rs_scored_evict(&scored, kv, team)) return;
    } else {
        rs_kv_remove_each(kv, team, range_of, &(plan){params, middle});
    }
    rs_span *evicted = &policy->evicted;
    if (evicted->begin >= evicted->end) *evicted = middle;
    if (middle.begin < evicted->begin) evicted->begin = middle.begin;
    if (middle.end > evicted->end) evicted->end = middle.end;
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
    /* What a shorter context would have kept of the middle nobody knows. */
    if (has_scores(&policy->params) && n_tokens > policy->params.sinks)
        return policy->evicted.begin >= policy->evicted.end;
    return holds(policy, positions, n_tokens, window(&policy->params));
}

bool rs_policy_can_go_back(const rs_policy_state *policy, const int32_t *positions, uint32_t n_tokens) {
    return holds(policy, positions, n_tokens, policy->params.window);
}
