#include "runtime/draft.h"

void rs_draft_exchange(rs_context *context) {
    rs_context *c = context;
    const rs_kv kv = c->kv;
    const rs_span evicted = c->policy.evicted;
    c->kv = c->draft.kv;
    c->policy.evicted = c->draft.evicted;
    c->draft.kv = kv;
    c->draft.evicted = evicted;
}

void rs_draft_empty(rs_context *context) {
    rs_context *c = context;
    rs_kv_remove(&c->draft.kv, &c->team, 0, INT32_MAX);
    c->draft.evicted = (rs_span){0, 0};
    c->draft.n_read = 0;
    c->draft.first = 0;
    c->draft.is_old = false;
}

void rs_draft_take_over(rs_context *context) {
    rs_context *c = context;
    rs_draft_exchange(c);
    for (uint32_t i = c->draft.first; i < c->n_tokens; i++) c->turns[i] = RS_KEYS_READ;
    c->draft.n_read = 0;
    c->draft.is_old = true;
}

void rs_draft_zero(rs_context *context, uint32_t n_tokens) {
    rs_context *c = context;
    rs_kv_shorten(&c->draft.kv, rs_kv_pages_for(n_tokens));
    if (rs_kv_most_pages(&c->draft.kv) == 0) rs_draft_empty(c);
}

uint32_t rs_draft_left(const rs_context *context) {
    const rs_context *c = context;
    if (c->draft.is_old) return rs_kv_most_pages(&c->draft.kv) * RS_PAGE_ENTRIES;
    return c->first_cheap < c->n_tokens ? c->n_tokens - c->draft.n_read : 0;
}

void rs_draft_cut(rs_context *context, int32_t position) {
    rs_context *c = context;
    if (c->draft.is_old) rs_draft_empty(c);
    const uint32_t index = rs_context_index(c, position);
    if (c->draft.n_read <= index) return;
    rs_draft_exchange(c);
    const bool whole = rs_policy_is_whole(&c->policy, c->positions, index);
    if (whole) {
        rs_kv_remove(&c->kv, &c->team, position, INT32_MAX);
        rs_policy_cut(&c->policy, position);
        c->draft.n_read = index;
        if (c->draft.first > index) c->draft.first = index;
    }
    rs_draft_exchange(c);
    if (!whole) rs_draft_empty(c);
}

void rs_draft_begin(rs_context *context, uint32_t n_tokens) {
    rs_context *c = context;
    const int32_t position = n_tokens < c->n_tokens ? c->positions[n_tokens] : c->next_position;
    rs_kv_copy_below(&c->draft.kv, &c->team, &c->kv, position);
    c->draft.evicted = c->policy.evicted;
    rs_draft_exchange(c);
    rs_policy_cut(&c->policy, position);
    rs_draft_exchange(c);
    c->draft.n_read = c->draft.first = n_tokens;
}

void rs_draft_set_cheap(rs_context *context, uint32_t first) {
    rs_context *c = context;
    const uint32_t before = c->first_cheap;
    c->first_cheap = first < c->n_tokens ? first : RS_NOTHING_CHEAP;
    /* Reading would else go on in front of what is cheap now, and read what is as it should be. */
    if (c->first_cheap > before && c->draft.n_read > 0 && c->draft.n_read < c->first_cheap) rs_draft_empty(c);
}
