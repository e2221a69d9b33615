/* The GGUF reader: walks the file once, checks every byte that it interprets, and keeps a sorted index. */
#include "runtime/gguf.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checked.h"
#include "runtime/status.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "values and weights are read as the file stores them");

enum {
    /* The least that a key or a tensor takes in the file: bounds their counts before memory is asked for. */
    MIN_KEY_BYTES = 8 + 1 + 4 + 1,            /* name length, name, type, value */
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* name length, name, n_dims, one dimension, type, offset */
    /* Limits of the GGUF specification. */
    MAX_KEY_NAME = 65535,
    MAX_TENSOR_NAME = 64,
    MIN_ALIGNMENT = 8,    /* of tensors in the file */
    MEMORY_ALIGNMENT = 4, /* of the file in memory: what floats need; files in archives are often no better */
    DEFAULT_ALIGNMENT = 32,
    /* Our own. */
    MAX_ARRAY_DEPTH = 4,
};

static const char alignment_key[] = "general.alignment";

typedef struct entry {
    rs_string key; /* first: entries sort and search by compare_strings */
    rs_gguf_type type;
    const unsigned char *data, *end;
} entry;

typedef struct tensor_record {
    rs_tensor tensor;
    uint64_t offset; /* in the data section */
} tensor_record;

struct rs_gguf {
    entry *entries; /* by key */
    size_t n_entries;
    tensor_record *records; /* in the file's order */
    const rs_tensor **by_name;
    size_t n_tensors;
};

/* ------------------------------------------------------------------------------------------ messages -- */

const char *rs_shown(rs_string string, char text[RS_SHOWN_BYTES]) {
    const size_t room = RS_SHOWN_BYTES - sizeof "...";
    const size_t n = string.bytes < room ? string.bytes : room;
    for (size_t i = 0; i < n; i++) {
        const char c = string.data[i];
        text[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    strcpy(text + n, string.bytes > n ? "..." : "");
    return text;
}

/* "7,077,888" */
static const char *grouped(uint64_t value, char text[27]) {
    char *at = text + 26;
    *at = '\0';
    for (unsigned digits = 0; digits == 0 || value > 0; digits++, value /= 10) {
        if (digits > 0 && digits % 3 == 0) *--at = ',';
        *--at = (char)('0' + value % 10);
    }
    return at;
}

/* rs_fail with the place first: `what` is "key" or "tensor". */
static rs_status fail_at(rs_error *error, rs_status status, const char *what, rs_string name,
                         const char *format, ...) RS_PRINTF(5, 6);

static rs_status fail_at(rs_error *error, rs_status status, const char *what, rs_string name,
                         const char *format, ...) {
    char sentence[sizeof error->message], name_text[RS_SHOWN_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return rs_fail(error, status, "%s %s: %s", what, rs_shown(name, name_text), sentence);
}

static const char *const value_type_names[] = {
    [RS_GGUF_U8] = "u8",         [RS_GGUF_I8] = "i8",       [RS_GGUF_U16] = "u16", [RS_GGUF_I16] = "i16",
    [RS_GGUF_U32] = "u32",       [RS_GGUF_I32] = "i32",     [RS_GGUF_F32] = "f32", [RS_GGUF_BOOL] = "bool",
    [RS_GGUF_STRING] = "string", [RS_GGUF_ARRAY] = "array", [RS_GGUF_U64] = "u64", [RS_GGUF_I64] = "i64",
    [RS_GGUF_F64] = "f64",
};

/* Tensor types that GGUF files may hold and rasure does not read, by id; rs_types has the others. */
static const char *const other_tensor_types[] = {
    [4] = "Q4_2",        [5] = "Q4_3",        [9] = "Q8_1",        [10] = "Q2_K",    [11] = "Q3_K",
    [15] = "Q8_K",       [16] = "IQ2_XXS",    [17] = "IQ2_XS",     [18] = "IQ3_XXS", [19] = "IQ1_S",
    [20] = "IQ4_NL",     [21] = "IQ3_S",      [22] = "IQ2_S",      [23] = "IQ4_XS",  [24] = "I8",
    [25] = "I16",        [26] = "I32",        [27] = "I64",        [28] = "F64",     [29] = "IQ1_M",
    [31] = "Q4_0_4_4",   [32] = "Q4_0_4_8",   [33] = "Q4_0_8_8",   [34] = "TQ1_0",   [35] = "TQ2_0",
    [36] = "IQ4_NL_4_4", [37] = "IQ4_NL_4_8", [38] = "IQ4_NL_8_8", [39] = "MXFP4",   [40] = "NVFP4",
    [41] = "Q1_0",       [42] = "Q2_0",
};

/* -------------------------------------------------------------------------------------------- reading -- */

typedef struct reader {
    const unsigned char *at, *end;
} reader;

static size_t left(const reader *r) {
    return (size_t)(r->end - r->at);
}

static bool take(reader *r, size_t bytes, const unsigned char **data) {
    if (bytes > left(r)) return false;
    *data = r->at;
    r->at += bytes;
    return true;
}

static bool take_u32(reader *r, uint32_t *value) {
    const unsigned char *data;
    if (!take(r, sizeof *value, &data)) return false;
    memcpy(value, data, sizeof *value);
    return true;
}

static bool take_u64(reader *r, uint64_t *value) {
    const unsigned char *data;
    if (!take(r, sizeof *value, &data)) return false;
    memcpy(value, data, sizeof *value);
    return true;
}

static bool take_string(reader *r, rs_string *string) {
    uint64_t length;
    size_t bytes;
    const unsigned char *data;
    if (!take_u64(r, &length) || !rs_u64_to_size(length, &bytes) || !take(r, bytes, &data)) return false;
    *string = (rs_string){(const char *)data, bytes};
    return true;
}

/* 0 for a type that is not a scalar. */
static size_t scalar_bytes(uint32_t type) {
    switch (type) {
    case RS_GGUF_U8:
    case RS_GGUF_I8:
    case RS_GGUF_BOOL: return 1;
    case RS_GGUF_U16:
    case RS_GGUF_I16: return 2;
    case RS_GGUF_U32:
    case RS_GGUF_I32:
    case RS_GGUF_F32: return 4;
    case RS_GGUF_U64:
    case RS_GGUF_I64:
    case RS_GGUF_F64: return 8;
    default: return 0;
    }
}

static rs_status value_cut_short(rs_string key, rs_error *error) {
    return fail_at(error, RS_BAD_FILE, "key", key, "the file ends inside its value");
}

/* Walks `count` values of one type. An array is a type, a count and that many values: arrays nest here. */
static rs_status take_values(reader *r, rs_string key, uint32_t type, uint64_t count, unsigned depth,
                             rs_error *error) {
    if (type == RS_GGUF_STRING) {
        rs_string ignored;
        for (; count > 0; count--)
            if (!take_string(r, &ignored)) return value_cut_short(key, error);
        return RS_OK;
    }
    if (type == RS_GGUF_ARRAY) {
        if (depth == MAX_ARRAY_DEPTH)
            return fail_at(error, RS_BAD_FILE, "key", key, "arrays nest deeper than %d", MAX_ARRAY_DEPTH);
        for (; count > 0; count--) {
            uint32_t element_type;
            uint64_t elements;
            if (!take_u32(r, &element_type) || !take_u64(r, &elements)) return value_cut_short(key, error);
            RS_TRY(take_values(r, key, element_type, elements, depth + 1, error));
        }
        return RS_OK;
    }
    const size_t each = scalar_bytes(type);
    if (each == 0) return fail_at(error, RS_BAD_FILE, "key", key, "value type %u is not one of GGUF's", type);
    if (count > left(r) / each) return value_cut_short(key, error);
    const unsigned char *data = r->at;
    r->at += (size_t)count * each;
    if (type == RS_GGUF_BOOL)
        for (; data < r->at; data++)
            if (*data > 1) return fail_at(error, RS_BAD_FILE, "key", key, "a bool is %u, not 0 or 1", *data);
    return RS_OK;
}

static rs_status take_entry(reader *r, size_t index, entry *e, rs_error *error) {
    if (!take_string(r, &e->key))
        return rs_fail(error, RS_BAD_FILE, "key %zu: the file ends inside its name", index);
    if (e->key.bytes == 0) return rs_fail(error, RS_BAD_FILE, "key %zu: its name is empty", index);
    if (e->key.bytes > MAX_KEY_NAME)
        return fail_at(error, RS_BAD_FILE, "key", e->key, "its name is longer than %d bytes", MAX_KEY_NAME);
    uint32_t type;
    if (!take_u32(r, &type)) return value_cut_short(e->key, error);
    e->data = r->at;
    RS_TRY(take_values(r, e->key, type, 1, 0, error));
    e->type = (rs_gguf_type)type; /* take_values passed it */
    e->end = r->at;
    return RS_OK;
}

static rs_status tensor_type(uint32_t id, rs_string name, rs_type *type, rs_error *error) {
    for (unsigned t = 0; t < RS_TYPE_COUNT; t++)
        if (rs_types[t].gguf_id == id) {
            *type = (rs_type)t;
            return RS_OK;
        }
    const size_t others = sizeof other_tensor_types / sizeof other_tensor_types[0];
    char known[RS_TYPE_COUNT * 8] = "", number[16];
    size_t n = 0;
    for (unsigned t = 0; t < RS_TYPE_COUNT; t++)
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", t > 0 ? ", " : "", rs_types[t].name);
    (void)snprintf(number, sizeof number, "%u", id);
    const bool named = id < others && other_tensor_types[id] != NULL;
    return fail_at(error, RS_UNSUPPORTED, "tensor", name, "type %s is not supported, only %s are",
                   named ? other_tensor_types[id] : number, known);
}

static rs_status tensor_bytes(rs_tensor *t, rs_error *error) {
    const rs_type_info *info = &rs_types[t->type];
    if (t->ne[0] % info->block_elems != 0) {
        char text[27];
        return fail_at(error, RS_BAD_FILE, "tensor", t->name,
                       "a row of %s elements is not whole %s blocks of %u", grouped(t->ne[0], text),
                       info->name, info->block_elems);
    }
    size_t row_length, bytes;
    bool fits = rs_u64_to_size(t->ne[0], &row_length) &&
                rs_mul_size(row_length / info->block_elems, info->block_bytes, &bytes);
    for (unsigned d = 1; d < RS_GGUF_MAX_DIMS && fits; d++) {
        size_t ne;
        fits = rs_u64_to_size(t->ne[d], &ne) && rs_mul_size(bytes, ne, &bytes);
    }
    if (!fits) return fail_at(error, RS_BAD_FILE, "tensor", t->name, "its size does not fit in memory");
    t->bytes = bytes;
    return RS_OK;
}

static rs_status tensor_cut_short(rs_string name, rs_error *error) {
    return fail_at(error, RS_BAD_FILE, "tensor", name, "the file ends inside its description");
}

static rs_status take_record(reader *r, size_t index, tensor_record *record, rs_error *error) {
    rs_tensor *t = &record->tensor;
    t->index = index;
    char text[27];
    if (!take_string(r, &t->name))
        return rs_fail(error, RS_BAD_FILE, "tensor %zu: the file ends inside its name", index);
    if (t->name.bytes == 0) return rs_fail(error, RS_BAD_FILE, "tensor %zu: its name is empty", index);
    if (t->name.bytes > MAX_TENSOR_NAME)
        return fail_at(error, RS_BAD_FILE, "tensor", t->name, "its name is longer than %d bytes",
                       MAX_TENSOR_NAME);
    if (!take_u32(r, &t->n_dims)) return tensor_cut_short(t->name, error);
    if (t->n_dims < 1 || t->n_dims > RS_GGUF_MAX_DIMS)
        return fail_at(error, RS_BAD_FILE, "tensor", t->name, "%s dimensions, not 1 to %d",
                       grouped(t->n_dims, text), RS_GGUF_MAX_DIMS);
    for (unsigned d = 0; d < RS_GGUF_MAX_DIMS; d++) {
        t->ne[d] = 1;
        if (d < t->n_dims && !take_u64(r, &t->ne[d])) return tensor_cut_short(t->name, error);
        if (t->ne[d] == 0) return fail_at(error, RS_BAD_FILE, "tensor", t->name, "dimension %u is 0", d);
    }
    uint32_t type_id;
    if (!take_u32(r, &type_id) || !take_u64(r, &record->offset)) return tensor_cut_short(t->name, error);
    RS_TRY(tensor_type(type_id, t->name, &t->type, error));
    return tensor_bytes(t, error);
}

/* ------------------------------------------------------------------------------------------- indexing -- */

static int compare_strings(const void *a, const void *b) {
    const rs_string *x = a, *y = b;
    const int order = memcmp(x->data, y->data, x->bytes < y->bytes ? x->bytes : y->bytes);
    return order != 0 ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int compare_names(const void *a, const void *b) {
    const rs_tensor *const *x = a, *const *y = b;
    return compare_strings(&(*x)->name, &(*y)->name);
}

static int compare_places(const void *a, const void *b) {
    const rs_tensor *const *x = a, *const *y = b;
    const char *p = (*x)->data, *q = (*y)->data;
    return (p > q) - (p < q);
}

static rs_status index_entries(rs_gguf *g, rs_error *error) {
    qsort(g->entries, g->n_entries, sizeof *g->entries, compare_strings);
    for (size_t i = 1; i < g->n_entries; i++)
        if (compare_strings(&g->entries[i - 1], &g->entries[i]) == 0)
            return fail_at(error, RS_BAD_FILE, "key", g->entries[i].key, "the file has it twice");
    return RS_OK;
}

static rs_status read_alignment(const rs_gguf *g, uint32_t *alignment, rs_error *error) {
    *alignment = DEFAULT_ALIGNMENT;
    RS_TRY(rs_gguf_u32_or(g, alignment_key, alignment, error));
    if (*alignment >= MIN_ALIGNMENT && (*alignment & (*alignment - 1)) == 0) return RS_OK;
    char text[27];
    return rs_fail(error, RS_BAD_FILE, "key %s: %s is not a power of two from %d up", alignment_key,
                   grouped(*alignment, text), MIN_ALIGNMENT);
}

/* Points the tensors into the data section, which begins at `start` in the file. */
static rs_status place_tensors(rs_gguf *g, const unsigned char *file, size_t file_bytes, size_t start,
                               uint32_t alignment, rs_error *error) {
    for (size_t i = 0; i < g->n_tensors; i++) {
        rs_tensor *t = &g->records[i].tensor;
        char text[27];
        if (g->records[i].offset % alignment != 0)
            return fail_at(error, RS_BAD_FILE, "tensor", t->name,
                           "offset %s is not a multiple of the alignment %u",
                           grouped(g->records[i].offset, text), alignment);
        size_t begin, end;
        if (!rs_u64_to_size(g->records[i].offset, &begin) || !rs_add_size(start, begin, &begin) ||
            !rs_add_size(begin, t->bytes, &end) || end > file_bytes)
            return fail_at(error, RS_BAD_FILE, "tensor", t->name, "%s bytes run past the end of the file",
                           grouped(t->bytes, text));
        t->data = file + begin;
        g->by_name[i] = t;
    }
    return RS_OK;
}

static rs_status index_tensors(rs_gguf *g, rs_error *error) {
    char text[RS_SHOWN_BYTES];
    qsort(g->by_name, g->n_tensors, sizeof *g->by_name, compare_places);
    for (size_t i = 1; i < g->n_tensors; i++) {
        const rs_tensor *a = g->by_name[i - 1], *b = g->by_name[i];
        if ((const char *)b->data < (const char *)a->data + a->bytes)
            return fail_at(error, RS_BAD_FILE, "tensor", b->name, "its data overlap those of %s",
                           rs_shown(a->name, text));
    }
    qsort(g->by_name, g->n_tensors, sizeof *g->by_name, compare_names);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (compare_names(&g->by_name[i - 1], &g->by_name[i]) == 0)
            return fail_at(error, RS_BAD_FILE, "tensor", g->by_name[i]->name, "the file has it twice");
    return RS_OK;
}

/* ------------------------------------------------------------------------------------------- opening -- */

static rs_status take_version(reader *r, rs_error *error) {
    const unsigned char *magic;
    if (!take(r, 4, &magic) || memcmp(magic, "GGUF", 4) != 0)
        return rs_fail(error, RS_BAD_FILE, "not a GGUF file: it does not begin with \"GGUF\"");
    uint32_t version;
    if (!take_u32(r, &version)) return rs_fail(error, RS_BAD_FILE, "the file ends inside its header");
    if (version == 2 || version == 3) return RS_OK;
    if (version != 0 && (version & 0xffff) == 0)
        return rs_fail(error, RS_UNSUPPORTED, "a big-endian GGUF file: only little-endian ones are read");
    return rs_fail(error, RS_UNSUPPORTED, "GGUF version %u: only versions 2 and 3 are read", version);
}

/* A count of things that take at least `least` bytes each, in the bytes that are left. */
static rs_status take_count(uint64_t claimed, const reader *r, size_t least, const char *what, size_t *count,
                            rs_error *error) {
    char text[27];
    if (claimed > left(r) / least)
        return rs_fail(error, RS_BAD_FILE, "the header claims %s %s, more than the file can hold",
                       grouped(claimed, text), what);
    *count = (size_t)claimed;
    return RS_OK;
}

/* At least one element, so that NULL means no memory. */
static void *allocate(size_t count, size_t each) {
    return calloc(count > 0 ? count : 1, each);
}

static rs_status read_file(rs_gguf *g, const unsigned char *file, size_t file_bytes, rs_error *error) {
    reader r = {file, file + file_bytes};
    uint64_t n_tensors, n_entries;
    RS_TRY(take_version(&r, error));
    if (!take_u64(&r, &n_tensors) || !take_u64(&r, &n_entries))
        return rs_fail(error, RS_BAD_FILE, "the file ends inside its header");
    RS_TRY(take_count(n_tensors, &r, MIN_TENSOR_BYTES, "tensors", &g->n_tensors, error));
    RS_TRY(take_count(n_entries, &r, MIN_KEY_BYTES, "keys", &g->n_entries, error));

    g->entries = allocate(g->n_entries, sizeof *g->entries);
    g->records = allocate(g->n_tensors, sizeof *g->records);
    g->by_name = allocate(g->n_tensors, sizeof *g->by_name);
    if (g->entries == NULL || g->records == NULL || g->by_name == NULL)
        return rs_fail(error, RS_NO_MEMORY, "no memory for the index of %zu keys and %zu tensors",
                       g->n_entries, g->n_tensors);

    for (size_t i = 0; i < g->n_entries; i++) RS_TRY(take_entry(&r, i, &g->entries[i], error));
    RS_TRY(index_entries(g, error));
    for (size_t i = 0; i < g->n_tensors; i++) RS_TRY(take_record(&r, i, &g->records[i], error));

    uint32_t alignment;
    size_t start;
    RS_TRY(read_alignment(g, &alignment, error));
    if (!rs_round_up_size((size_t)(r.at - file), alignment, &start))
        return rs_fail(error, RS_BAD_FILE, "key %s: %u leaves no room for data", alignment_key, alignment);
    RS_TRY(place_tensors(g, file, file_bytes, start, alignment, error));
    return index_tensors(g, error);
}

rs_status rs_gguf_open(const void *data, size_t bytes, rs_gguf **gguf, rs_error *error) {
    *gguf = NULL;
    if (bytes == 0) return rs_fail(error, RS_BAD_FILE, "the file is empty");
    if ((uintptr_t)data % MEMORY_ALIGNMENT != 0) /* else tensors are not, whatever their offsets say */
        return rs_fail(error, RS_INVALID_ARGUMENT, "the file's memory is not aligned to %d bytes",
                       MEMORY_ALIGNMENT);
    rs_gguf *g = calloc(1, sizeof *g);
    if (g == NULL) return rs_fail(error, RS_NO_MEMORY, "no memory for the file's index");
    const rs_status status = read_file(g, data, bytes, error);
    if (status != RS_OK) {
        rs_gguf_close(g);
        return status;
    }
    *gguf = g;
    return RS_OK;
}

void rs_gguf_close(rs_gguf *gguf) {
    if (gguf == NULL) return;
    free(gguf->entries);
    free(gguf->records);
    free(gguf->by_name);
    free(gguf);
}

/* -------------------------------------------------------------------------------------------- queries -- */

uint64_t rs_gguf_tensor_count(const rs_gguf *gguf) {
    return gguf->n_tensors;
}

const rs_tensor *rs_gguf_tensor(const rs_gguf *gguf, uint64_t index) {
    return index < gguf->n_tensors ? &gguf->records[index].tensor : NULL;
}

const rs_tensor *rs_gguf_find_tensor(const rs_gguf *gguf, const char *name) {
    const rs_tensor wanted = {.name = {name, strlen(name)}}, *key = &wanted;
    const rs_tensor **found =
        bsearch(&key, gguf->by_name, gguf->n_tensors, sizeof *gguf->by_name, compare_names);
    return found != NULL ? *found : NULL;
}

static const entry *find(const rs_gguf *gguf, const char *key) {
    const rs_string wanted = {key, strlen(key)};
    return bsearch(&wanted, gguf->entries, gguf->n_entries, sizeof *gguf->entries, compare_strings);
}

bool rs_gguf_has(const rs_gguf *gguf, const char *key) {
    return find(gguf, key) != NULL;
}

bool rs_gguf_is_array(const rs_gguf *gguf, const char *key) {
    const entry *e = find(gguf, key);
    return e != NULL && e->type == RS_GGUF_ARRAY;
}

static rs_status missing(const char *key, rs_error *error) {
    return rs_fail(error, RS_BAD_FILE, "key %s is missing", key);
}

static rs_status wrong_type(const entry *e, const char *wanted, rs_error *error) {
    return fail_at(error, RS_BAD_FILE, "key", e->key, "type %s, not %s", value_type_names[e->type], wanted);
}

static rs_status read_u32(const entry *e, uint32_t *value, rs_error *error) {
    uint64_t bits = 0;
    const size_t bytes = scalar_bytes(e->type);
    memcpy(&bits, e->data, bytes);
    switch (e->type) {
    case RS_GGUF_U8:
    case RS_GGUF_U16:
    case RS_GGUF_U32:
    case RS_GGUF_U64: break;
    case RS_GGUF_I8:
    case RS_GGUF_I16:
    case RS_GGUF_I32:
    case RS_GGUF_I64:
        if (bits >> (8 * bytes - 1) != 0)
            return fail_at(error, RS_BAD_FILE, "key", e->key, "its value is negative");
        break;
    default: return wrong_type(e, "an integer", error);
    }
    if (bits > UINT32_MAX) {
        char text[27];
        return fail_at(error, RS_BAD_FILE, "key", e->key, "%s is too large", grouped(bits, text));
    }
    *value = (uint32_t)bits;
    return RS_OK;
}

static rs_status read_f32(const entry *e, float *value, rs_error *error) {
    if (e->type == RS_GGUF_F32) {
        memcpy(value, e->data, sizeof *value);
        return RS_OK;
    }
    if (e->type != RS_GGUF_F64) return wrong_type(e, "a float", error);
    double wide;
    memcpy(&wide, e->data, sizeof wide);
    if (isfinite(wide) && fabs(wide) > (double)FLT_MAX)
        return fail_at(error, RS_BAD_FILE, "key", e->key, "%g is too large", wide);
    *value = (float)wide;
    return RS_OK;
}

static rs_status read_bool(const entry *e, bool *value, rs_error *error) {
    if (e->type != RS_GGUF_BOOL) return wrong_type(e, "a bool", error);
    *value = *e->data != 0;
    return RS_OK;
}

static rs_status read_string(const entry *e, rs_string *value, rs_error *error) {
    if (e->type != RS_GGUF_STRING) return wrong_type(e, "a string", error);
    *value = (rs_string){(const char *)e->data + 8, (size_t)(e->end - e->data) - 8};
    return RS_OK;
}

rs_status rs_gguf_u32(const rs_gguf *gguf, const char *key, uint32_t *value, rs_error *error) {
    const entry *e = find(gguf, key);
    return e != NULL ? read_u32(e, value, error) : missing(key, error);
}

rs_status rs_gguf_f32(const rs_gguf *gguf, const char *key, float *value, rs_error *error) {
    const entry *e = find(gguf, key);
    return e != NULL ? read_f32(e, value, error) : missing(key, error);
}

rs_status rs_gguf_bool(const rs_gguf *gguf, const char *key, bool *value, rs_error *error) {
    const entry *e = find(gguf, key);
    return e != NULL ? read_bool(e, value, error) : missing(key, error);
}

rs_status rs_gguf_string(const rs_gguf *gguf, const char *key, rs_string *value, rs_error *error) {
    const entry *e = find(gguf, key);
    return e != NULL ? read_string(e, value, error) : missing(key, error);
}

rs_status rs_gguf_u32_or(const rs_gguf *gguf, const char *key, uint32_t *value, rs_error *error) {
    const entry *e = find(gguf, key);
    return e != NULL ? read_u32(e, value, error) : RS_OK;
}

rs_status rs_gguf_f32_or(const rs_gguf *gguf, const char *key, float *value, rs_error *error) {
    const entry *e = find(gguf, key);
    return e != NULL ? read_f32(e, value, error) : RS_OK;
}

rs_status rs_gguf_bool_or(const rs_gguf *gguf, const char *key, bool *value, rs_error *error) {
    const entry *e = find(gguf, key);
    return e != NULL ? read_bool(e, value, error) : RS_OK;
}

rs_status rs_gguf_string_or(const rs_gguf *gguf, const char *key, rs_string *value, rs_error *error) {
    const entry *e = find(gguf, key);
    return e != NULL ? read_string(e, value, error) : RS_OK;
}

rs_status rs_gguf_name(const rs_gguf *gguf, char *text, size_t capacity, rs_error *error) {
    rs_string name = {"", 0};
    RS_TRY(rs_gguf_string_or(gguf, "general.name", &name, error));
    size_t n = name.bytes;
    if (n >= capacity) /* goes back to where a character of UTF-8 begins */
        for (n = capacity - 1; n > 0 && (name.data[n] & 0xc0) == 0x80;) n--;
    (void)snprintf(text, capacity, "%.*s", (int)n, name.data);
    rs_make_printable(text);
    return RS_OK;
}

/* --------------------------------------------------------------------------------------------- arrays -- */

rs_status rs_gguf_get_array(const rs_gguf *gguf, const char *key, rs_gguf_type type, rs_gguf_array *array,
                            rs_error *error) {
    const entry *e = find(gguf, key);
    if (e == NULL) return missing(key, error);
    if (e->type != RS_GGUF_ARRAY) return wrong_type(e, "an array", error);
    uint32_t element_type;
    uint64_t count;
    memcpy(&element_type, e->data, sizeof element_type);
    memcpy(&count, e->data + sizeof element_type, sizeof count);
    if (element_type != (uint32_t)type || type == RS_GGUF_ARRAY)
        return fail_at(error, RS_BAD_FILE, "key", e->key, "an array of %s, not of %s",
                       value_type_names[element_type], value_type_names[type]);
    *array = (rs_gguf_array){type, count, e->data + sizeof element_type + sizeof count, e->end};
    return RS_OK;
}

int32_t rs_gguf_array_i32(const rs_gguf_array *array, uint64_t index) {
    int32_t value;
    memcpy(&value, array->data + index * sizeof value, sizeof value);
    return value;
}

float rs_gguf_array_f32(const rs_gguf_array *array, uint64_t index) {
    float value;
    memcpy(&value, array->data + index * sizeof value, sizeof value);
    return value;
}

rs_string rs_gguf_array_next_string(rs_gguf_array *array) {
    uint64_t bytes;
    memcpy(&bytes, array->data, sizeof bytes);
    const rs_string string = {(const char *)array->data + sizeof bytes, (size_t)bytes};
    array->data += sizeof bytes + string.bytes;
    array->count--;
    return string;
}
