/* Loading a model: what its file says of RoPE. Other files than good ones are tests/malformed's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/model.h"
#include "tests/support/support.h"

static unsigned char *put(unsigned char *at, const void *data, size_t bytes) {
    memcpy(at, data, bytes);
    return at + bytes;
}

static unsigned char *put_name(unsigned char *at, const char *name) {
    const uint64_t bytes = strlen(name);
    return put(put(at, &bytes, sizeof bytes), name, (size_t)bytes);
}

/* Frequency 1 of tiny-llama-linear with its keys of scaling's type (linear) and factor under other names,
 * which together MUST be as long, and another factor. */
static float frequency(const char *type_key, const char *factor_key, float factor) {
    static const char type[] = "llama.rope.scaling.type";
    rs_golden file = rs_golden_open("tiny-llama-linear.gguf");
    unsigned char *copy = malloc(file.map.bytes), *at = copy;
    assert_non_null(copy);
    memcpy(copy, file.map.data, file.map.bytes);
    while (memcmp(at, type, strlen(type)) != 0) at++;
    at = put(put_name(at - 8, type_key), &(uint32_t){RS_GGUF_STRING}, 4);
    at = put(put_name(put_name(at, "linear"), factor_key), &(uint32_t){RS_GGUF_F32}, 4);
    put(at, &factor, sizeof factor);

    rs_model *model;
    rs_error error;
    if (rs_model_load_memory(copy, file.map.bytes, NULL, &model, &error) != RS_OK)
        fail_msg("%s", error.message);
    const float result = model->rope_freq[RS_ROPE_GLOBAL][1];
    rs_model_free(model);
    free(copy);
    rs_golden_close(&file);
    return result;
}

static void linear_scaling(void **state) {
    (void)state;
    const float scaled = frequency("llama.rope.scaling.type", "llama.rope.scaling.factor", 4);
    const float plain = frequency("llama.rope.scaling.typo", "llama.rope.scaling.fact__", 4);
    assert_true(plain == 4 * scaled);
    assert_true(frequency("llama.rope.scaling.typo", "llama.rope.scaling.factor", 4) == scaled);
    assert_true(frequency("llama.rope.scaling.typo__", "llama.rope.scale_linear", 4) == scaled);
    assert_true(frequency("llama.rope.scaling.type", "llama.rope.scaling.factor", 0) == plain);
    assert_true(frequency("llama.rope.scaling.type", "llama.rope.scaling.fact__", 4) == plain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_scaling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
