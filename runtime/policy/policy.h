/*
 * What the cache keeps when it does not keep everything. A policy decides how much room each stream gets, and
 * which entries go when some layers have read a chunk: before the next ones have theirs, so that not all
 * layers need room for a whole chunk at once. Attention knows nothing of policies: it sees what is there.
 */
#ifndef RASURE_RUNTIME_POLICY_POLICY_H
#define RASURE_RUNTIME_POLICY_POLICY_H

#include "runtime/arena.h"
#include "runtime/kv.h"
#include "runtime/model.h"
#include "runtime/policy/gates.h"
#include "runtime/policy/observed.h"
#include "runtime/policy/ranked.h"
#include "runtime/policy/scored.h"

typedef struct rs_policy_state {
    rs_policy_params params; /* full_heads is the context's own copy */
    rs_scored *scratch;      /* [threads][scratch_entries], of policies that choose among entries */
    uint32_t scratch_entries;
    rs_observed_work observed;
    rs_ranked_work ranked;
    uint32_t n_layers, n_kv_heads, n_batch;
    rs_kv_loan loan;
    rs_span evicted; /* positions of which entries may have been evicted; empty: none has been */
    uint64_t ns;     /* that scoring, choosing and evicting took */
} rs_policy_state;

rs_status rs_policy_check(const rs_policy_params *params, const rs_model *model, uint32_t n_batch,
                          rs_error *error);

/* Whether entries carry what gates say of them. */
bool rs_policy_has_gates(const rs_policy_state *policy);

/* Bytes that the policy needs and that are not in the context's arena. */
size_t rs_policy_outside_bytes(const rs_policy_state *policy);

/* Notes the model's shape and takes what the policy needs from the arena. */
void rs_policy_layout(rs_policy_state *policy, rs_arena *arena, const rs_shape *shape, uint32_t n_ctx,
                      uint32_t n_batch, uint32_t threads);

/* Entries that a stream needs room for in a context of n_ctx tokens, read n_batch at a time. */
uint32_t rs_policy_room(const rs_policy_state *policy, uint32_t stream, uint32_t n_ctx, uint32_t n_batch);

/* Pages that all streams together need; 0: as many as each by itself. */
uint32_t rs_policy_pages(const rs_policy_state *policy, uint32_t n_ctx, uint32_t n_batch);

/* Layers that have entries for a chunk at once. */
uint32_t rs_policy_layers_at_once(const rs_policy_state *policy);

/* How many of `left` tokens of a call are read next, n_batch at a time, and how many of the last of them are
 * read behind these to choose among them. */
uint32_t rs_policy_chunk(const rs_policy_state *policy, size_t left, uint32_t n_batch, uint32_t *n_patch);

/* Whether the streams have room for `count` more tokens, read n_batch at a time. */
bool rs_policy_fits(const rs_policy_state *policy, const rs_kv *kv, size_t count, uint32_t n_batch);

/* Whether a chunk is to be observed: between its keys and its attention, in every layer. */
bool rs_policy_observes(const rs_policy_state *policy, uint32_t count);

/* The cache has been emptied. */
void rs_policy_reset(rs_policy_state *policy);

/* The cache has become what another is. */
void rs_policy_copy(rs_policy_state *to, const rs_policy_state *from);

/* Scores a layer of a chunk that is to be observed. */
void rs_policy_observe(rs_policy_state *policy, const rs_observation *observation, rs_team *team);

/* Contexts of one model in which it is the same keep the same. */
uint64_t rs_policy_fingerprint(const rs_policy_state *policy);

/* Entries that a stream, and that all streams together, hold at most between calls. */
uint32_t rs_policy_most_kept(const rs_policy_state *policy, uint32_t stream, uint32_t n_ctx,
                             uint32_t n_batch);
uint64_t rs_policy_most_kept_of_all(const rs_policy_state *policy);

/* Positions of which a stream may have lost entries. */
rs_span rs_policy_gone_from(const rs_policy_state *policy, uint32_t stream, rs_span evicted);

/* A chunk that is read: the last `count` of n_tokens tokens at `positions` (ascending), behind which n_patch
 * more entries choose. */
typedef struct rs_policy_chunk_read {
    const int32_t *positions;
    uint32_t n_tokens, count, n_patch;
} rs_policy_chunk_read;

/* Lets go what is not to be kept when `streams`, those of layers that have entries at once, have read it. */
void rs_policy_evict(rs_policy_state *policy, rs_kv *kv, rs_team *team, rs_streams streams,
                     const rs_policy_chunk_read *read);

/* Positions between which entries have been evicted, when these have become others; an empty range, wherever
 * it lies, is {0, 0}: nothing has been. */
void rs_policy_set_evicted(rs_policy_state *policy, rs_span evicted);

/* Everything at positions >= `position` has been taken out of the cache. */
void rs_policy_cut(rs_policy_state *policy, int32_t position);

/* Whether nothing is missing of what the cache would hold if only the first n_tokens had been read. */
bool rs_policy_is_whole(const rs_policy_state *policy, const int32_t *positions, uint32_t n_tokens);

/* Whether sinks and window are there behind the first n_tokens, with or without what is kept for going back.
 */
bool rs_policy_can_go_back(const rs_policy_state *policy, const int32_t *positions, uint32_t n_tokens);

#endif
