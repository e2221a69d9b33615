/* Shared fixtures. */
#include "tests/support/support.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char *rs_test_default_model(void) {
    static char path[1024];
    const char *given = getenv("RASURE_MODEL"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (given != NULL) return given;
    const bool has_cache = cache != NULL && cache[0] != '\0';
    (void)snprintf(path, sizeof path, "%s%s/rasure/models/SmolLM2-135M-Instruct.Q4_1.gguf",
                   has_cache ? cache : (home != NULL ? home : "."), has_cache ? "" : "/.cache");
    return path;
}

const char *rs_test_golden_path(const char *name) {
    static char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", RS_GOLDEN_DIR, name);
    return path;
}

rs_model *rs_test_load(const char *path, rs_linear linear, rs_isa isa, uint32_t threads) {
    const rs_model_params params = {.threads = threads, .linear = linear, .isa = isa};
    rs_model *model;
    rs_error error;
    if (rs_model_load(path, &params, &model, &error) != RS_OK) fail_msg("%s: %s", path, error.message);
    return model;
}

rs_context *rs_test_context_of(const rs_model *model, const rs_context_params *params) {
    rs_error error;
    size_t bytes;
    rs_context *context;
    if (rs_context_size(model, params, &bytes, &error) != RS_OK) fail_msg("%s", error.message);
    void *memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    if (rs_context_init(memory, bytes, model, params, &context, &error) != RS_OK)
        fail_msg("%s", error.message);
    return context;
}

int rs_test_set_up_tiny(void **state) {
    *state = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 2);
    return 0;
}

int rs_test_tear_down(void **state) {
    rs_model_free(*state);
    return 0;
}

void rs_test_make_tokens(const rs_model *model, int32_t *tokens, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) tokens[i] = (int32_t)((i * 37 + 11) % model->shape.n_vocab);
}

rs_context *rs_test_crowded(const rs_model *model, bool refine, const int32_t *tokens, uint32_t n_ctx,
                            uint32_t *first) {
    enum { BATCH = 64, CALL = 20 };
    const rs_context_params params = {
        .n_ctx = n_ctx,
        .n_batch = BATCH,
        .policy = {.policy = RS_POLICY_SNAPKV, .keep = 0.1F, .observers = 2, .decoded = 100},
        .refine = refine};
    rs_context *c = rs_test_context_of(model, &params);
    while (rs_policy_fits(&c->policy, &c->kv, BATCH, BATCH))
        rs_test_ok(c, rs_decode(c, tokens + c->n_tokens, 1));
    *first = c->n_tokens;
    while (c->n_tokens + CALL <= n_ctx) rs_test_ok(c, rs_decode(c, tokens + c->n_tokens, CALL));
    assert_true(c->n_tokens > *first + BATCH + 2 && c->policy.evicted.begin == (int32_t)*first);
    return c;
}

rs_context *rs_test_context(const rs_model *model, uint32_t n_ctx, uint32_t n_batch) {
    return rs_test_context_of(model, &(rs_context_params){.n_ctx = n_ctx, .n_batch = n_batch});
}

void rs_test_free(rs_context *context) {
    rs_context_wipe(context);
    free(context); /* a context begins where its block does */
}

void rs_test_ok(const rs_context *context, rs_status status) {
    if (status != RS_OK) fail_msg("%s: %s", rs_status_name(status), rs_context_message(context));
}

rs_golden rs_golden_open(const char *name) {
    rs_golden golden;
    rs_error error;
    const char *path = rs_test_golden_path(name);
    if (rs_port_map_file(path, &golden.map) != 0) fail_msg("%s cannot be read", path);
    if (rs_gguf_open(golden.map.data, golden.map.bytes, &golden.gguf, &error) != RS_OK) {
        fail_msg("%s: %s", path, error.message);
    }
    return golden;
}

void rs_golden_close(rs_golden *golden) {
    rs_gguf_close(golden->gguf);
    rs_port_unmap(&golden->map);
}

int32_t *rs_golden_ints(const rs_golden *golden, const char *key, size_t *count) {
    rs_gguf_array array;
    rs_error error;
    if (rs_gguf_get_array(golden->gguf, key, RS_GGUF_I32, &array, &error) != RS_OK)
        fail_msg("%s", error.message);
    *count = (size_t)array.count;
    int32_t *values = malloc(*count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < *count; i++) values[i] = rs_gguf_array_i32(&array, i);
    return values;
}

float *rs_golden_floats(const rs_golden *golden, const char *name, size_t *rows, size_t *columns) {
    const rs_tensor *tensor = rs_gguf_find_tensor(golden->gguf, name);
    if (tensor == NULL) fail_msg("the golden file has no tensor %s", name);
    const rs_kernels *kernels;
    assert_int_equal(rs_kernels_select(RS_ISA_REF, &kernels, NULL), RS_OK);
    *columns = (size_t)tensor->ne[0];
    *rows = (size_t)tensor->ne[1];
    float *values = malloc(*rows * *columns * sizeof *values);
    assert_non_null(values);
    kernels->dequantize[tensor->type](tensor->data, values, *rows * *columns);
    return values;
}

bool rs_test_holds(const rs_context *context, uint32_t stream, int32_t position) {
    const rs_kv *kv = &context->kv;
    rs_kv_cursor at;
    return rs_kv_seek(kv, &kv->streams[stream], position, &at) &&
           rs_kv_position(kv, &kv->streams[stream], at) == position;
}

void rs_test_row(const rs_context *context, uint32_t stream, int32_t position, float *key, float *value) {
    const rs_kv *kv = &context->kv;
    rs_kv_cursor at;
    assert_true(rs_test_holds(context, stream, position));
    rs_kv_seek(kv, &kv->streams[stream], position, &at);
    rs_kv_load_key(kv, &kv->streams[stream], at, key);
    rs_kv_load_value(kv, &kv->streams[stream], at, value);
}

void rs_test_same_cache(const rs_context *a, const rs_context *b) {
    float rows[4][RS_HEAD_DIM_MAX];
    const size_t bytes = a->model->shape.head_dim * sizeof(float);
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_int_equal(a->next_position, b->next_position);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens);
    assert_memory_equal(a->positions, b->positions, a->n_tokens * sizeof *a->positions);
    assert_memory_equal(a->turns, b->turns, a->n_tokens * sizeof *a->turns);
    for (uint32_t s = 0; s < a->kv.n_streams; s++) {
        const bool full = a->params.policy.policy == RS_POLICY_FULL;
        assert_int_equal(a->kv.streams[s].n_live, full ? a->n_tokens : b->kv.streams[s].n_live);
        assert_int_equal(b->kv.streams[s].n_live, a->kv.streams[s].n_live);
        for (uint32_t i = 0; i < a->n_tokens; i++) {
            if (!full && !rs_test_holds(a, s, a->positions[i])) continue;
            rs_test_row(a, s, a->positions[i], rows[0], rows[1]);
            rs_test_row(b, s, b->positions[i], rows[2], rows[3]);
            assert_memory_equal(rows[0], rows[2], bytes);
            assert_memory_equal(rows[1], rows[3], bytes);
        }
    }
}
