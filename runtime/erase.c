/*
 * Erasing: every method is a plan over the token list, the removal of the spans' entries, and perhaps passes
 * of the engine over some of the tokens that stay. The plan is integers only and is checked whole before the
 * first byte changes.
 */
#include <inttypes.h>
#include <math.h>

#include "ports/port.h"
#include "runtime/chunk.h"
#include "runtime/forward.h"
#include "runtime/status.h"

enum { MAX_SPANS = 1024, MAX_FILLER = 1 << 20 };

/* A call whose parameters are checked and completed: no method is LEARNED any more. */
typedef struct plan {
    const rs_span *spans;
    size_t n_spans;
    rs_erase_params params;
    bool progressive;
} plan;

rs_erase_params rs_erase_default_params(void) {
    return (rs_erase_params){.method = RS_ERASE_EXACT, .repair_fraction = 0.15f};
}

const char *rs_erase_method_name(rs_erase_method method) {
    switch (method) {
    case RS_ERASE_EXACT: return "exact";
    case RS_ERASE_DROP: return "drop";
    case RS_ERASE_SHIFT: return "shift";
    case RS_ERASE_REPAIR: return "repair";
    case RS_ERASE_STEER: return "steer";
    case RS_ERASE_BRIDGE: return "bridge";
    case RS_ERASE_LEARNED: return "learned";
    case RS_ERASE_REFILL: return "refill";
    case RS_ERASE_PROGRESSIVE: return "progressive";
    }
    return "?";
}

static rs_status check_span(rs_context *c, const plan *p, size_t i) {
    const rs_span span = p->spans[i];
    rs_error *error = &c->error;
    if (span.begin < 0 || span.begin >= span.end || span.end > c->next_position) {
        return rs_fail(error, RS_OUT_OF_RANGE,
                       "span %zu, [%" PRId32 ", %" PRId32 "), is not a range within [0, %" PRId32 ")", i,
                       span.begin, span.end, c->next_position);
    }
    if (i > 0 && span.begin < p->spans[i - 1].end) {
        return rs_fail(error, RS_OUT_OF_RANGE,
                       "span %zu begins at %" PRId32 ", before span %zu ends at %" PRId32
                       ": spans must ascend",
                       i, span.begin, i - 1, p->spans[i - 1].end);
    }
    if (rs_context_index(c, span.begin) == rs_context_index(c, span.end)) {
        return rs_fail(error, RS_OUT_OF_RANGE,
                       "span %zu, [%" PRId32 ", %" PRId32 "), holds no token any more", i, span.begin,
                       span.end);
    }
    if (span.begin < c->head_end && !p->params.force) {
        return rs_fail(error, RS_INVALID_ARGUMENT,
                       "span %zu begins at %" PRId32 ", within the head that ends at %" PRId32
                       ": it is erased only by force",
                       i, span.begin, c->head_end);
    }
    return RS_OK;
}

static rs_status check_spans(rs_context *c, const plan *p) {
    if (p->spans == NULL || p->n_spans == 0)
        return rs_fail(&c->error, RS_INVALID_ARGUMENT, "no spans were given");
    if (p->n_spans > MAX_SPANS) {
        return rs_fail(&c->error, RS_INVALID_ARGUMENT, "%zu spans in one call, at most %d are taken",
                       p->n_spans, MAX_SPANS);
    }
    for (size_t i = 0; i < p->n_spans; i++) RS_TRY(check_span(c, p, i));
    return RS_OK;
}

/* LEARNED becomes a method, and what the adapter says is filled in where the caller said nothing. */
static rs_status complete_learned(rs_context *c, rs_erase_params *params) {
    const rs_adapter *adapter = params->adapter;
    rs_error *error = &c->error;
    if (adapter == NULL) {
        return rs_fail(error, RS_UNSUPPORTED, "%s needs a trained adapter, and none is given",
                       rs_erase_method_name(params->method));
    }
    if (adapter->model != c->model)
        return rs_fail(error, RS_MISMATCH, "the adapter was loaded for another model than the context's");
    const rs_erase_method made_for = adapter->kind == RS_ADAPTER_STEER ? RS_ERASE_STEER : RS_ERASE_BRIDGE;
    if (params->method != RS_ERASE_LEARNED && params->method != made_for) {
        return rs_fail(error, RS_MISMATCH, "%s was asked for, the adapter is for %s",
                       rs_erase_method_name(params->method), rs_erase_method_name(made_for));
    }
    params->method = made_for;
    if (params->window == 0) {
        params->window = adapter->window;
        params->sinks = adapter->sinks;
    }
    if (made_for == RS_ERASE_BRIDGE && params->repair_tokens == 0)
        params->repair_tokens = adapter->bridge_tokens;
    return RS_OK;
}

static rs_status check_filler(rs_context *c, const rs_erase_params *params) {
    rs_error *error = &c->error;
    if (params->filler == NULL || params->n_filler == 0 || params->n_filler > MAX_FILLER) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "refill needs filler tokens, 1 to %d of them", MAX_FILLER);
    }
    for (uint32_t i = 0; i < params->n_filler; i++) {
        if (params->filler[i] < 0 || (uint32_t)params->filler[i] >= c->model->shape.n_vocab) {
            return rs_fail(error, RS_OUT_OF_RANGE,
                           "filler token %" PRIu32 " is %" PRId32 ", the vocabulary has %" PRIu32, i,
                           params->filler[i], c->model->shape.n_vocab);
        }
    }
    return RS_OK;
}

/* The lowest position whose token is encoded again, with what is evicted of it lent to the pass;
 * next_position where none is. */
static int32_t lowest_encoded(const rs_context *c, const plan *p) {
    switch (p->params.method) {
    case RS_ERASE_REPAIR:
    case RS_ERASE_BRIDGE: return p->spans[0].end;
    case RS_ERASE_STEER:
    case RS_ERASE_REFILL: return p->spans[0].begin;
    default: return c->next_position;
    }
}

static rs_status check_room(rs_context *c, const plan *p) {
    const uint32_t n_batch = c->params.n_batch;
    const uint32_t at_once = rs_policy_layers_at_once(&c->policy) * c->model->shape.n_kv_heads;
    if (lowest_encoded(c, p) >= c->policy.evicted.end || rs_kv_has_room(&c->kv, n_batch, at_once))
        return RS_OK;
    return rs_fail(
        &c->error, RS_NO_SPACE,
        "%s encodes tokens again of which entries were evicted, and the cache has no room for %" PRIu32
        " of those; exact and drop can be had",
        rs_erase_method_name(p->params.method), n_batch);
}

/* It begins as another method, whose gaps it closes. */
static rs_status complete_progressive(rs_context *c, rs_erase_params *params) {
    if (!c->params.refine) {
        return rs_fail(&c->error, RS_UNSUPPORTED,
                       "progressive needs spare pages to refine in, and the context was made without");
    }
    params->method = params->adapter != NULL ? RS_ERASE_BRIDGE : RS_ERASE_DROP;
    params->close_gap = true;
    return params->adapter != NULL ? complete_learned(c, params) : RS_OK;
}

static rs_status complete_params(rs_context *c, rs_erase_params *params) {
    rs_error *error = &c->error;
    switch (params->method) {
    case RS_ERASE_EXACT:
    case RS_ERASE_DROP: break;
    case RS_ERASE_SHIFT: params->close_gap = true; break;
    case RS_ERASE_REFILL:
        RS_TRY(check_filler(c, params));
        if (params->window == 0) params->window = RS_WINDOW_ALL;
        break;
    case RS_ERASE_REPAIR:
        if (params->repair_tokens == 0 && !(params->repair_fraction > 0 && params->repair_fraction <= 1)) {
            return rs_fail(error, RS_INVALID_ARGUMENT,
                           "repair needs repair_tokens, or a repair_fraction in (0, 1]");
        }
        params->adapter = NULL;
        if (params->window == 0) params->window = RS_WINDOW_ALL;
        break;
    case RS_ERASE_STEER:
    case RS_ERASE_BRIDGE:
    case RS_ERASE_LEARNED: RS_TRY(complete_learned(c, params)); break;
    case RS_ERASE_PROGRESSIVE: RS_TRY(complete_progressive(c, params)); break;
    default: return rs_fail(error, RS_INVALID_ARGUMENT, "%d is no erase method", (int)params->method);
    }
    const bool leaves_gap = params->method != RS_ERASE_EXACT && params->method != RS_ERASE_STEER &&
                            params->method != RS_ERASE_REFILL;
    if (params->close_gap && !leaves_gap) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "%s leaves no gap to close",
                       rs_erase_method_name(params->method));
    }
    return RS_OK;
}

/* ----------------------------------------------------------------------------------------- pieces -- */

/* Takes the spans' tokens out of list and cache; the others keep their positions. */
static void drop(rs_context *c, const plan *p, rs_erase_report *report) {
    const uint32_t n_before = c->n_tokens;
    uint32_t kept = rs_context_index(c, p->spans[0].begin);
    size_t s = 0;
    for (uint32_t i = kept; i < c->n_tokens; i++) {
        while (s < p->n_spans && c->positions[i] >= p->spans[s].end) s++;
        if (s < p->n_spans && c->positions[i] >= p->spans[s].begin) continue;
        c->tokens[kept] = c->tokens[i];
        c->positions[kept++] = c->positions[i];
    }
    rs_context_cut(c, kept);
    for (size_t i = 0; i < p->n_spans; i++)
        rs_kv_remove(&c->kv, &c->team, p->spans[i].begin, p->spans[i].end);
    report->n_erased = n_before - c->n_tokens;
}

/* What a pass over the tokens from list index `first` on sees of those before it. */
static rs_visible visible_before(const rs_context *c, const rs_erase_params *params, uint32_t first) {
    if (params->window == RS_WINDOW_ALL || (uint64_t)params->window + params->sinks >= first)
        return rs_visible_all();
    return (rs_visible){
        .sinks_end = params->sinks > 0 ? c->positions[params->sinks - 1] + 1 : 0,
        .window_begin = c->positions[first - params->window],
    };
}

/* The next tokens of the list within [at, end) that one pass can take: neighbours that are still known.
 * Returns how many; *at is where they begin. */
static uint32_t next_chunk(const rs_context *c, uint32_t *at, uint32_t end) {
    while (*at < end && c->tokens[*at] == RS_TOKEN_GONE) ++*at;
    uint32_t count = 0;
    while (*at + count < end && count < c->params.n_batch && c->tokens[*at + count] != RS_TOKEN_GONE) count++;
    return count;
}

typedef struct lending {
    rs_context *context;
    const int32_t *positions;
    uint32_t count;
} lending;

static void lend(void *user, rs_streams streams) {
    const lending *l = user;
    rs_kv_lend(&l->context->kv, &l->context->policy.loan, streams, l->positions, l->count);
}

static void take_back(void *user, rs_streams streams) {
    const lending *l = user;
    rs_context *c = l->context;
    rs_kv_take_back(&c->kv, &c->team, &c->policy.loan, streams, l->positions, l->count);
}

/* Runs some tokens through the model again, into their own entries. Where a policy has evicted some of them,
 * those are there for the pass, so that its tokens see each other in every head as when they were read. */
static rs_status encode_chunk(rs_context *c, rs_pass pass) {
    lending l = {c, pass.positions, pass.count};
    const rs_pass_entries entries = {lend, take_back, &l, rs_policy_layers_at_once(&c->policy)};
    if (pass.positions[0] < c->policy.evicted.end) pass.entries = &entries;
    return rs_forward(c, &pass);
}

/* The same for tokens [begin, end) of the list; adds how many to *done. Entries of steered tokens stay as
 * they are. */
static rs_status encode(rs_context *c, uint32_t begin, uint32_t end, rs_visible visible,
                        const rs_adapter *adapter, uint32_t *done) {
    uint32_t at = begin;
    for (uint32_t count; (count = next_chunk(c, &at, end)) > 0; at += count) {
        RS_TRY(encode_chunk(c, (rs_pass){.tokens = c->tokens + at,
                                         .positions = c->positions + at,
                                         .count = count,
                                         .visible = visible,
                                         .adapter = adapter,
                                         .kv_only = true}));
        *done += count;
        (void)rs_context_report(c, at + count - begin, end - begin);
    }
    return RS_OK;
}

static uint32_t repair_count(const rs_erase_params *params, uint32_t suffix) {
    if (suffix == 0) return 0;
    if (params->method != RS_ERASE_REPAIR || params->repair_tokens > 0)
        return params->repair_tokens < suffix ? params->repair_tokens : suffix;
    /* The share is a rounded float: 15 % of 100 tokens are 15, not 16. */
    const double share = ceil((double)params->repair_fraction * suffix - 1e-3);
    return share < 1 ? 1 : (uint32_t)share;
}

/* The tokens behind each span, as many as the parameters say; each once. */
static rs_status encode_after_holes(rs_context *c, const plan *p, const rs_adapter *adapter,
                                    rs_erase_report *report) {
    uint32_t encoded = 0; /* tokens before this index are clean already */
    for (size_t i = 0; i < p->n_spans; i++) {
        const uint32_t hole = rs_context_index(c, p->spans[i].end);
        const uint32_t end = hole + repair_count(&p->params, c->n_tokens - hole);
        const uint32_t begin = hole > encoded ? hole : encoded;
        if (begin >= end) continue;
        RS_TRY(encode(c, begin, end, visible_before(c, &p->params, hole), adapter, &report->n_recomputed));
        encoded = end;
    }
    return RS_OK;
}

typedef struct rotate_task {
    const rs_context *context;
    int32_t begin, end; /* positions of the entries to move */
    int32_t by;
} rotate_task;

static void rotate_stream(void *argument, size_t thread, size_t index) {
    const rotate_task *task = argument;
    (void)thread;
    const rs_context *c = task->context;
    const rs_model *model = c->model;
    const uint32_t rope = model->layers[index / model->shape.n_kv_heads].rope;
    const rs_kv_stream *stream = &c->kv.streams[index];
    float key[RS_HEAD_DIM_MAX];
    int8_t scratch[RS_HEAD_DIM_MAX];
    rs_kv_cursor at;
    bool more = rs_kv_seek(&c->kv, stream, task->begin, &at);
    while (more && rs_kv_position(&c->kv, stream, at) < task->end) {
        rs_kv_load_key(&c->kv, stream, at, key);
        model->kernels->rope(key, c->scratch.cosine[rope], c->scratch.sine[rope], model->shape.n_rot,
                             model->shape.rope_interleaved);
        rs_kv_store_key(&c->kv, model->kernels, stream, at, key, scratch);
        rs_kv_move(&c->kv, stream, at, task->by);
        more = rs_kv_next(&c->kv, stream, &at);
    }
}

/* Moves the tokens at [begin, end) by `by` positions: R(p + by) k = R(by) R(p) k (RoPE, arXiv 2104.09864,
 * section 3.2). */
static void rotate(rs_context *c, int32_t begin, int32_t end, int32_t by) {
    for (int kind = 0; kind < RS_ROPE_KINDS; kind++) {
        if (c->model->rope_freq[kind] == NULL) continue;
        rs_rope_angles(c->model, kind, by, c->scratch.cosine[kind], c->scratch.sine[kind]);
    }
    rotate_task task = {c, begin, end, by};
    rs_team_run(&c->team, rotate_stream, &task, c->kv.n_streams);
}

/* The position of a token of the list; the next one behind its end. */
static int32_t position_at(const rs_context *c, uint32_t index) {
    return index < c->n_tokens ? c->positions[index] : c->next_position;
}

/* Where a position comes to lie when the gaps are closed. */
static int32_t closed_up(const plan *p, int32_t position) {
    int32_t gap = 0;
    for (size_t i = 0; i < p->n_spans && p->spans[i].begin < position; i++) {
        const rs_span span = p->spans[i];
        gap += (span.end < position ? span.end : position) - span.begin;
    }
    return position - gap;
}

/* Moves what lies behind the spans, which are empty by now, up to close the gaps that they leave. */
static void close_gaps(rs_context *c, const plan *p, rs_erase_report *report) {
    const uint32_t first = rs_context_index(c, p->spans[0].begin);
    int32_t gap = 0;
    uint32_t index = first;
    for (size_t i = 0; i < p->n_spans; i++) {
        const rs_span span = p->spans[i];
        gap += span.end - span.begin;
        const int32_t end = i + 1 < p->n_spans ? p->spans[i + 1].begin : c->next_position;
        rotate(c, span.end, end, -gap);
        for (; index < c->n_tokens && c->positions[index] < end; index++) c->positions[index] -= gap;
    }
    c->next_position -= gap;
    c->head_end = closed_up(p, c->head_end);
    c->policy.evicted = (rs_span){closed_up(p, c->policy.evicted.begin), closed_up(p, c->policy.evicted.end)};
    report->n_rotated = c->n_tokens - first;
}

/* Moves all tokens from list index `first` on together, behind `position`: older gaps are closed too. */
static void close_all_gaps(rs_context *c, uint32_t first, int32_t position, rs_erase_report *report) {
    const uint32_t head = rs_context_index(c, c->head_end);
    const uint32_t gone_from = rs_context_index(c, c->policy.evicted.begin);
    const uint32_t gone_to = rs_context_index(c, c->policy.evicted.end);
    for (uint32_t i = first; i < c->n_tokens;) {
        const int32_t from = c->positions[i], by = position - from;
        uint32_t n = 1;
        while (i + n < c->n_tokens && c->positions[i + n] == from + (int32_t)n) n++;
        if (by != 0) rotate(c, from, from + (int32_t)n, by);
        for (uint32_t k = 0; k < n; k++) c->positions[i + k] += by;
        position += (int32_t)n;
        i += n;
    }
    c->next_position = position;
    c->head_end = position_at(c, head);
    c->policy.evicted = (rs_span){position_at(c, gone_from), position_at(c, gone_to)};
    report->n_rotated = c->n_tokens - first;
}

/* Takes the tokens that are not known any more out of the list, from index `first` on. */
static void drop_unknown(rs_context *c, uint32_t first) {
    uint32_t kept = first;
    for (uint32_t i = first; i < c->n_tokens; i++) {
        if (c->tokens[i] == RS_TOKEN_GONE) continue;
        c->tokens[kept] = c->tokens[i];
        c->positions[kept++] = c->positions[i];
    }
    rs_context_cut(c, kept);
}

/* Reads the tokens of the list from index `first` on, which have no entries, as one call of prefill would;
 * adds how many to *done. */
static rs_status read_again(rs_context *c, uint32_t first, uint32_t *done) {
    for (uint32_t at = first; at < c->n_tokens;) {
        uint32_t n_patch;
        const uint32_t count = rs_policy_chunk(&c->policy, c->n_tokens - at, c->params.n_batch, &n_patch);
        RS_TRY(rs_chunk_read(c, &(rs_chunk){.first = at,
                                            .count = count,
                                            .patch = c->tokens + c->n_tokens - n_patch,
                                            .n_patch = n_patch,
                                            .again = true}));
        at += count;
        *done += count;
        (void)rs_context_report(c, at - first, c->n_tokens - first);
    }
    return RS_OK;
}

/* ---------------------------------------------------------------------------------------- methods -- */

/* The suffix loses its entries altogether and is read again, closed up, as prefill would. So does everything
 * when the policy has evicted what the suffix saw when it was read. */
static rs_status erase_exact(rs_context *c, const plan *p, rs_erase_report *report) {
    const int32_t begin = p->spans[0].begin;
    const bool whole = rs_policy_is_whole(&c->policy, c->positions, rs_context_index(c, begin));
    const int32_t from = whole ? begin : 0;
    drop(c, p, report);
    rs_kv_remove(&c->kv, &c->team, from, INT32_MAX);
    rs_policy_cut(&c->policy, from);
    drop_unknown(c, rs_context_index(c, from));

    const uint32_t first = rs_context_index(c, begin), head = rs_context_index(c, c->head_end);
    for (uint32_t i = first; i < c->n_tokens; i++) c->positions[i] = begin + (int32_t)(i - first);
    c->next_position = begin + (int32_t)(c->n_tokens - first);
    if (c->head_end > begin) c->head_end = begin + (int32_t)(head - first);
    return read_again(c, rs_context_index(c, from), &report->n_recomputed);
}

/* What SHIFT, REPAIR and BRIDGE add to DROP is in the parameters. */
static rs_status erase_rows(rs_context *c, const plan *p, rs_erase_report *report) {
    drop(c, p, report);
    if (p->params.method == RS_ERASE_REPAIR || p->params.method == RS_ERASE_BRIDGE)
        RS_TRY(encode_after_holes(c, p, p->params.adapter, report));
    const int32_t begin = p->spans[0].begin;
    if (p->progressive) close_all_gaps(c, rs_context_index(c, begin), begin, report);
    else if (p->params.close_gap) close_gaps(c, p, report);
    return RS_OK;
}

/* Each span's tokens are read once more, through the adapter, before they are forgotten. */
static rs_status erase_steer(rs_context *c, const plan *p, rs_erase_report *report) {
    for (size_t i = 0; i < p->n_spans; i++) {
        const uint32_t first = rs_context_index(c, p->spans[i].begin);
        const uint32_t end = rs_context_index(c, p->spans[i].end);
        const rs_visible visible = visible_before(c, &p->params, first);
        RS_TRY(encode(c, first, end, visible, p->params.adapter, &report->n_steered));
        for (uint32_t t = first; t < end; t++) c->tokens[t] = RS_TOKEN_GONE;
    }
    report->n_erased = report->n_steered;
    if (p->params.repair_tokens == 0) return RS_OK;
    plan repair = *p; /* sees what REPAIR sees: a window might hold nothing but what was just written */
    repair.params.window = RS_WINDOW_ALL;
    return encode_after_holes(c, &repair, NULL, report);
}

/* The filler takes the place of each span's tokens, in the list too. */
static rs_status erase_refill(rs_context *c, const plan *p, rs_erase_report *report) {
    for (size_t i = 0; i < p->n_spans; i++) {
        const uint32_t first = rs_context_index(c, p->spans[i].begin);
        const uint32_t end = rs_context_index(c, p->spans[i].end);
        for (uint32_t t = first; t < end; t++)
            c->tokens[t] = p->params.filler[(t - first) % p->params.n_filler];
        RS_TRY(encode(c, first, end, visible_before(c, &p->params, first), NULL, &report->n_recomputed));
    }
    report->n_erased = report->n_recomputed;
    return RS_OK;
}

static rs_status run(rs_context *c, const plan *p, rs_erase_report *report) {
    switch (p->params.method) {
    case RS_ERASE_EXACT: return erase_exact(c, p, report);
    case RS_ERASE_STEER: return erase_steer(c, p, report);
    case RS_ERASE_REFILL: return erase_refill(c, p, report);
    default: return erase_rows(c, p, report);
    }
}

/* The same, and the context knows afterwards from where on it is cheap. */
static rs_status run_noted(rs_context *c, const plan *p, rs_erase_report *report) {
    const int32_t begin = p->spans[0].begin;
    const uint32_t first = rs_context_index(c, begin);
    rs_draft_cut(c, begin);
    RS_TRY(run(c, p, report));
    if (p->params.method != RS_ERASE_EXACT) {
        if (first < c->first_cheap && first < c->n_tokens) c->first_cheap = first;
    } else if (c->first_cheap >= first || report->n_recomputed == c->n_tokens) {
        c->first_cheap = RS_NOTHING_CHEAP;
        rs_draft_cut(c, 0);
    }
    return RS_OK;
}

rs_status rs_erase(rs_context *context, const rs_span *spans, size_t n_spans, const rs_erase_params *params,
                   rs_erase_report *report) {
    RS_TRY(rs_context_check(context));
    plan p = {spans, n_spans, params != NULL ? *params : rs_erase_default_params(), false};
    p.progressive = p.params.method == RS_ERASE_PROGRESSIVE;
    RS_TRY(complete_params(context, &p.params));
    RS_TRY(check_spans(context, &p));
    RS_TRY(check_room(context, &p));

    const uint64_t start = rs_port_clock_ns();
    rs_erase_report result = {.method = p.progressive ? RS_ERASE_PROGRESSIVE : p.params.method,
                              .n_spans = (uint32_t)n_spans};
    const rs_status status = run_noted(context, &p, &result);
    rs_context_clear_scratch(context);
    if (status != RS_OK) {
        context->poisoned = true;
        return status;
    }
    result.next_position = context->next_position;
    result.ms = (double)(rs_port_clock_ns() - start) / 1e6;
    if (report != NULL) *report = result;
    return RS_OK;
}
