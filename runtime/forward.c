/* The transformer's layers: llama, qwen2, qwen3 and gemma3 are one sequence with parts that may be absent. */
#include "runtime/forward.h"

#include <math.h>
#include <string.h>

#include "ports/port.h"
#include "runtime/status.h"

/* Tokens that one task takes where the work is token by token. */
enum { TASK_TOKENS = 4 };

typedef struct pass_state {
    rs_context *context;
    const rs_pass *pass;
    const rs_layer *layer;
    uint32_t layer_index;
    /* Of the step at hand: whether h is added to x, normalised by add_norm unless NULL, and what the next
     * linear layers' input is normalised by, NULL when there are none. */
    bool add;
    const float *add_norm, *norm;
    /* Of an adapter's step: rows of low_width, on their way from A to B. */
    const float *low;
    uint32_t low_width;
    const rs_gates *gates;     /* of the policy; NULL: none */
    const rs_gate_layer *gate; /* of the layer at hand */
    void (*each)(const struct pass_state *state, size_t token);
    rs_status status;
} pass_state;

static void some_tokens(void *argument, size_t thread, size_t index) {
    const pass_state *state = argument;
    const size_t begin = index * TASK_TOKENS, left = state->pass->count - begin;
    const size_t end = begin + (left < TASK_TOKENS ? left : TASK_TOKENS);
    (void)thread;
    for (size_t t = begin; t < end; t++) state->each(state, t);
}

static void for_each_token(pass_state *state, void (*each)(const pass_state *state, size_t token)) {
    state->each = each;
    rs_team_run(&state->context->team, some_tokens, state,
                (state->pass->count + TASK_TOKENS - 1) / TASK_TOKENS);
}

static void embed(const pass_state *state, size_t t) {
    const rs_model *model = state->context->model;
    const size_t n = model->shape.n_embd;
    const rs_matrix *table = &model->embedding;
    float *x = state->context->scratch.x + t * n;
    const size_t row = (size_t)state->pass->tokens[t] * rs_row_bytes(table->type, n);
    model->kernels->dequantize[table->type](table->data + row, x, n);
    if (model->shape.embedding_scale == 1.0f) return;
    for (size_t i = 0; i < n; i++) x[i] *= model->shape.embedding_scale;
}

void rs_rope_angles(const rs_model *model, int kind, int32_t by, float *cosine, float *sine) {
    for (uint32_t i = 0; i < model->shape.n_rot / 2; i++) {
        const double angle = (double)by * (double)model->rope_freq[kind][i];
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
}

void rs_rope_turn(const rs_model *model, int kind, int32_t by, const rs_turn *turn) {
    for (uint32_t i = 0; i < model->shape.n_rot / 2; i++)
        rs_turn_of_angle(turn, i, (double)by * (double)model->rope_freq[kind][i]);
}

static void angles(const pass_state *state, size_t t) {
    const rs_model *model = state->context->model;
    const rs_scratch *s = &state->context->scratch;
    const size_t at = t * (model->shape.n_rot / 2);
    for (int kind = 0; kind < RS_ROPE_KINDS; kind++) {
        if (model->rope_freq[kind] == NULL) continue;
        rs_rope_angles(model, kind, state->pass->positions[t], s->cosine[kind] + at, s->sine[kind] + at);
    }
}

/* Between two groups of linear layers: x += h, then h = norm(x), quantised while it is in cache. */
static void enter(const pass_state *state, size_t t) {
    const rs_context *c = state->context;
    const rs_kernels *kernels = c->model->kernels;
    const uint32_t n = c->model->shape.n_embd;
    const float eps = c->model->shape.norm_eps;
    float *x = c->scratch.x + t * n, *h = c->scratch.h + t * n;
    if (state->add) {
        if (state->add_norm != NULL) kernels->rms_norm(h, state->add_norm, eps, n, h);
        kernels->add(x, h, n);
    }
    if (state->norm == NULL) return;
    kernels->rms_norm(x, state->norm, eps, n, h);
    rs_linear_input(&c->linear, h, t, state->pass->count, n);
}

/* What is left to do to the heads of q or k: bias, norm, RoPE. */
static void finish_heads(const pass_state *state, size_t t, float *heads, size_t first_head, size_t n_heads,
                         const float *bias, const float *norm) {
    const rs_model *model = state->context->model;
    const rs_scratch *s = &state->context->scratch;
    const size_t head_dim = model->shape.head_dim, half = model->shape.n_rot / 2;
    const float *cosine = s->cosine[state->layer->rope] + t * half;
    const float *sine = s->sine[state->layer->rope] + t * half;
    for (size_t h = 0; h < n_heads; h++) {
        float *head = heads + h * head_dim;
        if (bias != NULL) model->kernels->add(head, bias + (first_head + h) * head_dim, head_dim);
        if (norm != NULL) model->kernels->rms_norm(head, norm, model->shape.norm_eps, head_dim, head);
        model->kernels->rope(head, cosine, sine, model->shape.n_rot, model->shape.rope_interleaved);
    }
}

/* What the gates make a token's lambdas of; NULL where they have no input. */
static const float *features_of(const pass_state *state, size_t t) {
    const rs_scratch *s = &state->context->scratch;
    const rs_gates *gates = state->gates;
    if (gates->width == 0) return NULL;
    return (state->gate->second.data != NULL ? s->features : s->hidden) + t * gates->n_features;
}

/* One KV head and a page's worth of tokens: its query heads made ready, its keys and values stored. */
static void finish_qkv(void *argument, size_t thread, size_t index) {
    const pass_state *state = argument;
    const rs_context *c = state->context;
    const rs_shape *shape = &c->model->shape;
    const rs_layer *layer = state->layer;
    const size_t kv_head = index % shape->n_kv_heads, begin = index / shape->n_kv_heads * RS_PAGE_ENTRIES;
    const size_t left = state->pass->count - begin;
    const size_t end = begin + (left < RS_PAGE_ENTRIES ? left : RS_PAGE_ENTRIES);
    const size_t group = shape->n_heads / shape->n_kv_heads, head_dim = shape->head_dim;
    const rs_kv_stream *stream = &c->kv.streams[state->layer_index * shape->n_kv_heads + kv_head];
    int8_t scratch[RS_HEAD_DIM_MAX];
    rs_kv_cursor at;
    (void)thread;
    bool found = rs_kv_seek(&c->kv, stream, state->pass->positions[begin], &at);
    for (size_t t = begin; t < end && found; t++) {
        float *q = c->scratch.q + (t * shape->n_heads + kv_head * group) * head_dim;
        float *k = c->scratch.k + (t * shape->n_kv_heads + kv_head) * head_dim;
        float *v = c->scratch.v + (t * shape->n_kv_heads + kv_head) * head_dim;
        finish_heads(state, t, q, kv_head * group, group, layer->q_bias, layer->q_norm);
        finish_heads(state, t, k, kv_head, 1, layer->k_bias, layer->k_norm);
        if (layer->v_bias != NULL) c->model->kernels->add(v, layer->v_bias + kv_head * head_dim, head_dim);
        rs_kv_store(&c->kv, c->model->kernels, stream, at, k, v, scratch);
        if (state->gate != NULL)
            rs_kv_set_lambda(
                &c->kv, stream, at,
                rs_gates_lambda(state->gates, state->gate, (uint32_t)kv_head, features_of(state, t)));
        found = t + 1 < end && rs_kv_advance(&c->kv, stream, state->pass->positions[t + 1], &at);
    }
}

static void quantize_attention(const pass_state *state, size_t t) {
    const rs_context *c = state->context;
    const uint32_t n = c->model->shape.n_heads * c->model->shape.head_dim;
    rs_linear_input(&c->linear, c->scratch.q + t * n, t, state->pass->count, n);
}

static void activate(const pass_state *state, size_t t) {
    const rs_context *c = state->context;
    const rs_model *model = c->model;
    const uint32_t n = model->shape.n_ff;
    float *gate = c->scratch.gate + t * n, *up = c->scratch.up + t * n;
    (model->shape.gelu ? model->kernels->geglu : model->kernels->swiglu)(gate, up, n);
    rs_linear_input(&c->linear, gate, t, state->pass->count, n);
}

static void quantize_low(const pass_state *state, size_t t) {
    const uint32_t n = state->low_width;
    rs_linear_input(&state->context->linear, state->low + t * n, t, state->pass->count, n);
}

/* Adds what the adapter has beside `n` products of the input that was quantised last, modules from `first`
 * on. */
static rs_status add_adapter(pass_state *state, const float *x, rs_lora_module first,
                             const rs_product *products, uint32_t n) {
    rs_context *c = state->context;
    const uint32_t count = state->pass->count;
    if (state->pass->adapter == NULL) return RS_OK;
    const rs_lora *loras = rs_adapter_layer(state->pass->adapter, state->layer_index) + first;
    rs_product low[RS_LORA_MODULES];
    uint32_t n_low = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (loras[i].a.data == NULL) continue;
        low[n_low++] = (rs_product){&loras[i].a, c->scratch.low[i], false};
    }
    if (n_low == 0) return RS_OK;
    RS_TRY(rs_linear_run(&c->linear, x, count, low, n_low, &c->error));
    for (uint32_t i = 0; i < n; i++) {
        if (loras[i].a.data == NULL) continue;
        state->low = c->scratch.low[i];
        state->low_width = loras[i].b.n_in;
        for_each_token(state, quantize_low);
        const rs_product product = {&loras[i].b, products[i].out, true};
        RS_TRY(rs_linear_run(&c->linear, state->low, count, &product, 1, &c->error));
    }
    return RS_OK;
}

/* `n` linear layers of one input, and what the adapter has beside them. */
static rs_status run_linear(pass_state *state, const float *x, rs_lora_module first,
                            const rs_product *products, uint32_t n) {
    rs_context *c = state->context;
    RS_TRY(rs_linear_run(&c->linear, x, state->pass->count, products, n, &c->error));
    return add_adapter(state, x, first, products, n);
}

/* x = silu(x + bias). `up` is free between two feed-forward layers. */
static void activate_gate(const pass_state *state, size_t t, float *x, const float *bias, uint32_t n) {
    const rs_context *c = state->context;
    float *ones = c->scratch.up + t * c->model->shape.n_ff;
    for (uint32_t begin = 0; begin < n; begin += c->model->shape.n_ff) {
        const uint32_t left = n - begin, some = left < c->model->shape.n_ff ? left : c->model->shape.n_ff;
        for (uint32_t i = 0; i < some; i++) ones[i] = 1.0f;
        c->model->kernels->add(x + begin, bias + begin, some);
        c->model->kernels->swiglu(x + begin, ones, some);
    }
}

static void finish_hidden(const pass_state *state, size_t t) {
    const rs_context *c = state->context;
    const uint32_t n = state->gates->width;
    float *hidden = c->scratch.hidden + t * n;
    activate_gate(state, t, hidden, state->gate->first_bias, n);
    if (state->gate->second.data != NULL) rs_linear_input(&c->linear, hidden, t, state->pass->count, n);
}

static void finish_features(const pass_state *state, size_t t) {
    const uint32_t n = state->gates->n_features;
    activate_gate(state, t, state->context->scratch.features + t * n, state->gate->second_bias, n);
}

/* From the outputs of the gates' first layer to what a head's lambda is made of. */
static rs_status finish_gates(pass_state *state) {
    rs_context *c = state->context;
    for_each_token(state, finish_hidden);
    if (state->gate->second.data == NULL) return RS_OK;
    const rs_product features = {&state->gate->second, c->scratch.features, false};
    RS_TRY(rs_linear_run(&c->linear, c->scratch.hidden, state->pass->count, &features, 1, &c->error));
    for_each_token(state, finish_features);
    return RS_OK;
}

static size_t weight_bytes(const rs_product *product) {
    return product->matrix->n_out * rs_row_bytes(product->matrix->type, product->matrix->n_in);
}

/* q, k and v, and of the same input the gates' first layer. What gates say is the policy's work, and its
 * time: of the step that they share, as much as of its weights. */
static rs_status multiply_qkv(pass_state *state) {
    rs_context *c = state->context;
    const rs_layer *layer = state->layer;
    const rs_scratch *s = &c->scratch;
    rs_product products[4] = {{&layer->q, s->q, false}, {&layer->k, s->k, false}, {&layer->v, s->v, false}};
    if (state->gates == NULL || state->gates->width == 0)
        return run_linear(state, s->h, RS_LORA_Q, products, 3);

    products[3] = (rs_product){&state->gate->first, s->hidden, false};
    size_t bytes = 0;
    for (uint32_t i = 0; i < 4; i++) bytes += weight_bytes(&products[i]);
    uint64_t start = rs_port_clock_ns();
    RS_TRY(rs_linear_run(&c->linear, s->h, state->pass->count, products, 4, &c->error));
    c->policy.ns += (rs_port_clock_ns() - start) * weight_bytes(&products[3]) / bytes;
    RS_TRY(add_adapter(state, s->h, RS_LORA_Q, products, 3));
    start = rs_port_clock_ns();
    RS_TRY(finish_gates(state));
    c->policy.ns += rs_port_clock_ns() - start;
    return RS_OK;
}

static rs_status store_keys_and_values(pass_state *state) {
    rs_context *c = state->context;
    state->gate = state->gates != NULL ? &state->gates->layers[state->layer_index] : NULL;
    RS_TRY(multiply_qkv(state));
    const size_t blocks = (state->pass->count + RS_PAGE_ENTRIES - 1) / RS_PAGE_ENTRIES;
    rs_team_run(&c->team, finish_qkv, state, blocks * c->model->shape.n_kv_heads);
    return RS_OK;
}

static rs_status attention_part(pass_state *state) {
    rs_context *c = state->context;
    const rs_shape *shape = &c->model->shape;
    const rs_layer *layer = state->layer;
    const rs_pass *pass = state->pass;
    rs_scratch *s = &c->scratch;

    rs_attention_run(&c->attention, &(rs_attention){
                                        .kv = &c->kv,
                                        .first_stream = state->layer_index * shape->n_kv_heads,
                                        .n_kv_heads = shape->n_kv_heads,
                                        .group = shape->n_heads / shape->n_kv_heads,
                                        .scale = shape->attention_scale,
                                        .window = layer->window,
                                        .visible = pass->visible,
                                        .q = s->q,
                                        .positions = pass->positions,
                                        .count = pass->count,
                                        .out = s->q,
                                    });
    for_each_token(state, quantize_attention);
    return run_linear(state, s->q, RS_LORA_O, &(rs_product){&layer->o, s->h, false}, 1);
}

static rs_status feed_forward_part(pass_state *state) {
    rs_context *c = state->context;
    const rs_layer *layer = state->layer;
    rs_scratch *s = &c->scratch;

    const rs_product gate_up[] = {{&layer->gate, s->gate, false}, {&layer->up, s->up, false}};
    RS_TRY(run_linear(state, s->h, RS_LORA_GATE, gate_up, 2));
    for_each_token(state, activate);
    return run_linear(state, s->gate, RS_LORA_DOWN, &(rs_product){&layer->down, s->h, false}, 1);
}

/* The policy's look at a layer of the chunk. */
static void observe(const pass_state *state) {
    rs_context *c = state->context;
    const rs_shape *shape = &c->model->shape;
    rs_policy_observe(&c->policy,
                      &(rs_observation){.kv = &c->kv,
                                        .kernels = c->model->kernels,
                                        .first_stream = state->layer_index * shape->n_kv_heads,
                                        .n_kv_heads = shape->n_kv_heads,
                                        .group = shape->n_heads / shape->n_kv_heads,
                                        .scale = shape->attention_scale,
                                        .q = c->scratch.q,
                                        .positions = state->pass->positions,
                                        .count = state->pass->count},
                      &c->team);
}

static rs_status run_layer(pass_state *state) {
    rs_context *c = state->context;
    const bool is_last = state->layer_index + 1 == c->model->shape.n_layers;
    state->layer = &c->model->layers[state->layer_index];
    RS_TRY(store_keys_and_values(state));
    if (state->pass->observed) observe(state);
    if (state->pass->kv_only && is_last) return RS_OK;
    RS_TRY(attention_part(state));
    state->add_norm = state->layer->attn_post_norm;
    state->norm = state->layer->ffn_norm;
    for_each_token(state, enter);
    RS_TRY(feed_forward_part(state));
    state->add_norm = state->layer->ffn_post_norm;
    state->norm = is_last ? NULL : state->layer[1].attn_norm;
    for_each_token(state, enter);
    if (state->pass->observe != NULL)
        state->pass->observe(state->pass->user, state->layer_index, c->scratch.x);
    return RS_OK;
}

static rs_status run_layers(pass_state *state) {
    const rs_shape *shape = &state->context->model->shape;
    const rs_pass_entries *entries = state->pass->entries;
    const uint32_t at_once = entries != NULL ? entries->n_layers : shape->n_layers;
    for_each_token(state, embed);
    for_each_token(state, angles);
    state->norm = state->context->model->layers[0].attn_norm;
    for_each_token(state, enter);
    state->add = true;
    for (uint32_t first = 0; first < shape->n_layers; first += at_once) {
        const uint32_t left = shape->n_layers - first, n = left < at_once ? left : at_once;
        const rs_streams streams = {first * shape->n_kv_heads, n * shape->n_kv_heads};
        if (entries != NULL) entries->begin(entries->user, streams);
        for (state->layer_index = first; state->layer_index < first + n; state->layer_index++)
            RS_TRY(run_layer(state));
        if (entries != NULL) entries->end(entries->user, streams);
    }
    return RS_OK;
}

/* The logits of `rows` tokens of the pass, from `first` on, into out [rows][n_vocab]. */
static rs_status compute_logits(rs_context *c, uint32_t first, uint32_t rows, float *out) {
    const rs_model *model = c->model;
    const uint32_t n = model->shape.n_embd, n_vocab = model->shape.n_vocab;
    for (uint32_t r = 0; r < rows; r++) {
        const float *x = c->scratch.x + (size_t)(first + r) * n;
        float *h = c->scratch.h + (size_t)r * n;
        model->kernels->rms_norm(x, model->output_norm, model->shape.norm_eps, n, h);
        rs_linear_input(&c->linear, h, r, rows, n);
    }
    const rs_product product = {&model->output, out, false};
    RS_TRY(rs_linear_run(&c->linear, c->scratch.h, rows, &product, 1, &c->error));
    for (uint32_t r = 0; r < rows; r++) {
        if (model->kernels->largest(out + (size_t)r * n_vocab, n_vocab) < n_vocab) continue;
        /* Inputs are checked and the arithmetic is bounded, so only the file's own numbers can do this. */
        return rs_fail(&c->error, RS_BAD_FILE, "the model's logits are no numbers: its weights are damaged");
    }
    return RS_OK;
}

static void run_pass(void *argument) {
    pass_state *state = argument;
    state->status = run_layers(state);
    if (state->status != RS_OK || !state->pass->logits) return;
    rs_context *c = state->context;
    state->status = compute_logits(c, state->pass->count - 1, 1, c->logits);
    c->has_logits = state->status == RS_OK;
}

rs_status rs_forward(rs_context *context, const rs_pass *pass) {
    const rs_policy_state *policy = &context->policy;
    pass_state state = {
        .context = context, .pass = pass, .gates = rs_policy_has_gates(policy) ? policy->params.gates : NULL};
    /* XNNPACK's operators want the pool for themselves. */
    if (context->model->pool == NULL || context->model->linear == RS_LINEAR_XNNPACK) {
        run_pass(&state);
    } else {
        rs_team_section(&context->team, run_pass, &state);
    }
    return state.status;
}

/* Between two passes the feed-forward layer's room is free. */
uint32_t rs_forward_logits_rows(const rs_context *context) {
    const rs_shape *shape = &context->model->shape;
    const size_t rows = (size_t)context->params.n_batch * shape->n_ff / shape->n_vocab;
    if (rows == 0) return 1;
    return rows < context->params.n_batch ? (uint32_t)rows : context->params.n_batch;
}

rs_status rs_forward_logits(rs_context *context, uint32_t first, uint32_t rows, const float **logits) {
    const size_t n_vocab = context->model->shape.n_vocab;
    float *out = rows == 1 ? context->logits : context->scratch.gate;
    context->has_logits = false;
    RS_TRY(compute_logits(context, first, rows, out));
    if (rows > 1) memcpy(context->logits, out + (rows - 1) * n_vocab, n_vocab * sizeof *out);
    context->has_logits = true;
    *logits = out;
    return RS_OK;
}
