/* New tokens in place of a span: its entries go, those behind it make room or close up, and the new ones are
 * read where the span stood. */
#include <inttypes.h>
#include <string.h>

#include "ports/port.h"
#include "runtime/draft.h"
#include "runtime/edit.h"
#include "runtime/status.h"

typedef struct replacement {
    rs_span span;
    const int32_t *tokens;
    uint32_t n_tokens;
    rs_erase_params params;
    uint32_t n_old; /* tokens of the span that are there */
    int32_t by;     /* positions that the suffix moves */
} replacement;

static rs_status check_tokens(rs_context *c, const int32_t *tokens, size_t n_tokens) {
    if (tokens == NULL || n_tokens == 0)
        return rs_fail(&c->error, RS_INVALID_ARGUMENT, "no tokens were given; to take some out, erase them");
    if (n_tokens > c->params.n_ctx)
        return rs_fail(&c->error, RS_NO_SPACE, "%zu tokens do not fit a cache for %" PRIu32, n_tokens,
                       c->params.n_ctx);
    return rs_context_check_ids(c, tokens, n_tokens);
}

static rs_status check_method(rs_context *c, rs_erase_params *params) {
    switch (params->method) {
    case RS_ERASE_EXACT:
    case RS_ERASE_DROP:
    case RS_ERASE_REPAIR:
    case RS_ERASE_BRIDGE:
    case RS_ERASE_ADAPTIVE:
    case RS_ERASE_LEARNED: RS_TRY(rs_edit_complete(c, params)); break;
    default:
        return rs_fail(&c->error, RS_INVALID_ARGUMENT, "%s does not go with new tokens",
                       rs_erase_method_name(params->method));
    }
    if (params->method != RS_ERASE_STEER) return RS_OK;
    return rs_fail(&c->error, RS_MISMATCH, "the adapter is for steer, which does not go with new tokens");
}

static rs_status check_room(rs_context *c, const replacement *r) {
    const uint32_t left = c->params.n_ctx - (c->n_tokens - r->n_old);
    if (r->n_tokens > left) {
        return rs_fail(&c->error, RS_NO_SPACE,
                       "%" PRIu32 " tokens do not fit in place of %" PRIu32 ": the cache holds %" PRIu32
                       " of %" PRIu32,
                       r->n_tokens, r->n_old, c->n_tokens, c->params.n_ctx);
    }
    if (r->by > 0 && c->next_position > INT32_MAX - r->by)
        return rs_fail(&c->error, RS_NO_SPACE, "positions are used up");
    return RS_OK;
}

/* The new tokens enter the list in front of index `first`. */
static void insert(rs_context *c, const replacement *r, uint32_t first) {
    const size_t behind = c->n_tokens - first;
    memmove(c->tokens + first + r->n_tokens, c->tokens + first, behind * sizeof *c->tokens);
    memmove(c->positions + first + r->n_tokens, c->positions + first, behind * sizeof *c->positions);
    memmove(c->turns + first + r->n_tokens, c->turns + first, behind * sizeof *c->turns);
    for (uint32_t i = 0; i < r->n_tokens; i++) {
        c->tokens[first + i] = r->tokens[i];
        c->positions[first + i] = r->span.begin + (int32_t)i;
        c->turns[first + i] = RS_KEYS_READ;
    }
    c->n_tokens += r->n_tokens;
}

/* As an exact erase, with the new tokens in front of the suffix. */
static rs_status replace_exactly(rs_context *c, const replacement *r, uint32_t first,
                                 rs_erase_report *report) {
    const int32_t begin = r->span.begin;
    rs_kv_remove(&c->kv, &c->team, begin, INT32_MAX);
    rs_edit_forget_gone(c, first);
    const uint32_t head = rs_context_index(c, c->head_end);
    insert(c, r, first);
    for (uint32_t i = first; i < c->n_tokens; i++) c->positions[i] = begin + (int32_t)(i - first);
    c->next_position = begin + (int32_t)(c->n_tokens - first);
    if (c->head_end >= r->span.end) c->head_end = begin + (int32_t)(head - first + r->n_tokens);
    else if (c->head_end > begin) c->head_end = begin;
    if (c->first_cheap >= first) rs_draft_set_cheap(c, RS_NOTHING_CHEAP);
    return rs_edit_read_again(c, first, &report->n_recomputed);
}

/* The suffix, which is the list from `first` on, moves as far as it must. */
static void move_suffix(rs_context *c, const replacement *r, uint32_t first) {
    if (c->head_end >= r->span.end) c->head_end += r->by;
    else if (c->head_end > r->span.begin) c->head_end = r->span.begin;
    if (r->by == 0) return;
    rs_edit_rotate(c, r->span.end, c->next_position, r->by);
    for (uint32_t i = first; i < c->n_tokens; i++) c->positions[i] += r->by;
    c->next_position += r->by;
}

static rs_status replace(rs_context *c, const replacement *r, rs_erase_report *report) {
    const uint32_t first = rs_context_index(c, r->span.begin), behind = first + r->n_tokens;
    const bool adaptive = r->params.method == RS_ERASE_ADAPTIVE;
    rs_undo_note(c, r->span.begin);
    rs_draft_cut(c, r->span.begin);
    if (adaptive) {
        rs_adaptive_begin(c);
        rs_adaptive_note_span(c, first, first + r->n_old);
        rs_adaptive_note(c, r->tokens, r->n_tokens);
    }
    report->n_erased = rs_edit_drop(c, &r->span, 1);
    if (r->params.method == RS_ERASE_EXACT) return replace_exactly(c, r, first, report);

    move_suffix(c, r, first);
    report->n_rotated = r->by != 0 ? c->n_tokens - first : 0;
    insert(c, r, first);
    rs_kv_insert(&c->kv, c->positions + first, r->n_tokens);
    RS_TRY(rs_edit_encode(c, first, behind, rs_visible_all(), NULL, &report->n_recomputed));
    if (first <= c->first_cheap) rs_draft_set_cheap(c, behind);
    if (r->params.method == RS_ERASE_DROP) return RS_OK;
    if (adaptive) {
        rs_adaptive_weigh(c);
        return rs_adaptive_encode(c, &behind, 1, &r->params, &report->n_recomputed);
    }
    return rs_edit_encode(c, behind, behind + rs_edit_repair_count(&r->params, c->n_tokens - behind),
                          rs_edit_visible(c, r->params.sinks, r->params.window, behind), r->params.adapter,
                          &report->n_recomputed);
}

rs_status rs_replace(rs_context *context, rs_span span, const int32_t *tokens, size_t n_tokens,
                     const rs_erase_params *params, rs_erase_report *report) {
    RS_TRY(rs_context_check(context));
    rs_context *c = context;
    replacement r = {
        .span = span, .tokens = tokens, .params = params != NULL ? *params : rs_erase_default_params()};
    if (c->params.policy.policy != RS_POLICY_FULL)
        return rs_fail(&c->error, RS_UNSUPPORTED, "only a full cache has room in the middle for new tokens");
    RS_TRY(check_tokens(c, tokens, n_tokens));
    RS_TRY(check_method(c, &r.params));
    RS_TRY(rs_edit_check_spans(c, &span, 1, r.params.force));
    r.n_tokens = (uint32_t)n_tokens;
    r.n_old = rs_context_index(c, span.end) - rs_context_index(c, span.begin);
    const int32_t more = (int32_t)r.n_tokens - (span.end - span.begin);
    if (more > 0 || r.params.close_gap) r.by = more;
    RS_TRY(check_room(c, &r));

    const uint64_t start = rs_port_clock_ns();
    rs_erase_report result = {.method = r.params.method, .n_spans = 1};
    const rs_status status = replace(c, &r, &result);
    return rs_edit_finish(c, status, start, &result, report);
}
