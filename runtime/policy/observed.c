/* What the last queries of a chunk attend to, pooled; and what is kept for it. */
#include "runtime/policy/observed.h"

#include <math.h>
#include <string.h>

enum { ROWS = 4, POOL = 5 }; /* query rows at a time; neighbours that a score is the mean of */

void rs_observed_layout(rs_observed_work *work, rs_arena *arena, uint32_t n_kv_heads, uint32_t n_batch,
                        uint32_t observers, uint32_t threads) {
    static const char name[] = "policy";
    work->observers = observers;
    work->n_batch = n_batch;
    /* A chunk begins and ends within a page. */
    work->row_floats = (n_batch + 2 * RS_PAGE_ENTRIES - 1) / RS_PAGE_ENTRIES * RS_PAGE_ENTRIES;
    work->scores = rs_arena_take_scratch(arena, name, (size_t)n_kv_heads * n_batch, sizeof(float));
    work->rows = rs_arena_take_scratch(arena, name, (size_t)threads * ROWS * work->row_floats, sizeof(float));
    work->sums = rs_arena_take_scratch(arena, name, (size_t)threads * n_batch, sizeof(float));
}

typedef struct task {
    const rs_observed_work *work;
    const rs_observation *observation;
} task;

/* The products of some query rows with the keys of the pages from `first` on. */
static void multiply(const rs_observation *o, const rs_kv_stream *stream, uint32_t first, const int8_t *q,
                     const float *q_scale, uint32_t n_rows, float *rows, uint32_t row_floats) {
    for (uint32_t p = first; p < stream->n_pages; p += RS_ATTEND_PAGES) {
        rs_page_view views[RS_ATTEND_PAGES];
        uint32_t n = 0;
        for (; n < RS_ATTEND_PAGES && p + n < stream->n_pages; n++)
            views[n] = rs_kv_get_page(o->kv, stream->pages[p + n]).view;
        o->kernels->attend_keys(q, q_scale, n_rows, views, n, o->kv->head_dim,
                                rows + (size_t)(p - first) * RS_PAGE_ENTRIES, row_floats);
    }
}

/* Adds what token t of the chunk attends to of the chunk, up to itself. Its scores are in `row`, those of the
 * chunk's first token at `slot`. */
static void add_attention(const rs_observation *o, float *row, uint32_t n_slots, uint32_t slot, uint32_t t,
                          uint32_t n, float *sums) {
    float max = -INFINITY, sum = 0.0F;
    for (uint32_t i = 0; i < slot; i++) row[i] = -INFINITY;
    for (uint32_t i = slot + t + 1; i < n_slots; i++) row[i] = -INFINITY;
    (void)o->kernels->softmax_step(row, n_slots, &max, &sum);
    for (uint32_t i = 0; i < n; i++) sums[i] += row[slot + i] / sum;
}

/* The mean with two neighbours on either side; beyond the ends are zeros. */
static void pool(const float *sums, uint32_t n, float factor, float *scores) {
    for (uint32_t i = 0; i < n; i++) {
        float total = 0.0F;
        for (uint32_t j = i < POOL / 2 ? 0 : i - POOL / 2; j <= i + POOL / 2 && j < n; j++) total += sums[j];
        scores[i] = total * factor;
    }
}

static void score_head(void *argument, size_t thread, size_t head) {
    const task *t = argument;
    const rs_observed_work *work = t->work;
    const rs_observation *o = t->observation;
    const uint32_t head_dim = o->kv->head_dim, first_token = o->count - work->observers;
    const rs_kv_stream *stream = &o->kv->streams[o->first_stream + head];
    float *rows = work->rows + thread * ROWS * work->row_floats, *sums = work->sums + thread * work->n_batch;
    memset(sums, 0, first_token * sizeof *sums);

    rs_kv_cursor at = {0, 0};
    (void)rs_kv_seek(o->kv, stream, o->positions[0], &at);
    const uint32_t n_slots = (stream->n_pages - at.page_index) * RS_PAGE_ENTRIES;
    const uint32_t n_rows = work->observers * o->group;
    for (uint32_t r = 0; r < n_rows; r += ROWS) {
        const uint32_t n = n_rows - r < ROWS ? n_rows - r : ROWS;
        int8_t q[ROWS * RS_HEAD_DIM_MAX];
        float q_scale[ROWS];
        for (uint32_t i = 0; i < n; i++) {
            const size_t token = first_token + (r + i) / o->group, of_group = (r + i) % o->group;
            const float *query = o->q + ((token * o->n_kv_heads + head) * o->group + of_group) * head_dim;
            q_scale[i] = o->scale * o->kernels->quantize_head(query, q + (size_t)i * head_dim, head_dim);
        }
        multiply(o, stream, at.page_index, q, q_scale, n, rows, work->row_floats);
        for (uint32_t i = 0; i < n; i++)
            add_attention(o, rows + (size_t)i * work->row_floats, n_slots, at.slot,
                          first_token + (r + i) / o->group, first_token, sums);
    }
    pool(sums, first_token, 1.0F / (float)(POOL * o->group), work->scores + head * work->n_batch);
}

void rs_observed_score(const rs_observed_work *work, const rs_observation *observation, rs_team *team) {
    rs_team_run(team, score_head, &(task){work, observation}, observation->n_kv_heads);
}

/* Of `count` tokens of which the last `observers` stay, `mean` others in the mean of all layers. */
static uint32_t others_kept(uint32_t count, uint32_t observers, uint32_t mean, bool pyramid, uint32_t layer,
                            uint32_t n_layers) {
    const uint32_t others = count - observers;
    if (!pyramid || count < 2 * mean || n_layers < 2) return mean < others ? mean : others;
    uint32_t least = mean / 20, most = 2 * mean - least;
    if (most >= others) {
        most = others;
        least = 2 * mean - most;
    }
    return most - layer * ((most - least) / (n_layers - 1));
}

uint32_t rs_observed_kept(uint32_t count, uint32_t n_patch, float keep, uint32_t observers, bool pyramid,
                          uint32_t layer, uint32_t n_layers) {
    const uint32_t cap = (uint32_t)((double)keep * count + 1e-4);
    if (n_patch > 0) return others_kept(count + n_patch, n_patch, cap, pyramid, layer, n_layers);
    if (count <= observers || cap >= count) return count;
    if (cap <= observers) return observers;
    return others_kept(count, observers, cap - observers, pyramid, layer, n_layers) + observers;
}

typedef struct eviction {
    const rs_observed_plan *plan;
    rs_kv *kv;
} eviction;

static void evict_from_stream(void *argument, size_t thread, size_t index) {
    const eviction *e = argument;
    const rs_observed_plan *p = e->plan;
    const rs_observed_work *work = p->work;
    const size_t s = (size_t)p->layer * p->n_kv_heads + index;
    rs_kv_stream *stream = &e->kv->streams[s];
    if (p->full_heads != NULL && p->full_heads[s]) return;
    const uint32_t kept =
        rs_observed_kept(p->count, p->n_patch, p->keep, work->observers, p->pyramid, p->layer, p->n_layers);
    const uint32_t n = p->n_patch > 0 ? p->count : p->count - work->observers, n_gone = p->count - kept;
    const float *scores = work->scores + index * work->n_batch;
    rs_scored *entries = p->scratch + thread * work->n_batch;
    rs_kv_cursor at;
    bool more = rs_kv_seek(e->kv, stream, p->begin, &at);
    for (uint32_t i = 0; i < n && more; i++) {
        entries[i] = (rs_scored){scores[i], at.page_index * RS_PAGE_ENTRIES + at.slot};
        more = rs_kv_next(e->kv, stream, &at);
    }
    rs_scored_choose(entries, n, n_gone);
    for (uint32_t i = 0; i < n_gone; i++) {
        const rs_kv_cursor gone = {entries[i].order / RS_PAGE_ENTRIES, entries[i].order % RS_PAGE_ENTRIES};
        rs_kv_mark(e->kv, stream, gone);
    }
}

void rs_observed_evict(const rs_observed_plan *plan, rs_kv *kv, rs_team *team) {
    rs_team_run(team, evict_from_stream, &(eviction){plan, kv}, plan->n_kv_heads);
    rs_kv_close_holes(kv, team, (rs_streams){plan->layer * plan->n_kv_heads, plan->n_kv_heads});
}
