/* A model: its shape, its weights as they lie in the file, and what runs it. Immutable after loading. */
#ifndef RASURE_RUNTIME_MODEL_H
#define RASURE_RUNTIME_MODEL_H

#include "kernels/kernels.h"
#include "kernels/xnnpack/batched.h"
#include "ports/port.h"
#include "runtime/chat.h"
#include "runtime/gguf.h"
#include "runtime/linear.h"
#include "runtime/tokenizer/tokenizer.h"

typedef enum rs_arch { RS_ARCH_LLAMA, RS_ARCH_QWEN2, RS_ARCH_QWEN3, RS_ARCH_GEMMA3 } rs_arch;

enum { RS_ROPE_GLOBAL = 0, RS_ROPE_LOCAL = 1, RS_ROPE_KINDS = 2 };

typedef struct rs_shape {
    rs_arch arch;
    uint32_t n_layers, n_embd, n_ff, n_heads, n_kv_heads, head_dim, n_vocab, n_ctx_train;
    uint32_t n_rot;           /* leading elements of a head that RoPE turns; even */
    uint32_t sliding_window;  /* of sliding layers; 0: none are */
    uint32_t sliding_pattern; /* every such layer, counted from 1, sees everything; the others slide */
    float norm_eps;
    float embedding_scale;
    float attention_scale;
    bool rope_interleaved;
    bool gelu; /* GeGLU, else SwiGLU */
} rs_shape;

/* Vectors are float; NULL where the architecture has none. */
typedef struct rs_layer {
    const float *attn_norm, *attn_post_norm, *ffn_norm, *ffn_post_norm; /* n_embd */
    const float *q_norm, *k_norm;                                       /* head_dim */
    const float *q_bias, *k_bias, *v_bias;
    rs_matrix q, k, v, o, gate, up, down;
    uint32_t window; /* tokens it sees, itself included; 0: all */
    uint32_t rope;   /* RS_ROPE_... */
} rs_layer;

struct rs_model {
    rs_port_map map; /* {NULL, 0} when the caller owns the bytes */
    rs_gguf *gguf;
    rs_tokenizer *tokenizer;
    rs_chat chat;
    rs_shape shape;
    rs_layer *layers;
    float *vectors;                        /* norms, biases and frequencies of all layers, one block */
    const float *rope_freq[RS_ROPE_KINDS]; /* n_rot / 2 radians a position */
    const float *output_norm;
    rs_matrix embedding, output;
    const rs_kernels *kernels;
    rs_linear linear;
    struct pthreadpool *pool; /* NULL: the caller's thread alone */
    bool owns_pool;
    uint32_t threads;
    uint64_t n_params, file_bytes, packed_bytes;
    char name[128];
};

#endif
