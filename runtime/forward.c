/* The transformer's layers: llama, qwen2, qwen3 and gemma3 are one sequence with parts that may be absent. */
#include "runtime/forward.h"

#include <math.h>
#include <pthreadpool.h>
#include <string.h>

#include "runtime/status.h"

typedef struct pass_state {
    rs_context *context;
    const rs_pass *pass;
    const rs_layer *layer;
    const float *norm; /* of the step at hand */
} pass_state;

/* A task per token; a single token is not worth waking threads for. */
static void for_each_token(pass_state *state, pthreadpool_task_1d_t task) {
    const uint32_t count = state->pass->count;
    pthreadpool_parallelize_1d(count > 1 ? state->context->model->pool : NULL, task, state, count, 0);
}

static void embed(void *argument, size_t t) {
    const pass_state *state = argument;
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

static void angles(void *argument, size_t t) {
    const pass_state *state = argument;
    const rs_model *model = state->context->model;
    const rs_scratch *s = &state->context->scratch;
    const size_t at = t * (model->shape.n_rot / 2);
    for (int kind = 0; kind < RS_ROPE_KINDS; kind++) {
        if (model->rope_freq[kind] == NULL) continue;
        rs_rope_angles(model, kind, state->pass->positions[t], s->cosine[kind] + at, s->sine[kind] + at);
    }
}

static void norm_residual(void *argument, size_t t) {
    const pass_state *state = argument;
    const rs_model *model = state->context->model;
    const size_t n = model->shape.n_embd;
    model->kernels->rms_norm(state->context->scratch.x + t * n, state->norm, model->shape.norm_eps, n,
                             state->context->scratch.h + t * n);
}

/* x += h, h normalised first where the architecture does that. */
static void add_residual(void *argument, size_t t) {
    const pass_state *state = argument;
    const rs_model *model = state->context->model;
    const size_t n = model->shape.n_embd;
    float *h = state->context->scratch.h + t * n;
    if (state->norm != NULL) model->kernels->rms_norm(h, state->norm, model->shape.norm_eps, n, h);
    model->kernels->add(state->context->scratch.x + t * n, h, n);
}

static void finish_heads(const pass_state *state, size_t t, float *heads, uint32_t n_heads, const float *bias,
                         const float *norm) {
    const rs_model *model = state->context->model;
    const rs_scratch *s = &state->context->scratch;
    const size_t head_dim = model->shape.head_dim, half = model->shape.n_rot / 2;
    const float *cosine = s->cosine[state->layer->rope] + t * half;
    const float *sine = s->sine[state->layer->rope] + t * half;
    heads += t * n_heads * head_dim;
    if (bias != NULL) model->kernels->add(heads, bias, n_heads * head_dim);
    for (uint32_t h = 0; h < n_heads; h++) {
        float *head = heads + h * head_dim;
        if (norm != NULL) model->kernels->rms_norm(head, norm, model->shape.norm_eps, head_dim, head);
        model->kernels->rope(head, cosine, sine, model->shape.n_rot, model->shape.rope_interleaved);
    }
}

static void finish_qkv(void *argument, size_t t) {
    const pass_state *state = argument;
    const rs_shape *shape = &state->context->model->shape;
    const rs_layer *layer = state->layer;
    const rs_scratch *s = &state->context->scratch;
    finish_heads(state, t, s->q, shape->n_heads, layer->q_bias, layer->q_norm);
    finish_heads(state, t, s->k, shape->n_kv_heads, layer->k_bias, layer->k_norm);
    const size_t kv_dim = (size_t)shape->n_kv_heads * shape->head_dim;
    if (layer->v_bias != NULL) state->context->model->kernels->add(s->v + t * kv_dim, layer->v_bias, kv_dim);
}

static void store_kv(const pass_state *state, uint32_t layer) {
    rs_context *c = state->context;
    const rs_shape *shape = &c->model->shape;
    const size_t kv_dim = (size_t)shape->n_kv_heads * shape->head_dim;
    for (uint32_t h = 0; h < shape->n_kv_heads; h++) {
        const rs_kv_stream *stream = &c->kv.streams[layer * shape->n_kv_heads + h];
        rs_kv_cursor at;
        bool found = rs_kv_seek(&c->kv, stream, state->pass->positions[0], &at);
        for (uint32_t t = 0; t < state->pass->count && found; t++) {
            const size_t head = t * kv_dim + (size_t)h * shape->head_dim;
            rs_kv_store(&c->kv, c->model->kernels, stream, at, c->scratch.k + head, c->scratch.v + head,
                        c->scratch.head);
            found = rs_kv_next(&c->kv, stream, &at);
        }
    }
}

static void activate(void *argument, size_t t) {
    const pass_state *state = argument;
    const rs_model *model = state->context->model;
    const size_t n = model->shape.n_ff;
    float *gate = state->context->scratch.gate + t * n, *up = state->context->scratch.up + t * n;
    (model->shape.gelu ? model->kernels->geglu : model->kernels->swiglu)(gate, up, n);
}

static rs_status attention_part(pass_state *state, uint32_t index) {
    rs_context *c = state->context;
    const rs_shape *shape = &c->model->shape;
    const rs_layer *layer = state->layer;
    const rs_pass *pass = state->pass;
    rs_scratch *s = &c->scratch;

    state->norm = layer->attn_norm;
    for_each_token(state, norm_residual);
    rs_linear_input(&c->linear, s->h, pass->count, shape->n_embd);
    const rs_product qkv[] = {{&layer->q, s->q}, {&layer->k, s->k}, {&layer->v, s->v}};
    RS_TRY(rs_linear_run(&c->linear, s->h, pass->count, qkv, 3, &c->error));
    for_each_token(state, finish_qkv);
    store_kv(state, index);
    rs_attention_run(&c->attention, &(rs_attention){
                                        .kv = &c->kv,
                                        .first_stream = index * shape->n_kv_heads,
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
    rs_linear_input(&c->linear, s->q, pass->count, shape->n_heads * shape->head_dim);
    RS_TRY(rs_linear_run(&c->linear, s->q, pass->count, &(rs_product){&layer->o, s->h}, 1, &c->error));
    state->norm = layer->attn_post_norm;
    for_each_token(state, add_residual);
    return RS_OK;
}

static rs_status feed_forward_part(pass_state *state) {
    rs_context *c = state->context;
    const rs_shape *shape = &c->model->shape;
    const rs_layer *layer = state->layer;
    const uint32_t count = state->pass->count;
    rs_scratch *s = &c->scratch;

    state->norm = layer->ffn_norm;
    for_each_token(state, norm_residual);
    rs_linear_input(&c->linear, s->h, count, shape->n_embd);
    const rs_product gate_up[] = {{&layer->gate, s->gate}, {&layer->up, s->up}};
    RS_TRY(rs_linear_run(&c->linear, s->h, count, gate_up, 2, &c->error));
    for_each_token(state, activate);
    rs_linear_input(&c->linear, s->gate, count, shape->n_ff);
    RS_TRY(rs_linear_run(&c->linear, s->gate, count, &(rs_product){&layer->down, s->h}, 1, &c->error));
    state->norm = layer->ffn_post_norm;
    for_each_token(state, add_residual);
    return RS_OK;
}

rs_status rs_forward(rs_context *context, const rs_pass *pass) {
    const rs_model *model = context->model;
    pass_state state = {.context = context, .pass = pass};
    for_each_token(&state, embed);
    for_each_token(&state, angles);
    for (uint32_t l = 0; l < model->shape.n_layers; l++) {
        state.layer = &model->layers[l];
        RS_TRY(attention_part(&state, l));
        RS_TRY(feed_forward_part(&state));
        if (pass->observe != NULL) pass->observe(pass->user, l, context->scratch.x);
    }
    return RS_OK;
}

rs_status rs_forward_logits(rs_context *context, uint32_t row) {
    const rs_model *model = context->model;
    const uint32_t n = model->shape.n_embd;
    float *h = context->scratch.h;
    model->kernels->rms_norm(context->scratch.x + (size_t)row * n, model->output_norm, model->shape.norm_eps,
                             n, h);
    rs_linear_input(&context->linear, h, 1, n);
    RS_TRY(rs_linear_run(&context->linear, h, 1, &(rs_product){&model->output, context->logits}, 1,
                         &context->error));
    /* Inputs are checked and the arithmetic is bounded, so only the file's own numbers can do this. */
    for (uint32_t i = 0; i < model->shape.n_vocab; i++) {
        if (!isfinite(context->logits[i])) {
            return rs_fail(&context->error, RS_BAD_FILE,
                           "the model's logits are no numbers: its weights are damaged");
        }
    }
    context->has_logits = true;
    return RS_OK;
}
