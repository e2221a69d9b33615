/* Attention of new tokens over the int8 pages of one layer: flash style, one streaming softmax per query head
 * and segment of the stream (Dao et al., arXiv 2205.14135, section 3.1). */
#ifndef RASURE_RUNTIME_ATTENTION_H
#define RASURE_RUNTIME_ATTENTION_H

#include "runtime/kv.h"
#include "runtime/team.h"

/* Which entries a pass may see beyond what causality hides: position < sinks_end or position >= window_begin.
 */
typedef struct rs_visible {
    int32_t sinks_end;
    int32_t window_begin;
} rs_visible;

static inline rs_visible rs_visible_all(void) {
    return (rs_visible){0, 0};
}

/* Sums of some query rows over a part of the stream: acc / sum is the attention over that part. */
typedef struct rs_attention_sums {
    float *max; /* per row, the largest score; -INFINITY: nothing was visible */
    float *sum; /* per row, of exp(score - max) */
    float *acc; /* rows of head_dim, values weighted likewise */
} rs_attention_sums;

/* Scratch of one thread. */
typedef struct rs_attention_scratch {
    int8_t *q; /* rows of head_dim */
    float *q_scale;
    float *score; /* rows of RS_ATTEND_PAGES * RS_PAGE_ENTRIES */
    float *factor;
    rs_attention_sums part, total; /* total: without acc, which is the output */
} rs_attention_scratch;

typedef struct rs_attention_work {
    const rs_kernels *kernels;
    rs_team *team;
    rs_attention_scratch *threads;
    rs_attention_sums *parts; /* of a single query token: [n_kv_heads][segments of the longest stream] */
    uint32_t max_segments;
} rs_attention_work;

/* Streams of up to `stream_pages` pages. */
void rs_attention_layout(rs_attention_work *work, rs_arena *arena, uint32_t threads, uint32_t n_kv_heads,
                         uint32_t group, uint32_t head_dim, uint32_t stream_pages);

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
