/*
 * Scores by what the last tokens of a chunk attend to in it: SnapKV (arXiv 2404.14469, section 4), with one
 * choice for all query heads of a group, and PyramidKV's shares by layer (arXiv 2406.02069, section 4). In
 * chunks, and of the chunk alone: arXiv 2506.17121, section 4.
 */
#ifndef RASURE_RUNTIME_POLICY_OBSERVED_H
#define RASURE_RUNTIME_POLICY_OBSERVED_H

#include "runtime/kv.h"
#include "runtime/policy/scored.h"

typedef struct rs_observed_work {
    uint32_t observers, n_batch, row_floats;
    float *scores; /* [n_kv_heads][n_batch] of the chunk's tokens in one layer, the observers left out */
    float *rows;   /* [threads][a few][row_floats] */
    float *sums;   /* [threads][n_batch] */
} rs_observed_work;

/* From the arena's scratch: scores tell of the text. */
void rs_observed_layout(rs_observed_work *work, rs_arena *arena, uint32_t n_kv_heads, uint32_t n_batch,
                        uint32_t observers, uint32_t threads);

/* One layer of a chunk whose keys are stored and whose queries are made ready. */
typedef struct rs_observation {
    const rs_kv *kv;
    const rs_kernels *kernels;
    uint32_t first_stream, n_kv_heads, group;
    float scale;              /* of the products */
    const float *q;           /* [count][n_kv_heads * group][head_dim] */
    const int32_t *positions; /* [count], the last ones of the streams */
    uint32_t count;
} rs_observation;

/* Scores of the layer's streams. count MUST be above work->observers. */
void rs_observed_score(const rs_observed_work *work, const rs_observation *observation, rs_team *team);

/* How many of a chunk's `count` entries a layer keeps, its observers among them; or, where n_patch observers
 * come behind the chunk only to choose, besides them. pyramid: the share falls from layer to layer. */
uint32_t rs_observed_kept(uint32_t count, uint32_t n_patch, float keep, uint32_t observers, bool pyramid,
                          uint32_t layer, uint32_t n_layers);

/* Leaves of the last `count` entries of a layer, from position `begin` on, those with the highest scores and
 * the observers; with n_patch, which are not among the `count`, of all. The layer is the one that was scored
 * last. */
typedef struct rs_observed_plan {
    const rs_observed_work *work;
    rs_scored *scratch; /* [threads][n_batch] */
    const bool *full_heads;
    int32_t begin;
    uint32_t count, n_patch, layer, n_layers, n_kv_heads;
    float keep;
    bool pyramid;
} rs_observed_plan;
void rs_observed_evict(const rs_observed_plan *plan, rs_kv *kv, rs_team *team);

#endif
