/*
 * Retention gates: how long an entry is worth keeping, said once, when it is made (TRIM-KV, arXiv 2512.03324;
 * DBTrimKV, arXiv 2605.09649). A gate sees the normalised input of a layer's attention and gives, for each KV
 * head, lambda <= 0: the logarithm of the share that the entry's worth keeps from one token to the next. What
 * is made of it is in ranked.h. Immutable after loading.
 */
#ifndef RASURE_RUNTIME_POLICY_GATES_H
#define RASURE_RUNTIME_POLICY_GATES_H

#include "runtime/linear.h"
#include "runtime/model.h"

typedef struct rs_gate_layer {
    rs_matrix first;          /* [width][n_embd]; no data: the gate has no input */
    const float *first_bias;  /* [width] */
    rs_matrix second;         /* [n_features][width]; no data: the first layer's outputs are the features */
    const float *second_bias; /* [n_features] */
    const float *out;         /* [out_rows][head_features] */
    const float *out_bias;    /* [out_rows] */
} rs_gate_layer;

struct rs_gates {
    const rs_model *model;
    const char *form; /* as the file names it */
    bool by_head;
    uint32_t width, budget, length;
    uint32_t n_features;    /* of a token, in all */
    uint32_t head_features; /* that a head's lambda is made of */
    bool own_features;      /* each head has its own of the n_features, else all have all */
    bool own_out;           /* each head has a row of `out`, else there is one for all */
    uint64_t n_params;
    uint64_t fingerprint;  /* of form and weights */
    rs_gate_layer *layers; /* [n_layers] */
    unsigned char *data;   /* the weights */
    size_t bytes;
    char name[128];
    char *training;
};

/* lambda of a KV head from the features [n_features] of a token; NULL where the gate has no input. */
float rs_gates_lambda(const rs_gates *gates, const rs_gate_layer *layer, uint32_t head,
                      const float *features);

#endif
