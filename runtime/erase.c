/*
 * Erasing: every method is a plan over the token list, the removal of the spans' entries, and perhaps passes
 * of the engine over some of the tokens that stay. The plan is integers only and is checked whole before the
 * first byte changes.
 */
#include <inttypes.h>

#include "ports/port.h"
#include "runtime/draft.h"
#include "runtime/edit.h"
#include "runtime/status.h"

/* A call whose parameters are checked and completed: no method is LEARNED any more. */
typedef struct plan {
    const rs_span *spans;
    size_t n_spans;
    rs_erase_params params;
    bool progressive;
    uint32_t holes[RS_MAX_SPANS]; /* list index behind each span, as soon as the list has been changed */
} plan;

/* The lowest position whose token is encoded again, with what is evicted of it lent to the pass;
 * next_position where none is. */
static int32_t lowest_encoded(const rs_context *c, const plan *p) {
    switch (p->params.method) {
    case RS_ERASE_REPAIR:
    case RS_ERASE_BRIDGE:
    case RS_ERASE_ADAPTIVE:
    case RS_ERASE_AUTO: return p->spans[0].end;
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

/* ----------------------------------------------------------------------------------------- pieces -- */

static rs_visible visible_before(const rs_context *c, const plan *p, uint32_t first) {
    return rs_edit_visible(c, p->params.sinks, p->params.window, first);
}

static void find_holes(const rs_context *c, plan *p) {
    for (size_t i = 0; i < p->n_spans; i++) p->holes[i] = rs_context_index(c, p->spans[i].end);
}

/* The tokens behind each span, as many as the parameters say; each once. */
static rs_status encode_after_holes(rs_context *c, const plan *p, const rs_adapter *adapter,
                                    rs_erase_report *report) {
    uint32_t encoded = 0; /* tokens before this index are clean already */
    for (size_t i = 0; i < p->n_spans; i++) {
        const uint32_t hole = p->holes[i];
        const uint32_t end = hole + rs_edit_repair_count(&p->params, c->n_tokens - hole);
        const uint32_t begin = hole > encoded ? hole : encoded;
        if (begin >= end) continue;
        RS_TRY(rs_edit_encode(c, begin, end, visible_before(c, p, hole), adapter, &report->n_recomputed));
        encoded = end;
    }
    return RS_OK;
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
static void close_gaps(rs_context *c, const plan *p) {
    const uint32_t first = rs_context_index(c, p->spans[0].begin);
    int32_t gap = 0;
    uint32_t index = first;
    for (size_t i = 0; i < p->n_spans; i++) {
        const rs_span span = p->spans[i];
        gap += span.end - span.begin;
        const int32_t end = i + 1 < p->n_spans ? p->spans[i + 1].begin : c->next_position;
        rs_edit_rotate(c, span.end, end, -gap);
        for (; index < c->n_tokens && c->positions[index] < end; index++) c->positions[index] -= gap;
    }
    c->next_position -= gap;
    c->head_end = closed_up(p, c->head_end);
    const rs_span gone = c->policy.evicted;
    rs_policy_set_evicted(&c->policy, (rs_span){closed_up(p, gone.begin), closed_up(p, gone.end)});
}

/* ---------------------------------------------------------------------------------------- methods -- */

/* From which position on an exact erase reads again: everything, when the policy has evicted what the suffix
 * saw when it was read. */
static int32_t read_from(const rs_context *c, const plan *p) {
    const int32_t begin = p->spans[0].begin;
    return rs_policy_is_whole(&c->policy, c->positions, rs_context_index(c, begin)) ? begin : 0;
}

/* Empties the cache from a position on, so that the tokens there can be read into it. */
static void empty_from(rs_context *c, int32_t from) {
    rs_kv_remove(&c->kv, &c->team, from, INT32_MAX);
    rs_policy_cut(&c->policy, from);
    rs_edit_forget_gone(c, rs_context_index(c, from));
}

/* Behind DROP. The suffix loses its entries altogether and is read again, closed up, as prefill would; and
 * everything is, where a policy has kept so much of what is before it that it would not fit. */
static rs_status read_exactly(rs_context *c, const plan *p, int32_t from, rs_erase_report *report) {
    const int32_t begin = p->spans[0].begin;
    empty_from(c, from);
    const uint32_t left = c->n_tokens - rs_context_index(c, from);
    if (!rs_policy_fits(&c->policy, &c->kv, left, c->params.n_batch)) {
        from = 0;
        empty_from(c, from);
    }

    const uint32_t first = rs_context_index(c, begin), head = rs_context_index(c, c->head_end);
    for (uint32_t i = first; i < c->n_tokens; i++) c->positions[i] = begin + (int32_t)(i - first);
    c->next_position = begin + (int32_t)(c->n_tokens - first);
    if (c->head_end > begin) c->head_end = begin + (int32_t)(head - first);
    return rs_edit_read_again(c, rs_context_index(c, from), &report->n_recomputed);
}

static rs_status erase_exact(rs_context *c, const plan *p, rs_erase_report *report) {
    const int32_t from = read_from(c, p);
    report->n_erased = rs_edit_drop(c, p->spans, p->n_spans);
    return read_exactly(c, p, from, report);
}

static void note_words(rs_context *c, const plan *p) {
    rs_adaptive_begin(c);
    for (size_t i = 0; i < p->n_spans; i++) {
        const uint32_t first = rs_context_index(c, p->spans[i].begin);
        rs_adaptive_note_span(c, first, rs_context_index(c, p->spans[i].end));
    }
}

/* Behind DROP. Gaps are closed before anything is encoded: tokens that saw a gap in front of them would not
 * be what reading gives. */
static rs_status mend(rs_context *c, const plan *p, rs_erase_report *report) {
    const uint32_t first = p->holes[0];
    if (p->progressive) rs_edit_close_all(c, first, p->spans[0].begin);
    else if (p->params.close_gap) close_gaps(c, p);
    if (p->params.close_gap) report->n_rotated = c->n_tokens - first;
    switch (p->params.method) {
    case RS_ERASE_ADAPTIVE:
        return rs_adaptive_encode(c, p->holes, p->n_spans, &p->params, &report->n_recomputed);
    case RS_ERASE_REPAIR:
    case RS_ERASE_BRIDGE: return encode_after_holes(c, p, p->params.adapter, report);
    default: return RS_OK;
    }
}

/* What the other methods add to DROP is in the parameters. */
static rs_status erase_rows(rs_context *c, plan *p, rs_erase_report *report) {
    const bool adaptive = p->params.method == RS_ERASE_ADAPTIVE;
    if (adaptive) note_words(c, p);
    report->n_erased = rs_edit_drop(c, p->spans, p->n_spans);
    /* Reading, which is to come, leaves no place for it, and positions are not to change again. */
    if (p->progressive) rs_edit_drop_gone(c, rs_context_index(c, p->spans[0].begin));
    find_holes(c, p);
    if (adaptive) rs_adaptive_weigh(c);
    return mend(c, p, report);
}

static rs_status erase_auto(rs_context *c, plan *p, rs_erase_report *report) {
    const int32_t from = read_from(c, p);
    note_words(c, p);
    report->n_erased = rs_edit_drop(c, p->spans, p->n_spans);
    find_holes(c, p);
    rs_adaptive_weigh(c);
    rs_auto_choose(c, p->holes, p->n_spans, c->n_tokens - rs_context_index(c, from), &p->params, report);
    return p->params.method == RS_ERASE_EXACT ? read_exactly(c, p, from, report) : mend(c, p, report);
}

/* Each span's tokens are read once more, through the adapter, before they are forgotten. */
static rs_status erase_steer(rs_context *c, plan *p, rs_erase_report *report) {
    for (size_t i = 0; i < p->n_spans; i++) {
        const uint32_t first = rs_context_index(c, p->spans[i].begin);
        const uint32_t end = rs_context_index(c, p->spans[i].end);
        const rs_visible visible = visible_before(c, p, first);
        RS_TRY(rs_edit_encode(c, first, end, visible, p->params.adapter, &report->n_steered));
        for (uint32_t t = first; t < end; t++) c->tokens[t] = RS_TOKEN_GONE;
    }
    report->n_erased = report->n_steered;
    if (p->params.repair_tokens == 0) return RS_OK;
    find_holes(c, p);
    p->params.window = RS_WINDOW_ALL; /* as REPAIR: a window might hold nothing but what was just written */
    return encode_after_holes(c, p, NULL, report);
}

/* The filler takes the place of each span's tokens, in the list too. */
static rs_status erase_refill(rs_context *c, const plan *p, rs_erase_report *report) {
    for (size_t i = 0; i < p->n_spans; i++) {
        const uint32_t first = rs_context_index(c, p->spans[i].begin);
        const uint32_t end = rs_context_index(c, p->spans[i].end);
        for (uint32_t t = first; t < end; t++)
            c->tokens[t] = p->params.filler[(t - first) % p->params.n_filler];
        RS_TRY(rs_edit_encode(c, first, end, visible_before(c, p, first), NULL, &report->n_recomputed));
    }
    report->n_erased = report->n_recomputed;
    return RS_OK;
}

static rs_status run(rs_context *c, plan *p, rs_erase_report *report) {
    switch (p->params.method) {
    case RS_ERASE_EXACT: return erase_exact(c, p, report);
    case RS_ERASE_STEER: return erase_steer(c, p, report);
    case RS_ERASE_REFILL: return erase_refill(c, p, report);
    case RS_ERASE_AUTO: return erase_auto(c, p, report);
    default: return erase_rows(c, p, report);
    }
}

/* The same, and the context knows afterwards from where on it is cheap. */
static rs_status run_noted(rs_context *c, plan *p, rs_erase_report *report) {
    const int32_t begin = p->spans[0].begin;
    const uint32_t first = rs_context_index(c, begin);
    rs_undo_note(c, begin);
    rs_draft_cut(c, begin);
    RS_TRY(run(c, p, report));
    if (p->params.method != RS_ERASE_EXACT) {
        if (first <= c->first_cheap) rs_draft_set_cheap(c, first);
    } else if (c->first_cheap >= first || report->n_recomputed == c->n_tokens) {
        rs_draft_set_cheap(c, RS_NOTHING_CHEAP);
    }
    return RS_OK;
}

rs_status rs_erase(rs_context *context, const rs_span *spans, size_t n_spans, const rs_erase_params *params,
                   rs_erase_report *report) {
    RS_TRY(rs_context_check(context));
    plan p = {
        .spans = spans, .n_spans = n_spans, .params = params != NULL ? *params : rs_erase_default_params()};
    p.progressive = p.params.method == RS_ERASE_PROGRESSIVE;
    RS_TRY(rs_edit_complete(context, &p.params));
    RS_TRY(rs_edit_check_spans(context, spans, n_spans, p.params.force));
    RS_TRY(check_room(context, &p));

    const uint64_t start = rs_port_clock_ns();
    rs_erase_report result = {.method = p.progressive ? RS_ERASE_PROGRESSIVE : p.params.method,
                              .n_spans = (uint32_t)n_spans};
    const rs_status status = run_noted(context, &p, &result);
    return rs_edit_finish(context, status, start, &result, report);
}
