/* Three growing buffers, keys, tensors and data, that gguf_build puts behind a header. */
#include "tests/support/gguf_builder.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 32 };

typedef struct buffer {
    unsigned char *data;
    size_t bytes, capacity;
} buffer;

struct gguf_builder {
    uint64_t n_keys, n_tensors;
    buffer keys, tensors, data, file;
};

static void append(buffer *b, const void *data, size_t bytes) {
    if (b->bytes + bytes > b->capacity) {
        b->capacity = 2 * (b->bytes + bytes);
        b->data = realloc(b->data, b->capacity);
        if (b->data == NULL) abort();
    }
    if (bytes > 0) memcpy(b->data + b->bytes, data, bytes);
    b->bytes += bytes;
}

static void append_u32(buffer *b, uint32_t value) {
    append(b, &value, sizeof value);
}

static void append_u64(buffer *b, uint64_t value) {
    append(b, &value, sizeof value);
}

static void append_string(buffer *b, const char *data, size_t bytes) {
    append_u64(b, bytes);
    append(b, data, bytes);
}

static void align(buffer *b) {
    static const unsigned char zeros[ALIGNMENT];
    append(b, zeros, (ALIGNMENT - b->bytes % ALIGNMENT) % ALIGNMENT);
}

gguf_builder *gguf_builder_new(void) {
    gguf_builder *builder = calloc(1, sizeof *builder);
    if (builder == NULL) abort();
    return builder;
}

void gguf_builder_free(gguf_builder *builder) {
    free(builder->keys.data);
    free(builder->tensors.data);
    free(builder->data.data);
    free(builder->file.data);
    free(builder);
}

static void begin_key(gguf_builder *builder, const char *key, uint32_t type) {
    builder->n_keys++;
    append_string(&builder->keys, key, strlen(key));
    append_u32(&builder->keys, type);
}

static void begin_array(gguf_builder *builder, const char *key, uint32_t type, size_t count) {
    begin_key(builder, key, RS_GGUF_ARRAY);
    append_u32(&builder->keys, type);
    append_u64(&builder->keys, count);
}

void gguf_add_value(gguf_builder *builder, const char *key, uint32_t type, const void *value, size_t bytes) {
    begin_key(builder, key, type);
    append(&builder->keys, value, bytes);
}

void gguf_add_u32(gguf_builder *builder, const char *key, uint32_t value) {
    gguf_add_value(builder, key, RS_GGUF_U32, &value, sizeof value);
}

void gguf_add_f32(gguf_builder *builder, const char *key, float value) {
    gguf_add_value(builder, key, RS_GGUF_F32, &value, sizeof value);
}

void gguf_add_bool(gguf_builder *builder, const char *key, bool value) {
    gguf_add_value(builder, key, RS_GGUF_BOOL, &(unsigned char){value}, 1);
}

void gguf_add_string(gguf_builder *builder, const char *key, const char *value) {
    begin_key(builder, key, RS_GGUF_STRING);
    append_string(&builder->keys, value, strlen(value));
}

void gguf_add_i32s(gguf_builder *builder, const char *key, const int32_t *values, size_t count) {
    begin_array(builder, key, RS_GGUF_I32, count);
    append(&builder->keys, values, count * sizeof *values);
}

void gguf_add_f32s(gguf_builder *builder, const char *key, const float *values, size_t count) {
    begin_array(builder, key, RS_GGUF_F32, count);
    append(&builder->keys, values, count * sizeof *values);
}

void gguf_add_strings(gguf_builder *builder, const char *key, const rs_string *values, size_t count) {
    begin_array(builder, key, RS_GGUF_STRING, count);
    for (size_t i = 0; i < count; i++) append_string(&builder->keys, values[i].data, values[i].bytes);
}

void gguf_add_tensor(gguf_builder *builder, const char *name, uint32_t type, const uint64_t *ne,
                     uint32_t n_dims, const void *data, size_t bytes) {
    align(&builder->data);
    builder->n_tensors++;
    append_string(&builder->tensors, name, strlen(name));
    append_u32(&builder->tensors, n_dims);
    for (uint32_t d = 0; d < n_dims; d++) append_u64(&builder->tensors, ne[d]);
    append_u32(&builder->tensors, type);
    append_u64(&builder->tensors, builder->data.bytes);
    append(&builder->data, data, bytes);
}

const void *gguf_build(gguf_builder *builder, size_t *bytes) {
    buffer *file = &builder->file;
    file->bytes = 0;
    append(file, "GGUF", 4);
    append_u32(file, 3);
    append_u64(file, builder->n_tensors);
    append_u64(file, builder->n_keys);
    append(file, builder->keys.data, builder->keys.bytes);
    append(file, builder->tensors.data, builder->tensors.bytes);
    align(file);
    append(file, builder->data.data, builder->data.bytes);
    *bytes = file->bytes;
    return file->data;
}
