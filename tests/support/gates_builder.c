#include "tests/support/gates_builder.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCK = 32, BLOCK_BYTES = 34 };

typedef struct writer {
    gguf_builder *builder;
    const rs_test_gates_spec *spec;
    uint64_t state;
} writer;

/* xorshift64 (Marsaglia, 2003). */
static uint32_t next(writer *w) {
    w->state ^= w->state << 13;
    w->state ^= w->state >> 7;
    w->state ^= w->state << 17;
    return (uint32_t)(w->state >> 32);
}

static void add(writer *w, const char *name, rs_type type, uint64_t columns, uint64_t rows, const void *data,
                size_t bytes) {
    const uint64_t ne[2] = {columns, rows};
    if (w->spec->left_out != NULL && strcmp(name, w->spec->left_out) == 0) return;
    gguf_add_tensor(w->builder, name, rs_types[type].gguf_id, ne, rows > 1 ? 2 : 1, data, bytes);
}

static void add_floats(writer *w, const char *name, uint64_t columns, uint64_t rows, float base, float step,
                       float size) {
    const size_t n = (size_t)(columns * rows);
    float *data = malloc(n * sizeof *data);
    assert_non_null(data);
    for (size_t i = 0; i < n; i++)
        data[i] = base + step * (float)i + size * (float)(int32_t)next(w) * 0x1p-31F;
    if (w->spec->bad != NULL && strcmp(name, w->spec->bad) == 0) data[n - 1] = NAN;
    add(w, name, RS_TYPE_F32, columns, rows, data, n * sizeof *data);
    free(data);
}

static void add_blocks(writer *w, const char *name, uint64_t columns, uint64_t rows) {
    const size_t n = (size_t)(columns / BLOCK * rows);
    unsigned char *data = malloc(n * BLOCK_BYTES + 1);
    assert_non_null(data);
    const uint16_t scale = rs_f32_to_f16(w->spec->size / 127.0F);
    for (size_t b = 0; b < n; b++) {
        unsigned char *block = data + b * BLOCK_BYTES;
        block[0] = (unsigned char)(scale & 0xffU);
        block[1] = (unsigned char)(scale >> 8);
        for (size_t i = 0; i < BLOCK; i++) block[2 + i] = (unsigned char)(int8_t)((int)(next(w) % 255) - 127);
    }
    add(w, name, RS_TYPE_Q8_0, columns, rows, data, n * BLOCK_BYTES);
    free(data);
}

static const char *part(char name[64], uint32_t layer, const char *what) {
    (void)snprintf(name, 64, "blk.%" PRIu32 ".gate.%s", layer, what);
    return name;
}

static void add_tensors(writer *w, const rs_model *model) {
    const rs_test_gates_spec *spec = w->spec;
    const uint32_t heads = model->shape.n_kv_heads;
    const bool constant = strcmp(spec->form, "constant") == 0, untied = strcmp(spec->form, "untied") == 0;
    const bool tied = strcmp(spec->form, "tied") == 0;
    char name[64];
    for (uint32_t l = 0; l < model->shape.n_layers; l++) {
        const float bias = spec->bias + spec->bias_step * (float)(l * heads);
        if (!constant) {
            add_blocks(w, part(name, l, "0.weight"), model->shape.n_embd, spec->width);
            add_floats(w, part(name, l, "0.bias"), spec->width, 1, 0, 0, spec->size);
        }
        if (!constant && !untied) {
            add_blocks(w, part(name, l, "1.weight"), spec->width, spec->features);
            add_floats(w, part(name, l, "1.bias"), spec->features, 1, 0, 0, spec->size);
        }
        if (untied) add_floats(w, part(name, l, "out.weight"), spec->width, heads, 0, 0, spec->size);
        if (constant || untied) add_floats(w, part(name, l, "out.bias"), heads, 1, bias, spec->bias_step, 0);
    }
    if (constant || untied) return;
    add_floats(w, "gate.out.weight", tied ? spec->features / heads : spec->features, tied ? 1 : heads, 0, 0,
               spec->size);
    add_floats(w, "gate.out.bias", tied ? 1 : heads, 1, spec->bias, spec->bias_step, 0);
}

gguf_builder *rs_test_gates_file(const rs_model *model, const rs_test_gates_spec *spec) {
    rs_model_info info;
    char text[32];
    writer w = {gguf_builder_new(), spec, (spec->seed + 1) * UINT64_C(0x9e3779b97f4a7c15)};
    assert_int_equal(rs_model_get_info(model, &info), RS_OK);
    gguf_add_string(w.builder, "general.type", "adapter");
    gguf_add_string(w.builder, "general.architecture", info.architecture);
    gguf_add_string(w.builder, "general.name", "a test");
    gguf_add_string(w.builder, "adapter.type", "gates");
    (void)snprintf(text, sizeof text, "%016" PRIx64, rs_model_fingerprint(model) ^ spec->flip_fingerprint);
    gguf_add_string(w.builder, "rasure.adapter.fingerprint", text);
    gguf_add_string(w.builder, "rasure.adapter.training", "{}");
    gguf_add_string(w.builder, "rasure.gates.form", spec->form);
    gguf_add_string(w.builder, "rasure.gates.scope", spec->scope);
    if (spec->width > 0) gguf_add_u32(w.builder, "rasure.gates.width", spec->width);
    gguf_add_u32(w.builder, "rasure.gates.budget", 64);
    add_tensors(&w, model);
    if (spec->extra != NULL) add_floats(&w, spec->extra, 4, 1, 0, 0, 1);
    return w.builder;
}

rs_gates *rs_test_gates(const rs_model *model, const rs_test_gates_spec *spec) {
    gguf_builder *builder = rs_test_gates_file(model, spec);
    size_t bytes;
    const void *data = gguf_build(builder, &bytes);
    rs_gates *gates = NULL;
    rs_error error;
    if (rs_gates_load_memory(model, data, bytes, &gates, &error) != RS_OK) fail_msg("%s", error.message);
    gguf_builder_free(builder);
    return gates;
}
