/*
 * What the cache keeps when it does not keep everything. A policy decides how much room each stream gets, and
 * after each chunk that was read which entries go. Attention knows nothing of policies: it sees what is
 * there.
 */
#ifndef RASURE_RUNTIME_POLICY_POLICY_H
#define RASURE_RUNTIME_POLICY_POLICY_H

#include "runtime/arena.h"
#include "runtime/kv.h"
#include "runtime/model.h"
#include "runtime/policy/scored.h"

typedef struct rs_policy_state {
    rs_policy_params params; /* full_heads is the context's own copy */
    rs_scored *scratch;      /* [threads][scratch_entries], of policies with scores */
    uint32_t scratch_entries;
    rs_span evicted; /* positions of which entries may have been evicted; empty: none has been */
} rs_policy_state;

rs_status rs_policy_check(const rs_policy_params *params, rs_error *error);

/* Entries that a stream needs room for in a context of n_ctx tokens, read n_batch at a time. */
uint32_t rs_policy_room(const rs_policy_params *params, uint32_t stream, uint32_t n_ctx, uint32_t n_batch);

void rs_policy_layout(rs_policy_state *policy, rs_arena *arena, uint32_t n_streams, uint32_t n_batch,
                      uint32_t threads);

/* Whether two contexts with these policies can hold the same. */
bool rs_policy_same(const rs_policy_state *a, const rs_policy_state *b, uint32_t n_streams);

/* Lets what is not to be kept of n_tokens tokens at `positions` (ascending) go. */
void rs_policy_evict(rs_policy_state *policy, rs_kv *kv, rs_team *team, const int32_t *positions,
                     uint32_t n_tokens);

/* Everything at positions >= `position` has been taken out of the cache. */
void rs_policy_cut(rs_policy_state *policy, int32_t position);

/* Whether nothing is missing of what the cache would hold if only the first n_tokens had been read. */
bool rs_policy_is_whole(const rs_policy_state *policy, const int32_t *positions, uint32_t n_tokens);

/* Whether sinks and window are there behind the first n_tokens, with or without what is kept for going back.
 */
bool rs_policy_can_go_back(const rs_policy_state *policy, const int32_t *positions, uint32_t n_tokens);

#endif
