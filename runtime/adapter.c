/* From an adapter file to low-rank products in int8: everything is checked against the model before it
 * counts.
 */
#include "runtime/adapter.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checked.h"
#include "runtime/sidecar.h"
#include "runtime/status.h"

enum {
    MAX_BRIDGE_TOKENS = 1024,
    MAX_WINDOW = 1 << 20,
    MAX_WEIGHT = 1024, /* a hundred times what training gives; keeps a hostile file's products finite */
    NAME_BYTES = 64,
    Q8_0_BYTES = 34, /* a half and 32 integers */
};

static const char *const module_names[RS_LORA_MODULES] = {
    [RS_LORA_Q] = "attn_q",      [RS_LORA_K] = "attn_k",      [RS_LORA_V] = "attn_v",
    [RS_LORA_O] = "attn_output", [RS_LORA_GATE] = "ffn_gate", [RS_LORA_UP] = "ffn_up",
    [RS_LORA_DOWN] = "ffn_down",
};

static const rs_matrix *base_matrix(const rs_layer *layer, int module) {
    const rs_matrix *const matrices[RS_LORA_MODULES] = {&layer->q,    &layer->k,  &layer->v,   &layer->o,
                                                        &layer->gate, &layer->up, &layer->down};
    return matrices[module];
}

typedef struct loader {
    rs_adapter *adapter;
    rs_gguf *gguf;
    rs_error *error;
    uint64_t n_tensors; /* that were recognised */
    float *row;         /* the longest there is */
} loader;

/* ------------------------------------------------------------------------------------------- keys -- */

static rs_status read_kind(loader *l) {
    static const char key[] = "rasure.adapter.kind";
    rs_string kind;
    char text[RS_SHOWN_BYTES];
    RS_TRY(rs_gguf_string(l->gguf, key, &kind, l->error));
    if (rs_string_is(kind, "steer")) {
        l->adapter->kind = RS_ADAPTER_STEER;
    } else if (rs_string_is(kind, "bridge")) {
        l->adapter->kind = RS_ADAPTER_BRIDGE;
    } else {
        return rs_fail(l->error, RS_UNSUPPORTED, "%s: %s is neither steer nor bridge", key,
                       rs_shown(kind, text));
    }
    return RS_OK;
}

static rs_status read_keys(loader *l) {
    rs_adapter *a = l->adapter;
    RS_TRY(rs_sidecar_check(l->gguf, a->model, "lora", l->error));
    RS_TRY(read_kind(l));
    RS_TRY(rs_gguf_f32(l->gguf, "adapter.lora.alpha", &a->alpha, l->error));
    if (!isfinite(a->alpha) || a->alpha <= 0) {
        return rs_fail(l->error, RS_BAD_FILE, "adapter.lora.alpha: %g is not a positive number",
                       (double)a->alpha);
    }
    RS_TRY(rs_sidecar_u32(l->gguf, "rasure.adapter.window", MAX_WINDOW, &a->window, l->error));
    RS_TRY(rs_sidecar_u32(l->gguf, "rasure.adapter.sinks", MAX_WINDOW, &a->sinks, l->error));
    RS_TRY(rs_sidecar_u32(l->gguf, "rasure.adapter.bridge_tokens", MAX_BRIDGE_TOKENS, &a->bridge_tokens,
                          l->error));
    if (a->window == 0) a->window = RS_WINDOW_ALL;

    RS_TRY(rs_gguf_name(l->gguf, a->name, sizeof a->name, l->error));
    rs_string training = {"", 0};
    RS_TRY(rs_gguf_string_or(l->gguf, "rasure.adapter.training", &training, l->error));
    a->training = malloc(training.bytes + 1);
    if (a->training == NULL) return rs_fail(l->error, RS_NO_MEMORY, "no memory for the training record");
    memcpy(a->training, training.data, training.bytes);
    a->training[training.bytes] = '\0';
    return RS_OK;
}

/* ---------------------------------------------------------------------------------------- tensors -- */

static const rs_tensor *find(loader *l, uint32_t layer, int module, char part, char name[NAME_BYTES]) {
    (void)snprintf(name, NAME_BYTES, "blk.%" PRIu32 ".%s.weight.lora_%c", layer, module_names[module], part);
    return rs_gguf_find_tensor(l->gguf, name);
}

static rs_status check_shape(loader *l, const char *name, const rs_tensor *tensor, uint64_t columns,
                             uint64_t rows) {
    if (tensor->ne[0] == columns && tensor->ne[1] == rows && tensor->ne[2] == 1 && tensor->ne[3] == 1)
        return RS_OK;
    return rs_fail(l->error, RS_MISMATCH,
                   "tensor %s is %" PRIu64 " x %" PRIu64 ", this model and rank need %" PRIu64 " x %" PRIu64,
                   name, tensor->ne[0], tensor->ne[1], columns, rows);
}

/* Checks a module's two tensors and notes their shapes; the rank is that of the first module. */
static rs_status measure_module(loader *l, uint32_t layer, int module, size_t *bytes) {
    rs_adapter *a = l->adapter;
    const rs_matrix *base = base_matrix(&a->model->layers[layer], module);
    char name_a[NAME_BYTES], name_b[NAME_BYTES];
    const rs_tensor *low = find(l, layer, module, 'a', name_a), *high = find(l, layer, module, 'b', name_b);
    if (low == NULL && high == NULL) return RS_OK;
    l->n_tensors += 2;
    if (low == NULL || high == NULL) {
        return rs_fail(l->error, RS_BAD_FILE, "tensor %s is missing", low == NULL ? name_a : name_b);
    }
    if (a->rank == 0) {
        if (low->ne[1] == 0 || low->ne[1] > RS_LORA_MAX_RANK) {
            return rs_fail(l->error, RS_UNSUPPORTED, "tensor %s: rank %" PRIu64 " is not within 1 to %d",
                           name_a, low->ne[1], RS_LORA_MAX_RANK);
        }
        a->rank = (uint32_t)low->ne[1];
    }
    RS_TRY(check_shape(l, name_a, low, base->n_in, a->rank));
    RS_TRY(check_shape(l, name_b, high, a->rank, base->n_out));
    if (base->n_in % RS_ACT_BLOCK != 0) {
        return rs_fail(l->error, RS_UNSUPPORTED, "tensor %s: rows of %" PRIu32 " are not a multiple of %d",
                       name_a, base->n_in, RS_ACT_BLOCK);
    }
    const uint32_t padded = (a->rank + RS_ACT_BLOCK - 1) / RS_ACT_BLOCK * RS_ACT_BLOCK;
    rs_lora *lora = &a->loras[(size_t)layer * RS_LORA_MODULES + (size_t)module];
    lora->a = (rs_matrix){.type = RS_TYPE_Q8_0, .n_out = padded, .n_in = base->n_in};
    lora->b = (rs_matrix){.type = RS_TYPE_Q8_0, .n_out = base->n_out, .n_in = padded};
    a->n_params += (uint64_t)a->rank * (base->n_in + base->n_out);
    size_t size_b;
    if (!rs_mul_size(base->n_out, rs_row_bytes(RS_TYPE_Q8_0, padded), &size_b) ||
        !rs_add_size(*bytes, padded * rs_row_bytes(RS_TYPE_Q8_0, base->n_in), bytes) ||
        !rs_add_size(*bytes, size_b, bytes))
        return rs_fail(l->error, RS_NO_MEMORY, "the adapter does not fit this system's memory");
    return RS_OK;
}

/* n floats (a multiple of 32) to Q8_0 blocks; false when one is beyond MAX_WEIGHT, or no number. */
static bool quantize_row(const float *x, size_t n, unsigned char *blocks) {
    for (; n > 0; n -= RS_ACT_BLOCK, x += RS_ACT_BLOCK, blocks += Q8_0_BYTES) {
        float top = 0;
        for (size_t i = 0; i < RS_ACT_BLOCK; i++) {
            if (!(fabsf(x[i]) <= (float)MAX_WEIGHT)) return false;
            top = fmaxf(top, fabsf(x[i]));
        }
        const uint16_t half = rs_f32_to_f16(top / 127.0f);
        const float scale = rs_f16_to_f32(half);
        blocks[0] = (unsigned char)(half & 0xffu);
        blocks[1] = (unsigned char)(half >> 8);
        for (size_t i = 0; i < RS_ACT_BLOCK; i++) {
            /* A scale below the least normal half is rounded far enough for more than 127 steps. */
            const float steps = scale == 0 ? 0 : fminf(fmaxf(nearbyintf(x[i] / scale), -127.0f), 127.0f);
            blocks[2 + i] = (unsigned char)(int8_t)steps;
        }
    }
    return true;
}

/* A tensor's rows, times `factor` and padded with zeros, to the matrix's blocks at `to`. */
static rs_status quantize_tensor(loader *l, const char *name, const rs_tensor *tensor, float factor,
                                 rs_matrix *matrix, unsigned char *to) {
    const size_t columns = (size_t)tensor->ne[0], rows = (size_t)tensor->ne[1];
    const size_t source_bytes = rs_row_bytes(tensor->type, columns);
    const size_t row_bytes = rs_row_bytes(RS_TYPE_Q8_0, matrix->n_in);
    matrix->data = to;
    memset(to, 0, matrix->n_out * row_bytes);
    memset(l->row, 0, matrix->n_in * sizeof *l->row);
    for (size_t r = 0; r < rows; r++) {
        l->adapter->model->kernels->dequantize[tensor->type](
            (const unsigned char *)tensor->data + r * source_bytes, l->row, columns);
        for (size_t i = 0; i < columns; i++) l->row[i] *= factor;
        if (!quantize_row(l->row, matrix->n_in, to + r * row_bytes)) {
            return rs_fail(l->error, RS_BAD_FILE, "tensor %s, row %zu: not a number, or beyond %d", name, r,
                           MAX_WEIGHT);
        }
    }
    return RS_OK;
}

static rs_status read_tensors(loader *l) {
    rs_adapter *a = l->adapter;
    const uint32_t n_layers = a->model->shape.n_layers;
    size_t longest = RS_LORA_MAX_RANK;
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        for (int module = 0; module < RS_LORA_MODULES; module++) {
            const size_t n_in = base_matrix(&a->model->layers[layer], module)->n_in;
            longest = n_in > longest ? n_in : longest;
            RS_TRY(measure_module(l, layer, module, &a->weight_bytes));
        }
    }
    if (l->n_tensors == 0) return rs_fail(l->error, RS_BAD_FILE, "there is no lora_a or lora_b tensor");
    if (l->n_tensors != rs_gguf_tensor_count(l->gguf)) {
        return rs_fail(l->error, RS_UNSUPPORTED,
                       "%" PRIu64 " of %" PRIu64 " tensors are no lora_a or lora_b of this model's %" PRIu32
                       " layers",
                       rs_gguf_tensor_count(l->gguf) - l->n_tensors, rs_gguf_tensor_count(l->gguf), n_layers);
    }
    a->weights = malloc(a->weight_bytes);
    l->row = malloc(longest * sizeof *l->row);
    if (a->weights == NULL || l->row == NULL)
        return rs_fail(l->error, RS_NO_MEMORY, "no memory for the adapter");
    unsigned char *next = a->weights;
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        for (int module = 0; module < RS_LORA_MODULES; module++) {
            char name[NAME_BYTES];
            rs_lora *lora = &a->loras[(size_t)layer * RS_LORA_MODULES + (size_t)module];
            if (lora->a.n_in == 0) continue;
            const rs_tensor *tensor = find(l, layer, module, 'a', name);
            RS_TRY(quantize_tensor(l, name, tensor, 1.0f, &lora->a, next));
            next += lora->a.n_out * rs_row_bytes(RS_TYPE_Q8_0, lora->a.n_in);
            tensor = find(l, layer, module, 'b', name);
            RS_TRY(quantize_tensor(l, name, tensor, a->alpha / (float)a->rank, &lora->b, next));
            next += lora->b.n_out * rs_row_bytes(RS_TYPE_Q8_0, lora->b.n_in);
        }
    }
    return RS_OK;
}

/* ------------------------------------------------------------------------------------------- life -- */

static rs_status load(loader *l, const void *data, size_t bytes) {
    rs_adapter *a = l->adapter;
    a->loras = calloc((size_t)a->model->shape.n_layers * RS_LORA_MODULES, sizeof *a->loras);
    if (a->loras == NULL) return rs_fail(l->error, RS_NO_MEMORY, "no memory for the adapter");
    RS_TRY(rs_gguf_open(data, bytes, &l->gguf, l->error));
    RS_TRY(read_keys(l));
    return read_tensors(l);
}

rs_status rs_adapter_load_memory(const rs_model *model, const void *data, size_t bytes, rs_adapter **adapter,
                                 rs_error *error) {
    if (adapter == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "adapter is NULL");
    *adapter = NULL;
    if (model == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "model is NULL");
    if (data == NULL && bytes > 0) return rs_fail(error, RS_INVALID_ARGUMENT, "data is NULL");
    loader l = {.adapter = calloc(1, sizeof(rs_adapter)), .error = error};
    if (l.adapter == NULL) return rs_fail(error, RS_NO_MEMORY, "no memory for the adapter");
    l.adapter->model = model;
    const rs_status status = load(&l, data, bytes);
    free(l.row);
    rs_gguf_close(l.gguf);
    if (status != RS_OK) {
        rs_adapter_free(l.adapter);
        return status;
    }
    *adapter = l.adapter;
    return RS_OK;
}

rs_status rs_adapter_load(const rs_model *model, const char *path, rs_adapter **adapter, rs_error *error) {
    if (path == NULL || adapter == NULL)
        return rs_fail(error, RS_INVALID_ARGUMENT, "path or adapter is NULL");
    *adapter = NULL;
    rs_port_map map;
    RS_TRY(rs_sidecar_map(path, &map, error));
    const rs_status status = rs_adapter_load_memory(model, map.data, map.bytes, adapter, error);
    rs_port_unmap(&map);
    return status;
}

void rs_adapter_free(rs_adapter *adapter) {
    if (adapter == NULL) return;
    free(adapter->loras);
    free(adapter->weights);
    free(adapter->training);
    free(adapter);
}

rs_status rs_adapter_get_info(const rs_adapter *adapter, rs_adapter_info *info) {
    if (adapter == NULL || info == NULL) return RS_INVALID_ARGUMENT;
    *info = (rs_adapter_info){
        .kind = adapter->kind,
        .name = adapter->name,
        .rank = adapter->rank,
        .alpha = adapter->alpha,
        .window = adapter->window,
        .sinks = adapter->sinks,
        .bridge_tokens = adapter->bridge_tokens,
        .n_params = adapter->n_params,
        .bytes = adapter->weight_bytes,
        .training = adapter->training,
    };
    return RS_OK;
}
