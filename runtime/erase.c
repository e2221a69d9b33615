/*
 * Erasing: every method is a plan over the token list, the removal of the spans' entries, and perhaps passes
 * of the engine over some of the tokens that stay. The plan is integers only and is checked whole before the
 * first byte changes.
 */
#include <inttypes.h>
#include <math.h>

#include "ports/port.h"
#include "runtime/forward.h"
#include "runtime/status.h"

enum { MAX_SPANS = 1024 };

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
    }
    return "?";
}

static rs_status check_spans(rs_context *c, const rs_span *spans, size_t n_spans) {
    rs_error *error = &c->error;
    if (spans == NULL || n_spans == 0) return rs_fail(error, RS_INVALID_ARGUMENT, "no spans were given");
    if (n_spans > MAX_SPANS) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "%zu spans in one call, at most %d are taken", n_spans,
                       MAX_SPANS);
    }
    for (size_t i = 0; i < n_spans; i++) {
        const rs_span span = spans[i];
        if (span.begin < 0 || span.begin >= span.end || span.end > c->next_position) {
            return rs_fail(error, RS_OUT_OF_RANGE,
                           "span %zu, [%" PRId32 ", %" PRId32 "), is not a range within [0, %" PRId32 ")", i,
                           span.begin, span.end, c->next_position);
        }
        if (i > 0 && span.begin < spans[i - 1].end) {
            return rs_fail(error, RS_OUT_OF_RANGE,
                           "span %zu begins at %" PRId32 ", before span %zu ends at %" PRId32
                           ": spans must ascend",
                           i, span.begin, i - 1, spans[i - 1].end);
        }
        if (rs_context_index(c, span.begin) == rs_context_index(c, span.end)) {
            return rs_fail(error, RS_OUT_OF_RANGE,
                           "span %zu, [%" PRId32 ", %" PRId32 "), holds no token any more", i, span.begin,
                           span.end);
        }
    }
    return RS_OK;
}

static rs_status check_params(rs_context *c, const rs_erase_params *params) {
    rs_error *error = &c->error;
    switch (params->method) {
    case RS_ERASE_EXACT:
    case RS_ERASE_DROP:
    case RS_ERASE_SHIFT: return RS_OK;
    case RS_ERASE_REPAIR:
        if (params->repair_tokens > 0 || (params->repair_fraction > 0 && params->repair_fraction <= 1))
            return RS_OK;
        return rs_fail(error, RS_INVALID_ARGUMENT,
                       "repair needs repair_tokens, or a repair_fraction in (0, 1]");
    case RS_ERASE_STEER:
    case RS_ERASE_BRIDGE:
    case RS_ERASE_LEARNED:
        return rs_fail(error, RS_UNSUPPORTED, "%s needs a trained adapter, and none is loaded",
                       rs_erase_method_name(params->method));
    }
    return rs_fail(error, RS_INVALID_ARGUMENT, "%d is no erase method", (int)params->method);
}

/* Takes the spans' tokens out of list and cache; the others keep their positions. */
static void drop(rs_context *c, const rs_span *spans, size_t n_spans) {
    uint32_t kept = rs_context_index(c, spans[0].begin);
    size_t s = 0;
    for (uint32_t i = kept; i < c->n_tokens; i++) {
        while (s < n_spans && c->positions[i] >= spans[s].end) s++;
        if (s < n_spans && c->positions[i] >= spans[s].begin) continue;
        c->tokens[kept] = c->tokens[i];
        c->positions[kept++] = c->positions[i];
    }
    rs_port_secure_zero(c->tokens + kept, (c->n_tokens - kept) * sizeof *c->tokens);
    rs_port_secure_zero(c->positions + kept, (c->n_tokens - kept) * sizeof *c->positions);
    c->n_tokens = kept;
    for (size_t i = 0; i < n_spans; i++) rs_kv_remove(&c->kv, spans[i].begin, spans[i].end);
}

/* Runs tokens [begin, end) of the list through the model again, into their own entries. */
static rs_status recompute(rs_context *c, uint32_t begin, uint32_t end) {
    for (uint32_t at = begin; at < end;) {
        const uint32_t left = end - at, count = left < c->params.n_batch ? left : c->params.n_batch;
        RS_TRY(rs_forward(c, &(rs_pass){.tokens = c->tokens + at,
                                        .positions = c->positions + at,
                                        .count = count,
                                        .visible = rs_visible_all()}));
        at += count;
        (void)rs_context_report(c, at - begin, end - begin);
    }
    return RS_OK;
}

/* The suffix loses its entries altogether and is read again, closed up, as prefill would. */
static rs_status erase_exact(rs_context *c, const rs_span *spans, size_t n_spans, rs_erase_report *report) {
    const int32_t begin = spans[0].begin;
    const uint32_t first = rs_context_index(c, begin);
    drop(c, spans, n_spans);
    rs_kv_remove(&c->kv, begin, INT32_MAX);
    for (uint32_t i = first; i < c->n_tokens; i++) c->positions[i] = begin + (int32_t)(i - first);
    c->next_position = begin + (int32_t)(c->n_tokens - first);
    report->n_recomputed = c->n_tokens - first;
    if (first == c->n_tokens) return RS_OK;
    rs_kv_append(&c->kv, c->positions + first, c->n_tokens - first);
    return recompute(c, first, c->n_tokens);
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

static void erase_shift(rs_context *c, const rs_span *spans, size_t n_spans, rs_erase_report *report) {
    const uint32_t first = rs_context_index(c, spans[0].begin);
    drop(c, spans, n_spans);
    int32_t gap = 0;
    uint32_t index = first;
    for (size_t i = 0; i < n_spans; i++) {
        gap += spans[i].end - spans[i].begin;
        const int32_t end = i + 1 < n_spans ? spans[i + 1].begin : c->next_position;
        rotate(c, spans[i].end, end, -gap);
        for (; index < c->n_tokens && c->positions[index] < end; index++) c->positions[index] -= gap;
    }
    c->next_position -= gap;
    report->n_rotated = c->n_tokens - first;
}

static uint32_t repair_count(const rs_erase_params *params, uint32_t suffix) {
    if (suffix == 0) return 0;
    if (params->repair_tokens > 0) return params->repair_tokens < suffix ? params->repair_tokens : suffix;
    /* The share is a rounded float: 15 % of 100 tokens are 15, not 16. */
    const double share = ceil((double)params->repair_fraction * suffix - 1e-3);
    return share < 1 ? 1 : (uint32_t)share;
}

static rs_status erase_repair(rs_context *c, const rs_span *spans, size_t n_spans,
                              const rs_erase_params *params, rs_erase_report *report) {
    drop(c, spans, n_spans);
    uint32_t done = 0; /* tokens before this index are clean already */
    for (size_t i = 0; i < n_spans; i++) {
        const uint32_t hole = rs_context_index(c, spans[i].end);
        const uint32_t end = hole + repair_count(params, c->n_tokens - hole);
        const uint32_t begin = hole > done ? hole : done;
        if (begin >= end) continue;
        RS_TRY(recompute(c, begin, end));
        report->n_recomputed += end - begin;
        done = end;
    }
    return RS_OK;
}

static rs_status run(rs_context *c, const rs_span *spans, size_t n_spans, const rs_erase_params *params,
                     rs_erase_report *report) {
    switch (params->method) {
    case RS_ERASE_EXACT: return erase_exact(c, spans, n_spans, report);
    case RS_ERASE_SHIFT: erase_shift(c, spans, n_spans, report); return RS_OK;
    case RS_ERASE_REPAIR: return erase_repair(c, spans, n_spans, params, report);
    default: drop(c, spans, n_spans); return RS_OK;
    }
}

rs_status rs_erase(rs_context *context, const rs_span *spans, size_t n_spans, const rs_erase_params *params,
                   rs_erase_report *report) {
    RS_TRY(rs_context_check(context));
    const rs_erase_params chosen = params != NULL ? *params : rs_erase_default_params();
    RS_TRY(check_params(context, &chosen));
    RS_TRY(check_spans(context, spans, n_spans));

    const uint64_t start = rs_port_clock_ns();
    const uint32_t n_before = context->n_tokens;
    rs_erase_report result = {.method = chosen.method, .n_spans = (uint32_t)n_spans};
    const rs_status status = run(context, spans, n_spans, &chosen, &result);
    rs_context_clear_scratch(context);
    if (status != RS_OK) {
        context->poisoned = true;
        return status;
    }
    result.n_erased = n_before - context->n_tokens;
    result.next_position = context->next_position;
    result.ms = (double)(rs_port_clock_ns() - start) / 1e6;
    if (report != NULL) *report = result;
    return RS_OK;
}
