/* Appending tokens: prefill in chunks, decode one by one, and taking the end back. */
#include <inttypes.h>
#include <string.h>

#include "ports/port.h"
#include "runtime/chunk.h"
#include "runtime/draft.h"
#include "runtime/forward.h"
#include "runtime/status.h"

/* Removes list entries and cache entries from index `keep` on. */
static void cut(rs_context *c, uint32_t keep, int32_t next_position) {
    rs_draft_cut(c, next_position);
    if (keep < c->n_tokens) rs_kv_remove(&c->kv, &c->team, c->positions[keep], INT32_MAX);
    rs_context_cut(c, keep);
    rs_draft_set_cheap(c, c->first_cheap);
    rs_policy_cut(&c->policy, next_position);
    c->next_position = next_position;
    if (c->head_end > next_position) c->head_end = next_position;
    if (c->undo.begin > next_position) c->undo.begin = next_position;
    rs_undo_settle(c);
}

static rs_status check_tokens(rs_context *c, const int32_t *tokens, size_t count) {
    RS_TRY(rs_context_check(c));
    rs_error *error = &c->error;
    if (tokens == NULL || count == 0) return rs_fail(error, RS_INVALID_ARGUMENT, "no tokens were given");
    RS_TRY(rs_context_check_ids(c, tokens, count));
    if (count > c->params.n_ctx - c->n_tokens) {
        return rs_fail(error, RS_NO_SPACE, "%zu tokens do not fit: the cache holds %" PRIu32 " of %" PRIu32,
                       count, c->n_tokens, c->params.n_ctx);
    }
    if (!rs_policy_fits(&c->policy, &c->kv, count, c->params.n_batch)) {
        return rs_fail(
            error, RS_NO_SPACE,
            "%zu tokens do not fit what the policy has room for; read in chunks, or make `decoded` larger",
            count);
    }
    if (count > (size_t)(INT32_MAX - c->next_position)) {
        return rs_fail(error, RS_NO_SPACE, "positions are used up; close the holes with exact or shift");
    }
    return RS_OK;
}

static rs_status decode_chunk(rs_context *c, const int32_t *tokens, uint32_t count, const int32_t *patch,
                              uint32_t n_patch, bool logits) {
    const uint32_t first = c->n_tokens;
    for (uint32_t i = 0; i < count; i++) {
        c->tokens[first + i] = tokens[i];
        c->positions[first + i] = c->next_position + (int32_t)i;
        c->turns[first + i] = RS_KEYS_READ;
    }
    c->n_tokens += count;
    c->next_position += (int32_t)count;
    return rs_chunk_read(
        c, &(rs_chunk){.first = first, .count = count, .patch = patch, .n_patch = n_patch, .logits = logits});
}

static rs_status give_logits(rs_context *c, uint32_t count, rs_logits_fn each, void *user) {
    const int32_t first = c->next_position - (int32_t)count;
    const uint32_t n_vocab = c->model->shape.n_vocab, at_once = rs_forward_logits_rows(c);
    const float *logits = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t row = i % at_once, left = count - i;
        if (row == 0) RS_TRY(rs_forward_logits(c, i, left < at_once ? left : at_once, &logits));
        if (!each(user, first + (int32_t)i, logits + (size_t)row * n_vocab, n_vocab)) {
            return rs_fail(&c->error, RS_STOPPED, "stopped by the callback at position %" PRId32,
                           first + (int32_t)i);
        }
    }
    return RS_OK;
}

/* *done: tokens of the chunks that are finished. */
static rs_status decode_all(rs_context *c, const int32_t *tokens, size_t count, rs_logits_fn each, void *user,
                            size_t *done) {
    while (*done < count) {
        const size_t left = count - *done;
        uint32_t n_patch;
        const uint32_t chunk = rs_policy_chunk(&c->policy, left, c->params.n_batch, &n_patch);
        RS_TRY(decode_chunk(c, tokens + *done, chunk, tokens + count - n_patch, n_patch,
                            each == NULL && chunk == left));
        *done += chunk;
        if (each != NULL) RS_TRY(give_logits(c, chunk, each, user));
        if (*done < count && !rs_context_report(c, (uint32_t)*done, (uint32_t)count)) {
            return rs_fail(&c->error, RS_STOPPED, "stopped by the progress callback after %zu of %zu tokens",
                           *done, count);
        }
    }
    if (count > c->params.n_batch) (void)rs_context_report(c, (uint32_t)count, (uint32_t)count);
    return RS_OK;
}

static rs_status decode(rs_context *c, const int32_t *tokens, size_t count, rs_logits_fn each, void *user) {
    RS_TRY(check_tokens(c, tokens, count));
    const uint32_t n_tokens = c->n_tokens;
    const int32_t next_position = c->next_position;
    size_t done = 0;
    const rs_status status = decode_all(c, tokens, count, each, user, &done);
    if (status != RS_OK) {
        /* What was evicted for a chunk does not come back when the chunk goes. */
        const uint32_t kept = c->params.policy.policy == RS_POLICY_FULL ? 0 : (uint32_t)done;
        cut(c, n_tokens + kept, next_position + (int32_t)kept);
        c->has_logits = false;
    }
    rs_undo_settle(c);
    return status;
}

rs_status rs_decode(rs_context *context, const int32_t *tokens, size_t count) {
    return decode(context, tokens, count, NULL, NULL);
}

rs_status rs_decode_each(rs_context *context, const int32_t *tokens, size_t count, rs_logits_fn each,
                         void *user) {
    RS_TRY(rs_context_check(context));
    if (each == NULL) return rs_fail(&context->error, RS_INVALID_ARGUMENT, "the callback is NULL");
    return decode(context, tokens, count, each, user);
}

const float *rs_logits(const rs_context *context, size_t *n_vocab) {
    if (context == NULL || !context->has_logits || context->poisoned) return NULL;
    if (n_vocab != NULL) *n_vocab = context->model->shape.n_vocab;
    return context->logits;
}

rs_status rs_truncate(rs_context *context, int32_t position) {
    RS_TRY(rs_context_check(context));
    if (position < 0 || position > context->next_position) {
        return rs_fail(&context->error, RS_OUT_OF_RANGE,
                       "position %" PRId32 " is not within [0, %" PRId32 "]", position,
                       context->next_position);
    }
    if (position == context->next_position) return RS_OK;
    const uint32_t kept = rs_context_index(context, position);
    if (!rs_policy_can_go_back(&context->policy, context->positions, kept)) {
        return rs_fail(&context->error, RS_UNSUPPORTED,
                       "position %" PRId32
                       " lies too far back: the policy has evicted what a cache that ends "
                       "there holds",
                       position);
    }
    cut(context, kept, position);
    rs_context_clear_scratch(context);
    return RS_OK;
}
