/* Scores, the choice of the lowest, and what is cleared for it. */
#include "runtime/policy/scored.h"

#include "runtime/policy/ranked.h"

static bool goes_before(rs_scored a, rs_scored b) {
    return a.score < b.score || (a.score == b.score && a.order < b.order);
}

static void swap(rs_scored *a, rs_scored *b) {
    const rs_scored kept = *a;
    *a = *b;
    *b = kept;
}

/* Hoare's selection: divides the part in which the boundary lies, until nothing is left of it. The pivot is
 * the middle one of three, so that scores that are in order already do not make it slow. */
void rs_scored_choose(rs_scored *entries, uint32_t n, uint32_t n_gone) {
    int64_t low = 0, high = (int64_t)n - 1;
    while (low < high) {
        rs_scored *first = &entries[low], *middle = &entries[low + (high - low) / 2], *last = &entries[high];
        if (goes_before(*middle, *first)) swap(middle, first);
        if (goes_before(*last, *first)) swap(last, first);
        if (goes_before(*last, *middle)) swap(last, middle);
        const rs_scored pivot = *middle;
        int64_t left = low, right = high;
        while (left <= right) {
            while (goes_before(entries[left], pivot)) left++;
            while (goes_before(pivot, entries[right])) right--;
            if (left <= right) swap(&entries[left++], &entries[right--]);
        }
        /* [low, right] go before the pivot or are it, [left, high] do not go before it. */
        if ((int64_t)n_gone <= right) high = right;
        else if ((int64_t)n_gone > left) low = left;
        else return;
    }
}

/* The same number for an entry whenever it is asked for, so that what stays is a random choice of all. */
static float random_score(uint32_t stream, int32_t position) {
    uint64_t x = (uint64_t)stream << 32 | (uint32_t)position; /* splitmix64 */
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9U;
    x = (x ^ x >> 27) * 0x94d049bb133111ebU;
    return (float)((x ^ x >> 31) >> 40);
}

static float score(const rs_scored_plan *plan, const rs_kv *kv, uint32_t stream, rs_kv_cursor at) {
    const rs_kv_stream *s = &kv->streams[stream];
    const int32_t position = rs_kv_position(kv, s, at);
    switch (plan->policy) {
    case RS_POLICY_RANDOM: return random_score(stream, position);
    case RS_POLICY_HEAD_GATES: return rs_ranked_score(rs_kv_lambda(kv, s, at), plan->now, position);
    default: return -rs_kv_key_norm(kv, s, at);
    }
}

typedef struct task {
    const rs_scored_plan *plan;
    rs_kv *kv;
    uint32_t first; /* of the streams */
} task;

static bool is_over(const rs_scored_plan *plan, const rs_kv *kv, uint32_t stream) {
    const bool full = plan->full_heads != NULL && plan->full_heads[stream];
    return !full && kv->streams[stream].n_live > plan->budget + rs_scored_slack(plan->budget);
}

static void evict_from_stream(void *argument, size_t thread, size_t index) {
    const task *t = argument;
    const rs_scored_plan *plan = t->plan;
    const uint32_t s = t->first + (uint32_t)index;
    rs_kv_stream *stream = &t->kv->streams[s];
    if (!is_over(plan, t->kv, s)) return;
    rs_scored *entries = plan->scratch + thread * plan->scratch_entries;
    uint32_t n = 0;
    rs_kv_cursor at;
    bool more = rs_kv_seek(t->kv, stream, plan->middle.begin, &at);
    while (more && rs_kv_position(t->kv, stream, at) < plan->middle.end) {
        const uint32_t order = at.page_index * RS_PAGE_ENTRIES + at.slot;
        entries[n++] = (rs_scored){score(plan, t->kv, s, at), order};
        more = rs_kv_next(t->kv, stream, &at);
    }
    const uint32_t excess = stream->n_live - plan->budget, n_gone = excess < n ? excess : n;
    rs_scored_choose(entries, n, n_gone);
    for (uint32_t i = 0; i < n_gone; i++) {
        const rs_kv_cursor gone = {entries[i].order / RS_PAGE_ENTRIES, entries[i].order % RS_PAGE_ENTRIES};
        rs_kv_mark(t->kv, stream, gone);
    }
}

bool rs_scored_evict(const rs_scored_plan *plan, rs_kv *kv, rs_team *team, rs_streams streams) {
    uint32_t over = 0;
    for (uint32_t s = 0; s < streams.count; s++) over += is_over(plan, kv, streams.first + s);
    if (over == 0) return false;
    rs_team_run(team, evict_from_stream, &(task){plan, kv, streams.first}, streams.count);
    rs_kv_close_holes(kv, team, streams);
    return true;
}
