/* Where a context's memory goes, its life and plain queries. */
#include "runtime/context.h"

#include <inttypes.h>
#include <string.h>

#include "ports/port.h"
#include "runtime/adapter.h"
#include "runtime/draft.h"
#include "runtime/policy/budget.h"
#include "runtime/sampler.h"
#include "runtime/status.h"

enum { MIN_CTX = 16, MAX_CTX = 1 << 20, MAX_BATCH = 4096 };

rs_context_params rs_context_default_params(void) {
    return (rs_context_params){.n_ctx = 2048, .n_batch = 128};
}

static rs_status check_params(const rs_model *model, const rs_context_params *params, rs_error *error) {
    if (params->n_ctx < MIN_CTX || params->n_ctx > MAX_CTX) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "n_ctx is %" PRIu32 ", must be %d to %d", params->n_ctx,
                       MIN_CTX, MAX_CTX);
    }
    if (params->n_batch < 1 || params->n_batch > MAX_BATCH) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "n_batch is %" PRIu32 ", must be 1 to %d", params->n_batch,
                       MAX_BATCH);
    }
    const uint64_t pages = (uint64_t)model->shape.n_layers * model->shape.n_kv_heads *
                           ((params->n_ctx + RS_PAGE_ENTRIES - 1) / RS_PAGE_ENTRIES);
    if (pages > UINT32_MAX) {
        return rs_fail(error, RS_INVALID_ARGUMENT,
                       "n_ctx %" PRIu32 " needs more KV pages than can be numbered", params->n_ctx);
    }
    return RS_OK;
}

static uint32_t max_u32(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

/* Of the rows that linear layers multiply. */
static uint32_t widest_input(const rs_context *c) {
    const rs_shape *shape = &c->model->shape;
    uint32_t width = max_u32(shape->n_embd, shape->n_heads * shape->head_dim);
    width = max_u32(width, shape->n_ff);
    if (rs_policy_has_gates(&c->policy)) width = max_u32(width, c->params.policy.gates->width);
    return max_u32(width, RS_LORA_MAX_RANK);
}

static rs_turn layout_turn(rs_arena *arena, const char *name, size_t pairs) {
    return (rs_turn){.tangent = rs_arena_take_scratch(arena, name, pairs, sizeof(int16_t)),
                     .sine = rs_arena_take_scratch(arena, name, pairs, sizeof(int16_t)),
                     .quarters = rs_arena_take_scratch(arena, name, pairs, 1)};
}

static const char activations[] = "activations";

/* Both factors are the arena's to multiply: on 32 bits a row of a file's and a batch of the caller's may be
 * too many together. */
static float *rows_of(rs_arena *arena, size_t rows, size_t width) {
    return rs_arena_take_scratch(arena, activations, rows, width * sizeof(float));
}

static void layout_scratch(rs_context *c, rs_arena *arena) {
    const rs_shape *shape = &c->model->shape;
    const uint32_t q_dim = shape->n_heads * shape->head_dim, kv_dim = shape->n_kv_heads * shape->head_dim;
    const size_t n = c->params.n_batch;
    rs_scratch *s = &c->scratch;
    s->x = rows_of(arena, n, shape->n_embd);
    s->h = rows_of(arena, n, shape->n_embd);
    s->q = rows_of(arena, n, q_dim);
    s->k = rows_of(arena, n, kv_dim);
    s->v = rows_of(arena, n, kv_dim);
    if (rs_policy_has_gates(&c->policy)) {
        const rs_gates *gates = c->params.policy.gates;
        s->hidden = rows_of(arena, n, gates->width);
        s->features = rows_of(arena, n, gates->n_features);
    }
    s->gate = rows_of(arena, n, shape->n_ff);
    s->up = rows_of(arena, n, shape->n_ff);
    for (size_t i = 0; i < sizeof s->low / sizeof *s->low; i++)
        s->low[i] = rows_of(arena, n, RS_LORA_MAX_RANK);
    for (int kind = 0; kind < RS_ROPE_KINDS; kind++) {
        if (c->model->rope_freq[kind] == NULL) continue;
        s->cosine[kind] = rows_of(arena, n, shape->n_rot / 2);
        s->sine[kind] = rows_of(arena, n, shape->n_rot / 2);
        s->back[kind] = layout_turn(arena, activations, shape->n_rot / 2);
        s->turn[kind] = layout_turn(arena, activations, shape->n_rot / 2);
    }
    s->tokens = rs_arena_take_scratch(arena, activations, n, sizeof *s->tokens);
    s->positions = rs_arena_take_scratch(arena, activations, n, sizeof *s->positions);
    rs_team_layout(&c->team, arena, c->model->threads);
    rs_linear_layout(&c->linear, arena, c->model->kernels, c->model->threads, c->params.n_batch,
                     widest_input(c), c->model->linear == RS_LINEAR_XNNPACK);
    rs_attention_layout(&c->attention, arena, c->model->threads, shape->n_kv_heads,
                        shape->n_heads / shape->n_kv_heads, shape->head_dim, c->kv.max_pages);
}

static uint32_t room(const void *context, uint32_t stream) {
    const rs_context *c = context;
    return rs_policy_room(&c->policy, stream, c->params.n_ctx, c->params.n_batch);
}

/* Takes every block from the arena, in the same order whether it measures or places. */
static void layout(rs_context *c, rs_arena *arena) {
    const rs_shape *shape = &c->model->shape;
    (void)rs_arena_take(arena, "context", 1, sizeof *c);
    c->tokens = rs_arena_take(arena, "token list", c->params.n_ctx, sizeof *c->tokens);
    c->positions = rs_arena_take(arena, "token list", c->params.n_ctx, sizeof *c->positions);
    c->turns = rs_arena_take(arena, "token list", c->params.n_ctx, sizeof *c->turns);
    c->policy.params = c->params.policy;
    rs_policy_layout(&c->policy, arena, shape, c->params.n_ctx, c->params.n_batch, c->model->threads);
    rs_kv_shape shape_of_cache = {.n_streams = shape->n_layers * shape->n_kv_heads,
                                  .head_dim = shape->head_dim,
                                  .has_lambda = rs_policy_has_gates(&c->policy),
                                  .room = room,
                                  .user = c,
                                  .n_pages = rs_policy_pages(&c->policy, c->params.n_ctx, c->params.n_batch)};
    rs_kv_layout(&c->kv, arena, &shape_of_cache);
    if (c->params.refine) {
        shape_of_cache.spare = true;
        rs_kv_layout(&c->draft.kv, arena, &shape_of_cache);
    }
    if (c->params.undo_bytes > 0) rs_undo_layout(c, arena);
    rs_meter_layout(&c->meter, arena, c->kv.n_streams);
    c->logits = rs_arena_take_scratch(arena, "logits and sampling", shape->n_vocab, sizeof *c->logits);
    c->candidates =
        rs_arena_take_scratch(arena, "logits and sampling", shape->n_vocab, sizeof *c->candidates);
    c->text_capacity = rs_tokenizer_max_piece(c->model->tokenizer) + 2 * RS_MAX_STOP_BYTES;
    c->text = rs_arena_take_scratch(arena, "logits and sampling", c->text_capacity, 1);
    layout_scratch(c, arena);
    c->scratch_bytes = arena->back;
}

/* Names of what a budget in bytes is for; activations, logits and token list are beside it. */
static bool is_of_cache(const char *name) {
    static const char *const names[] = {"KV pages", "KV page tables", "policy"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static size_t cache_bytes(const rs_memory_item *items, size_t n_items) {
    size_t bytes = 0;
    for (size_t i = 0; i < n_items; i++)
        if (is_of_cache(items[i].name)) bytes += items[i].bytes;
    return bytes;
}

/* `bytes` of everything, `cache` of what a budget is for. */
static rs_status measure(const rs_model *model, const rs_context_params *params, size_t *bytes, size_t *cache,
                         rs_error *error) {
    rs_context c = {.model = model, .params = *params};
    rs_arena arena;
    rs_arena_open(&arena, NULL, 0);
    layout(&c, &arena);
    if (arena.overflow) return rs_fail(error, RS_NO_MEMORY, "the context does not fit this system's memory");
    *bytes = arena.front + arena.back;
    *cache = cache_bytes(arena.items, arena.n_items) + rs_policy_outside_bytes(&c.policy);
    return RS_OK;
}

typedef struct cost_of {
    const rs_model *model;
    rs_context_params params;
} cost_of;

static rs_status cost(void *user, const rs_policy_params *policy, size_t *bytes, rs_error *error) {
    cost_of *of = user;
    size_t all;
    of->params.policy = *policy;
    RS_TRY(rs_policy_check(policy, of->model, of->params.n_batch, error));
    return measure(of->model, &of->params, &all, bytes, error);
}

/* The parameters checked, and completed where a budget in bytes stands for one of them. */
static rs_status complete(const rs_model *model, const rs_context_params *params, rs_context_params *filled,
                          size_t *bytes, size_t *cache, rs_error *error) {
    *filled = params != NULL ? *params : rs_context_default_params();
    RS_TRY(check_params(model, filled, error));
    if (filled->policy.budget_bytes > 0)
        RS_TRY(rs_budget_fit(&filled->policy, cost, &(cost_of){model, *filled}, error));
    RS_TRY(rs_policy_check(&filled->policy, model, filled->n_batch, error));
    return measure(model, filled, bytes, cache, error);
}

rs_status rs_context_size(const rs_model *model, const rs_context_params *params, size_t *bytes,
                          rs_error *error) {
    if (model == NULL || bytes == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "model or bytes is NULL");
    rs_context_params completed;
    size_t cache;
    return complete(model, params, &completed, bytes, &cache, error);
}

rs_status rs_context_cache_size(const rs_model *model, const rs_context_params *params, size_t *bytes,
                                rs_error *error) {
    if (model == NULL || bytes == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "model or bytes is NULL");
    rs_context_params completed;
    size_t all;
    return complete(model, params, &completed, &all, bytes, error);
}

rs_status rs_context_init(void *memory, size_t bytes, const rs_model *model, const rs_context_params *params,
                          rs_context **context, rs_error *error) {
    if (context != NULL) *context = NULL;
    if (memory == NULL || model == NULL || context == NULL) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "memory, model or context is NULL");
    }
    if ((uintptr_t)memory % RS_ARENA_ALIGN != 0) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "the context's memory is not aligned to %d",
                       RS_ARENA_ALIGN);
    }
    size_t needed, cache;
    rs_context_params completed;
    RS_TRY(complete(model, params, &completed, &needed, &cache, error));
    if (bytes < needed) {
        return rs_fail(error, RS_NO_MEMORY, "the context needs %zu bytes, the block has %zu", needed, bytes);
    }
    rs_arena_unpoison(memory, bytes);
    memset(memory, 0, bytes);
    rs_context *c = memory;
    c->model = model;
    c->params = completed;
    c->bytes = needed;
    rs_arena arena;
    rs_arena_open(&arena, memory, needed);
    layout(c, &arena);
    c->attention.kernels = model->kernels;
    rs_team_init(&c->team, model->pool);
    c->linear.team = c->attention.team = &c->team;
    c->params.policy = c->policy.params;
    memcpy(c->items, arena.items, sizeof c->items);
    c->n_items = arena.n_items;
    rs_kv_reset(&c->kv);
    rs_kv_reset(&c->draft.kv);
    c->first_cheap = RS_NOTHING_CHEAP;
    rs_meter_reset(&c->meter);
    *context = c;
    return RS_OK;
}

void rs_context_reset(rs_context *context) {
    if (context == NULL) return;
    rs_forget_undo(context);
    rs_draft_cut(context, 0);
    context->first_cheap = RS_NOTHING_CHEAP;
    rs_kv_reset(&context->kv);
    rs_meter_reset(&context->meter);
    rs_port_secure_zero(context->tokens, context->params.n_ctx * sizeof *context->tokens);
    rs_port_secure_zero(context->positions, context->params.n_ctx * sizeof *context->positions);
    rs_port_secure_zero(context->turns, context->params.n_ctx * sizeof *context->turns);
    rs_context_clear_scratch(context);
    context->n_tokens = 0;
    context->next_position = 0;
    context->head_end = 0;
    rs_policy_reset(&context->policy);
    context->poisoned = false;
    context->error = (rs_error){0};
}

rs_status rs_context_copy(rs_context *to, const rs_context *from) {
    if (to == NULL || from == NULL) return RS_INVALID_ARGUMENT;
    if (from->poisoned)
        return rs_fail(&to->error, RS_POISONED, "an earlier call on the context to copy failed half-way");
    if (to->model != from->model)
        return rs_fail(&to->error, RS_MISMATCH, "the context to copy is of another model");
    if (rs_policy_fingerprint(&to->policy) != rs_policy_fingerprint(&from->policy))
        return rs_fail(&to->error, RS_MISMATCH,
                       "the context to copy keeps other entries: its policy differs");
    if (from->n_tokens > to->params.n_ctx || !rs_kv_can_hold(&to->kv, &from->kv)) {
        return rs_fail(&to->error, RS_NO_SPACE,
                       "the %" PRIu32 " tokens of the context to copy do not fit a cache for %" PRIu32,
                       from->n_tokens, to->params.n_ctx);
    }
    if (to == from) return RS_OK;
    rs_forget_undo(to);
    rs_draft_cut(to, 0);
    to->first_cheap = from->first_cheap;
    rs_kv_copy(&to->kv, &from->kv);
    rs_meter_copy(&to->meter, &from->meter);
    rs_context_cut(to, 0);
    memcpy(to->tokens, from->tokens, from->n_tokens * sizeof *to->tokens);
    memcpy(to->positions, from->positions, from->n_tokens * sizeof *to->positions);
    memcpy(to->turns, from->turns, from->n_tokens * sizeof *to->turns);
    to->n_tokens = from->n_tokens;
    to->next_position = from->next_position;
    to->head_end = from->head_end;
    rs_policy_copy(&to->policy, &from->policy);
    to->poisoned = false;
    to->ms_per_token = from->ms_per_token;
    rs_context_clear_scratch(to);
    memcpy(to->logits, from->logits, to->model->shape.n_vocab * sizeof *to->logits);
    to->has_logits = from->has_logits;
    return RS_OK;
}

void rs_context_wipe(rs_context *context) {
    if (context == NULL) return;
    const size_t bytes = context->bytes;
    rs_arena_unpoison(context, bytes);
    rs_port_secure_zero(context, bytes);
}

const char *rs_context_message(const rs_context *context) {
    return context != NULL ? context->error.message : "";
}

rs_status rs_context_set_head(rs_context *context, int32_t position) {
    RS_TRY(rs_context_check(context));
    if (position < 0 || position > context->next_position) {
        return rs_fail(&context->error, RS_OUT_OF_RANGE,
                       "position %" PRId32 " is not within [0, %" PRId32 "]", position,
                       context->next_position);
    }
    context->head_end = position;
    return RS_OK;
}

void rs_context_set_progress(rs_context *context, rs_progress_fn progress, void *user) {
    if (context == NULL) return;
    context->progress = progress;
    context->progress_user = user;
}

bool rs_context_report(const rs_context *context, uint32_t done, uint32_t total) {
    return context->progress == NULL || context->progress(context->progress_user, done, total);
}

rs_status rs_context_check(rs_context *context) {
    if (context == NULL) return RS_INVALID_ARGUMENT;
    if (!context->poisoned) return RS_OK;
    return rs_fail(&context->error, RS_POISONED,
                   "an earlier call failed half-way; the context must be reset");
}

rs_status rs_context_check_ids(rs_context *context, const int32_t *tokens, size_t count) {
    const uint32_t n_vocab = context->model->shape.n_vocab;
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] >= 0 && (uint32_t)tokens[i] < n_vocab) continue;
        return rs_fail(&context->error, RS_OUT_OF_RANGE,
                       "token %zu is %" PRId32 ", the vocabulary has %" PRIu32, i, tokens[i], n_vocab);
    }
    return RS_OK;
}

uint32_t rs_context_index(const rs_context *context, int32_t position) {
    uint32_t low = 0, high = context->n_tokens;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (context->positions[middle] < position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void rs_context_cut(rs_context *context, uint32_t kept) {
    const uint32_t count = context->n_tokens - kept;
    rs_port_secure_zero(context->tokens + kept, count * sizeof *context->tokens);
    rs_port_secure_zero(context->positions + kept, count * sizeof *context->positions);
    rs_port_secure_zero(context->turns + kept, count * sizeof *context->turns);
    context->n_tokens = kept;
}

rs_status rs_context_memory(const rs_context *context, rs_memory_item *items, size_t capacity,
                            size_t *count) {
    if (context == NULL || count == NULL || (items == NULL && capacity > 0)) return RS_INVALID_ARGUMENT;
    *count = context->n_items;
    for (size_t i = 0; i < capacity && i < context->n_items; i++) items[i] = context->items[i];
    return RS_OK;
}

rs_status rs_context_get_info(const rs_context *context, rs_context_info *info) {
    if (context == NULL || info == NULL) return RS_INVALID_ARGUMENT;
    *info = (rs_context_info){
        .n_ctx = context->params.n_ctx,
        .n_batch = context->params.n_batch,
        .n_tokens = context->n_tokens,
        .next_position = context->next_position,
        .arena_bytes = context->bytes,
        .kv_bytes = rs_kv_used_bytes(&context->kv),
        .kv_capacity = (size_t)context->kv.n_pages * context->kv.page_bytes,
        .cache_bytes =
            cache_bytes(context->items, context->n_items) + rs_policy_outside_bytes(&context->policy),
        .policy = context->params.policy,
        .can_undo = rs_kv_journal_is_whole(&context->undo.journal) && !context->poisoned,
        .n_cheap = context->first_cheap < context->n_tokens ? context->n_tokens - context->first_cheap : 0,
        .poisoned = context->poisoned,
    };
    return RS_OK;
}

rs_status rs_context_footprint(const rs_context *context, rs_footprint *footprint) {
    if (context == NULL || footprint == NULL) return RS_INVALID_ARGUMENT;
    const rs_meter *meter = &context->meter;
    const rs_held held = rs_meter_total(meter);
    *footprint = (rs_footprint){
        .full = meter->full * meter->n_streams,
        .held = held.one_by_one,
        .held_at_once = held.at_once,
        .peak_entries = meter->peak_entries,
        .peak_bytes = meter->peak_bytes,
        .policy_ms = (double)context->policy.ns / 1e6,
    };
    return RS_OK;
}

rs_status rs_context_streams(const rs_context *context, uint32_t *entries, size_t capacity, size_t *count) {
    if (context == NULL || count == NULL || (entries == NULL && capacity > 0)) return RS_INVALID_ARGUMENT;
    *count = context->kv.n_streams;
    for (size_t i = 0; i < capacity && i < *count; i++) entries[i] = context->kv.streams[i].n_live;
    return RS_OK;
}

rs_status rs_context_tokens(rs_context *context, int32_t begin, int32_t end, int32_t *tokens,
                            int32_t *positions, size_t capacity, size_t *count) {
    RS_TRY(rs_context_check(context));
    rs_error *error = &context->error;
    if (count == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "count is NULL");
    if (begin < 0 || begin > end || end > context->next_position) {
        return rs_fail(error, RS_OUT_OF_RANGE,
                       "positions [%" PRId32 ", %" PRId32 ") are not within [0, %" PRId32 "]", begin, end,
                       context->next_position);
    }
    const uint32_t first = rs_context_index(context, begin), last = rs_context_index(context, end);
    *count = last - first;
    if (tokens == NULL && positions == NULL) return RS_OK;
    if (*count > capacity) {
        return rs_fail(error, RS_NO_SPACE, "%zu tokens do not fit the buffer's %zu", *count, capacity);
    }
    if (tokens != NULL) memcpy(tokens, context->tokens + first, *count * sizeof *tokens);
    if (positions != NULL) memcpy(positions, context->positions + first, *count * sizeof *positions);
    return RS_OK;
}

void rs_context_clear_scratch(rs_context *context) {
    rs_arena_zero((unsigned char *)context + context->bytes - context->scratch_bytes, context->scratch_bytes);
    context->has_logits = false;
}
