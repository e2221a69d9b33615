/* What prefill, decode and recomputing do with each chunk. */
#include "runtime/chunk.h"

#include <string.h>

#include "ports/port.h"
#include "runtime/forward.h"
#include "runtime/status.h"

typedef struct reading {
    rs_context *context;
    const rs_chunk *chunk;
    const int32_t *positions; /* of the chunk, and of its patch behind it */
} reading;

/* The streams take the chunk. */
static void begin(void *user, rs_streams streams) {
    const reading *r = user;
    rs_context *c = r->context;
    const rs_chunk *chunk = r->chunk;
    const uint32_t added = chunk->count + chunk->n_patch;
    rs_kv_append(&c->kv, streams, r->positions, added);
    if (chunk->again) return;
    for (uint32_t s = streams.first; s < streams.first + streams.count; s++)
        rs_meter_stream(&c->meter, s, c->kv.streams[s].n_live - added, chunk->count, chunk->n_patch);
    uint64_t entries = 0;
    for (uint32_t s = 0; s < c->kv.n_streams; s++) entries += c->kv.streams[s].n_live;
    rs_meter_peak(&c->meter, entries, rs_kv_used_bytes(&c->kv));
}

static rs_span behind(const void *user, uint32_t stream) {
    (void)stream;
    return (rs_span){*(const int32_t *)user, INT32_MAX};
}

/* They have read it: the policy lets some go, and the patch has no more to choose. */
static void end(void *user, rs_streams streams) {
    const reading *r = user;
    rs_context *c = r->context;
    const rs_chunk *chunk = r->chunk;
    rs_policy_evict(&c->policy, &c->kv, &c->team, streams,
                    &(rs_policy_chunk_read){.positions = c->positions,
                                            .n_tokens = chunk->first + chunk->count,
                                            .count = chunk->count,
                                            .n_patch = chunk->n_patch});
    if (chunk->n_patch > 0) rs_kv_remove_each(&c->kv, &c->team, streams, behind, &r->positions[chunk->count]);
}

static rs_status run(rs_context *c, const rs_chunk *chunk, const int32_t *tokens, const int32_t *positions) {
    const uint32_t count = chunk->count + chunk->n_patch;
    reading r = {c, chunk, positions};
    if (!chunk->again) rs_meter_chunk(&c->meter, chunk->first, chunk->count);
    return rs_forward(
        c, &(rs_pass){.tokens = tokens,
                      .positions = positions,
                      .entries = &(rs_pass_entries){.begin = begin,
                                                    .end = end,
                                                    .user = &r,
                                                    .n_layers = rs_policy_layers_at_once(&c->policy)},
                      .count = count,
                      .visible = rs_visible_all(),
                      .observed = rs_policy_observes(&c->policy, count),
                      .kv_only = chunk->again && !chunk->hidden,
                      .logits = chunk->logits});
}

/* The patch stands behind the chunk, at the positions that follow. */
static rs_status run_patched(rs_context *c, const rs_chunk *chunk) {
    int32_t *tokens = c->scratch.tokens, *positions = c->scratch.positions;
    const size_t own = chunk->count;
    memcpy(tokens, c->tokens + chunk->first, own * sizeof *tokens);
    memcpy(positions, c->positions + chunk->first, own * sizeof *positions);
    memcpy(tokens + own, chunk->patch, chunk->n_patch * sizeof *tokens);
    for (uint32_t i = 0; i < chunk->n_patch; i++) positions[own + i] = positions[own - 1] + 1 + (int32_t)i;
    return run(c, chunk, tokens, positions);
}

/* A few tokens at a time say nothing of how fast many are read, but where no more are ever read at a time. */
enum { TIMED_TOKENS = 16 };

static void note_time(rs_context *c, uint32_t count, uint64_t ns) {
    if (count < TIMED_TOKENS && count < c->params.n_batch) return;
    const double ms = (double)ns / 1e6 / count;
    c->ms_per_token = c->ms_per_token > 0 ? (c->ms_per_token + ms) / 2 : ms;
}

rs_status rs_chunk_read(rs_context *context, const rs_chunk *chunk) {
    rs_context *c = context;
    const uint64_t start = rs_port_clock_ns();
    const rs_status status = chunk->n_patch > 0
                                 ? run_patched(c, chunk)
                                 : run(c, chunk, c->tokens + chunk->first, c->positions + chunk->first);
    note_time(c, chunk->count, rs_port_clock_ns() - start);
    return status;
}
