/* From a GGUF file to a model that can run: hyper-parameters checked, tensors bound by name and shape. */
#include "runtime/model.h"

#include <inttypes.h>
#include <math.h>
#include <pthreadpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checked.h"
#include "runtime/hash.h"
#include "runtime/sidecar.h"
#include "runtime/status.h"

enum {
    MAX_THREADS = 256,
    MAX_LAYERS = 1024,
    MAX_HEADS = 1024,
    MAX_EMBD = 1 << 16,
    MAX_FF = 1 << 20,
    MAX_CTX_TRAIN = 1 << 30,
    KEY_BYTES = 96,
};

rs_model_params rs_model_default_params(void) {
    return (rs_model_params){.threads = 1};
}

/* ------------------------------------------------------------------------------- hyper-parameters -- */

static const char *const arch_names[] = {
    [RS_ARCH_LLAMA] = "llama",
    [RS_ARCH_QWEN2] = "qwen2",
    [RS_ARCH_QWEN3] = "qwen3",
    [RS_ARCH_GEMMA3] = "gemma3",
};
enum { N_ARCHS = sizeof arch_names / sizeof *arch_names };

typedef struct loader {
    rs_model *model;
    rs_error *error;
    char key[KEY_BYTES];
    float *next_vector;
    bool *bound; /* for each tensor of the file: something uses it */
} loader;

static const char *arch_key(loader *l, const char *suffix) {
    (void)snprintf(l->key, sizeof l->key, "%s.%s", arch_names[l->model->shape.arch], suffix);
    return l->key;
}

static rs_status read_arch(loader *l) {
    rs_string name;
    RS_TRY(rs_gguf_string(l->model->gguf, "general.architecture", &name, l->error));
    for (int a = 0; a < N_ARCHS; a++) {
        if (!rs_string_is(name, arch_names[a])) continue;
        l->model->shape.arch = (rs_arch)a;
        return RS_OK;
    }
    char text[RS_SHOWN_BYTES];
    return rs_fail(l->error, RS_UNSUPPORTED,
                   "general.architecture: %s is not one of llama, qwen2, qwen3, gemma3",
                   rs_shown(name, text));
}

/* The key of an integer. Architectures whose layers differ have an array there. */
static rs_status number_key(loader *l, const char *suffix, const char **key) {
    *key = arch_key(l, suffix);
    if (!rs_gguf_is_array(l->model->gguf, *key)) return RS_OK;
    return rs_fail(l->error, RS_UNSUPPORTED, "%s: one value per layer is not supported", *key);
}

static rs_status read_u32_or(loader *l, const char *suffix, uint32_t *value) {
    const char *key;
    RS_TRY(number_key(l, suffix, &key));
    return rs_gguf_u32_or(l->model->gguf, key, value, l->error);
}

/* A required integer within [low, high] that is a multiple of `unit`. */
static rs_status read_size(loader *l, const char *suffix, uint32_t low, uint32_t high, uint32_t unit,
                           uint32_t *value) {
    const char *key;
    RS_TRY(number_key(l, suffix, &key));
    RS_TRY(rs_gguf_u32(l->model->gguf, key, value, l->error));
    if (*value >= low && *value <= high && *value % unit == 0) return RS_OK;
    if (unit == 1)
        return rs_fail(l->error, RS_BAD_FILE, "%s: %" PRIu32 " is not within %" PRIu32 " to %" PRIu32, key,
                       *value, low, high);
    return rs_fail(l->error, RS_BAD_FILE,
                   "%s: %" PRIu32 " is not a multiple of %" PRIu32 " within %" PRIu32 " to %" PRIu32, key,
                   *value, unit, low, high);
}

static rs_status check_positive(loader *l, const char *suffix, float value) {
    if (isfinite(value) && value > 0) return RS_OK;
    return rs_fail(l->error, RS_BAD_FILE, "%s: %g is not a positive number", arch_key(l, suffix),
                   (double)value);
}

static rs_status read_positive_or(loader *l, const char *suffix, float *value) {
    RS_TRY(rs_gguf_f32_or(l->model->gguf, arch_key(l, suffix), value, l->error));
    return check_positive(l, suffix, *value);
}

static rs_status read_heads(loader *l) {
    rs_shape *s = &l->model->shape;
    RS_TRY(read_size(l, "attention.head_count", 1, MAX_HEADS, 1, &s->n_heads));
    s->n_kv_heads = s->n_heads;
    RS_TRY(read_u32_or(l, "attention.head_count_kv", &s->n_kv_heads));
    if (s->n_kv_heads == 0 || s->n_heads % s->n_kv_heads != 0) {
        return rs_fail(l->error, RS_BAD_FILE, "%s: %" PRIu32 " does not divide the %" PRIu32 " query heads",
                       arch_key(l, "attention.head_count_kv"), s->n_kv_heads, s->n_heads);
    }
    uint32_t value_length = s->head_dim = s->n_embd / s->n_heads;
    RS_TRY(read_u32_or(l, "attention.key_length", &s->head_dim));
    RS_TRY(read_u32_or(l, "attention.value_length", &value_length));
    if (s->head_dim == 0 || s->head_dim > RS_HEAD_DIM_MAX || s->head_dim % RS_HEAD_DIM_UNIT != 0) {
        return rs_fail(l->error, RS_UNSUPPORTED,
                       "%s: head dimension %" PRIu32 " is not a multiple of %d up to %d",
                       arch_key(l, "attention.key_length"), s->head_dim, RS_HEAD_DIM_UNIT, RS_HEAD_DIM_MAX);
    }
    if (value_length != s->head_dim) {
        return rs_fail(l->error, RS_UNSUPPORTED, "%s: %" PRIu32 " differs from the key length %" PRIu32,
                       arch_key(l, "attention.value_length"), value_length, s->head_dim);
    }
    if (s->n_heads * s->head_dim % RS_ACT_BLOCK != 0) {
        return rs_fail(l->error, RS_UNSUPPORTED,
                       "%s: %" PRIu32 " heads of %" PRIu32 " are not a multiple of %d",
                       arch_key(l, "attention.head_count"), s->n_heads, s->head_dim, RS_ACT_BLOCK);
    }
    s->attention_scale = 1.0f / sqrtf((float)s->head_dim);
    return RS_OK;
}

static rs_status read_gemma(loader *l) {
    rs_shape *s = &l->model->shape;
    if (s->n_layers == 62) {
        return rs_fail(l->error, RS_UNSUPPORTED, "%s: the 27B form of gemma3 scales attention in its own way",
                       arch_key(l, "block_count"));
    }
    s->gelu = true;
    s->embedding_scale = sqrtf((float)s->n_embd);
    s->sliding_pattern = 6;
    RS_TRY(read_size(l, "attention.sliding_window", 1, MAX_CTX_TRAIN, 1, &s->sliding_window));
    RS_TRY(read_u32_or(l, "attention.sliding_window_pattern", &s->sliding_pattern));
    if (s->sliding_pattern > 0) return RS_OK;
    return rs_fail(l->error, RS_BAD_FILE, "%s: is 0", arch_key(l, "attention.sliding_window_pattern"));
}

static rs_status read_shape(loader *l) {
    rs_shape *s = &l->model->shape;
    RS_TRY(read_size(l, "block_count", 1, MAX_LAYERS, 1, &s->n_layers));
    RS_TRY(read_size(l, "embedding_length", RS_ACT_BLOCK, MAX_EMBD, RS_ACT_BLOCK, &s->n_embd));
    RS_TRY(read_size(l, "feed_forward_length", RS_ACT_BLOCK, MAX_FF, RS_ACT_BLOCK, &s->n_ff));
    RS_TRY(read_size(l, "context_length", 1, MAX_CTX_TRAIN, 1, &s->n_ctx_train));
    RS_TRY(read_heads(l));
    static const char epsilon[] = "attention.layer_norm_rms_epsilon";
    RS_TRY(rs_gguf_f32(l->model->gguf, arch_key(l, epsilon), &s->norm_eps, l->error));
    RS_TRY(check_positive(l, epsilon, s->norm_eps));
    uint32_t experts = 0;
    RS_TRY(read_u32_or(l, "expert_count", &experts));
    if (experts > 0) {
        return rs_fail(l->error, RS_UNSUPPORTED, "%s: mixtures of experts are not supported",
                       arch_key(l, "expert_count"));
    }
    s->embedding_scale = 1.0f;
    s->rope_interleaved = s->arch == RS_ARCH_LLAMA;
    if (s->arch == RS_ARCH_GEMMA3) RS_TRY(read_gemma(l));
    s->n_rot = s->head_dim;
    RS_TRY(read_u32_or(l, "rope.dimension_count", &s->n_rot));
    if (s->n_rot == 0 || s->n_rot > s->head_dim || s->n_rot % 2 != 0) {
        return rs_fail(l->error, RS_BAD_FILE,
                       "%s: %" PRIu32 " is not an even number up to the head dimension %" PRIu32,
                       arch_key(l, "rope.dimension_count"), s->n_rot, s->head_dim);
    }
    return RS_OK;
}

/* ---------------------------------------------------------------------------------------- tensors -- */

static rs_status find(loader *l, const char *name, uint64_t rows, uint64_t columns,
                      const rs_tensor **tensor) {
    *tensor = rs_gguf_find_tensor(l->model->gguf, name);
    if (*tensor == NULL) return rs_fail(l->error, RS_BAD_FILE, "tensor %s is missing", name);
    const rs_tensor *t = *tensor;
    l->bound[t->index] = true;
    if (t->ne[0] == columns && t->ne[1] == rows && t->ne[2] == 1 && t->ne[3] == 1) return RS_OK;
    return rs_fail(l->error, RS_BAD_FILE,
                   "tensor %s is %" PRIu64 " x %" PRIu64 " x %" PRIu64 " x %" PRIu64 ", must be %" PRIu64
                   " x %" PRIu64,
                   name, t->ne[0], t->ne[1], t->ne[2], t->ne[3], columns, rows);
}

static rs_status bind_matrix(loader *l, const char *name, uint32_t n_out, uint32_t n_in, rs_matrix *matrix) {
    const rs_tensor *tensor;
    RS_TRY(find(l, name, n_out, n_in, &tensor));
    *matrix = (rs_matrix){.type = tensor->type, .data = tensor->data, .n_out = n_out, .n_in = n_in};
    return RS_OK;
}

/* Copies a vector out of the file, where it need not be aligned, into the model's block of floats. */
static rs_status bind_vector(loader *l, const char *name, uint32_t n, const float **vector) {
    const rs_tensor *tensor;
    RS_TRY(find(l, name, 1, n, &tensor));
    if (rs_type_is_quantized(tensor->type)) {
        return rs_fail(l->error, RS_UNSUPPORTED, "tensor %s: a vector of type %s", name,
                       rs_types[tensor->type].name);
    }
    l->model->kernels->dequantize[tensor->type](tensor->data, l->next_vector, n);
    *vector = l->next_vector;
    l->next_vector += n;
    return RS_OK;
}

static const char *layer_key(loader *l, uint32_t layer, const char *suffix) {
    (void)snprintf(l->key, sizeof l->key, "blk.%" PRIu32 ".%s", layer, suffix);
    return l->key;
}

/* Biases of q, k and v: qwen2 has them; a llama file may. */
static rs_status bind_biases(loader *l, uint32_t index, uint32_t q_dim, uint32_t kv_dim) {
    rs_layer *layer = &l->model->layers[index];
    const struct {
        const char *suffix;
        uint32_t n;
        const float **bias;
    } biases[] = {{"attn_q.bias", q_dim, &layer->q_bias},
                  {"attn_k.bias", kv_dim, &layer->k_bias},
                  {"attn_v.bias", kv_dim, &layer->v_bias}};
    for (size_t i = 0; i < sizeof biases / sizeof *biases; i++) {
        const char *key = layer_key(l, index, biases[i].suffix);
        if (l->model->shape.arch == RS_ARCH_LLAMA && rs_gguf_find_tensor(l->model->gguf, key) == NULL)
            continue;
        RS_TRY(bind_vector(l, key, biases[i].n, biases[i].bias));
    }
    return RS_OK;
}

static rs_status bind_layer(loader *l, uint32_t index) {
    const rs_shape *s = &l->model->shape;
    rs_layer *layer = &l->model->layers[index];
    const uint32_t q_dim = s->n_heads * s->head_dim, kv_dim = s->n_kv_heads * s->head_dim;
    const bool gemma = s->arch == RS_ARCH_GEMMA3;

    RS_TRY(bind_vector(l, layer_key(l, index, "attn_norm.weight"), s->n_embd, &layer->attn_norm));
    RS_TRY(bind_matrix(l, layer_key(l, index, "attn_q.weight"), q_dim, s->n_embd, &layer->q));
    RS_TRY(bind_matrix(l, layer_key(l, index, "attn_k.weight"), kv_dim, s->n_embd, &layer->k));
    RS_TRY(bind_matrix(l, layer_key(l, index, "attn_v.weight"), kv_dim, s->n_embd, &layer->v));
    RS_TRY(bind_matrix(l, layer_key(l, index, "attn_output.weight"), s->n_embd, q_dim, &layer->o));
    RS_TRY(bind_vector(l, layer_key(l, index, "ffn_norm.weight"), s->n_embd, &layer->ffn_norm));
    RS_TRY(bind_matrix(l, layer_key(l, index, "ffn_gate.weight"), s->n_ff, s->n_embd, &layer->gate));
    RS_TRY(bind_matrix(l, layer_key(l, index, "ffn_up.weight"), s->n_ff, s->n_embd, &layer->up));
    RS_TRY(bind_matrix(l, layer_key(l, index, "ffn_down.weight"), s->n_embd, s->n_ff, &layer->down));
    if (s->arch == RS_ARCH_LLAMA || s->arch == RS_ARCH_QWEN2) RS_TRY(bind_biases(l, index, q_dim, kv_dim));
    if (s->arch == RS_ARCH_QWEN3 || gemma) {
        RS_TRY(bind_vector(l, layer_key(l, index, "attn_q_norm.weight"), s->head_dim, &layer->q_norm));
        RS_TRY(bind_vector(l, layer_key(l, index, "attn_k_norm.weight"), s->head_dim, &layer->k_norm));
    }
    if (gemma) {
        RS_TRY(bind_vector(l, layer_key(l, index, "post_attention_norm.weight"), s->n_embd,
                           &layer->attn_post_norm));
        RS_TRY(bind_vector(l, layer_key(l, index, "post_ffw_norm.weight"), s->n_embd, &layer->ffn_post_norm));
        if ((index + 1) % s->sliding_pattern != 0) {
            layer->window = s->sliding_window;
            layer->rope = RS_ROPE_LOCAL;
        }
    }
    return RS_OK;
}

static float *take_vector(loader *l, uint32_t n) {
    float *vector = l->next_vector;
    l->next_vector += n;
    return vector;
}

/* The factor of linear scaling, which old files call scale_linear; 0 stands for none. */
static rs_status read_linear_factor(loader *l, float *factor) {
    static const char new_name[] = "rope.scaling.factor", old_name[] = "rope.scale_linear";
    const bool is_new = rs_gguf_has(l->model->gguf, arch_key(l, new_name));
    *factor = 0;
    RS_TRY(rs_gguf_f32_or(l->model->gguf, arch_key(l, is_new ? new_name : old_name), factor, l->error));
    if (*factor == 0) *factor = 1;
    return check_positive(l, is_new ? new_name : old_name, *factor);
}

/* Divides the global frequencies by what the file says: `rope.scaling` linear, or llama3's factor per
 * frequency, which files store as a tensor (Llama 3.1 model card's rope_scaling, applied when the file was
 * made). */
static rs_status scale_rope(loader *l, float *freq) {
    const rs_gguf *gguf = l->model->gguf;
    const uint32_t half = l->model->shape.n_rot / 2;
    rs_string type = {"linear", 6};
    RS_TRY(rs_gguf_string_or(gguf, arch_key(l, "rope.scaling.type"), &type, l->error));
    if (rs_string_is(type, "linear")) {
        float factor;
        RS_TRY(read_linear_factor(l, &factor));
        for (uint32_t i = 0; i < half; i++) freq[i] /= factor;
    } else if (!rs_string_is(type, "none") && !rs_string_is(type, "llama3")) {
        char text[RS_SHOWN_BYTES];
        return rs_fail(l->error, RS_UNSUPPORTED, "%s: %s is not one of none, linear, llama3",
                       arch_key(l, "rope.scaling.type"), rs_shown(type, text));
    }
    if (rs_gguf_find_tensor(gguf, "rope_freqs.weight") == NULL) {
        if (!rs_string_is(type, "llama3")) return RS_OK;
        return rs_fail(l->error, RS_BAD_FILE,
                       "tensor rope_freqs.weight is missing, which llama3 rope scaling needs");
    }
    const float *factors;
    RS_TRY(bind_vector(l, "rope_freqs.weight", half, &factors));
    for (uint32_t i = 0; i < half; i++) {
        if (!isfinite(factors[i]) || factors[i] <= 0) {
            return rs_fail(l->error, RS_BAD_FILE,
                           "tensor rope_freqs.weight: factor %" PRIu32 " is not a positive number", i);
        }
        freq[i] /= factors[i];
    }
    return RS_OK;
}

static void base_frequencies(float *freq, uint32_t n_rot, float base) {
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        freq[i] = (float)pow((double)base, -2.0 * (double)i / (double)n_rot);
    }
}

static rs_status bind_rope(loader *l) {
    rs_model *m = l->model;
    float base = 10000.0f, local_base = 10000.0f;
    RS_TRY(read_positive_or(l, "rope.freq_base", &base));
    float *freq = take_vector(l, m->shape.n_rot / 2);
    base_frequencies(freq, m->shape.n_rot, base);
    RS_TRY(scale_rope(l, freq));
    m->rope_freq[RS_ROPE_GLOBAL] = freq;
    if (m->shape.sliding_window == 0) return RS_OK;
    RS_TRY(read_positive_or(l, "rope.freq_base_swa", &local_base));
    float *local = take_vector(l, m->shape.n_rot / 2);
    base_frequencies(local, m->shape.n_rot, local_base);
    m->rope_freq[RS_ROPE_LOCAL] = local;
    return RS_OK;
}

/* A bias or a layer that nothing here applies makes the file another model than the one that would run. */
static rs_status check_all_bound(loader *l) {
    const rs_model *m = l->model;
    for (uint64_t i = 0; i < rs_gguf_tensor_count(m->gguf); i++) {
        if (l->bound[i]) continue;
        char text[RS_SHOWN_BYTES];
        return rs_fail(l->error, RS_UNSUPPORTED, "tensor %s is not used by %s with %" PRIu32 " layers",
                       rs_shown(rs_gguf_tensor(m->gguf, i)->name, text), arch_names[m->shape.arch],
                       m->shape.n_layers);
    }
    return RS_OK;
}

static rs_status bind_tensors(loader *l) {
    rs_model *m = l->model;
    const rs_shape *s = &m->shape;
    /* Each of the bounds above is small enough for this to stay far below 2^63. */
    const uint64_t per_layer =
        4ull * s->n_embd + 2ull * s->head_dim + ((uint64_t)s->n_heads + 2ull * s->n_kv_heads) * s->head_dim;
    const uint64_t floats = per_layer * s->n_layers + s->n_embd + 2ull * s->n_rot;
    size_t count;
    if (rs_u64_to_size(floats, &count)) m->vectors = calloc(count, sizeof *m->vectors);
    m->layers = calloc(s->n_layers, sizeof *m->layers);
    l->bound = calloc((size_t)rs_gguf_tensor_count(m->gguf), sizeof *l->bound);
    if (m->vectors == NULL || m->layers == NULL || l->bound == NULL) {
        return rs_fail(l->error, RS_NO_MEMORY, "no memory for %" PRIu32 " layers", s->n_layers);
    }
    l->next_vector = m->vectors;
    RS_TRY(bind_rope(l));
    for (uint32_t i = 0; i < s->n_layers; i++) RS_TRY(bind_layer(l, i));
    RS_TRY(bind_vector(l, "output_norm.weight", s->n_embd, &m->output_norm));
    RS_TRY(bind_matrix(l, "token_embd.weight", s->n_vocab, s->n_embd, &m->embedding));
    m->output = m->embedding;
    if (rs_gguf_find_tensor(m->gguf, "output.weight") != NULL)
        RS_TRY(bind_matrix(l, "output.weight", s->n_vocab, s->n_embd, &m->output));
    return check_all_bound(l);
}

/* ------------------------------------------------------------------------------------- linear layers -- */

#if RASURE_HAVE_XNNPACK
enum { LAYER_MATRICES = 7 };

static void list_matrices(rs_layer *layer, rs_matrix *matrices[LAYER_MATRICES]) {
    rs_matrix *const all[LAYER_MATRICES] = {&layer->q,    &layer->k,  &layer->v,   &layer->o,
                                            &layer->gate, &layer->up, &layer->down};
    memcpy(matrices, all, sizeof all);
}

/* Packs every matrix of the layers for XNNPACK. The head stays native: it multiplies one row at a time. */
static rs_status pack_layers(loader *l) {
    rs_model *m = l->model;
    for (uint32_t i = 0; i < m->shape.n_layers; i++) {
        rs_matrix *matrices[LAYER_MATRICES];
        list_matrices(&m->layers[i], matrices);
        for (int k = 0; k < LAYER_MATRICES; k++) {
            size_t bytes;
            RS_TRY(rs_batched_create(m->kernels, matrices[k]->type, matrices[k]->data, matrices[k]->n_out,
                                     matrices[k]->n_in, &matrices[k]->packed, &bytes, l->error));
            m->packed_bytes += bytes;
        }
    }
    return RS_OK;
}

static void free_packed(rs_model *model) {
    for (uint32_t i = 0; model->layers != NULL && i < model->shape.n_layers; i++) {
        rs_matrix *matrices[LAYER_MATRICES];
        list_matrices(&model->layers[i], matrices);
        for (int k = 0; k < LAYER_MATRICES; k++) rs_batched_free(matrices[k]->packed);
    }
}
#else
static rs_status pack_layers(loader *l) {
    return rs_fail(l->error, RS_UNSUPPORTED, "this build of rasure has no XNNPACK");
}

static void free_packed(rs_model *model) {
    (void)model;
}
#endif

/* ---------------------------------------------------------------------------------------- loading -- */

static rs_status check_params(const rs_model_params *params, rs_error *error) {
    if (params->pool == NULL && (params->threads < 1 || params->threads > MAX_THREADS)) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "threads is %" PRIu32 ", must be 1 to %d", params->threads,
                       MAX_THREADS);
    }
    if (params->linear > RS_LINEAR_XNNPACK) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "%d is no linear back end", (int)params->linear);
    }
    return RS_OK;
}

static rs_status open_pool(loader *l, const rs_model_params *params) {
    rs_model *m = l->model;
    m->threads = params->threads;
    if (params->pool != NULL) {
        m->pool = params->pool;
        m->threads = (uint32_t)pthreadpool_get_threads_count(params->pool);
    } else if (params->threads > 1) {
        m->pool = pthreadpool_create(params->threads);
        if (m->pool == NULL) {
            return rs_fail(l->error, RS_NO_MEMORY, "the system gave no %" PRIu32 " threads", params->threads);
        }
        m->owns_pool = true;
    }
    return RS_OK;
}

static rs_status count_params(loader *l) {
    rs_model *m = l->model;
    for (uint64_t i = 0; i < rs_gguf_tensor_count(m->gguf); i++) {
        const rs_tensor *t = rs_gguf_tensor(m->gguf, i);
        m->n_params += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3]; /* the reader saw that the data are there */
    }
    return rs_gguf_name(m->gguf, m->name, sizeof m->name, l->error);
}

/* Parts behind the first have nothing but tensors, so this comes before everything else. */
static rs_status check_whole(loader *l) {
    uint32_t count = 1, part = 0;
    RS_TRY(rs_gguf_u32_or(l->model->gguf, "split.count", &count, l->error));
    if (count <= 1) return RS_OK;
    RS_TRY(rs_gguf_u32_or(l->model->gguf, "split.no", &part, l->error));
    return rs_fail(l->error, RS_UNSUPPORTED,
                   "the file is part %" PRIu64 " of %" PRIu32 "; merge them with llama-gguf-split",
                   part + UINT64_C(1), count);
}

static rs_status load(loader *l, const void *data, size_t bytes, const rs_model_params *params) {
    rs_model *m = l->model;
    m->file_bytes = bytes;
    RS_TRY(rs_kernels_select(params->isa, &m->kernels, l->error));
    RS_TRY(rs_gguf_open(data, bytes, &m->gguf, l->error));
    RS_TRY(check_whole(l));
    RS_TRY(read_arch(l));
    RS_TRY(read_shape(l));
    const rs_tensor *embedding = rs_gguf_find_tensor(m->gguf, "token_embd.weight");
    if (embedding == NULL) return rs_fail(l->error, RS_BAD_FILE, "tensor token_embd.weight is missing");
    RS_TRY(rs_tokenizer_open(m->gguf, embedding->ne[1], &m->tokenizer, l->error));
    m->shape.n_vocab = rs_tokenizer_size(m->tokenizer);
    RS_TRY(rs_chat_open(m->gguf, m->tokenizer, &m->chat, l->error));
    RS_TRY(bind_tensors(l));
    RS_TRY(count_params(l));
    RS_TRY(open_pool(l, params));
    /* XNNPACK's one activation scale a row costs more accuracy than the bound that auto keeps
     * (docs/architecture.md), so it has to be asked for. */
    m->linear = params->linear == RS_LINEAR_AUTO ? RS_LINEAR_NATIVE : params->linear;
    return m->linear == RS_LINEAR_XNNPACK ? pack_layers(l) : RS_OK;
}

rs_status rs_model_load_memory(const void *data, size_t bytes, const rs_model_params *params,
                               rs_model **model, rs_error *error) {
    if (model == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "model is NULL");
    *model = NULL;
    if (data == NULL && bytes > 0) return rs_fail(error, RS_INVALID_ARGUMENT, "data is NULL");
    const rs_model_params chosen = params != NULL ? *params : rs_model_default_params();
    RS_TRY(check_params(&chosen, error));
    loader l = {.model = calloc(1, sizeof(rs_model)), .error = error};
    if (l.model == NULL) return rs_fail(error, RS_NO_MEMORY, "no memory for the model");
    const rs_status status = load(&l, data, bytes, &chosen);
    free(l.bound);
    if (status != RS_OK) {
        rs_model_free(l.model);
        return status;
    }
    *model = l.model;
    return RS_OK;
}

/* The mapping is the model's, or undone. */
static rs_status load_map(rs_port_map *map, const rs_model_params *params, rs_model **model,
                          rs_error *error) {
    const rs_status status = rs_model_load_memory(map->data, map->bytes, params, model, error);
    if (status == RS_OK) (*model)->map = *map;
    else rs_port_unmap(map);
    return status;
}

rs_status rs_model_load(const char *path, const rs_model_params *params, rs_model **model, rs_error *error) {
    if (path == NULL || model == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "path or model is NULL");
    *model = NULL;
    rs_port_map map;
    RS_TRY(rs_sidecar_map(path, &map, error));
    return load_map(&map, params, model, error);
}

rs_status rs_model_load_fd(int descriptor, uint64_t offset, uint64_t bytes, const rs_model_params *params,
                           rs_model **model, rs_error *error) {
    if (model == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "model is NULL");
    *model = NULL;
    rs_port_map map;
    const int code = rs_port_map_part(descriptor, offset, bytes, &map);
    if (code != 0) {
        char reason[96];
        rs_port_strerror(code, reason, sizeof reason);
        return rs_fail(error, RS_IO, "descriptor %d, from byte %" PRIu64 " on: %s", descriptor, offset,
                       reason);
    }
    return load_map(&map, params, model, error);
}

void rs_model_free(rs_model *model) {
    if (model == NULL) return;
    free_packed(model);
    if (model->owns_pool) pthreadpool_destroy(model->pool);
    rs_tokenizer_close(model->tokenizer);
    rs_gguf_close(model->gguf);
    free(model->layers);
    free(model->vectors);
    rs_port_unmap(&model->map);
    free(model);
}

/* ---------------------------------------------------------------------------------------- queries -- */

rs_status rs_model_get_info(const rs_model *model, rs_model_info *info) {
    if (model == NULL || info == NULL) return RS_INVALID_ARGUMENT;
    const rs_shape *s = &model->shape;
    *info = (rs_model_info){
        .name = model->name,
        .architecture = arch_names[s->arch],
        .n_layers = s->n_layers,
        .n_embd = s->n_embd,
        .n_ff = s->n_ff,
        .n_heads = s->n_heads,
        .n_kv_heads = s->n_kv_heads,
        .head_dim = s->head_dim,
        .n_vocab = s->n_vocab,
        .n_ctx_train = s->n_ctx_train,
        .sliding_window = s->sliding_window,
        .n_params = model->n_params,
        .file_bytes = model->file_bytes,
        .packed_bytes = model->packed_bytes,
        .chat_format = model->chat.format,
        .chat_format_name = rs_chat_format_name(model->chat.format),
        .default_system = model->chat.default_system,
        .bos = rs_tokenizer_bos(model->tokenizer),
        .eos = rs_tokenizer_eos(model->tokenizer),
        .linear = model->linear,
        .isa = model->kernels->isa,
        .threads = model->threads,
    };
    return RS_OK;
}

rs_status rs_model_get_string(const rs_model *model, const char *key, const char **text, size_t *bytes,
                              rs_error *error) {
    if (model == NULL || key == NULL || text == NULL || bytes == NULL)
        return rs_fail(error, RS_INVALID_ARGUMENT, "model, key, text or bytes is NULL");
    rs_string value;
    RS_TRY(rs_gguf_string(model->gguf, key, &value, error));
    *text = value.data;
    *bytes = value.bytes;
    return RS_OK;
}

static uint64_t hash_number(uint64_t hash, uint64_t value, size_t bytes) {
    unsigned char little[8];
    for (size_t i = 0; i < bytes; i++) little[i] = (unsigned char)(value >> 8 * i);
    return rs_fnv1a(hash, little, bytes);
}

uint64_t rs_model_fingerprint(const rs_model *model) {
    enum { SAMPLE = 256 };
    if (model == NULL) return 0;
    uint64_t hash = RS_FNV1A_START;
    for (uint64_t i = 0; i < rs_gguf_tensor_count(model->gguf); i++) {
        const rs_tensor *t = rs_gguf_tensor(model->gguf, i);
        hash = rs_fnv1a(hash, t->name.data, t->name.bytes);
        hash = hash_number(hash, rs_types[t->type].gguf_id, 4);
        for (uint32_t d = 0; d < t->n_dims; d++) hash = hash_number(hash, t->ne[d], 8);
        hash = rs_fnv1a(hash, t->data, t->bytes < SAMPLE ? t->bytes : SAMPLE);
    }
    return hash;
}

rs_status rs_tokenize(const rs_model *model, const char *text, size_t bytes, uint32_t flags, int32_t *tokens,
                      size_t capacity, size_t *count, rs_error *error) {
    if (model == NULL || (text == NULL && bytes > 0) || (tokens == NULL && capacity > 0) || count == NULL) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "model, text, tokens or count is NULL");
    }
    if ((flags & ~(uint32_t)(RS_TOKENIZE_SPECIAL | RS_TOKENIZE_BOS | RS_TOKENIZE_CONTINUES)) != 0) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "tokenize flags %" PRIu32 " are not known", flags);
    }
    return rs_tokenizer_encode(model->tokenizer, text, bytes, flags, tokens, capacity, count, error);
}

rs_status rs_detokenize(const rs_model *model, const int32_t *tokens, size_t count, bool special, char *text,
                        size_t capacity, size_t *bytes, rs_error *error) {
    if (model == NULL || (tokens == NULL && count > 0) || (text == NULL && capacity > 0) || bytes == NULL) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "model, tokens, text or bytes is NULL");
    }
    return rs_tokenizer_decode(model->tokenizer, tokens, count, special, text, capacity, bytes, error);
}

bool rs_token_is_end(const rs_model *model, int32_t token) {
    return model != NULL && rs_tokenizer_is_end(model->tokenizer, token);
}

rs_status rs_chat_tokens(const rs_model *model, rs_chat_part part, rs_role role, int32_t *tokens,
                         size_t capacity, size_t *count, rs_error *error) {
    if (model == NULL || (tokens == NULL && capacity > 0) || count == NULL) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "model, tokens or count is NULL");
    }
    return rs_chat_encode(&model->chat, model->tokenizer, part, role, tokens, capacity, count, error);
}
