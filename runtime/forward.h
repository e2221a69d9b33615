/*
 * The engine: a short forward pass over some tokens, with chosen visible entries and chosen destination
 * entries. Prefill, decode and every way of erasing that computes anything are calls of it.
 */
#ifndef RASURE_RUNTIME_FORWARD_H
#define RASURE_RUNTIME_FORWARD_H

#include "runtime/adapter.h"
#include "runtime/context.h"

/* Sees the residual stream [count][n_embd] after each layer. */
typedef void (*rs_observe_fn)(void *user, uint32_t layer, const float *x);

/* Has the entries of some streams made before their layers run, or does what is to be done behind them. */
typedef void (*rs_entries_fn)(void *user, rs_streams streams);

typedef struct rs_pass_entries {
    rs_entries_fn begin, end;
    void *user;
    uint32_t n_layers; /* at once */
} rs_pass_entries;

typedef struct rs_pass {
    const int32_t *tokens;    /* [count], ids inside the vocabulary */
    const int32_t *positions; /* [count], ascending. The destinations: entries at these positions exist in
                                 every stream when its layer runs, and are overwritten */
    const rs_pass_entries *entries; /* NULL: they exist already, in all layers */
    uint32_t count;                 /* 1 to n_batch */
    rs_visible visible;
    const rs_adapter *adapter; /* beside the weights; NULL: none */
    bool observed;             /* the policy looks at queries and keys */
    bool kv_only;              /* nothing is wanted but keys and values: the last layer ends with them */
    bool logits;           /* those of the last token are wanted, into context->logits; not with kv_only */
    rs_observe_fn observe; /* NULL: nobody looks */
    void *user;
} rs_pass;

/* Runs the layers. Afterwards scratch.x holds the residual stream of the tokens. Fails only inside XNNPACK;
 * keys and values of the pass are then half-written. */
rs_status rs_forward(rs_context *context, const rs_pass *pass);

/* How many rows of logits the scratch holds at once, at least one. */
uint32_t rs_forward_logits_rows(const rs_context *context);

/* The logits [rows][n_vocab] of the tokens of the last pass from `first` on, valid until the next call, in
 * scratch; the last of them into context->logits too. */
rs_status rs_forward_logits(rs_context *context, uint32_t first, uint32_t rows, const float **logits);

/* cos and sin [n_rot / 2] of `by` positions for a kind of rope that the model has. */
void rs_rope_angles(const rs_model *model, int kind, int32_t by, float *cosine, float *sine);

/* The same as turns [n_rot / 2]. */
void rs_rope_turn(const rs_model *model, int kind, int32_t by, const rs_turn *turn);

#endif
