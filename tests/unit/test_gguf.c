/* The GGUF reader on files built in memory: typed reads, arrays, tensors, and what it refuses to open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/gguf.h"

/* ------------------------------------------------------------------------------------ building a file -- */

typedef struct builder {
    unsigned char bytes[1 << 17];
    size_t n;
} builder;

static void put(builder *b, const void *data, size_t bytes) {
    assert_true(bytes <= sizeof b->bytes - b->n);
    memcpy(b->bytes + b->n, data, bytes);
    b->n += bytes;
}

static void put_u8(builder *b, uint8_t value) {
    put(b, &value, sizeof value);
}

static void put_u32(builder *b, uint32_t value) {
    put(b, &value, sizeof value);
}

static void put_u64(builder *b, uint64_t value) {
    put(b, &value, sizeof value);
}

static void put_f32(builder *b, float value) {
    put(b, &value, sizeof value);
}

static void put_string(builder *b, const char *text) {
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

static void put_header(builder *b, uint32_t version, uint64_t n_tensors, uint64_t n_keys) {
    b->n = 0;
    put(b, "GGUF", 4);
    put_u32(b, version);
    put_u64(b, n_tensors);
    put_u64(b, n_keys);
}

static void put_key(builder *b, const char *name, rs_gguf_type type) {
    put_string(b, name);
    put_u32(b, type);
}

static void put_array(builder *b, const char *name, rs_gguf_type type, uint64_t count) {
    put_key(b, name, RS_GGUF_ARRAY);
    put_u32(b, type);
    put_u64(b, count);
}

static void put_tensor(builder *b, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type_id,
                       uint64_t offset) {
    put_string(b, name);
    put_u32(b, n_dims);
    for (uint32_t d = 0; d < n_dims; d++) put_u64(b, ne[d]);
    put_u32(b, type_id);
    put_u64(b, offset);
}

static void put_matrix(builder *b, const char *name, uint64_t ne0, uint64_t ne1, rs_type type,
                       uint64_t offset) {
    const uint64_t ne[] = {ne0, ne1};
    put_tensor(b, name, 2, ne, rs_types[type].gguf_id, offset);
}

/* Zeros up to a multiple of `unit`. */
static void put_padding(builder *b, size_t unit) {
    while (b->n % unit != 0) put_u8(b, 0);
}

static void put_zeros(builder *b, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) put_u8(b, 0);
}

/* ------------------------------------------------------------------------------------ opening a file -- */

typedef struct opened {
    void *data; /* exactly the file's bytes, so that a sanitizer sees a read past them */
    rs_gguf *gguf;
    rs_error error;
} opened;

static rs_status open_bytes(const builder *b, size_t bytes, opened *o) {
    memset(&o->error, 0, sizeof o->error);
    o->data = malloc(bytes > 0 ? bytes : 1);
    assert_non_null(o->data);
    memcpy(o->data, b->bytes, bytes);
    o->gguf = (rs_gguf *)o; /* must be overwritten in any case */
    return rs_gguf_open(o->data, bytes, &o->gguf, &o->error);
}

static void close_file(opened *o) {
    rs_gguf_close(o->gguf);
    free(o->data);
}

static void assert_opens(const builder *b, opened *o) {
    const rs_status status = open_bytes(b, b->n, o);
    if (status != RS_OK) print_error("%s\n", o->error.message);
    assert_int_equal(status, RS_OK);
    assert_non_null(o->gguf);
}

static void assert_refused(const builder *b, rs_status expected, const char *part) {
    opened o;
    assert_int_equal(open_bytes(b, b->n, &o), expected);
    assert_null(o.gguf);
    assert_int_equal(o.error.status, expected);
    if (strstr(o.error.message, part) == NULL) fail_msg("\"%s\" is not in \"%s\"", part, o.error.message);
    assert_int_equal(rs_gguf_open(o.data, b->n, &o.gguf, NULL), expected); /* no message wanted */
    close_file(&o);
}

/* A file with every kind of value and two tensors. */
static void put_sample(builder *b) {
    static const uint64_t vector[] = {8};
    put_header(b, 3, 2, 19);
    put_key(b, "u8", RS_GGUF_U8), put_u8(b, 200);
    put_key(b, "i8", RS_GGUF_I8), put_u8(b, 0xff);
    put_key(b, "u16", RS_GGUF_U16), put(b, &(uint16_t){65535}, 2);
    put_key(b, "i16", RS_GGUF_I16), put(b, &(int16_t){32767}, 2);
    put_key(b, "u32", RS_GGUF_U32), put_u32(b, UINT32_MAX);
    put_key(b, "i32", RS_GGUF_I32), put_u32(b, 7);
    put_key(b, "u64", RS_GGUF_U64), put_u64(b, UINT32_MAX);
    put_key(b, "u64.large", RS_GGUF_U64), put_u64(b, (uint64_t)UINT32_MAX + 1);
    put_key(b, "i64.negative", RS_GGUF_I64), put_u64(b, UINT64_MAX);
    put_key(b, "f32", RS_GGUF_F32), put_f32(b, 0.25f);
    put_key(b, "f64", RS_GGUF_F64), put(b, &(double){1e-5}, 8);
    put_key(b, "f64.large", RS_GGUF_F64), put(b, &(double){1e300}, 8);
    put_key(b, "bool", RS_GGUF_BOOL), put_u8(b, 1);
    put_key(b, "string", RS_GGUF_STRING), put_string(b, "text");
    put_key(b, "string.like.array", RS_GGUF_STRING), put_string(b, "8 bytes!"); /* 8: the id of strings */
    put_array(b, "array.i32", RS_GGUF_I32, 3), put_u32(b, 1), put_u32(b, UINT32_MAX), put_u32(b, 3);
    put_array(b, "array.f32", RS_GGUF_F32, 2), put_f32(b, -1000.0f), put_f32(b, 0.5f);
    put_array(b, "array.string", RS_GGUF_STRING, 3), put_string(b, "a"), put_string(b, ""),
        put_string(b, "ccc");
    put_array(b, "array.array", RS_GGUF_ARRAY, 1), put_u32(b, RS_GGUF_U8), put_u64(b, 1), put_u8(b, 1);
    put_matrix(b, "matrix", 64, 3, RS_TYPE_Q8_0, 0);
    put_tensor(b, "vector", 1, vector, 0, 224);
    put_padding(b, 32);
    put_zeros(b, 204 + 20);
    for (unsigned i = 0; i < 8; i++) put_f32(b, (float)i);
}

/* ---------------------------------------------------------------------------------------------- tests -- */

static void test_reads_integers(void **state) {
    (void)state;
    builder b;
    opened o;
    put_sample(&b);
    assert_opens(&b, &o);
    static const struct {
        const char *key;
        uint32_t value;
    } good[] = {{"u8", 200},         {"u16", 65535}, {"i16", 32767},
                {"u32", UINT32_MAX}, {"i32", 7},     {"u64", UINT32_MAX}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint32_t value = 1;
        assert_int_equal(rs_gguf_u32(o.gguf, good[i].key, &value, &o.error), RS_OK);
        assert_int_equal(value, good[i].value);
    }
    static const char *const bad[] = {"i8",   "u64.large", "i64.negative", "f32",        "f64",
                                      "bool", "string",    "array.i32",    "no.such.key"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint32_t value = 1;
        assert_int_equal(rs_gguf_u32(o.gguf, bad[i], &value, &o.error), RS_BAD_FILE);
        assert_non_null(strstr(o.error.message, bad[i]));
        assert_int_equal(value, 1);
    }
    close_file(&o);
}

static void test_reads_floats(void **state) {
    (void)state;
    builder b;
    opened o;
    put_sample(&b);
    assert_opens(&b, &o);
    float value = 0;
    assert_int_equal(rs_gguf_f32(o.gguf, "f32", &value, &o.error), RS_OK);
    assert_true(value == 0.25f);
    assert_int_equal(rs_gguf_f32(o.gguf, "f64", &value, &o.error), RS_OK);
    assert_true(value == 1e-5f);
    static const char *const bad[] = {"f64.large", "u32", "bool", "string", "array.f32", "no.such.key"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(rs_gguf_f32(o.gguf, bad[i], &value, &o.error), RS_BAD_FILE);
        assert_non_null(strstr(o.error.message, bad[i]));
        assert_true(value == 1e-5f);
    }
    close_file(&o);
}

static void test_reads_bools_and_strings(void **state) {
    (void)state;
    builder b;
    opened o;
    put_sample(&b);
    assert_opens(&b, &o);
    bool flag = false;
    assert_int_equal(rs_gguf_bool(o.gguf, "bool", &flag, &o.error), RS_OK);
    assert_true(flag);
    assert_int_equal(rs_gguf_bool(o.gguf, "u8", &flag, &o.error), RS_BAD_FILE);
    assert_int_equal(rs_gguf_bool(o.gguf, "no.such.key", &flag, &o.error), RS_BAD_FILE);
    assert_true(flag);
    rs_string text = {NULL, 0};
    assert_int_equal(rs_gguf_string(o.gguf, "bool", &text, &o.error), RS_BAD_FILE);
    assert_int_equal(rs_gguf_string(o.gguf, "array.string", &text, &o.error), RS_BAD_FILE);
    assert_int_equal(rs_gguf_string(o.gguf, "no.such.key", &text, &o.error), RS_BAD_FILE);
    assert_string_equal(o.error.message, "key no.such.key is missing");
    assert_null(text.data);
    assert_int_equal(rs_gguf_string(o.gguf, "string", &text, &o.error), RS_OK);
    assert_true(rs_string_is(text, "text"));
    assert_false(rs_string_is(text, "tex"));
    close_file(&o);
}

static void test_optional_reads(void **state) {
    (void)state;
    builder b;
    opened o;
    put_sample(&b);
    assert_opens(&b, &o);
    uint32_t number = 5;
    float real = 0.5f;
    bool flag = true;
    rs_string text = {"default", 7};
    assert_int_equal(rs_gguf_u32_or(o.gguf, "no.such.key", &number, &o.error), RS_OK);
    assert_int_equal(rs_gguf_f32_or(o.gguf, "no.such.key", &real, &o.error), RS_OK);
    assert_int_equal(rs_gguf_bool_or(o.gguf, "no.such.key", &flag, &o.error), RS_OK);
    assert_int_equal(rs_gguf_string_or(o.gguf, "no.such.key", &text, &o.error), RS_OK);
    /* A key of another type is not a missing one. */
    assert_int_equal(rs_gguf_u32_or(o.gguf, "string", &number, &o.error), RS_BAD_FILE);
    assert_int_equal(rs_gguf_f32_or(o.gguf, "string", &real, &o.error), RS_BAD_FILE);
    assert_int_equal(rs_gguf_bool_or(o.gguf, "string", &flag, &o.error), RS_BAD_FILE);
    assert_int_equal(rs_gguf_string_or(o.gguf, "bool", &text, &o.error), RS_BAD_FILE);
    assert_int_equal(number, 5);
    assert_true(real == 0.5f);
    assert_true(flag);
    assert_true(rs_string_is(text, "default"));
    assert_int_equal(rs_gguf_u32_or(o.gguf, "i32", &number, &o.error), RS_OK);
    assert_int_equal(number, 7);
    assert_int_equal(rs_gguf_f32_or(o.gguf, "f32", &real, &o.error), RS_OK);
    assert_true(real == 0.25f);
    assert_int_equal(rs_gguf_string_or(o.gguf, "string", &text, &o.error), RS_OK);
    assert_true(rs_string_is(text, "text"));
    close_file(&o);
}

static void test_finds_keys(void **state) {
    (void)state;
    builder b;
    opened o;
    put_sample(&b);
    assert_opens(&b, &o);
    assert_true(rs_gguf_has(o.gguf, "array.array"));
    assert_true(rs_gguf_has(o.gguf, "u8"));
    assert_false(rs_gguf_has(o.gguf, "u"));
    assert_false(rs_gguf_has(o.gguf, "u8."));
    assert_false(rs_gguf_has(o.gguf, ""));
    close_file(&o);
}

static void test_arrays(void **state) {
    (void)state;
    builder b;
    opened o;
    rs_gguf_array array;
    put_sample(&b);
    assert_opens(&b, &o);
    assert_int_equal(rs_gguf_get_array(o.gguf, "array.i32", RS_GGUF_I32, &array, &o.error), RS_OK);
    assert_int_equal(array.count, 3);
    assert_int_equal(rs_gguf_array_i32(&array, 0), 1);
    assert_int_equal(rs_gguf_array_i32(&array, 1), -1);
    assert_int_equal(rs_gguf_array_i32(&array, 2), 3);
    assert_ptr_equal(array.data + 12, array.end);
    assert_int_equal(rs_gguf_get_array(o.gguf, "array.f32", RS_GGUF_F32, &array, &o.error), RS_OK);
    assert_int_equal(array.count, 2);
    assert_true(rs_gguf_array_f32(&array, 0) == -1000.0f);
    assert_true(rs_gguf_array_f32(&array, 1) == 0.5f);
    assert_int_equal(rs_gguf_get_array(o.gguf, "array.string", RS_GGUF_STRING, &array, &o.error), RS_OK);
    assert_int_equal(array.count, 3);
    assert_true(rs_string_is(rs_gguf_array_next_string(&array), "a"));
    assert_true(rs_string_is(rs_gguf_array_next_string(&array), ""));
    assert_true(rs_string_is(rs_gguf_array_next_string(&array), "ccc"));
    assert_int_equal(array.count, 0);
    assert_ptr_equal(array.data, array.end);

    /* Token arrays read as another type have overrun heaps elsewhere: the type is checked, not converted. */
    assert_int_equal(rs_gguf_get_array(o.gguf, "array.i32", RS_GGUF_F32, &array, &o.error), RS_BAD_FILE);
    assert_int_equal(rs_gguf_get_array(o.gguf, "array.i32", RS_GGUF_STRING, &array, &o.error), RS_BAD_FILE);
    assert_int_equal(rs_gguf_get_array(o.gguf, "array.array", RS_GGUF_ARRAY, &array, &o.error), RS_BAD_FILE);
    assert_int_equal(rs_gguf_get_array(o.gguf, "string.like.array", RS_GGUF_STRING, &array, &o.error),
                     RS_BAD_FILE);
    assert_int_equal(rs_gguf_get_array(o.gguf, "no.such.key", RS_GGUF_I32, &array, &o.error), RS_BAD_FILE);
    close_file(&o);
}

static void test_tensors(void **state) {
    (void)state;
    builder b;
    opened o;
    put_sample(&b);
    assert_opens(&b, &o);
    assert_int_equal(rs_gguf_tensor_count(o.gguf), 2);
    const rs_tensor *matrix = rs_gguf_find_tensor(o.gguf, "matrix");
    const rs_tensor *vector = rs_gguf_find_tensor(o.gguf, "vector");
    assert_ptr_equal(matrix, rs_gguf_tensor(o.gguf, 0));
    assert_ptr_equal(vector, rs_gguf_tensor(o.gguf, 1));
    assert_null(rs_gguf_tensor(o.gguf, 2));
    assert_null(rs_gguf_find_tensor(o.gguf, "matri"));
    assert_null(rs_gguf_find_tensor(o.gguf, "matrixx"));
    assert_true(rs_string_is(matrix->name, "matrix"));
    assert_int_equal(matrix->type, RS_TYPE_Q8_0);
    assert_int_equal(matrix->n_dims, 2);
    assert_int_equal(matrix->ne[0], 64);
    assert_int_equal(matrix->ne[1], 3);
    assert_int_equal(matrix->ne[2], 1);
    assert_int_equal(matrix->ne[3], 1);
    assert_int_equal(matrix->bytes, 2 * 34 * 3);
    assert_int_equal(vector->type, RS_TYPE_F32);
    assert_int_equal(vector->n_dims, 1);
    assert_int_equal(vector->ne[0], 8);
    assert_int_equal(vector->bytes, 32);
    assert_int_equal((uintptr_t)vector->data % sizeof(float), 0);
    for (unsigned i = 0; i < 8; i++) assert_true(((const float *)vector->data)[i] == (float)i);
    assert_ptr_equal((const char *)vector->data + vector->bytes, (const char *)o.data + b.n);
    close_file(&o);
}

static void test_versions_and_empty_files(void **state) {
    (void)state;
    builder b;
    opened o;
    for (uint32_t version = 2; version <= 3; version++) {
        put_header(&b, version, 0, 0);
        assert_opens(&b, &o);
        assert_int_equal(rs_gguf_tensor_count(o.gguf), 0);
        assert_null(rs_gguf_tensor(o.gguf, 0));
        assert_null(rs_gguf_find_tensor(o.gguf, "any"));
        assert_false(rs_gguf_has(o.gguf, "any"));
        close_file(&o);
    }
    put_header(&b, 1, 0, 0);
    assert_refused(&b, RS_UNSUPPORTED, "version 1");
    put_header(&b, 4, 0, 0);
    assert_refused(&b, RS_UNSUPPORTED, "version 4");
    put_header(&b, 0x03000000, 0, 0);
    assert_refused(&b, RS_UNSUPPORTED, "big-endian");
    put_header(&b, 3, 0, 0);
    b.bytes[0] = 'X';
    assert_refused(&b, RS_BAD_FILE, "not a GGUF file");
    b.n = 0;
    assert_refused(&b, RS_BAD_FILE, "empty");

    rs_gguf *gguf = (rs_gguf *)&b;
    rs_error error;
    assert_int_equal(rs_gguf_open(NULL, 0, &gguf, &error), RS_BAD_FILE);
    assert_null(gguf);
    rs_gguf_close(NULL);
}

static void test_unaligned_memory_is_refused(void **state) {
    (void)state;
    builder b;
    rs_error error;
    rs_gguf *gguf;
    put_sample(&b);
    char *data = malloc(b.n + 2);
    assert_non_null(data);
    memcpy(data + 2, b.bytes, b.n);
    assert_int_equal(rs_gguf_open(data + 2, b.n, &gguf, &error), RS_INVALID_ARGUMENT);
    assert_null(gguf);
    free(data);
}

/* Whatever is cut off, the rest is refused with a sentence, and nothing past it is read. */
static void test_every_truncation_is_refused(void **state) {
    (void)state;
    builder b;
    put_sample(&b);
    for (size_t bytes = 0; bytes < b.n; bytes++) {
        opened o;
        assert_int_equal(open_bytes(&b, bytes, &o), RS_BAD_FILE);
        assert_null(o.gguf);
        assert_true(o.error.message[0] != '\0');
        close_file(&o);
    }
}

static void test_hostile_counts_and_lengths(void **state) {
    (void)state;
    builder b;
    static const uint64_t huge[] = {
        UINT32_MAX,         (uint64_t)1 << 40, ((uint64_t)1 << 61) + 1, ((uint64_t)1 << 62) + 1, INT64_MAX,
        UINT64_MAX / 8 + 2, UINT64_MAX};
    for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++) {
        put_header(&b, 3, huge[i], 0);
        assert_refused(&b, RS_BAD_FILE, "tensors");
        put_header(&b, 3, 0, huge[i]);
        assert_refused(&b, RS_BAD_FILE, "keys");

        put_header(&b, 3, 0, 1);
        put_u64(&b, huge[i] + 100);
        put_zeros(&b, 64);
        assert_refused(&b, RS_BAD_FILE, "key 0");

        put_header(&b, 3, 0, 1);
        put_key(&b, "text", RS_GGUF_STRING);
        put_u64(&b, huge[i]);
        assert_refused(&b, RS_BAD_FILE, "key text");

        static const rs_gguf_type types[] = {RS_GGUF_U8,   RS_GGUF_I32,    RS_GGUF_F64,
                                             RS_GGUF_BOOL, RS_GGUF_STRING, RS_GGUF_ARRAY};
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            put_header(&b, 3, 0, 1);
            put_array(&b, "list", types[t], huge[i]);
            put_zeros(&b, 64);
            assert_refused(&b, RS_BAD_FILE, "key list");
        }
    }
}

/* Counts are bounded by the least that each thing takes, not only by the bytes. */
static void test_counts_of_small_files(void **state) {
    (void)state;
    builder b;
    put_header(&b, 3, 4, 0);
    put_zeros(&b, 4 * 33 - 1);
    assert_refused(&b, RS_BAD_FILE, "claims 4 tensors");
    put_header(&b, 3, 0, 10);
    put_zeros(&b, 10 * 14 - 1);
    assert_refused(&b, RS_BAD_FILE, "claims 10 keys");
    put_header(&b, 3, 1, 0);
    put_zeros(&b, 33);
    assert_refused(&b, RS_BAD_FILE, "tensor 0: its name is empty");
}

static void test_key_name_limit(void **state) {
    (void)state;
    builder b;
    opened o;
    static char name[65537];
    memset(name, 'k', 65536);
    put_header(&b, 3, 0, 1);
    put_key(&b, name, RS_GGUF_U8), put_u8(&b, 1);
    assert_refused(&b, RS_BAD_FILE, "its name is longer than 65535 bytes");
    name[65535] = '\0';
    put_header(&b, 3, 0, 1);
    put_key(&b, name, RS_GGUF_U8), put_u8(&b, 1);
    assert_opens(&b, &o);
    assert_true(rs_gguf_has(o.gguf, name));
    close_file(&o);
}

static void test_bad_values(void **state) {
    (void)state;
    builder b;
    put_header(&b, 3, 0, 1);
    put_key(&b, "flag", RS_GGUF_BOOL), put_u8(&b, 2);
    assert_refused(&b, RS_BAD_FILE, "key flag: a bool is 2");

    put_header(&b, 3, 0, 1);
    put_array(&b, "flags", RS_GGUF_BOOL, 2), put_u8(&b, 1), put_u8(&b, 255);
    assert_refused(&b, RS_BAD_FILE, "key flags: a bool is 255");

    put_header(&b, 3, 0, 1);
    put_key(&b, "odd", (rs_gguf_type)13), put_zeros(&b, 64);
    assert_refused(&b, RS_BAD_FILE, "key odd: value type 13");

    put_header(&b, 3, 0, 1);
    put_array(&b, "odd", (rs_gguf_type)UINT32_MAX, 0), put_zeros(&b, 64);
    assert_refused(&b, RS_BAD_FILE, "key odd: value type 4294967295");

    put_header(&b, 3, 0, 1);
    put_key(&b, "", RS_GGUF_U8), put_zeros(&b, 64);
    assert_refused(&b, RS_BAD_FILE, "name is empty");

    put_header(&b, 3, 0, 3);
    for (unsigned i = 0; i < 3; i++) put_key(&b, i == 1 ? "other" : "same", RS_GGUF_U8), put_u8(&b, 0);
    assert_refused(&b, RS_BAD_FILE, "key same: the file has it twice");
}

static void test_nested_arrays_are_bounded(void **state) {
    (void)state;
    builder b;
    opened o;
    for (unsigned depth = 1; depth <= 64; depth++) {
        put_header(&b, 3, 0, 1);
        put_key(&b, "nest", RS_GGUF_ARRAY);
        for (unsigned i = 1; i < depth; i++) put_u32(&b, RS_GGUF_ARRAY), put_u64(&b, 1);
        put_u32(&b, RS_GGUF_U8), put_u64(&b, 1), put_u8(&b, 9);
        if (depth > 4) {
            assert_refused(&b, RS_BAD_FILE, "key nest: arrays nest deeper than 4");
        } else {
            assert_opens(&b, &o);
            close_file(&o);
        }
    }
}

static void test_names_in_messages_are_printable(void **state) {
    (void)state;
    builder b;
    char name[201];
    memset(name, 'n', 200);
    name[200] = '\0';
    memcpy(name, "\x1b[31m\r\n\x7f\xff", 9);
    put_header(&b, 3, 0, 1);
    put_key(&b, name, RS_GGUF_BOOL), put_u8(&b, 3);
    assert_refused(&b, RS_BAD_FILE, "key ?[31m????nnnnnnn");
    opened o;
    assert_int_equal(open_bytes(&b, b.n, &o), RS_BAD_FILE);
    const char *n = strchr(o.error.message, 'n');
    assert_non_null(n);
    assert_int_equal(strspn(n, "n"), 64 - 9); /* 64 bytes of the name, the rest cut */
    assert_string_equal(n + 64 - 9, "...: a bool is 3, not 0 or 1");
    for (const char *c = o.error.message; *c != '\0'; c++) assert_true(*c >= ' ' && *c <= '~');
    close_file(&o);
}

static void test_alignment(void **state) {
    (void)state;
    builder b;
    opened o;
    static const uint32_t bad[] = {0, 1, 2, 3, 4, 7, 12, 33, UINT32_MAX, 0x80000001u};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put_header(&b, 3, 0, 1);
        put_key(&b, "general.alignment", RS_GGUF_U32), put_u32(&b, bad[i]);
        assert_refused(&b, RS_BAD_FILE, "key general.alignment");
    }
    put_header(&b, 3, 0, 1);
    put_key(&b, "general.alignment", RS_GGUF_STRING), put_string(&b, "32");
    assert_refused(&b, RS_BAD_FILE, "key general.alignment");

    for (uint32_t alignment = 8; alignment <= 1024; alignment *= 2) {
        put_header(&b, 3, 1, 1);
        put_key(&b, "general.alignment", RS_GGUF_U32), put_u32(&b, alignment);
        put_matrix(&b, "m", 1, 1, RS_TYPE_F32, alignment);
        put_padding(&b, alignment);
        put_zeros(&b, alignment);
        put_f32(&b, 1.5f);
        assert_opens(&b, &o);
        assert_true(*(const float *)rs_gguf_tensor(o.gguf, 0)->data == 1.5f);
        close_file(&o);
    }

    put_header(&b, 3, 1, 1); /* the data section would begin 2 GiB into the file */
    put_key(&b, "general.alignment", RS_GGUF_U32), put_u32(&b, 0x80000000u);
    put_matrix(&b, "m", 1, 1, RS_TYPE_F32, 0);
    put_zeros(&b, 64);
    assert_refused(&b, RS_BAD_FILE, "tensor m: 4 bytes run past the end of the file");
}

static void assert_shape_refused(uint32_t n_dims, const uint64_t *ne, uint32_t type_id, rs_status status,
                                 const char *part) {
    builder b;
    put_header(&b, 3, 1, 0);
    put_tensor(&b, "t", n_dims, ne, type_id, 0);
    put_padding(&b, 32);
    put_zeros(&b, 1024);
    assert_refused(&b, status, part);
}

static void test_bad_shapes(void **state) {
    (void)state;
    static const uint64_t ones[] = {1, 1, 1, 1, 1};
    assert_shape_refused(0, ones, 0, RS_BAD_FILE, "tensor t: 0 dimensions");
    assert_shape_refused(5, ones, 0, RS_BAD_FILE, "tensor t: 5 dimensions");
    assert_shape_refused(2, (const uint64_t[]){32, 0}, 0, RS_BAD_FILE, "tensor t: dimension 1 is 0");
    assert_shape_refused(2, (const uint64_t[]){33, 1}, 8, RS_BAD_FILE, "tensor t: a row of 33 elements");
    assert_shape_refused(1, (const uint64_t[]){128}, 12, RS_BAD_FILE, "not whole Q4_K blocks of 256");
    assert_shape_refused(1, (const uint64_t[]){1024}, 0, RS_BAD_FILE, "tensor t: 4,096 bytes run past");

    /* Products that wrap, to small values and to zero. */
    const uint64_t half = (uint64_t)1 << 32;
    assert_shape_refused(2, (const uint64_t[]){half, half}, 0, RS_BAD_FILE, "tensor t");
    assert_shape_refused(4, (const uint64_t[]){2, half / 2, half, 1}, 0, RS_BAD_FILE, "tensor t");
    assert_shape_refused(1, (const uint64_t[]){(uint64_t)1 << 62}, 0, RS_BAD_FILE, "tensor t");
    assert_shape_refused(2, (const uint64_t[]){32, UINT64_MAX}, 8, RS_BAD_FILE, "tensor t");
    assert_shape_refused(2, (const uint64_t[]){32, (uint64_t)1 << 63}, 8, RS_BAD_FILE, "tensor t");
    assert_shape_refused(1, (const uint64_t[]){UINT64_MAX}, 1, RS_BAD_FILE, "tensor t");
    /* A size that fits, and wraps when the data section's place is added: 32 bytes less than there are. */
    assert_shape_refused(1, (const uint64_t[]){SIZE_MAX / 2 - 15}, 1, RS_BAD_FILE, "run past the end");

    static const struct {
        uint32_t id;
        const char *name;
    } types[] = {{4, "Q4_2"},
                 {9, "Q8_1"},
                 {10, "Q2_K"},
                 {11, "Q3_K"},
                 {16, "IQ2_XXS"},
                 {23, "IQ4_XS"},
                 {24, "I8"},
                 {28, "F64"},
                 {29, "IQ1_M"},
                 {34, "TQ1_0"},
                 {39, "MXFP4"},
                 {43, "43"},
                 {UINT32_MAX, "4294967295"}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        assert_shape_refused(1, (const uint64_t[]){256}, types[i].id, RS_UNSUPPORTED, types[i].name);
}

/* Two F32 vectors of 8 elements at these offsets, in 128 bytes of data. */
static void put_pair(builder *b, const char *first, uint64_t first_at, const char *second,
                     uint64_t second_at) {
    put_header(b, 3, 2, 0);
    put_matrix(b, first, 8, 1, RS_TYPE_F32, first_at);
    put_matrix(b, second, 8, 1, RS_TYPE_F32, second_at);
    put_padding(b, 32);
    put_zeros(b, 128);
}

static void test_tensor_placement(void **state) {
    (void)state;
    builder b;
    opened o;
    put_pair(&b, "a", 32, "b", 0); /* any order, with gaps */
    assert_opens(&b, &o);
    assert_ptr_equal(rs_gguf_find_tensor(o.gguf, "a"), rs_gguf_tensor(o.gguf, 0));
    assert_ptr_equal(rs_gguf_find_tensor(o.gguf, "b"), rs_gguf_tensor(o.gguf, 1));
    assert_true((const char *)rs_gguf_tensor(o.gguf, 0)->data >
                (const char *)rs_gguf_tensor(o.gguf, 1)->data);
    close_file(&o);
    put_pair(&b, "a", 96, "b", 0);
    assert_opens(&b, &o);
    close_file(&o);
    put_pair(&b, "a", 0, "b", 0);
    assert_refused(&b, RS_BAD_FILE, "overlap");
    put_pair(&b, "same", 0, "same", 32);
    assert_refused(&b, RS_BAD_FILE, "tensor same: the file has it twice");
    put_pair(&b, "", 0, "b", 32);
    assert_refused(&b, RS_BAD_FILE, "tensor 0: its name is empty");
    put_pair(&b, "a", 0, "b", 16);
    assert_refused(&b, RS_BAD_FILE, "tensor b: offset 16 is not a multiple");
    put_pair(&b, "a", 0, "b", 128);
    assert_refused(&b, RS_BAD_FILE, "tensor b: 32 bytes run past the end of the file");
    put_pair(&b, "a", 0, "b", UINT64_MAX - 31);
    assert_refused(&b, RS_BAD_FILE, "tensor b: 32 bytes run past the end of the file");
    put_pair(&b, "a", 0, "b", 96);
    b.n--;
    assert_refused(&b, RS_BAD_FILE, "tensor b: 32 bytes run past the end of the file");

    put_header(&b, 3, 2, 0); /* overlap by the tail of a longer tensor */
    put_matrix(&b, "long", 8, 3, RS_TYPE_F32, 0);
    put_matrix(&b, "short", 8, 1, RS_TYPE_F32, 64);
    put_padding(&b, 32);
    put_zeros(&b, 128);
    assert_refused(&b, RS_BAD_FILE, "tensor short: its data overlap those of long");

    char name[66];
    memset(name, 'x', 65);
    name[65] = '\0';
    put_pair(&b, "a", 0, name, 32);
    assert_refused(&b, RS_BAD_FILE, "longer than 64");
}

static void test_type_table(void **state) {
    (void)state;
    for (unsigned t = 0; t < RS_TYPE_COUNT; t++) {
        assert_non_null(rs_types[t].name);
        assert_int_equal(rs_row_bytes((rs_type)t, 512),
                         512 / rs_types[t].block_elems * rs_types[t].block_bytes);
        assert_true(rs_type_is_quantized((rs_type)t) == (rs_types[t].block_elems > 1));
        builder b;
        opened o;
        put_header(&b, 3, 1, 0);
        put_matrix(&b, "m", 512, 2, (rs_type)t, 0);
        put_padding(&b, 32);
        put_zeros(&b, 2 * rs_row_bytes((rs_type)t, 512));
        assert_opens(&b, &o);
        assert_int_equal(rs_gguf_tensor(o.gguf, 0)->type, t);
        close_file(&o);
        b.n--;
        assert_refused(&b, RS_BAD_FILE, "tensor m");
    }
}

static void check_name(const char *name, const char *expected) {
    builder *b = malloc(sizeof *b);
    assert_non_null(b);
    put_header(b, 3, 0, 1);
    put_key(b, "general.name", RS_GGUF_STRING);
    put_string(b, name);
    rs_gguf *gguf;
    char text[8];
    assert_int_equal(rs_gguf_open(b->bytes, b->n, &gguf, NULL), RS_OK);
    assert_int_equal(rs_gguf_name(gguf, text, sizeof text, NULL), RS_OK);
    assert_string_equal(text, expected);
    rs_gguf_close(gguf);
    free(b);
}

static void test_name(void **state) {
    (void)state;
    check_name("", "");
    check_name("seven 7", "seven 7");
    check_name("eight 88", "eight 8");
    check_name("\x1b[2J\n\x7f", "?[2J??");
    check_name("sechs \u00e4", "sechs ");
    check_name("f\u00fcnf \u00e4", "f\u00fcnf ");
    check_name("f\u00fcnf x", "f\u00fcnf x");
    check_name("\x80\x80\x80\x80\x80\x80\x80\x80", "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_integers),
        cmocka_unit_test(test_reads_floats),
        cmocka_unit_test(test_reads_bools_and_strings),
        cmocka_unit_test(test_optional_reads),
        cmocka_unit_test(test_finds_keys),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_versions_and_empty_files),
        cmocka_unit_test(test_unaligned_memory_is_refused),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_hostile_counts_and_lengths),
        cmocka_unit_test(test_counts_of_small_files),
        cmocka_unit_test(test_key_name_limit),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_nested_arrays_are_bounded),
        cmocka_unit_test(test_names_in_messages_are_printable),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_bad_shapes),
        cmocka_unit_test(test_tensor_placement),
        cmocka_unit_test(test_type_table),
        cmocka_unit_test(test_name),
    };
    return cmocka_run_group_tests_name("gguf", tests, NULL, NULL);
}
