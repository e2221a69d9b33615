/*
 * Policies that choose among single entries. Scoring, choosing and clearing are apart: the choice is of
 * numbers only.
 */
#ifndef RASURE_RUNTIME_POLICY_SCORED_H
#define RASURE_RUNTIME_POLICY_SCORED_H

#include "runtime/kv.h"

/* An entry that may go. Of equal scores the lower order, which is the older entry's, goes first. */
typedef struct rs_scored {
    float score;
    uint32_t order;
} rs_scored;

/* Entries of a stream, on average where streams share, that are there beyond a budget before it is looked at
 * again: choosing anew for every token would cost more than it brings. What a choice costs grows with the
 * budget, so the tokens between two choices do: with a large one, more than a chunk of prefill. */
static inline uint32_t rs_scored_slack(uint32_t budget) {
    return budget > 192 ? budget / 12 : 16;
}

/* Puts the n_gone entries with the lowest scores first, in any order. No score is NaN. */
void rs_scored_choose(rs_scored *entries, uint32_t n, uint32_t n_gone);

/* What a stream may lose: of its entries at `middle`, so many that `budget` of all are left, when they
 * are more than rs_scored_slack(budget) above it. */
typedef struct rs_scored_plan {
    rs_policy policy; /* RS_POLICY_RANDOM, RS_POLICY_KEYNORM or RS_POLICY_HEAD_GATES */
    rs_span middle;
    int32_t now; /* position of the newest entry */
    uint32_t budget;
    const bool *full_heads; /* [n_streams], those that lose nothing; NULL: none */
    rs_scored *scratch;     /* [threads][scratch_entries] */
    uint32_t scratch_entries;
} rs_scored_plan;

/* Evicts from some streams. Whether any lost anything. */
bool rs_scored_evict(const rs_scored_plan *plan, rs_kv *kv, rs_team *team, rs_streams streams);

#endif
