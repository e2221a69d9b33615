/* What is checked and filled in before anything changes. */
#include <inttypes.h>
#include <math.h>

#include "runtime/edit.h"
#include "runtime/status.h"

enum { MAX_FILLER = 1 << 20 };

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
    case RS_ERASE_ADAPTIVE: return "adaptive";
    case RS_ERASE_AUTO: return "auto";
    }
    return "?";
}

static rs_status check_span(rs_context *c, const rs_span *spans, size_t i, bool force) {
    const rs_span span = spans[i];
    rs_error *error = &c->error;
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
    if (span.begin < c->head_end && !force) {
        return rs_fail(error, RS_INVALID_ARGUMENT,
                       "span %zu begins at %" PRId32 ", within the head that ends at %" PRId32
                       ": it is erased only by force",
                       i, span.begin, c->head_end);
    }
    return RS_OK;
}

rs_status rs_edit_check_spans(rs_context *context, const rs_span *spans, size_t n_spans, bool force) {
    rs_context *c = context;
    if (spans == NULL || n_spans == 0) return rs_fail(&c->error, RS_INVALID_ARGUMENT, "no spans were given");
    if (n_spans > RS_MAX_SPANS) {
        return rs_fail(&c->error, RS_INVALID_ARGUMENT, "%zu spans in one call, at most %d are taken", n_spans,
                       RS_MAX_SPANS);
    }
    for (size_t i = 0; i < n_spans; i++) RS_TRY(check_span(c, spans, i, force));
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

static rs_status complete_adaptive(rs_context *c, rs_erase_params *params) {
    if (!(params->echo_bound >= 0 && params->echo_bound < INFINITY))
        return rs_fail(&c->error, RS_INVALID_ARGUMENT, "echo_bound is %g, must be 0 or more",
                       (double)params->echo_bound);
    if (params->repair_tokens == 0) params->repair_tokens = RS_ADAPTIVE_TOKENS;
    if (params->echo_bound == 0) params->echo_bound = RS_ADAPTIVE_BOUND;
    params->close_gap = true;
    return RS_OK;
}

static bool is_limit(double limit) {
    return limit >= 0 && limit < INFINITY;
}

static rs_status complete_auto(rs_context *c, rs_erase_params *params) {
    if (!is_limit((double)params->max_kl) || !is_limit(params->max_ms) ||
        (params->max_kl == 0 && params->max_ms == 0)) {
        return rs_fail(&c->error, RS_INVALID_ARGUMENT,
                       "auto needs max_kl or max_ms, each 0 or more; they are %g nats and %g ms",
                       (double)params->max_kl, params->max_ms);
    }
    params->adapter = NULL;
    params->close_gap = true;
    return RS_OK;
}

/* It begins as another method, whose gaps it closes. */
static rs_status complete_progressive(rs_context *c, rs_erase_params *params) {
    if (!c->params.refine) {
        return rs_fail(&c->error, RS_UNSUPPORTED,
                       "progressive needs spare pages to refine in, and the context was made without");
    }
    params->method = params->adapter != NULL ? RS_ERASE_BRIDGE : RS_ERASE_ADAPTIVE;
    params->close_gap = true;
    return params->adapter != NULL ? complete_learned(c, params) : complete_adaptive(c, params);
}

rs_status rs_edit_complete(rs_context *context, rs_erase_params *params) {
    rs_context *c = context;
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
    case RS_ERASE_ADAPTIVE: RS_TRY(complete_adaptive(c, params)); break;
    case RS_ERASE_AUTO: RS_TRY(complete_auto(c, params)); break;
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

uint32_t rs_edit_repair_count(const rs_erase_params *params, uint32_t suffix) {
    if (suffix == 0) return 0;
    if (params->method != RS_ERASE_REPAIR || params->repair_tokens > 0)
        return params->repair_tokens < suffix ? params->repair_tokens : suffix;
    /* The share is a rounded float: 15 % of 100 tokens are 15, not 16. */
    const double share = ceil((double)params->repair_fraction * suffix - 1e-3);
    return share < 1 ? 1 : (uint32_t)share;
}
