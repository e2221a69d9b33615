/* Adapters: what loads, what is refused and how, and that their products are added where they belong. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/adapter_builder.h"
#include "tests/support/support.h"

enum { N_CTX = 64, N = 40 };

static const rs_test_adapter_spec good = {
    .kind = "bridge", .rank = 8, .window = 24, .sinks = 4, .bridge_tokens = 6, .size = 1.0f, .seed = 1};

static rs_model *model;

static int set_up(void **state) {
    (void)state;
    model = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    rs_model_free(model);
    return 0;
}

static void test_info(void **state) {
    (void)state;
    rs_adapter *adapter = rs_test_adapter(model, &good);
    rs_adapter_info info;
    assert_int_equal(rs_adapter_get_info(adapter, &info), RS_OK);
    assert_int_equal(info.kind, RS_ADAPTER_BRIDGE);
    assert_string_equal(info.name, "a test");
    assert_string_equal(info.training, "{}");
    assert_int_equal(info.rank, 8);
    assert_true(info.alpha == 16.0f);
    assert_int_equal(info.window, 24);
    assert_int_equal(info.sinks, 4);
    assert_int_equal(info.bridge_tokens, 6);
    const rs_shape *s = &model->shape;
    const uint64_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim, d = s->n_embd,
                   ff = s->n_ff;
    assert_int_equal(info.n_params,
                     8 * s->n_layers * ((d + q) + 2 * (d + kv) + (q + d) + 2 * (d + ff) + (ff + d)));
    rs_adapter_free(adapter);
    rs_adapter_free(NULL);
    assert_int_equal(rs_adapter_get_info(NULL, &info), RS_INVALID_ARGUMENT);
}

static void test_full_window(void **state) {
    (void)state;
    rs_test_adapter_spec spec = good;
    spec.window = 0;
    rs_adapter *adapter = rs_test_adapter(model, &spec);
    assert_true(adapter->window == RS_WINDOW_ALL);
    rs_adapter_free(adapter);
}

static void refuse(const rs_model *m, const rs_test_adapter_spec *spec, rs_status status, const char *named) {
    gguf_builder *builder = rs_test_adapter_file(m, spec);
    size_t bytes;
    const void *data = gguf_build(builder, &bytes);
    rs_adapter *adapter = (rs_adapter *)1;
    rs_error error = {0};
    assert_int_equal(rs_adapter_load_memory(model, data, bytes, &adapter, &error), status);
    assert_null(adapter);
    if (strstr(error.message, named) == NULL) fail_msg("\"%s\" does not name %s", error.message, named);
    gguf_builder_free(builder);
}

static void test_refused(void **state) {
    (void)state;
    char left_out[64], last[64];
    (void)snprintf(left_out, sizeof left_out, "blk.1.ffn_up.weight.lora_b");
    (void)snprintf(last, sizeof last, "blk.%u.ffn_down.weight.lora_b", model->shape.n_layers - 1);
    rs_test_adapter_spec bad[9];
    for (size_t i = 0; i < 9; i++) bad[i] = good;
    bad[0].kind = "eraser";
    refuse(model, &bad[0], RS_UNSUPPORTED, "rasure.adapter.kind");
    bad[1].flip_fingerprint = UINT64_C(1) << 63;
    refuse(model, &bad[1], RS_MISMATCH, "rasure.adapter.fingerprint");
    bad[2].rank = RS_LORA_MAX_RANK + 1;
    refuse(model, &bad[2], RS_UNSUPPORTED, "rank 65");
    bad[3].extra_rank = 1;
    refuse(model, &bad[3], RS_MISMATCH, last);
    bad[4].left_out = left_out;
    refuse(model, &bad[4], RS_BAD_FILE, left_out);
    bad[5].extra = "token_embd.weight.lora_a";
    refuse(model, &bad[5], RS_UNSUPPORTED, "1 of");
    bad[6].bad_weight = NAN;
    refuse(model, &bad[6], RS_BAD_FILE, last);
    bad[7].bad_weight = 600.0f; /* times alpha / rank */
    refuse(model, &bad[7], RS_BAD_FILE, last);
    bad[8].bridge_tokens = 1025;
    refuse(model, &bad[8], RS_BAD_FILE, "rasure.adapter.bridge_tokens");

    rs_model *other = rs_test_load(rs_test_golden_path("tiny-gemma3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    refuse(other, &good, RS_MISMATCH, "general.architecture");
    rs_model_free(other);
}

/* A model is no adapter, nor is half an adapter; nor are arguments that are NULL. */
static void test_other_files(void **state) {
    (void)state;
    rs_adapter *adapter;
    rs_error error;
    assert_int_not_equal(rs_adapter_load(model, rs_test_golden_path("tiny-qwen3.gguf"), &adapter, &error),
                         RS_OK);
    assert_non_null(strstr(error.message, "general.type"));
    assert_int_equal(rs_adapter_load(model, "no/such/file", &adapter, &error), RS_IO);
    assert_non_null(strstr(error.message, "no/such/file"));
    assert_null(adapter);
    assert_int_equal(rs_adapter_load(NULL, "x", &adapter, &error), RS_IO);
    assert_int_equal(rs_adapter_load(model, NULL, &adapter, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_adapter_load(model, "x", NULL, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_adapter_load_memory(NULL, NULL, 0, &adapter, &error), RS_INVALID_ARGUMENT);
    gguf_builder *builder = rs_test_adapter_file(model, &good);
    size_t bytes;
    const char *data = gguf_build(builder, &bytes);
    for (size_t cut = 0; cut < bytes; cut += 1 + bytes / 200)
        assert_int_not_equal(rs_adapter_load_memory(model, data, cut, &adapter, NULL), RS_OK);
    gguf_builder_free(builder);
}

/* Value rows of the first layer are V h + alpha / rank B (A h), h the normalised embedding: what the pass
 * stored against double arithmetic over the file's weights. */
static void test_products_are_added(void **state) {
    (void)state;
    rs_test_adapter_spec spec = good;
    spec.kind = "steer";
    spec.size = 0.5f * sqrtf((float)model->shape.n_embd);
    rs_adapter *adapter = rs_test_adapter(model, &spec);
    rs_context *c = rs_test_context(model, N_CTX, 16);
    int32_t tokens[N];
    for (int32_t i = 0; i < N; i++) tokens[i] = i * 3 + 20;
    rs_test_ok(c, rs_decode(c, tokens, N));
    const rs_erase_params params = {.method = RS_ERASE_STEER, .adapter = adapter};
    rs_test_ok(c, rs_erase(c, &(rs_span){10, 30}, 1, &params, NULL));

    const rs_shape *s = &model->shape;
    const rs_layer *layer = &model->layers[0];
    float *a = rs_test_adapter_weights(model, &spec, 0, RS_LORA_V, 'a');
    float *b = rs_test_adapter_weights(model, &spec, 0, RS_LORA_V, 'b');
    float *h = calloc(s->n_embd, sizeof *h), *w = calloc(s->n_embd, sizeof *w);
    double off = 0, length = 0, added = 0;
    for (int32_t t = 10; t < 30; t++) {
        const rs_matrix *table = &model->embedding;
        const size_t row = rs_row_bytes(table->type, s->n_embd),
                     v_row = rs_row_bytes(layer->v.type, s->n_embd);
        model->kernels->dequantize[table->type](table->data + (size_t)tokens[t] * row, h, s->n_embd);
        for (uint32_t i = 0; i < s->n_embd; i++) h[i] *= s->embedding_scale;
        model->kernels->rms_norm(h, layer->attn_norm, s->norm_eps, s->n_embd, h);
        for (uint32_t head = 0; head < s->n_kv_heads; head++) {
            float key[RS_HEAD_DIM_MAX], value[RS_HEAD_DIM_MAX];
            rs_test_row(c, head, t, key, value);
            for (uint32_t d = 0; d < s->head_dim; d++) {
                const size_t out = head * s->head_dim + d;
                model->kernels->dequantize[layer->v.type](layer->v.data + out * v_row, w, s->n_embd);
                double base = 0, extra = 0;
                for (uint32_t i = 0; i < s->n_embd; i++) base += (double)w[i] * (double)h[i];
                for (uint32_t r = 0; r < spec.rank; r++) {
                    double low = 0;
                    for (uint32_t i = 0; i < s->n_embd; i++)
                        low += (double)a[r * s->n_embd + i] * (double)h[i];
                    extra += 2.0 * (double)b[out * spec.rank + r] * low;
                }
                off += pow((double)value[d] - base - extra, 2);
                added += extra * extra;
                length += pow(base + extra, 2);
            }
        }
    }
    printf("# figure: values through an adapter: off by %.4f of their length; the adapter's part is %.2f\n",
           sqrt(off / length), sqrt(added / length));
    assert_true(sqrt(added / length) > 0.2);
    assert_true(sqrt(off / length) < 0.02);
    free(a);
    free(b);
    free(h);
    free(w);
    rs_test_free(c);
    rs_adapter_free(adapter);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_full_window),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_other_files),
        cmocka_unit_test(test_products_are_added),
    };
    return cmocka_run_group_tests_name("adapter", tests, set_up, tear_down);
}
