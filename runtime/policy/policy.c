/* Parameters, room, and what goes: ranges between sinks and window, or single entries there. */
#include "runtime/policy/policy.h"

#include <inttypes.h>
#include <string.h>

#include "ports/port.h"
#include "runtime/hash.h"
#include "runtime/status.h"

enum {
    MAX_COUNT = 1 << 20,
    MAX_OBSERVERS = 1024,
    /* Of all streams, for a chunk: so many that the room for it is at most a tenth of the budget, but not
     * more of them than are worth their time. */
    RANKINGS_OF_BUDGET = 10,
    MAX_RANKINGS = 6,
};

const char *rs_policy_name(rs_policy policy) {
    switch (policy) {
    case RS_POLICY_FULL: return "full";
    case RS_POLICY_WINDOW: return "window";
    case RS_POLICY_HEADS: return "heads";
    case RS_POLICY_RANDOM: return "random";
    case RS_POLICY_KEYNORM: return "keynorm";
    case RS_POLICY_SNAPKV: return "snapkv";
    case RS_POLICY_PYRAMIDKV: return "pyramidkv";
    case RS_POLICY_GATES: return "gates";
    case RS_POLICY_HEAD_GATES: return "head-gates";
    }
    return "?";
}

static bool has_gates(const rs_policy_params *params) {
    return params->policy == RS_POLICY_GATES || params->policy == RS_POLICY_HEAD_GATES;
}

/* Entries are chosen one by one. */
static bool has_scores(const rs_policy_params *params) {
    return params->policy == RS_POLICY_RANDOM || params->policy == RS_POLICY_KEYNORM || has_gates(params);
}

/* Entries of a stream behind a chunk, on average with GATES. */
static uint32_t most_behind(const rs_policy_params *params) {
    return params->budget + rs_scored_slack(params->budget);
}

static bool by_chunk(const rs_policy_params *params) {
    return params->policy == RS_POLICY_SNAPKV || params->policy == RS_POLICY_PYRAMIDKV;
}

/* Entries that stay behind the sinks. */
static uint32_t window(const rs_policy_params *params) {
    return params->window + params->rewind;
}

static rs_status check_shares(const rs_policy_params *params, uint32_t n_batch, rs_error *error) {
    if (!(params->keep > 0.0F && params->keep <= 1.0F))
        return rs_fail(error, RS_INVALID_ARGUMENT, "keep is %g, must be above 0, to 1", (double)params->keep);
    if (params->observers < 1 || params->observers > MAX_OBSERVERS)
        return rs_fail(error, RS_INVALID_ARGUMENT, "observers are %" PRIu32 ", must be 1 to %d",
                       params->observers, MAX_OBSERVERS);
    if (params->patched && params->observers >= n_batch)
        return rs_fail(error, RS_INVALID_ARGUMENT,
                       "observers are %" PRIu32 ": patched, they must be fewer than n_batch, %" PRIu32,
                       params->observers, n_batch);
    return RS_OK;
}

static rs_status check_gates(const rs_policy_params *params, const rs_model *model, rs_error *error) {
    if (params->gates == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "the policy needs gates");
    if (params->gates->model != model)
        return rs_fail(error, RS_MISMATCH, "the gates were loaded for another model than the context's");
    if (params->policy == RS_POLICY_HEAD_GATES) return RS_OK;
    if (params->gates->by_head) {
        return rs_fail(
            error, RS_MISMATCH,
            "the gates were trained with a budget for each head (rasure.gates.scope: head): what they "
            "say of different heads is not to be ranked together, they are for head-gates");
    }
    if (params->full_heads != NULL)
        return rs_fail(error, RS_INVALID_ARGUMENT, "the gates policy takes no full_heads");
    if (params->floor > RS_RANKED_MAX_FLOOR || params->floor > params->budget) {
        return rs_fail(error, RS_INVALID_ARGUMENT,
                       "floor is %" PRIu32 ", at most %d and the budget of %" PRIu32, params->floor,
                       RS_RANKED_MAX_FLOOR, params->budget);
    }
    return RS_OK;
}

rs_status rs_policy_check(const rs_policy_params *params, const rs_model *model, uint32_t n_batch,
                          rs_error *error) {
    if (params->policy == RS_POLICY_FULL) return RS_OK;
    if ((int)params->policy < RS_POLICY_FULL || params->policy > RS_POLICY_HEAD_GATES)
        return rs_fail(error, RS_INVALID_ARGUMENT, "%d is no policy", (int)params->policy);
    if (params->policy == RS_POLICY_HEADS && params->full_heads == NULL)
        return rs_fail(error, RS_INVALID_ARGUMENT, "the heads policy needs full_heads");
    if (by_chunk(params)) return check_shares(params, n_batch, error);
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
    return has_gates(params) ? check_gates(params, model, error) : RS_OK;
}

bool rs_policy_has_gates(const rs_policy_state *policy) {
    return has_gates(&policy->params);
}

size_t rs_policy_outside_bytes(const rs_policy_state *policy) {
    return has_gates(&policy->params) ? policy->params.gates->bytes : 0;
}

/* Whether a stream loses entries. */
static bool is_local(const rs_policy_params *params, uint32_t stream) {
    return params->policy != RS_POLICY_FULL &&
           (params->full_heads == NULL || params->policy == RS_POLICY_WINDOW || !params->full_heads[stream]);
}

/* Of a chunk of `count` tokens, by a policy that takes shares. */
static uint32_t kept_of_chunk(const rs_policy_state *policy, uint32_t stream, uint32_t count,
                              uint32_t n_patch) {
    const rs_policy_params *params = &policy->params;
    if (!is_local(params, stream)) return count;
    return rs_observed_kept(count, n_patch, params->keep, params->observers,
                            params->policy == RS_POLICY_PYRAMIDKV, stream / policy->n_kv_heads,
                            policy->n_layers);
}

/* Tokens of a chunk that is not a call's last. */
static uint32_t full_chunk(const rs_policy_params *params, uint32_t n_batch, uint32_t *n_patch) {
    *n_patch = params->patched && by_chunk(params) ? params->observers : 0;
    return n_batch - *n_patch;
}

uint32_t rs_policy_chunk(const rs_policy_state *policy, size_t left, uint32_t n_batch, uint32_t *n_patch) {
    *n_patch = 0;
    if (left <= n_batch) return (uint32_t)left;
    return full_chunk(&policy->params, n_batch, n_patch);
}

/* Entries of a stream behind its chunk, where shares of chunks are kept. */
static uint64_t kept_of_all(const rs_policy_state *policy, uint32_t stream, uint32_t n_ctx,
                            uint32_t n_batch) {
    const uint32_t decoded = policy->params.decoded < n_ctx ? policy->params.decoded : n_ctx;
    uint32_t n_patch;
    const uint32_t chunk = full_chunk(&policy->params, n_batch, &n_patch);
    const uint64_t chunks = (n_ctx - decoded + chunk - 1) / chunk;
    const uint32_t kept = kept_of_chunk(policy, stream, chunk, n_patch);
    const uint32_t last = kept_of_chunk(policy, stream, n_batch, 0), most = last > kept ? last : kept;
    return chunks * kept + (most - kept) + decoded;
}

/* Entries that a stream has room for when `count` come to what it keeps. */
static uint32_t room_with(const rs_policy_state *policy, uint32_t stream, uint32_t n_ctx, uint32_t n_batch,
                          uint32_t count) {
    const rs_policy_params *params = &policy->params;
    uint64_t room;
    if (!is_local(params, stream) || params->policy == RS_POLICY_GATES) return n_ctx;
    if (by_chunk(params)) {
        room = kept_of_all(policy, stream, n_ctx, n_batch) + count;
    } else if (has_scores(params)) {
        room = (uint64_t)most_behind(params) + count;
    } else {
        /* The page where the sinks end has holes; window and chunk begin anywhere in a page. */
        const uint64_t pages = rs_kv_pages_for((uint64_t)window(params) + count + RS_PAGE_ENTRIES - 1);
        room = (rs_kv_pages_for(params->sinks) + pages) * RS_PAGE_ENTRIES;
    }
    return room < n_ctx ? (uint32_t)room : n_ctx;
}

uint32_t rs_policy_room(const rs_policy_state *policy, uint32_t stream, uint32_t n_ctx, uint32_t n_batch) {
    return room_with(policy, stream, n_ctx, n_batch, n_batch);
}

static uint32_t rankings_of_a_chunk(const rs_policy_state *policy) {
    const uint64_t budget = policy->params.budget > 0 ? policy->params.budget : 1;
    const uint64_t wanted = ((uint64_t)policy->n_batch * RANKINGS_OF_BUDGET + budget - 1) / budget;
    return wanted < MAX_RANKINGS ? (uint32_t)wanted : MAX_RANKINGS;
}

uint32_t rs_policy_layers_at_once(const rs_policy_state *policy) {
    uint32_t rankings;
    switch (policy->params.policy) {
    case RS_POLICY_FULL: return policy->n_layers;
    case RS_POLICY_GATES:
        rankings = rankings_of_a_chunk(policy);
        return (policy->n_layers + rankings - 1) / rankings;
    default: return 1;
    }
}

/* Streams that have entries for a chunk at once. */
static uint32_t streams_at_once(const rs_policy_state *policy) {
    return rs_policy_layers_at_once(policy) * policy->n_kv_heads;
}

uint32_t rs_policy_pages(const rs_policy_state *policy, uint32_t n_ctx, uint32_t n_batch) {
    const uint32_t n_streams = policy->n_layers * policy->n_kv_heads, at_once = streams_at_once(policy);
    if (policy->params.policy == RS_POLICY_FULL) return 0;
    if (policy->params.policy == RS_POLICY_GATES) {
        const uint64_t kept = (uint64_t)n_streams * most_behind(&policy->params);
        const uint64_t entries = kept + (uint64_t)at_once * n_batch;
        /* Without holes, each stream's last page is the only one that is not full. */
        const uint64_t pages = entries / RS_PAGE_ENTRIES + n_streams;
        return pages < UINT32_MAX ? (uint32_t)pages : 0;
    }
    uint32_t kept = 0, more = 0, most = 0; /* pages: of all, and beside them of those that read at once */
    for (uint32_t s = 0; s < n_streams; s++) {
        const uint32_t behind = rs_kv_pages_for(room_with(policy, s, n_ctx, n_batch, 0));
        if (s % at_once == 0) more = 0;
        kept += behind;
        more += rs_kv_pages_for(rs_policy_room(policy, s, n_ctx, n_batch)) - behind;
        if (more > most) most = more;
    }
    return kept + most;
}

/* Whether a chunk finds room behind n_chunks full ones that are read before it. */
static bool chunk_fits(const rs_policy_state *policy, const rs_kv *kv, uint32_t n_batch, size_t n_chunks,
                       uint32_t count, uint32_t n_patch) {
    uint32_t patch_of_full;
    const uint32_t full = full_chunk(&policy->params, n_batch, &patch_of_full);
    const uint32_t at_once = streams_at_once(policy);
    uint64_t behind = 0, more = 0, most = 0; /* pages, as in rs_policy_pages */
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        const uint64_t before =
            kv->streams[s].n_live + n_chunks * kept_of_chunk(policy, s, full, patch_of_full);
        const uint64_t then = before + count + n_patch;
        const uint32_t kept = rs_kv_pages_for(before + kept_of_chunk(policy, s, count, n_patch));
        if (then > (uint64_t)kv->streams[s].max_pages * RS_PAGE_ENTRIES) return false;
        if (s % at_once == 0) more = 0;
        behind += kept;
        more += rs_kv_pages_for(then) - kept;
        if (more > most) most = more;
    }
    return behind + most <= kv->n_pages;
}

bool rs_policy_fits(const rs_policy_state *policy, const rs_kv *kv, size_t count, uint32_t n_batch) {
    if (!by_chunk(&policy->params)) return true;
    size_t n_chunks = 0;
    for (size_t left = count; left > 0; n_chunks++) {
        uint32_t n_patch;
        const uint32_t chunk = rs_policy_chunk(policy, left, n_batch, &n_patch);
        if (!chunk_fits(policy, kv, n_batch, n_chunks, chunk, n_patch)) return false;
        left -= chunk;
    }
    return true;
}

bool rs_policy_observes(const rs_policy_state *policy, uint32_t count) {
    return by_chunk(&policy->params) && count > policy->params.observers;
}

/* Entries of a stream that are scored at once. */
static uint32_t most_scored(const rs_policy_params *params, uint32_t n_ctx, uint32_t n_batch) {
    const uint32_t most = most_behind(params) + n_batch;
    return most < n_ctx ? most : n_ctx;
}

void rs_policy_layout(rs_policy_state *policy, rs_arena *arena, const rs_shape *shape, uint32_t n_ctx,
                      uint32_t n_batch, uint32_t threads) {
    const rs_policy_params *params = &policy->params;
    const uint32_t n_streams = shape->n_layers * shape->n_kv_heads;
    policy->n_layers = shape->n_layers;
    policy->n_batch = n_batch;
    policy->n_kv_heads = shape->n_kv_heads;
    if (params->policy != RS_POLICY_FULL) {
        policy->loan.words = (n_batch + 31) / 32;
        const size_t lent = (size_t)streams_at_once(policy) * policy->loan.words;
        policy->loan.lent = rs_arena_take_scratch(arena, "policy", lent, sizeof *policy->loan.lent);
    }
    if (params->policy == RS_POLICY_GATES) {
        rs_ranked_layout(&policy->ranked, arena, n_streams, threads);
    } else if (has_scores(params) || by_chunk(params)) {
        policy->scratch_entries = has_scores(params) ? most_scored(params, n_ctx, n_batch) : n_batch;
        policy->scratch = rs_arena_take_scratch(arena, "policy", (size_t)threads * policy->scratch_entries,
                                                sizeof *policy->scratch);
    }
    if (by_chunk(params))
        rs_observed_layout(&policy->observed, arena, shape->n_kv_heads, n_batch, params->observers, threads);
    if (params->full_heads == NULL || params->policy == RS_POLICY_FULL) return;
    bool *copy = rs_arena_take(arena, "policy", n_streams, sizeof *copy);
    if (copy == NULL) return;
    memcpy(copy, params->full_heads, n_streams * sizeof *copy);
    policy->params.full_heads = copy;
}

uint64_t rs_policy_fingerprint(const rs_policy_state *policy) {
    const rs_policy_params *p = &policy->params;
    const uint32_t n_streams = policy->n_layers * policy->n_kv_heads, kind = (uint32_t)p->policy;
    uint64_t hash = rs_fnv1a(RS_FNV1A_START, &kind, sizeof kind);
    if (p->policy == RS_POLICY_FULL) return hash;
    const uint32_t counts[] = {p->sinks,
                               p->window,
                               p->rewind,
                               has_scores(p) ? p->budget : 0,
                               has_gates(p) ? p->floor : 0,
                               by_chunk(p) ? p->observers : 0,
                               by_chunk(p) && p->patched};
    const float keep = by_chunk(p) ? p->keep : 0;
    const uint64_t gates = has_gates(p) ? p->gates->fingerprint : 0;
    hash = rs_fnv1a(hash, counts, sizeof counts);
    hash = rs_fnv1a(hash, &keep, sizeof keep);
    hash = rs_fnv1a(hash, &gates, sizeof gates);
    for (uint32_t s = 0; s < n_streams; s++) {
        const unsigned char local = is_local(p, s);
        hash = rs_fnv1a(hash, &local, sizeof local);
    }
    return hash;
}

uint32_t rs_policy_most_kept(const rs_policy_state *policy, uint32_t stream, uint32_t n_ctx,
                             uint32_t n_batch) {
    const rs_policy_params *params = &policy->params;
    if (!is_local(params, stream)) return n_ctx;
    if (by_chunk(params)) return room_with(policy, stream, n_ctx, n_batch, n_batch);
    if (has_scores(params)) return room_with(policy, stream, n_ctx, n_batch, 0);
    const uint32_t most = params->sinks + window(params); /* room is more, in whole pages */
    return most < n_ctx ? most : n_ctx;
}

uint64_t rs_policy_most_kept_of_all(const rs_policy_state *policy) {
    if (policy->params.policy != RS_POLICY_GATES) return UINT64_MAX;
    return (uint64_t)policy->n_layers * policy->n_kv_heads * most_behind(&policy->params);
}

rs_span rs_policy_gone_from(const rs_policy_state *policy, uint32_t stream, rs_span evicted) {
    return is_local(&policy->params, stream) ? evicted : (rs_span){0, 0};
}

typedef struct plan {
    const rs_policy_params *params;
    rs_span middle; /* positions between the sinks and the window */
} plan;

static rs_span range_of(const void *user, uint32_t stream) {
    const plan *p = user;
    return is_local(p->params, stream) ? p->middle : (rs_span){0, 0};
}

static void widen(rs_span *evicted, rs_span by) {
    if (evicted->begin >= evicted->end) *evicted = by;
    if (by.begin < evicted->begin) evicted->begin = by.begin;
    if (by.end > evicted->end) evicted->end = by.end;
}

/* A share of the chunk, in one layer. */
static void evict_share(rs_policy_state *policy, rs_kv *kv, rs_team *team, rs_streams streams,
                        const rs_policy_chunk_read *read) {
    const rs_policy_params *params = &policy->params;
    const uint32_t count = read->count;
    if (!rs_policy_observes(policy, count + read->n_patch)) return;
    if ((double)params->keep * count + 1e-4 >= count) return;
    const int32_t begin = read->positions[read->n_tokens - count];
    rs_observed_evict(&(rs_observed_plan){.work = &policy->observed,
                                          .scratch = policy->scratch,
                                          .full_heads = params->full_heads,
                                          .begin = begin,
                                          .count = count,
                                          .n_patch = read->n_patch,
                                          .layer = streams.first / policy->n_kv_heads,
                                          .n_layers = policy->n_layers,
                                          .n_kv_heads = policy->n_kv_heads,
                                          .keep = params->keep,
                                          .pyramid = params->policy == RS_POLICY_PYRAMIDKV},
                      kv, team);
    widen(&policy->evicted, (rs_span){begin, read->positions[read->n_tokens - 1] + 1});
}

/* Positions between the sinks and the window of so many tokens. */
static rs_span middle_of(const rs_policy_params *params, const int32_t *positions, uint32_t n_tokens) {
    if (n_tokens <= params->sinks + window(params)) return (rs_span){0, 0};
    return (rs_span){positions[params->sinks], positions[n_tokens - window(params)]};
}

/* Single entries between the sinks and the window. Whether any went. */
static bool evict_entries(const rs_policy_state *policy, rs_kv *kv, rs_team *team, rs_streams streams,
                          rs_span middle, const rs_policy_chunk_read *read) {
    const rs_policy_params *params = &policy->params;
    const int32_t now = read->positions[read->n_tokens - 1];
    const uint64_t n_streams = kv->n_streams;
    if (params->policy != RS_POLICY_GATES) {
        const rs_scored_plan plan = {.policy = params->policy,
                                     .middle = middle,
                                     .now = now,
                                     .budget = params->budget,
                                     .full_heads = params->full_heads,
                                     .scratch = policy->scratch,
                                     .scratch_entries = policy->scratch_entries};
        return rs_scored_evict(&plan, kv, team, streams);
    }
    uint64_t live = 0;
    for (uint32_t s = 0; s < kv->n_streams; s++) live += kv->streams[s].n_live;
    if (live <= n_streams * most_behind(params)) return false;
    const rs_ranked_plan plan = {.now = now,
                                 .middle = middle,
                                 .n_read = streams.first + streams.count,
                                 .middle_of_rest =
                                     middle_of(params, read->positions, read->n_tokens - read->count),
                                 .budget = n_streams * params->budget,
                                 .floor = params->floor};
    return rs_ranked_evict(&policy->ranked, &plan, kv, team);
}

static void evict(rs_policy_state *policy, rs_kv *kv, rs_team *team, rs_streams streams,
                  const rs_policy_chunk_read *read) {
    const rs_policy_params *params = &policy->params;
    if (by_chunk(params)) evict_share(policy, kv, team, streams, read);
    if (params->policy == RS_POLICY_FULL || by_chunk(params)) return;
    const rs_span middle = middle_of(params, read->positions, read->n_tokens);
    if (middle.begin >= middle.end) return;
    if (has_scores(params)) {
        if (!evict_entries(policy, kv, team, streams, middle, read)) return;
    } else {
        rs_kv_remove_each(kv, team, streams, range_of, &(plan){params, middle});
    }
    widen(&policy->evicted, middle);
}

void rs_policy_evict(rs_policy_state *policy, rs_kv *kv, rs_team *team, rs_streams streams,
                     const rs_policy_chunk_read *read) {
    const uint64_t start = rs_port_clock_ns();
    evict(policy, kv, team, streams, read);
    policy->ns += rs_port_clock_ns() - start;
}

void rs_policy_observe(rs_policy_state *policy, const rs_observation *observation, rs_team *team) {
    const uint64_t start = rs_port_clock_ns();
    rs_observed_score(&policy->observed, observation, team);
    policy->ns += rs_port_clock_ns() - start;
}

void rs_policy_reset(rs_policy_state *policy) {
    policy->evicted = (rs_span){0, 0};
    policy->ns = 0;
}

void rs_policy_copy(rs_policy_state *to, const rs_policy_state *from) {
    to->evicted = from->evicted;
    to->ns = from->ns;
}

void rs_policy_set_evicted(rs_policy_state *policy, rs_span evicted) {
    policy->evicted = evicted.begin < evicted.end ? evicted : (rs_span){0, 0};
}

void rs_policy_cut(rs_policy_state *policy, int32_t position) {
    const rs_span evicted = policy->evicted;
    rs_policy_set_evicted(policy, (rs_span){evicted.begin, evicted.end < position ? evicted.end : position});
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

/* Chunks are chosen from one by one: a cache that ends behind all of them, or before the first, is as it was
 * then. */
static bool ends_outside(const rs_policy_state *policy, const int32_t *positions, uint32_t n_tokens) {
    const rs_span evicted = policy->evicted;
    return evicted.begin >= evicted.end || n_tokens == 0 || positions[n_tokens - 1] < evicted.begin ||
           positions[n_tokens - 1] + 1 >= evicted.end;
}

bool rs_policy_is_whole(const rs_policy_state *policy, const int32_t *positions, uint32_t n_tokens) {
    if (by_chunk(&policy->params)) return ends_outside(policy, positions, n_tokens);
    /* What a shorter context would have kept of the middle nobody knows. */
    if (has_scores(&policy->params) && n_tokens > policy->params.sinks)
        return policy->evicted.begin >= policy->evicted.end;
    return holds(policy, positions, n_tokens, window(&policy->params));
}

bool rs_policy_can_go_back(const rs_policy_state *policy, const int32_t *positions, uint32_t n_tokens) {
    if (by_chunk(&policy->params)) return ends_outside(policy, positions, n_tokens);
    return holds(policy, positions, n_tokens, policy->params.window);
}
