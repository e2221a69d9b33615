/* GGUF files made in memory, for tests. Writes what it is told, sensible or not; aborts without memory. */
#ifndef RASURE_TESTS_SUPPORT_GGUF_BUILDER_H
#define RASURE_TESTS_SUPPORT_GGUF_BUILDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/gguf.h"

typedef struct gguf_builder gguf_builder;

/* An empty file of version 3. */
gguf_builder *gguf_builder_new(void);
void gguf_builder_free(gguf_builder *builder);

void gguf_add_u32(gguf_builder *builder, const char *key, uint32_t value);
void gguf_add_f32(gguf_builder *builder, const char *key, float value);
void gguf_add_bool(gguf_builder *builder, const char *key, bool value);
void gguf_add_string(gguf_builder *builder, const char *key, const char *value);

void gguf_add_i32s(gguf_builder *builder, const char *key, const int32_t *values, size_t count);
void gguf_add_f32s(gguf_builder *builder, const char *key, const float *values, size_t count);
void gguf_add_strings(gguf_builder *builder, const char *key, const rs_string *values, size_t count);

/* A value as it is in the file, of a type that the functions above do not have or that is wrong on purpose.
 */
void gguf_add_value(gguf_builder *builder, const char *key, uint32_t type, const void *value, size_t bytes);

/* `type` as in the file (rs_types[].gguf_id); `data` is copied and aligned to 32. */
void gguf_add_tensor(gguf_builder *builder, const char *name, uint32_t type, const uint64_t *ne,
                     uint32_t n_dims, const void *data, size_t bytes);

/* The file so far; valid until the next call on the builder. */
const void *gguf_build(gguf_builder *builder, size_t *bytes);

#endif
