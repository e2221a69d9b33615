/* Attention of new tokens over the int8 pages of one layer: flash style, one streaming softmax per query
 * head. */
#ifndef RASURE_RUNTIME_ATTENTION_H
#define RASURE_RUNTIME_ATTENTION_H

#include "runtime/kv.h"

/* Which entries a pass may see beyond what causality hides: position < sinks_end or position >= window_begin.
 */
typedef struct rs_visible {
    int32_t sinks_end;
    int32_t window_begin;
} rs_visible;

static inline rs_visible rs_visible_all(void) {
    return (rs_visible){0, 0};
}

/* Scratch of one thread. */
typedef struct rs_attention_scratch {
    int8_t *q; /* rows of head_dim */
    float *q_scale;
    float *score; /* rows of RS_ATTEND_PAGES * RS_PAGE_ENTRIES */
    float *sum;
    float *max;
} rs_attention_scratch;

typedef struct rs_attention_work {
    const rs_kernels *kernels;
    struct pthreadpool *pool;
    rs_attention_scratch *threads;
} rs_attention_work;

void rs_attention_layout(rs_attention_work *work, rs_arena *arena, uint32_t threads, uint32_t group,
                         uint32_t head_dim);

typedef struct rs_attention {
    const rs_kv *kv;
    uint32_t first_stream; /* of the layer's n_kv_heads streams */
    uint32_t n_kv_heads;
    uint32_t group;  /* query heads per KV head */
    float scale;     /* of q.k */
    uint32_t window; /* tokens seen, the query's own included; 0: all */
    rs_visible visible;
    const float *q;           /* [count][n_kv_heads * group][head_dim], after RoPE */
    const int32_t *positions; /* [count], ascending; a query sees entries at or below its own */
    uint32_t count;
    float *out; /* as q; MAY be q */
} rs_attention;

/* Every query MUST see at least one entry (its own). */
void rs_attention_run(const rs_attention_work *work, const rs_attention *attention);

#endif
