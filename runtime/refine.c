/* Reading again, aside and in idle time, what erasing has left cheap: into a second cache, which takes the
 * place of the first when it holds all that the first does. */
#include "ports/port.h"
#include "runtime/chunk.h"
#include "runtime/draft.h"
#include "runtime/edit.h"
#include "runtime/status.h"

/* The second cache begins as the first up to what is cheap; or with nothing, where the policy has evicted
 * what that saw. */
static void begin(rs_context *c) {
    const uint32_t first = c->first_cheap;
    if (!rs_policy_is_whole(&c->policy, c->positions, first)) return;
    rs_draft_begin(c, first);
}

/* Tokens that were steered have no place in what reading gives. */
static void skip_gone(rs_context *c) {
    while (c->draft.n_read < c->n_tokens && c->tokens[c->draft.n_read] == RS_TOKEN_GONE) c->draft.n_read++;
}

/* Tokens that follow and are still known: they are read as one call of prefill would. */
static uint32_t count_known(const rs_context *c) {
    uint32_t end = c->draft.n_read;
    while (end < c->n_tokens && c->tokens[end] != RS_TOKEN_GONE) end++;
    return end - c->draft.n_read;
}

static bool fits(const rs_context *c) {
    return rs_policy_fits(&c->policy, &c->draft.kv, count_known(c), c->params.n_batch);
}

/* A policy may have kept so much of what was copied that the rest does not fit: then all of it is read. */
static rs_status make_room(rs_context *c) {
    if (!fits(c) && c->draft.first > 0) {
        rs_draft_empty(c);
        skip_gone(c);
    }
    if (fits(c)) return RS_OK;
    return rs_fail(&c->error, RS_NO_SPACE,
                   "the policy has no room for the tokens that are to be read again: `decoded` is too small");
}

static rs_status read_chunk(rs_context *c, uint32_t most) {
    const uint32_t first = c->draft.n_read, known = count_known(c);
    uint32_t n_patch;
    const uint32_t count = rs_policy_chunk(&c->policy, known, most, &n_patch);
    rs_draft_exchange(c);
    const rs_status status = rs_chunk_read(c, &(rs_chunk){.first = first,
                                                          .count = count,
                                                          .patch = c->tokens + first + known - n_patch,
                                                          .n_patch = n_patch,
                                                          .again = true});
    rs_draft_exchange(c);
    if (status != RS_OK) {
        rs_draft_empty(c);
        return status;
    }
    c->draft.n_read += count;
    skip_gone(c);
    return RS_OK;
}

static void finish(rs_context *c) {
    rs_forget_undo(c); /* notes pages of the cache that goes */
    rs_draft_take_over(c);
    rs_edit_forget_gone(c, c->first_cheap);
    c->first_cheap = RS_NOTHING_CHEAP;
    rs_context_clear_scratch(c);
}

/* How much a call may still do. */
typedef struct allowance {
    uint64_t start_ns;
    uint32_t max_tokens, n_tokens; /* 0: as many as there are; done so far */
    double max_ms;                 /* 0: as long as it takes */
} allowance;

static double ms_since(uint64_t start_ns) {
    return (double)(rs_port_clock_ns() - start_ns) / 1e6;
}

static bool spend(allowance *a, uint32_t n_tokens) {
    a->n_tokens += n_tokens;
    return (a->max_ms <= 0 || ms_since(a->start_ns) < a->max_ms) &&
           (a->max_tokens == 0 || a->n_tokens < a->max_tokens);
}

/* What is read at a time: no more than is still allowed, but where a policy keeps what it does by chunk.
 * Fewer than some tokens take as long as these. */
static uint32_t chunk_of(const rs_context *c, const allowance *a) {
    enum { FEWEST = 16 };
    const uint32_t n_batch = c->params.n_batch;
    uint32_t most = n_batch;
    if (c->policy.params.policy != RS_POLICY_FULL) return n_batch;
    if (a->max_tokens > 0 && a->max_tokens - a->n_tokens < most) most = a->max_tokens - a->n_tokens;
    if (a->max_ms > 0 && c->ms_per_token > 0) {
        const double tokens = (a->max_ms - ms_since(a->start_ns)) / c->ms_per_token;
        if (tokens < most) most = tokens > 0 ? (uint32_t)tokens : 0;
    }
    if (most < FEWEST) most = FEWEST;
    return most < n_batch ? most : n_batch;
}

/* Reads what is cheap, and exchanges the caches when all is there. *more: the call may go on. */
static rs_status read_again(rs_context *c, allowance *a, bool *more) {
    if (c->draft.n_read == 0) begin(c);
    skip_gone(c);
    while (*more && c->draft.n_read < c->n_tokens) {
        RS_TRY(make_room(c));
        const uint32_t first = c->draft.n_read;
        RS_TRY(read_chunk(c, chunk_of(c, a)));
        const uint32_t left = rs_draft_left(c), total = c->n_tokens - c->draft.first;
        *more = spend(a, c->draft.n_read - first);
        if (!rs_context_report(c, total - left, total)) *more = false;
    }
    if (c->draft.n_read == c->n_tokens) finish(c);
    return RS_OK;
}

rs_status rs_refine(rs_context *context, uint32_t max_tokens, double max_ms, uint32_t *tokens_left) {
    RS_TRY(rs_context_check(context));
    rs_context *c = context;
    if (!c->params.refine) {
        return rs_fail(&c->error, RS_UNSUPPORTED,
                       "the context has no spare pages to refine in: it was not made to");
    }
    allowance a = {.start_ns = rs_port_clock_ns(), .max_tokens = max_tokens, .max_ms = max_ms};
    bool more = true;
    if (c->first_cheap < c->n_tokens) RS_TRY(read_again(c, &a, &more));
    while (more && c->draft.is_old) {
        rs_draft_zero(c, c->params.n_batch);
        more = spend(&a, c->params.n_batch);
    }
    if (tokens_left != NULL) *tokens_left = rs_draft_left(c);
    return RS_OK;
}
