/* From a file of gates to weights beside the model's, all checked against it. */
#include "runtime/policy/gates.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checked.h"
#include "runtime/hash.h"
#include "runtime/sidecar.h"
#include "runtime/status.h"

enum {
    MAX_WIDTH = 512,
    MAX_FEATURES = 4096,
    MAX_WEIGHT = 1024, /* far above what training gives; keeps a hostile file's lambdas finite */
    MAX_COUNT = 1 << 20,
    NAME_BYTES = 64,
};

float rs_gates_lambda(const rs_gates *gates, const rs_gate_layer *layer, uint32_t head,
                      const float *features) {
    const uint32_t row = gates->own_out ? head : 0;
    float z = layer->out_bias[row];
    if (features != NULL) {
        const float *of_head = features + (gates->own_features ? (size_t)head * gates->head_features : 0);
        const float *out = layer->out + (size_t)row * gates->head_features;
        for (uint32_t i = 0; i < gates->head_features; i++) z += of_head[i] * out[i];
    }
    /* log(sigmoid(z)) that neither overflows nor rounds to zero. */
    return z > 0 ? -log1pf(expf(-z)) : z - log1pf(expf(z));
}

typedef struct loader {
    rs_gates *gates;
    rs_gguf *gguf;
    rs_error *error;
    uint64_t n_tensors;  /* that were recognised */
    unsigned char *next; /* where weights go; NULL while they are counted */
    float *row;          /* of MAX_FEATURES or n_embd floats, to look at quantised weights */
} loader;

/* ------------------------------------------------------------------------------------------- keys -- */

typedef struct form {
    const char *name;
    bool has_input, two_layers, tied, own_features, own_out;
} form;

static const form forms[] = {
    {"tied", true, true, true, true, false},
    {"rows", true, true, true, false, true},
    {"untied", true, false, false, false, true},
    {"constant", false, false, false, false, true},
};

static rs_status read_form(loader *l, const form **found) {
    static const char key[] = "rasure.gates.form";
    rs_string name;
    char text[RS_SHOWN_BYTES];
    RS_TRY(rs_gguf_string(l->gguf, key, &name, l->error));
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (!rs_string_is(name, forms[i].name)) continue;
        *found = &forms[i];
        l->gates->form = forms[i].name;
        l->gates->own_features = forms[i].own_features;
        l->gates->own_out = forms[i].own_out;
        return RS_OK;
    }
    return rs_fail(l->error, RS_UNSUPPORTED, "%s: %s is none of tied, rows, untied, constant", key,
                   rs_shown(name, text));
}

static rs_status read_scope(loader *l) {
    static const char key[] = "rasure.gates.scope";
    rs_string scope;
    char text[RS_SHOWN_BYTES];
    RS_TRY(rs_gguf_string(l->gguf, key, &scope, l->error));
    l->gates->by_head = rs_string_is(scope, "head");
    if (l->gates->by_head || rs_string_is(scope, "global")) return RS_OK;
    return rs_fail(l->error, RS_UNSUPPORTED, "%s: %s is neither global nor head", key, rs_shown(scope, text));
}

static rs_status read_keys(loader *l, const form **found) {
    rs_gates *g = l->gates;
    RS_TRY(rs_sidecar_check(l->gguf, g->model, "gates", l->error));
    RS_TRY(read_form(l, found));
    RS_TRY(read_scope(l));
    RS_TRY(rs_sidecar_u32(l->gguf, "rasure.gates.width", MAX_WIDTH, &g->width, l->error));
    RS_TRY(rs_sidecar_u32(l->gguf, "rasure.gates.budget", MAX_COUNT, &g->budget, l->error));
    RS_TRY(rs_sidecar_u32(l->gguf, "rasure.gates.length", MAX_COUNT, &g->length, l->error));
    if (!(*found)->has_input) g->width = 0;
    else if (g->width == 0 || g->width % RS_ACT_BLOCK != 0) {
        return rs_fail(l->error, RS_UNSUPPORTED, "rasure.gates.width: %" PRIu32 " is no multiple of %d",
                       g->width, RS_ACT_BLOCK);
    }
    RS_TRY(rs_gguf_name(l->gguf, g->name, sizeof g->name, l->error));
    rs_string training = {"", 0};
    RS_TRY(rs_gguf_string_or(l->gguf, "rasure.adapter.training", &training, l->error));
    g->training = malloc(training.bytes + 1);
    if (g->training == NULL) return rs_fail(l->error, RS_NO_MEMORY, "no memory for the training record");
    memcpy(g->training, training.data, training.bytes);
    g->training[training.bytes] = '\0';
    return RS_OK;
}

/* ---------------------------------------------------------------------------------------- tensors -- */

/* A tensor of `type`, rows x columns, all of whose weights are numbers that can be; rows 0: as many as it
 * has. Its bytes go to the next place, which *placed is once there are places. */
static rs_status take(loader *l, const char *name, rs_type type, uint64_t columns, uint64_t rows,
                      const void **placed, uint64_t *n_rows) {
    const rs_tensor *t = rs_gguf_find_tensor(l->gguf, name);
    if (t == NULL) return rs_fail(l->error, RS_BAD_FILE, "tensor %s is missing", name);
    if (rows == 0) rows = t->ne[1];
    if (t->type != type || t->ne[0] != columns || t->ne[1] != rows || t->ne[2] != 1 || t->ne[3] != 1) {
        return rs_fail(l->error, RS_MISMATCH,
                       "tensor %s is not %s, %" PRIu64 " x %" PRIu64 ", as this model and width need", name,
                       type == RS_TYPE_Q8_0 ? "Q8_0" : "F32", columns, rows);
    }
    if (rows > MAX_FEATURES)
        return rs_fail(l->error, RS_UNSUPPORTED, "tensor %s has more than %d rows", name, MAX_FEATURES);
    const size_t row_bytes = rs_row_bytes(type, (size_t)columns);
    if (n_rows != NULL) *n_rows = rows;
    l->n_tensors++;
    if (l->next == NULL) {
        l->gates->n_params += columns * rows;
        const size_t padded = (t->bytes + RS_ARENA_ALIGN - 1) / RS_ARENA_ALIGN * RS_ARENA_ALIGN;
        return rs_add_size(l->gates->bytes, padded, &l->gates->bytes)
                   ? RS_OK
                   : rs_fail(l->error, RS_NO_MEMORY, "the gates do not fit this system's memory");
    }
    for (uint64_t r = 0; r < rows; r++) {
        l->gates->model->kernels->dequantize[type]((const unsigned char *)t->data + r * row_bytes, l->row,
                                                   (size_t)columns);
        for (uint64_t i = 0; i < columns; i++) {
            if (fabsf(l->row[i]) <= (float)MAX_WEIGHT) continue;
            return rs_fail(l->error, RS_BAD_FILE, "tensor %s, row %" PRIu64 ": not a number, or beyond %d",
                           name, r, MAX_WEIGHT);
        }
    }
    memcpy(l->next, t->data, t->bytes);
    l->gates->fingerprint = rs_fnv1a(l->gates->fingerprint, t->data, t->bytes);
    *placed = l->next;
    l->next += (t->bytes + RS_ARENA_ALIGN - 1) / RS_ARENA_ALIGN * RS_ARENA_ALIGN;
    return RS_OK;
}

static void name_of(char name[NAME_BYTES], uint32_t layer, const char *part, const char *kind) {
    (void)snprintf(name, NAME_BYTES, "blk.%" PRIu32 ".gate.%.4s.%.8s", layer, part, kind);
}

static rs_status take_bias(loader *l, const char *name, uint64_t n, const float **bias) {
    const void *placed = NULL;
    RS_TRY(take(l, name, RS_TYPE_F32, n, 1, &placed, NULL));
    *bias = placed;
    return RS_OK;
}

/* A layer of the trunk, with its bias. */
static rs_status take_trunk(loader *l, uint32_t layer, const char *part, uint32_t n_in, uint64_t n_out,
                            rs_matrix *matrix, const float **bias) {
    char name[NAME_BYTES];
    const void *placed = NULL;
    uint64_t rows = n_out;
    name_of(name, layer, part, "weight");
    RS_TRY(take(l, name, RS_TYPE_Q8_0, n_in, n_out, &placed, &rows));
    *matrix = (rs_matrix){.type = RS_TYPE_Q8_0, .data = placed, .n_out = (uint32_t)rows, .n_in = n_in};
    name_of(name, layer, part, "bias");
    return take_bias(l, name, rows, bias);
}

/* The last step, of a layer or, tied, of all. */
static rs_status take_out(loader *l, const form *f, uint32_t layer, rs_gate_layer *to) {
    const rs_gates *g = l->gates;
    const uint64_t rows = f->own_out ? g->model->shape.n_kv_heads : 1;
    char name[NAME_BYTES] = "gate.out.weight";
    const void *placed = NULL;
    if (f->has_input) {
        if (!f->tied) name_of(name, layer, "out", "weight");
        RS_TRY(take(l, name, RS_TYPE_F32, g->head_features, rows, &placed, NULL));
        to->out = placed;
    }
    (void)snprintf(name, sizeof name, "gate.out.bias");
    if (!f->tied) name_of(name, layer, "out", "bias");
    return take_bias(l, name, rows, &to->out_bias);
}

static rs_status take_layer(loader *l, const form *f, uint32_t layer) {
    rs_gates *g = l->gates;
    rs_gate_layer *to = &g->layers[layer];
    const uint32_t n_kv_heads = g->model->shape.n_kv_heads;
    if (!f->has_input) return take_out(l, f, layer, to);
    RS_TRY(take_trunk(l, layer, "0", g->model->shape.n_embd, g->width, &to->first, &to->first_bias));
    uint32_t n_features = g->width;
    if (f->two_layers) {
        RS_TRY(take_trunk(l, layer, "1", g->width, 0, &to->second, &to->second_bias));
        n_features = to->second.n_out;
    }
    if (layer == 0) g->n_features = n_features;
    if (n_features != g->n_features || (f->own_features && n_features % n_kv_heads != 0)) {
        return rs_fail(l->error, RS_MISMATCH,
                       "layer %" PRIu32 " has %" PRIu32 " features, not %" PRIu32 " for all %" PRIu32
                       " heads",
                       layer, n_features, g->n_features, n_kv_heads);
    }
    g->head_features = f->own_features ? n_features / n_kv_heads : n_features;
    if (!f->tied) return take_out(l, f, layer, to);
    if (layer == 0) return take_out(l, f, layer, to);
    to->out = g->layers[0].out;
    to->out_bias = g->layers[0].out_bias;
    return RS_OK;
}

static rs_status take_layers(loader *l, const form *f) {
    l->n_tensors = 0;
    for (uint32_t layer = 0; layer < l->gates->model->shape.n_layers; layer++)
        RS_TRY(take_layer(l, f, layer));
    return RS_OK;
}

static rs_status read_tensors(loader *l, const form *f) {
    rs_gates *g = l->gates;
    RS_TRY(take_layers(l, f));
    if (l->n_tensors != rs_gguf_tensor_count(l->gguf)) {
        return rs_fail(l->error, RS_UNSUPPORTED,
                       "%" PRIu64 " of %" PRIu64 " tensors are not those of %s gates of this model",
                       rs_gguf_tensor_count(l->gguf) - l->n_tensors, rs_gguf_tensor_count(l->gguf), g->form);
    }
    const size_t longest = g->model->shape.n_embd > MAX_FEATURES ? g->model->shape.n_embd : MAX_FEATURES;
    g->data = malloc(g->bytes);
    l->row = malloc(longest * sizeof *l->row);
    if (g->data == NULL || l->row == NULL) return rs_fail(l->error, RS_NO_MEMORY, "no memory for the gates");
    l->next = g->data;
    g->fingerprint = rs_fnv1a(RS_FNV1A_START, g->form, strlen(g->form));
    return take_layers(l, f);
}

/* ------------------------------------------------------------------------------------------- life -- */

static rs_status load(loader *l, const void *data, size_t bytes) {
    rs_gates *g = l->gates;
    const form *f = NULL;
    g->layers = calloc(g->model->shape.n_layers, sizeof *g->layers);
    if (g->layers == NULL) return rs_fail(l->error, RS_NO_MEMORY, "no memory for the gates");
    RS_TRY(rs_gguf_open(data, bytes, &l->gguf, l->error));
    RS_TRY(read_keys(l, &f));
    return read_tensors(l, f);
}

rs_status rs_gates_load_memory(const rs_model *model, const void *data, size_t bytes, rs_gates **gates,
                               rs_error *error) {
    if (gates == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "gates is NULL");
    *gates = NULL;
    if (model == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "model is NULL");
    if (data == NULL && bytes > 0) return rs_fail(error, RS_INVALID_ARGUMENT, "data is NULL");
    loader l = {.gates = calloc(1, sizeof(rs_gates)), .error = error};
    if (l.gates == NULL) return rs_fail(error, RS_NO_MEMORY, "no memory for the gates");
    l.gates->model = model;
    const rs_status status = load(&l, data, bytes);
    free(l.row);
    rs_gguf_close(l.gguf);
    if (status != RS_OK) {
        rs_gates_free(l.gates);
        return status;
    }
    *gates = l.gates;
    return RS_OK;
}

rs_status rs_gates_load(const rs_model *model, const char *path, rs_gates **gates, rs_error *error) {
    if (path == NULL || gates == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "path or gates is NULL");
    *gates = NULL;
    rs_port_map map;
    RS_TRY(rs_sidecar_map(path, &map, error));
    const rs_status status = rs_gates_load_memory(model, map.data, map.bytes, gates, error);
    rs_port_unmap(&map);
    return status;
}

void rs_gates_free(rs_gates *gates) {
    if (gates == NULL) return;
    free(gates->layers);
    free(gates->data);
    free(gates->training);
    free(gates);
}

rs_status rs_gates_get_info(const rs_gates *gates, rs_gates_info *info) {
    if (gates == NULL || info == NULL) return RS_INVALID_ARGUMENT;
    *info = (rs_gates_info){
        .name = gates->name,
        .form = gates->form,
        .by_head = gates->by_head,
        .width = gates->width,
        .budget = gates->budget,
        .length = gates->length,
        .n_params = gates->n_params,
        .bytes = gates->bytes,
        .training = gates->training,
    };
    return RS_OK;
}
