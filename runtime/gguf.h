/* GGUF v2 and v3: a checked view of a file in memory. Nothing is copied but the index of keys and tensors. */
#ifndef RASURE_RUNTIME_GGUF_H
#define RASURE_RUNTIME_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/types.h"
#include "rasure/rasure.h"

typedef struct rs_string {
    const char *data; /* not terminated; may hold any byte */
    size_t bytes;
} rs_string;

typedef enum rs_gguf_type {
    RS_GGUF_U8 = 0,
    RS_GGUF_I8 = 1,
    RS_GGUF_U16 = 2,
    RS_GGUF_I16 = 3,
    RS_GGUF_U32 = 4,
    RS_GGUF_I32 = 5,
    RS_GGUF_F32 = 6,
    RS_GGUF_BOOL = 7,
    RS_GGUF_STRING = 8,
    RS_GGUF_ARRAY = 9,
    RS_GGUF_U64 = 10,
    RS_GGUF_I64 = 11,
    RS_GGUF_F64 = 12,
} rs_gguf_type;

enum { RS_GGUF_MAX_DIMS = 4 };

typedef struct rs_tensor {
    rs_string name;
    uint64_t index; /* in the file's order */
    rs_type type;
    uint32_t n_dims;
    uint64_t ne[RS_GGUF_MAX_DIMS]; /* ne[0] is the row length (contiguous); unused ones are 1 */
    const void *data; /* rs_row_bytes(type, ne[0]) * ne[1] * ne[2] * ne[3] bytes, all in the file */
    size_t bytes;
} rs_tensor;

typedef struct rs_gguf rs_gguf;

/*
 * Checks header, every key, every value and every tensor of the file at `data` (which MUST outlive *gguf) and
 * builds the index. RS_BAD_FILE for whatever is damaged, RS_UNSUPPORTED for a version, byte order or tensor
 * type that rasure does not read, each naming the place; RS_NO_MEMORY. Memory is bounded by a multiple of the
 * file's size. `data` MUST be aligned to 4, as tensors are read where they lie; else RS_INVALID_ARGUMENT.
 */
rs_status rs_gguf_open(const void *data, size_t bytes, rs_gguf **gguf, rs_error *error);
void rs_gguf_close(rs_gguf *gguf);

uint64_t rs_gguf_tensor_count(const rs_gguf *gguf);
const rs_tensor *rs_gguf_tensor(const rs_gguf *gguf, uint64_t index);
/* NULL if there is none. */
const rs_tensor *rs_gguf_find_tensor(const rs_gguf *gguf, const char *name);

bool rs_gguf_has(const rs_gguf *gguf, const char *key);
bool rs_gguf_is_array(const rs_gguf *gguf, const char *key);

/*
 * Typed reads. RS_BAD_FILE naming the key when it is missing or of another type; any integer type is accepted
 * where the value fits, F32 and F64 for floats. *value is untouched on failure.
 */
rs_status rs_gguf_u32(const rs_gguf *gguf, const char *key, uint32_t *value, rs_error *error);
rs_status rs_gguf_f32(const rs_gguf *gguf, const char *key, float *value, rs_error *error);
rs_status rs_gguf_bool(const rs_gguf *gguf, const char *key, bool *value, rs_error *error);
rs_status rs_gguf_string(const rs_gguf *gguf, const char *key, rs_string *value, rs_error *error);

/* The same for a key that may be missing: then RS_OK and *value stays. A wrong type is still RS_BAD_FILE. */
rs_status rs_gguf_u32_or(const rs_gguf *gguf, const char *key, uint32_t *value, rs_error *error);
rs_status rs_gguf_f32_or(const rs_gguf *gguf, const char *key, float *value, rs_error *error);
rs_status rs_gguf_bool_or(const rs_gguf *gguf, const char *key, bool *value, rs_error *error);
rs_status rs_gguf_string_or(const rs_gguf *gguf, const char *key, rs_string *value, rs_error *error);

/* general.name, printable, or "": as much of it as there is room for in whole characters. */
rs_status rs_gguf_name(const rs_gguf *gguf, char *text, size_t capacity, rs_error *error);

/* An array of scalars or strings; arrays of arrays are checked on opening but cannot be read. */
typedef struct rs_gguf_array {
    rs_gguf_type type;
    uint64_t count;
    const unsigned char *data; /* scalars: packed, unaligned; strings: use the iterator */
    const unsigned char *end;
} rs_gguf_array;

rs_status rs_gguf_get_array(const rs_gguf *gguf, const char *key, rs_gguf_type type, rs_gguf_array *array,
                            rs_error *error);
/* Element `index` < count of an array of that type. */
int32_t rs_gguf_array_i32(const rs_gguf_array *array, uint64_t index);
float rs_gguf_array_f32(const rs_gguf_array *array, uint64_t index);
/* Takes the next string off a string array (count goes down by one); count MUST be above 0. */
rs_string rs_gguf_array_next_string(rs_gguf_array *array);

/* A string of a file for a message, in `text`: anything but printable ASCII becomes '?', and its end "..."
 * when it is long. Returns `text`. */
enum { RS_SHOWN_BYTES = 68 };
const char *rs_shown(rs_string string, char text[RS_SHOWN_BYTES]);

static inline bool rs_string_is(rs_string s, const char *literal) {
    return s.bytes == __builtin_strlen(literal) && __builtin_memcmp(s.data, literal, s.bytes) == 0;
}

#endif
