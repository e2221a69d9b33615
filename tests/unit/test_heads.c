/* Tables of heads: what is read, what is chosen, and what is refused. */
#define _POSIX_C_SOURCE 200809L

#include "runtime/policy/heads.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/model.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/support.h"

static rs_status parse(const char *text, uint32_t n_layers, uint32_t n_heads, double *values,
                       rs_error *error) {
    /* Exactly sized, so that a sanitizer sees a look beyond the end. */
    const size_t bytes = strlen(text);
    char *copy = malloc(bytes > 0 ? bytes : 1);
    memcpy(copy, text, bytes);
    const rs_status status = rs_heads_parse(copy, bytes, n_layers, n_heads, values, error);
    free(copy);
    return status;
}

static void assert_near(double found, double expected) {
    assert_true(found - expected <= 1e-12 && expected - found <= 1e-12);
}

static void test_both_ways_to_write(void **state) {
    (void)state;
    double values[6];
    rs_error error;
    assert_int_equal(parse("1.0\t0.0\r\n0.0\t1.0\r\n1.0\t1.0\r\n", 3, 2, values, &error), RS_OK);
    static const double masks[] = {1, 0, 0, 1, 1, 1};
    for (size_t i = 0; i < 6; i++) assert_near(values[i], masks[i]);
    assert_int_equal(
        parse("9.999999403953552246e-01\t-1e-3\t+2E0\n3.125e-2\t1e-400\t0.5", 2, 3, values, &error), RS_OK);
    static const double reals[] = {0.9999999403953552246, 0, 1, 0.03125, 0, 0.5};
    for (size_t i = 0; i < 6; i++) assert_near(values[i], reals[i]);
}

static void test_what_is_no_table(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "line 1, column 1"},
        {"1\t0\n", "line 2, column 1"},
        {"1\t0\n1\n", "line 2, column 1"},
        {"1\t0\n1\t\n", "line 2, column 2"},
        {"1\t0\t1\n1\t0\n", "line 1 has more"},
        {"1\t0\n1\t0\n1\t0\n", "more lines"},
        {"1 0\n1 0\n", "line 1, column 1"},
        {"1\tnan\n1\t0\n", "line 1, column 2"},
        {"1\tinf\n1\t0\n", "line 1, column 2"},
        {"1\t1e999\n1\t0\n", "line 1, column 2"},
        {"1\t1e\n1\t0\n", "line 1, column 2"},
        {"1\t0x1\n1\t0\n", "line 1 has more"},
        {"1\t.\n1\t0\n", "line 1, column 2"},
        {"1,0\t1\n1\t0\n", "line 1, column 1"},
        {"-\t1\n1\t0\n", "line 1, column 1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double values[4];
        rs_error error;
        assert_int_equal(parse(bad[i].text, 2, 2, values, &error), RS_BAD_FILE);
        if (strstr(error.message, bad[i].says) == NULL) fail_msg("\"%s\": %s", bad[i].text, error.message);
    }
}

static void test_long_numbers_are_bounded(void **state) {
    (void)state;
    double value;
    rs_error error;
    char digits[1000];
    memset(digits, '1', sizeof digits - 1);
    digits[sizeof digits - 1] = '\0';
    assert_int_equal(parse(digits, 1, 1, &value, &error), RS_BAD_FILE);
    digits[1] = '.';
    assert_int_equal(parse(digits, 1, 1, &value, &error), RS_BAD_FILE);
}

static size_t count(const bool *heads, size_t n) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++) found += heads[i];
    return found;
}

static void test_choice(void **state) {
    (void)state;
    double values[90];
    bool heads[90];
    for (size_t i = 0; i < 90; i++) values[i] = (double)((i * 37) % 90) / 90.0;
    /* 90 * (1 - s) is less than it should be in floating point for some of these. */
    static const struct {
        float share;
        size_t kept;
    } cases[] = {{0.0F, 90}, {0.3F, 63}, {0.5F, 45}, {0.7F, 27},
                 {0.8F, 18}, {0.9F, 9},  {1.0F, 0},  {0.99F, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(rs_heads_choose(values, 90, cases[i].share, heads), RS_OK);
        assert_int_equal(count(heads, 90), cases[i].kept);
        for (size_t h = 0; h < 90; h++)
            assert_int_equal(heads[h], values[h] * 90.0 + 0.5 >= (double)(90 - cases[i].kept));
    }
    const double equal[4] = {0.5, 1, 0.5, 0.5};
    assert_int_equal(rs_heads_choose(equal, 4, 0.5F, heads), RS_OK);
    assert_true(heads[0] && heads[1] && !heads[2] && !heads[3]);
    const double written[4] = {0.4999, 0.5, 1, 0};
    assert_int_equal(rs_heads_choose(written, 4, RS_HEADS_AS_WRITTEN, heads), RS_OK);
    assert_true(!heads[0] && heads[1] && heads[2] && !heads[3]);
}

/* What is wrong with a sidecar; zeros: nothing. */
typedef struct sidecar {
    const char *type;
    uint64_t flip_fingerprint;
    uint32_t extra_heads, window;
    float value; /* of the last head, unless 0 */
    bool no_tensor;
} sidecar;

static gguf_builder *make_sidecar(const rs_model *model, const sidecar *wrong) {
    const uint32_t n_layers = model->shape.n_layers, n_heads = model->shape.n_kv_heads + wrong->extra_heads;
    const uint64_t ne[2] = {n_heads, n_layers};
    const size_t n = (size_t)n_layers * n_heads;
    float *values = malloc(n * sizeof *values);
    for (size_t i = 0; i < n; i++) values[i] = (float)(i % 2);
    if (wrong->value != 0) values[n - 1] = wrong->value;
    rs_model_info info;
    rs_model_get_info(model, &info);
    char fingerprint[17];
    (void)snprintf(fingerprint, sizeof fingerprint, "%016" PRIx64,
                   rs_model_fingerprint(model) ^ wrong->flip_fingerprint);
    gguf_builder *builder = gguf_builder_new();
    gguf_add_string(builder, "general.type", "adapter");
    gguf_add_string(builder, "general.architecture", info.architecture);
    gguf_add_string(builder, "adapter.type", wrong->type != NULL ? wrong->type : "heads");
    gguf_add_string(builder, "rasure.adapter.fingerprint", fingerprint);
    gguf_add_u32(builder, "rasure.heads.sinks", 16);
    gguf_add_u32(builder, "rasure.heads.window", wrong->window != 0 ? wrong->window : 128);
    if (!wrong->no_tensor)
        gguf_add_tensor(builder, "heads", rs_types[RS_TYPE_F32].gguf_id, ne, 2, values, n * sizeof *values);
    free(values);
    return builder;
}

static rs_status load_sidecar(const rs_model *model, const sidecar *wrong, bool *heads, rs_heads_info *info,
                              rs_error *error) {
    size_t bytes;
    gguf_builder *builder = make_sidecar(model, wrong);
    const void *data = gguf_build(builder, &bytes);
    const rs_status status =
        rs_heads_load_memory(model, data, bytes, RS_HEADS_AS_WRITTEN, heads, info, error);
    gguf_builder_free(builder);
    return status;
}

static void test_sidecar(void **state) {
    (void)state;
    rs_model *model = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    const size_t n = (size_t)model->shape.n_layers * model->shape.n_kv_heads;
    bool *heads = calloc(n, sizeof *heads);
    rs_heads_info info = {7, 7};
    rs_error error;
    static const struct {
        sidecar wrong;
        rs_status status;
        const char *says;
    } bad[] = {
        {{.type = "lora"}, RS_MISMATCH, "adapter.type is lora"},
        {{.flip_fingerprint = 1}, RS_MISMATCH, "rasure.adapter.fingerprint"},
        {{.extra_heads = 1}, RS_BAD_FILE, "heads is not F32"},
        {{.window = (1U << 20) + 1}, RS_BAD_FILE, "rasure.heads.window"},
        {{.value = NAN}, RS_BAD_FILE, "no number"},
        {{.no_tensor = true}, RS_BAD_FILE, "no tensor heads"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(load_sidecar(model, &bad[i].wrong, heads, &info, &error), bad[i].status);
        if (strstr(error.message, bad[i].says) == NULL) fail_msg("%s", error.message);
        assert_int_equal(info.sinks + info.window, 14);
        for (size_t h = 0; h < n; h++) assert_false(heads[h]);
    }
    assert_int_equal(load_sidecar(model, &(sidecar){0}, heads, &info, &error), RS_OK);
    assert_true(info.sinks == 16 && info.window == 128);
    for (size_t h = 0; h < n; h++) assert_int_equal(heads[h], h % 2 == 1);
    free(heads);
    rs_model_free(model);
}

static void test_file(void **state) {
    (void)state;
    rs_model *model = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    char path[] = "/tmp/rasure-heads-XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    for (uint32_t l = 0; l < model->shape.n_layers; l++)
        for (uint32_t h = 0; h < model->shape.n_kv_heads; h++)
            fprintf(file, "%d.0%c", (l + h) % 2 == 0, h + 1 < model->shape.n_kv_heads ? '\t' : '\n');
    fclose(file);
    const size_t n = (size_t)model->shape.n_layers * model->shape.n_kv_heads;
    bool *heads = calloc(n, sizeof *heads);
    rs_error error;
    assert_int_equal(rs_heads_load(model, path, RS_HEADS_AS_WRITTEN, heads, NULL, &error), RS_OK);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(heads[i], (i / model->shape.n_kv_heads + i % model->shape.n_kv_heads) % 2 == 0);
    assert_int_equal(rs_heads_load(model, path, 1.5F, heads, NULL, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_heads_load(model, NULL, 0.5F, heads, NULL, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_heads_load(NULL, path, 0.5F, heads, NULL, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_heads_load_memory(model, NULL, 1, 0.5F, heads, NULL, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_heads_load_memory(model, "1", 1, 0.5F, NULL, NULL, &error), RS_INVALID_ARGUMENT);
    unlink(path);
    assert_int_equal(rs_heads_load(model, path, 0.5F, heads, NULL, &error), RS_IO);
    assert_non_null(strstr(error.message, path));
    free(heads);
    rs_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways_to_write),
        cmocka_unit_test(test_what_is_no_table),
        cmocka_unit_test(test_long_numbers_are_bounded),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_sidecar),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests_name("heads", tests, NULL, NULL);
}
