/*
 * One ranking of the entries of all streams (DBTrimKV, arXiv 2605.09649): an entry's score is what its gate
 * said, times its age, and the lowest go. Of equal scores the older entry goes first, then that of the
 * earlier stream.
 */
#ifndef RASURE_RUNTIME_POLICY_RANKED_H
#define RASURE_RUNTIME_POLICY_RANKED_H

#include "runtime/kv.h"

enum { RS_RANKED_MAX_FLOOR = 1024 };

typedef struct rs_ranked_work {
    uint32_t *counts; /* [threads][bins] */
    uint32_t threads;
    struct rs_ranked_stream *streams; /* [n_streams] */
} rs_ranked_work;

void rs_ranked_layout(rs_ranked_work *work, rs_arena *arena, uint32_t n_streams, uint32_t threads);

typedef struct rs_ranked_plan {
    int32_t now;            /* position of the newest entry */
    rs_span middle;         /* positions of the entries that may go */
    uint32_t n_read;        /* streams that have read the chunk; of those behind them: */
    rs_span middle_of_rest; /* up to the window that they will read it with */
    uint64_t budget;        /* entries of all streams that are left */
    uint32_t floor;         /* that each stream keeps, of what it has */
} rs_ranked_plan;

/* lambda times the age that an entry at `position` has behind the newest: what its worth has become, as a
 * logarithm. */
static inline float rs_ranked_score(float lambda, int32_t now, int32_t position) {
    return lambda * ((float)(now - position) + 1.0f);
}

/* Evicts until no more than the budget is left, or nothing more may go. Whether any entry went. */
bool rs_ranked_evict(const rs_ranked_work *work, const rs_ranked_plan *plan, rs_kv *kv, rs_team *team);

#endif
