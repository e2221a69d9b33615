#include "tests/support/adapter_builder.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const modules[RS_LORA_MODULES] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                                     "ffn_gate", "ffn_up", "ffn_down"};

static const rs_matrix *base_of(const rs_model *model, uint32_t layer, int module) {
    const rs_layer *l = &model->layers[layer];
    const rs_matrix *const of[RS_LORA_MODULES] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
    return of[module];
}

/* xorshift64 (Marsaglia, 2003), to [-1, 1). */
static float next_float(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (float)(int32_t)(*state >> 32) * 0x1p-31f;
}

float *rs_test_adapter_weights(const rs_model *model, const rs_test_adapter_spec *spec, uint32_t layer,
                               rs_lora_module module, char part) {
    const rs_matrix *base = base_of(model, layer, (int)module);
    const size_t n = (size_t)spec->rank * (part == 'a' ? base->n_in : base->n_out);
    const float size = part == 'a' ? 1.0f / (float)base->n_in : spec->size;
    float *weights = malloc(n * sizeof *weights);
    assert_non_null(weights);
    uint64_t state = (spec->seed + 1) * UINT64_C(0x9e3779b97f4a7c15) + layer * 100 + (uint64_t)module * 10 +
                     (part == 'a' ? 1 : 2);
    for (size_t i = 0; i < n; i++) weights[i] = size * next_float(&state);
    return weights;
}

gguf_builder *rs_test_adapter_file(const rs_model *model, const rs_test_adapter_spec *spec) {
    rs_model_info info;
    char text[96];
    gguf_builder *builder = gguf_builder_new();
    assert_int_equal(rs_model_get_info(model, &info), RS_OK);
    gguf_add_string(builder, "general.type", "adapter");
    gguf_add_string(builder, "general.architecture", info.architecture);
    gguf_add_string(builder, "general.name", "a test");
    gguf_add_string(builder, "adapter.type", "lora");
    gguf_add_f32(builder, "adapter.lora.alpha", 2.0f * (float)spec->rank);
    gguf_add_string(builder, "rasure.adapter.kind", spec->kind);
    (void)snprintf(text, sizeof text, "%016" PRIx64, rs_model_fingerprint(model) ^ spec->flip_fingerprint);
    gguf_add_string(builder, "rasure.adapter.fingerprint", text);
    gguf_add_u32(builder, "rasure.adapter.window", spec->window);
    gguf_add_u32(builder, "rasure.adapter.sinks", spec->sinks);
    gguf_add_u32(builder, "rasure.adapter.bridge_tokens", spec->bridge_tokens);
    gguf_add_string(builder, "rasure.adapter.training", "{}");
    for (uint32_t layer = 0; layer < model->shape.n_layers; layer++) {
        for (int m = 0; m < RS_LORA_MODULES; m++) {
            const rs_matrix *base = base_of(model, layer, m);
            for (int part = 0; part < 2; part++) {
                const bool last = layer + 1 == model->shape.n_layers && m == RS_LORA_DOWN && part == 1;
                float *weights =
                    rs_test_adapter_weights(model, spec, layer, (rs_lora_module)m, (char)('a' + part));
                uint64_t ne[2] = {part == 0 ? base->n_in : spec->rank, part == 0 ? spec->rank : base->n_out};
                size_t n = (size_t)(ne[0] * ne[1]);
                if (last && spec->bad_weight != 0) weights[n - 1] = spec->bad_weight;
                if (last && spec->extra_rank > 0) { /* the same bytes under another shape */
                    ne[0] *= ne[1];
                    ne[1] = 1;
                }
                (void)snprintf(text, sizeof text, "blk.%" PRIu32 ".%s.weight.lora_%c", layer, modules[m],
                               'a' + part);
                if (spec->left_out == NULL || strcmp(text, spec->left_out) != 0)
                    gguf_add_tensor(builder, text, rs_types[RS_TYPE_F32].gguf_id, ne, 2, weights,
                                    n * sizeof *weights);
                free(weights);
            }
        }
    }
    if (spec->extra != NULL) {
        const float one = 1.0f;
        gguf_add_tensor(builder, spec->extra, rs_types[RS_TYPE_F32].gguf_id, &(uint64_t){1}, 1, &one,
                        sizeof one);
    }
    return builder;
}

rs_adapter *rs_test_adapter(const rs_model *model, const rs_test_adapter_spec *spec) {
    gguf_builder *builder = rs_test_adapter_file(model, spec);
    size_t bytes;
    const void *data = gguf_build(builder, &bytes);
    rs_adapter *adapter;
    rs_error error;
    if (rs_adapter_load_memory(model, data, bytes, &adapter, &error) != RS_OK) fail_msg("%s", error.message);
    gguf_builder_free(builder);
    return adapter;
}
