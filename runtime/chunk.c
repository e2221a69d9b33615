/* What prefill, decode and recomputing do with each chunk. */
#include "runtime/chunk.h"

#include <string.h>

#include "runtime/forward.h"
#include "runtime/status.h"

/* To be called when a chunk's entries, its patch's among them, have been appended. */
static void count_steps(rs_context *c, const rs_chunk *chunk) {
    const uint32_t added = chunk->count + chunk->n_patch;
    uint64_t entries = 0;
    for (uint32_t s = 0; s < c->kv.n_streams; s++) {
        const uint32_t live = c->kv.streams[s].n_live;
        rs_meter_stream(&c->meter, s, live - added, chunk->count, chunk->n_patch);
        entries += live;
    }
    rs_meter_chunk(&c->meter, chunk->first, chunk->count, entries, rs_kv_used_bytes(&c->kv));
}

static rs_status run(rs_context *c, const rs_chunk *chunk, const int32_t *tokens, const int32_t *positions) {
    const uint32_t count = chunk->count + chunk->n_patch;
    rs_kv_append(&c->kv, positions, count);
    if (!chunk->again) count_steps(c, chunk);
    return rs_forward(c, &(rs_pass){.tokens = tokens,
                                    .positions = positions,
                                    .count = count,
                                    .visible = rs_visible_all(),
                                    .observed = rs_policy_observes(&c->policy, count),
                                    .kv_only = chunk->again,
                                    .logits = chunk->logits});
}

/* The patch stands behind the chunk, at the positions that follow. */
static rs_status run_patched(rs_context *c, const rs_chunk *chunk) {
    int32_t *tokens = c->policy.patch_tokens, *positions = c->policy.patch_positions;
    const size_t own = chunk->count;
    memcpy(tokens, c->tokens + chunk->first, own * sizeof *tokens);
    memcpy(positions, c->positions + chunk->first, own * sizeof *positions);
    memcpy(tokens + own, chunk->patch, chunk->n_patch * sizeof *tokens);
    for (uint32_t i = 0; i < chunk->n_patch; i++) positions[own + i] = positions[own - 1] + 1 + (int32_t)i;
    return run(c, chunk, tokens, positions);
}

rs_status rs_chunk_read(rs_context *context, const rs_chunk *chunk) {
    rs_context *c = context;
    const uint32_t end = chunk->first + chunk->count;
    if (chunk->n_patch > 0) RS_TRY(run_patched(c, chunk));
    else RS_TRY(run(c, chunk, c->tokens + chunk->first, c->positions + chunk->first));
    rs_policy_evict(&c->policy, &c->kv, &c->team, c->positions, end, chunk->count, chunk->n_patch);
    if (chunk->n_patch > 0) rs_kv_remove(&c->kv, &c->team, c->positions[end - 1] + 1, INT32_MAX);
    return RS_OK;
}
