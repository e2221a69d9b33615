/* Fuzz target: opens the input as a GGUF file and, where that succeeds, reads all that the reader offers. */
#include <stdlib.h>
#include <string.h>

#include "runtime/gguf.h"
#include "tests/fuzz/fuzz.h"

/* Keys that the runtime asks for, and some that are of another type than asked. */
static const char *const keys[] = {
    "general.architecture",        "general.alignment",
    "general.languages",           "llama.block_count",
    "llama.rope.freq_base",        "llama.attention.layer_norm_rms_epsilon",
    "tokenizer.ggml.tokens",       "tokenizer.ggml.token_type",
    "tokenizer.ggml.scores",       "tokenizer.ggml.merges",
    "tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token",
    "tokenizer.chat_template",     "no.such.key",
};

/* Reads every byte, so that a sanitizer sees what lies outside the input. */
static unsigned touch(const void *data, size_t bytes) {
    const volatile unsigned char *at = data;
    unsigned sum = 0;
    for (size_t i = 0; i < bytes; i++) sum += at[i];
    return sum;
}

static unsigned read_key(const rs_gguf *gguf, const char *key) {
    rs_error error;
    uint32_t number = 0;
    float real = 0;
    bool flag = false;
    rs_string text = {NULL, 0};
    rs_gguf_array array;
    unsigned sum = rs_gguf_has(gguf, key);
    if (rs_gguf_u32(gguf, key, &number, &error) == RS_OK) sum += number;
    if (rs_gguf_f32(gguf, key, &real, &error) == RS_OK) sum += real > 0;
    if (rs_gguf_bool(gguf, key, &flag, &error) == RS_OK) sum += flag;
    if (rs_gguf_string_or(gguf, key, &text, &error) == RS_OK) sum += touch(text.data, text.bytes);
    if (rs_gguf_get_array(gguf, key, RS_GGUF_I32, &array, &error) == RS_OK)
        for (uint64_t i = 0; i < array.count; i++) sum += (unsigned)rs_gguf_array_i32(&array, i);
    if (rs_gguf_get_array(gguf, key, RS_GGUF_F32, &array, &error) == RS_OK)
        for (uint64_t i = 0; i < array.count; i++) sum += rs_gguf_array_f32(&array, i) > 0;
    if (rs_gguf_get_array(gguf, key, RS_GGUF_STRING, &array, &error) == RS_OK)
        while (array.count > 0) {
            text = rs_gguf_array_next_string(&array);
            sum += touch(text.data, text.bytes);
        }
    return sum;
}

static unsigned read_tensor(const rs_gguf *gguf, const rs_tensor *t) {
    char name[65];
    if (t->name.bytes >= sizeof name) abort(); /* the reader's limit */
    memcpy(name, t->name.data, t->name.bytes);
    name[t->name.bytes] = '\0';
    if (strlen(name) == t->name.bytes && rs_gguf_find_tensor(gguf, name) != t) abort();
    const size_t rows = (size_t)(t->ne[1] * t->ne[2] * t->ne[3]);
    if (rs_row_bytes(t->type, (size_t)t->ne[0]) * rows != t->bytes) abort();
    return touch(t->data, t->bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    void *file = malloc(size > 0 ? size : 1); /* exactly the input's bytes, aligned */
    if (file == NULL) return 0;
    memcpy(file, data, size);
    rs_gguf *gguf;
    rs_error error = {RS_OK, ""};
    unsigned sum = 0;
    if (rs_gguf_open(file, size, &gguf, &error) == RS_OK) {
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) sum += read_key(gguf, keys[i]);
        for (uint64_t i = 0; i < rs_gguf_tensor_count(gguf); i++)
            sum += read_tensor(gguf, rs_gguf_tensor(gguf, i));
    } else if (gguf != NULL || error.message[0] == '\0') {
        abort(); /* a refusal without a sentence */
    }
    rs_gguf_close(gguf);
    free(file);
    volatile unsigned sink = sum;
    (void)sink;
    return 0;
}
