/* Tables of heads, as PruLong and DuoAttention write them. */
#include "runtime/policy/heads.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model.h"
#include "runtime/sidecar.h"
#include "runtime/status.h"

enum { MAX_FILE = 1 << 24, MAX_DIGITS = 400, MAX_EXPONENT = 400 };

typedef struct reader {
    const char *at, *end;
} reader;

static bool is_digit(const reader *r) {
    return r->at < r->end && *r->at >= '0' && *r->at <= '9';
}

static bool skip(reader *r, char c) {
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

/* Digits, appended to *value; *scale counts those behind the point. */
static bool read_digits(reader *r, double *value, int *scale, bool behind_point) {
    int n = 0;
    for (; is_digit(r) && n < MAX_DIGITS; n++, r->at++) {
        *value = *value * 10.0 + (double)(*r->at - '0');
        *scale += behind_point;
    }
    return n > 0 && !is_digit(r);
}

/* A decimal number. Not strtod, which reads what the locale calls a number, and beyond `end`. */
static bool read_number(reader *r, double *value) {
    const bool negative = skip(r, '-');
    int scale = 0, exponent = 0;
    double digits = 0.0;
    *value = 0.0;
    if (!negative) skip(r, '+');
    if (!read_digits(r, &digits, &scale, false)) return false;
    if (skip(r, '.') && is_digit(r) && !read_digits(r, &digits, &scale, true)) return false;
    if (skip(r, 'e') || skip(r, 'E')) {
        const bool down = skip(r, '-');
        if (!down) skip(r, '+');
        if (!is_digit(r)) return false;
        for (; is_digit(r); r->at++)
            if (exponent < MAX_EXPONENT) exponent = exponent * 10 + (*r->at - '0');
        if (down) exponent = -exponent;
    }
    *value = (negative ? -digits : digits) * pow(10.0, exponent - scale);
    return isfinite(*value);
}

rs_status rs_heads_parse(const char *text, size_t bytes, uint32_t n_layers, uint32_t n_heads, double *values,
                         rs_error *error) {
    reader r = {text, text + bytes};
    for (uint32_t line = 0; line < n_layers; line++) {
        for (uint32_t column = 0; column < n_heads; column++) {
            double value;
            const bool last = column + 1 == n_heads;
            if (!read_number(&r, &value) || !(last || skip(&r, '\t'))) {
                return rs_fail(error, RS_BAD_FILE,
                               "line %" PRIu32 ", column %" PRIu32 ": not a table of %" PRIu32
                               " lines (layers) with %" PRIu32 " numbers (KV heads) between tabs",
                               line + 1, column + 1, n_layers, n_heads);
            }
            values[(size_t)line * n_heads + column] = value < 0.0 ? 0.0 : value > 1.0 ? 1.0 : value;
        }
        skip(&r, '\r');
        if (!skip(&r, '\n') && r.at != r.end)
            return rs_fail(error, RS_BAD_FILE,
                           "line %" PRIu32 " has more than the %" PRIu32 " numbers of a layer", line + 1,
                           n_heads);
    }
    if (r.at != r.end)
        return rs_fail(error, RS_BAD_FILE, "there are more lines than the model has layers, %" PRIu32,
                       n_layers);
    return RS_OK;
}

typedef struct ranked {
    double value;
    size_t index;
} ranked;

static int descending(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

rs_status rs_heads_choose(const double *values, size_t n, float local_share, bool *full_heads) {
    if (local_share == RS_HEADS_AS_WRITTEN) {
        for (size_t i = 0; i < n; i++) full_heads[i] = values[i] >= 0.5;
        return RS_OK;
    }
    ranked *order = malloc(n * sizeof *order);
    if (order == NULL) return RS_NO_MEMORY;
    for (size_t i = 0; i < n; i++) order[i] = (ranked){values[i], i};
    qsort(order, n, sizeof *order, descending);
    /* 90 * (1 - 0.9f) is a little less than 9. */
    const size_t kept = (size_t)floor((double)n * (1.0 - (double)local_share) + 1e-4);
    for (size_t i = 0; i < n; i++) full_heads[order[i].index] = i < kept;
    free(order);
    return RS_OK;
}

enum { MAX_COUNT = 1 << 20 };

/* A sidecar: a tensor "heads" of n_layers rows. */
static rs_status read_sidecar(const rs_gguf *gguf, const rs_model *model, double *values, rs_heads_info *info,
                              rs_error *error) {
    const uint32_t n_layers = model->shape.n_layers, n_heads = model->shape.n_kv_heads;
    RS_TRY(rs_sidecar_check(gguf, model, "heads", error));
    RS_TRY(rs_sidecar_u32(gguf, "rasure.heads.sinks", MAX_COUNT, &info->sinks, error));
    RS_TRY(rs_sidecar_u32(gguf, "rasure.heads.window", MAX_COUNT, &info->window, error));
    const rs_tensor *tensor = rs_gguf_find_tensor(gguf, "heads");
    if (tensor == NULL) return rs_fail(error, RS_BAD_FILE, "there is no tensor heads");
    if (tensor->type != RS_TYPE_F32 || tensor->ne[0] != n_heads || tensor->ne[1] != n_layers ||
        tensor->ne[2] != 1 || tensor->ne[3] != 1) {
        return rs_fail(error, RS_BAD_FILE, "the tensor heads is not F32, %" PRIu32 " x %" PRIu32, n_heads,
                       n_layers);
    }
    const float *at = tensor->data;
    for (size_t i = 0; i < (size_t)n_layers * n_heads; i++) {
        if (!isfinite(at[i])) return rs_fail(error, RS_BAD_FILE, "the tensor heads holds what is no number");
        values[i] = (double)at[i];
    }
    return RS_OK;
}

static rs_status read_values(const rs_model *model, const void *data, size_t bytes, double *values,
                             rs_heads_info *info, rs_error *error) {
    if (bytes < 4 || memcmp(data, "GGUF", 4) != 0)
        return rs_heads_parse(data, bytes, model->shape.n_layers, model->shape.n_kv_heads, values, error);
    rs_gguf *gguf;
    RS_TRY(rs_gguf_open(data, bytes, &gguf, error));
    const rs_status status = read_sidecar(gguf, model, values, info, error);
    rs_gguf_close(gguf);
    return status;
}

rs_status rs_heads_load_memory(const rs_model *model, const void *data, size_t bytes, float local_share,
                               bool *full_heads, rs_heads_info *info, rs_error *error) {
    if (model == NULL || (data == NULL && bytes > 0) || full_heads == NULL)
        return rs_fail(error, RS_INVALID_ARGUMENT, "model, data or full_heads is NULL");
    if (local_share != RS_HEADS_AS_WRITTEN && !(local_share >= 0.0F && local_share <= 1.0F)) {
        return rs_fail(error, RS_INVALID_ARGUMENT,
                       "local_share is %g, must be 0 to 1, or RS_HEADS_AS_WRITTEN", (double)local_share);
    }
    const size_t n = (size_t)model->shape.n_layers * model->shape.n_kv_heads;
    rs_heads_info found = {0, 0};
    if (bytes > MAX_FILE) return rs_fail(error, RS_BAD_FILE, "%zu bytes are no table of heads", bytes);
    double *values = malloc(n * sizeof *values);
    if (values == NULL) return rs_fail(error, RS_NO_MEMORY, "no memory for %zu heads", n);
    rs_status status = read_values(model, bytes > 0 ? data : "", bytes, values, &found, error);
    if (status == RS_OK && rs_heads_choose(values, n, local_share, full_heads) != RS_OK)
        status = rs_fail(error, RS_NO_MEMORY, "no memory for %zu heads", n);
    free(values);
    if (status == RS_OK && info != NULL) *info = found;
    return status;
}

rs_status rs_heads_load(const rs_model *model, const char *path, float local_share, bool *full_heads,
                        rs_heads_info *info, rs_error *error) {
    if (path == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "path is NULL");
    rs_port_map map;
    RS_TRY(rs_sidecar_map(path, &map, error));
    const rs_status status =
        rs_heads_load_memory(model, map.data, map.bytes, local_share, full_heads, info, error);
    rs_port_unmap(&map);
    return status;
}
