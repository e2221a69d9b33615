/* What erase passes write, against the same passes in float32 PyTorch. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/adapter.h"
#include "tests/support/support.h"

enum { N_CTX = 128, N_BATCH = 32 };

/* Relative length of the difference, of all rows of a kind in a layer. */
#define BOUND 0.06
/* The passes change at least as much. */
#define EFFECT 0.3

typedef struct method {
    const char *name, *file; /* of the adapter; NULL: none */
    rs_erase_params params;
} method;

static rs_model *model;
static rs_golden golden;

static int set_up(void **state) {
    (void)state;
    model = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    golden = rs_golden_open("tiny-qwen3.erase.golden.gguf");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    rs_golden_close(&golden);
    rs_model_free(model);
    return 0;
}

/* Keys or values [n] of a layer in the cache against rows [n_kv_heads][n][head_dim]. */
static double distance(const rs_context *c, uint32_t layer, char part, const int32_t *positions, size_t n,
                       const float *want) {
    const uint32_t head_dim = model->shape.head_dim;
    double difference = 0, length = 0;
    for (uint32_t h = 0; h < model->shape.n_kv_heads; h++) {
        for (size_t i = 0; i < n; i++) {
            float rows[2][RS_HEAD_DIM_MAX];
            rs_test_row(c, layer * model->shape.n_kv_heads + h, positions[i], rows[0], rows[1]);
            const float *row = rows[part == 'k' ? 0 : 1];
            for (uint32_t d = 0; d < head_dim; d++, want++) {
                difference += pow((double)row[d] - (double)*want, 2);
                length += pow((double)*want, 2);
            }
        }
    }
    return sqrt(difference / length);
}

/* The worst layer's keys, and values. */
static void compare(const rs_context *c, const method *m, const int32_t *positions, size_t n,
                    double worst[2]) {
    for (uint32_t layer = 0; layer < model->shape.n_layers; layer++) {
        for (int part = 0; part < 2; part++) {
            char name[64];
            size_t rows, columns;
            (void)snprintf(name, sizeof name, "%s.%c.%u", m->name, "kv"[part], layer);
            float *want = rs_golden_floats(&golden, name, &rows, &columns);
            assert_int_equal(rows, n * model->shape.n_kv_heads);
            assert_int_equal(columns, model->shape.head_dim);
            worst[part] = fmax(worst[part], distance(c, layer, "kv"[part], positions, n, want));
            free(want);
        }
    }
}

static void test_rows(void **state) {
    const method *m = *state;
    size_t n_tokens, n_span, n;
    char key[64];
    int32_t *tokens = rs_golden_ints(&golden, "tokens", &n_tokens),
            *span = rs_golden_ints(&golden, "span", &n_span);
    (void)snprintf(key, sizeof key, "%s.positions", m->name);
    int32_t *positions = rs_golden_ints(&golden, key, &n);
    rs_adapter *adapter = NULL;
    rs_error error;
    if (m->file != NULL && rs_adapter_load(model, rs_test_golden_path(m->file), &adapter, &error) != RS_OK)
        fail_msg("%s", error.message);

    rs_context *c = rs_test_context(model, N_CTX, N_BATCH),
               *untouched = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(c, rs_decode(c, tokens, n_tokens));
    rs_test_ok(untouched, rs_decode(untouched, tokens, n_tokens));
    rs_erase_params params = m->params;
    rs_erase_report report;
    params.adapter = adapter;
    rs_test_ok(c, rs_erase(c, &(rs_span){span[0], span[1]}, 1, &params, &report));
    assert_int_equal(report.n_recomputed + report.n_steered, n); /* the same tokens are taken */
    double worst[2] = {0}, effect[2] = {0};
    compare(c, m, positions, n, worst);
    compare(untouched, m, positions, n, effect);
    printf("# figure: %s in int8 against float32 PyTorch: keys off by %.4f, values by %.4f of their length "
           "in the "
           "worst layer (without the erase: %.2f, %.2f)\n",
           m->name, worst[0], worst[1], effect[0], effect[1]);
    assert_true(worst[0] < BOUND && worst[1] < BOUND);
    assert_true(effect[0] > EFFECT && effect[1] > EFFECT);
    rs_test_free(c);
    rs_test_free(untouched);
    rs_adapter_free(adapter);
    free(tokens);
    free(span);
    free(positions);
}

int main(void) {
    static method steer = {"steer", "tiny-qwen3.steer.gguf", {.method = RS_ERASE_LEARNED}},
                  bridge = {"bridge", "tiny-qwen3.bridge.gguf", {.method = RS_ERASE_LEARNED}},
                  closed = {"bridge+shift",
                            "tiny-qwen3.bridge.gguf",
                            {.method = RS_ERASE_LEARNED, .close_gap = true}},
                  adaptive = {"adaptive", NULL, {.method = RS_ERASE_ADAPTIVE, .repair_tokens = 4}};
    const struct CMUnitTest tests[] = {
        {"steer", test_rows, NULL, NULL, &steer},
        {"bridge", test_rows, NULL, NULL, &bridge},
        {"bridge that closes the gap", test_rows, NULL, NULL, &closed},
        {"adaptive", test_rows, NULL, NULL, &adaptive},
    };
    return cmocka_run_group_tests_name("erasers against PyTorch", tests, set_up, tear_down);
}
