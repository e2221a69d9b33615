/*
 * One task is one KV head and a few query tokens: the query heads of its group share the sweep over the
 * pages, TASK_ROWS at most, so that what a task writes stays in a core's cache. A stream is cut into
 * segments, and those into blocks of pages, both counted from its start: each segment is summed up by itself,
 * block after block, and segments are put together in order. So a query's sums are made in the same way
 * whatever chunk it came in, and the segments of a single token's long stream can be given to different
 * threads.
 */
#include "runtime/attention.h"

#include <math.h>
#include <string.h>

enum {
    TASK_ROWS = 48,   /* three tiles of AMX */
    FEWEST_ROWS = 16, /* that halving leaves a task: one tile */
    BLOCK = RS_ATTEND_PAGES * RS_PAGE_ENTRIES,
    SEGMENT_PAGES = 4 * RS_ATTEND_PAGES,
};

static uint32_t tokens_of_task(uint32_t group) {
    return group < TASK_ROWS ? TASK_ROWS / group : 1;
}

static uint32_t segments_of(uint32_t pages) {
    return (pages + SEGMENT_PAGES - 1) / SEGMENT_PAGES;
}

static rs_attention_sums take_sums(rs_arena *arena, const char *name, size_t rows, size_t acc) {
    rs_attention_sums sums;
    sums.max = rs_arena_take_scratch(arena, name, rows, sizeof *sums.max);
    sums.sum = rs_arena_take_scratch(arena, name, rows, sizeof *sums.sum);
    sums.acc = acc > 0 ? rs_arena_take_scratch(arena, name, acc, sizeof *sums.acc) : NULL;
    return sums;
}

void rs_attention_layout(rs_attention_work *work, rs_arena *arena, uint32_t threads, uint32_t n_kv_heads,
                         uint32_t group, uint32_t head_dim, uint32_t stream_pages) {
    static const char name[] = "attention scratch";
    const size_t rows = (size_t)tokens_of_task(group) * group;
    work->threads = rs_arena_take(arena, "context", threads, sizeof *work->threads);
    for (uint32_t t = 0; t < threads; t++) {
        rs_attention_scratch scratch;
        scratch.q = rs_arena_take_scratch(arena, name, rows * head_dim, sizeof *scratch.q);
        scratch.q_scale = rs_arena_take_scratch(arena, name, rows, sizeof *scratch.q_scale);
        scratch.score = rs_arena_take_scratch(arena, name, rows * BLOCK, sizeof *scratch.score);
        scratch.factor = rs_arena_take_scratch(arena, name, rows, sizeof *scratch.factor);
        scratch.part = take_sums(arena, name, rows, rows * head_dim);
        scratch.total = take_sums(arena, name, rows, 0);
        if (arena->base != NULL) work->threads[t] = scratch;
    }
    work->max_segments = segments_of(stream_pages);
    const size_t parts = (size_t)n_kv_heads * work->max_segments;
    const rs_attention_sums sums = take_sums(arena, name, parts * group, parts * group * head_dim);
    work->parts = rs_arena_take(arena, "context", parts, sizeof *work->parts);
    for (size_t i = 0; i < parts && arena->base != NULL; i++) {
        const size_t at = i * group;
        work->parts[i] = (rs_attention_sums){sums.max + at, sums.sum + at, sums.acc + at * head_dim};
    }
}

/* A task's query tokens, [first, first + count) of the pass. */
typedef struct span {
    uint32_t first, count;
} span;

/* The pages of a stream that a task looks at: [0, sinks) and [begin, end). What is left out lies out of reach
 * of every query, so that a pass with a window costs the same however long the stream is. */
typedef struct reach {
    uint32_t sinks, begin, end;
} reach;

/* Index of the page that holds the first entry at `position` or above; n_pages if there is none. */
static uint32_t page_of(const rs_kv *kv, const rs_kv_stream *stream, int32_t position) {
    rs_kv_cursor at;
    return rs_kv_seek(kv, stream, position, &at) ? at.page_index : stream->n_pages;
}

static reach reach_of(const rs_attention *a, const rs_kv_stream *stream, span queries) {
    const int32_t lowest = a->positions[queries.first];
    const int32_t highest = a->positions[queries.first + queries.count - 1];
    int32_t begin = a->visible.window_begin;
    if (a->window > 0 && (int64_t)lowest - a->window + 1 > begin)
        begin = (int32_t)((int64_t)lowest - a->window + 1);
    reach r = {0, 0, stream->n_pages};
    if (begin > 0) r.begin = page_of(a->kv, stream, begin);
    if (a->visible.sinks_end > 0) {
        const uint32_t page = page_of(a->kv, stream, a->visible.sinks_end);
        r.sinks = page < stream->n_pages ? page + 1 : page;
    }
    /* Most passes are at the end of their stream. */
    const int32_t *last = rs_kv_get_page(a->kv, stream->pages[stream->n_pages - 1]).position;
    for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) {
        if (last[e] <= highest) continue;
        const uint32_t page = page_of(a->kv, stream, highest + 1);
        r.end = page + 1;
        break;
    }
    return r;
}

static bool meets(reach r, uint32_t begin, uint32_t end) {
    return begin < r.sinks || (begin < r.end && end > r.begin);
}

static bool sees(const rs_attention *a, int32_t query, int32_t position) {
    return position != RS_KV_HOLE && position <= query &&
           (position < a->visible.sinks_end || position >= a->visible.window_begin) &&
           (a->window == 0 || (int64_t)query - position < (int64_t)a->window);
}

/* Whether every query of the task sees all sixteen entries. */
static bool all_see(const rs_attention *a, span queries, const int32_t *position) {
    const int32_t first = position[0], last = position[RS_PAGE_ENTRIES - 1];
    for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++)
        if (position[e] == RS_KV_HOLE) return false;
    const int32_t lowest = a->positions[queries.first];
    const int32_t highest = a->positions[queries.first + queries.count - 1];
    if (first < a->visible.window_begin && last >= a->visible.sinks_end) return false;
    return last <= lowest && (a->window == 0 || (int64_t)highest - first < (int64_t)a->window);
}

/* Hides what a query may not see among the 16 scores of a page. */
static void mask(const rs_attention *a, span queries, const int32_t *position, float *score) {
    if (all_see(a, queries, position)) return;
    for (uint32_t t = 0; t < queries.count; t++) {
        const int32_t query = a->positions[queries.first + t];
        for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) {
            if (sees(a, query, position[e])) continue;
            for (uint32_t g = 0; g < a->group; g++) score[(size_t)(t * a->group + g) * BLOCK + e] = -INFINITY;
        }
    }
}

static void mask_all(uint32_t rows, float *score) {
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) score[(size_t)r * BLOCK + e] = -INFINITY;
    }
}

/* Whether any query may see any of a page's entries: false is sure, true is not. */
static bool in_reach(const rs_attention *a, span queries, const int32_t *position) {
    uint32_t low = 0, high = RS_PAGE_ENTRIES - 1;
    while (low < high && position[low] == RS_KV_HOLE) low++;
    while (high > low && position[high] == RS_KV_HOLE) high--;
    const int32_t first = position[low], last = position[high];
    if (first > a->positions[queries.first + queries.count - 1]) return false;
    if (first >= a->visible.sinks_end && last < a->visible.window_begin) return false;
    return a->window == 0 || (int64_t)a->positions[queries.first] - last < (int64_t)a->window;
}

/* Where row r = token * group + head of a task begins, in q and in the output. */
static size_t head_at(const rs_attention *a, uint32_t kv_head, span queries, uint32_t row) {
    const size_t token = queries.first + row / a->group, head = kv_head * a->group + row % a->group;
    return (token * a->n_kv_heads * a->group + head) * a->kv->head_dim;
}

static void quantize_queries(const rs_attention *a, const rs_kernels *kernels,
                             const rs_attention_scratch *scratch, uint32_t kv_head, span queries) {
    const size_t head_dim = a->kv->head_dim;
    for (uint32_t r = 0; r < queries.count * a->group; r++) {
        const float *q = a->q + head_at(a, kv_head, queries, r);
        scratch->q_scale[r] = a->scale * kernels->quantize_head(q, scratch->q + r * head_dim, head_dim);
    }
}

/* Has what the next block reads of a page besides keys and values fetched; returns the keys, for the kernels
 * to fetch. Pages lie apart in memory, and hardware does not foresee the next. */
static const int8_t *look_ahead(const rs_kv *kv, uint32_t page) {
    const rs_kv_page next = rs_kv_get_page(kv, page);
    __builtin_prefetch(next.position);
    __builtin_prefetch(next.view.k_scale);
    __builtin_prefetch(next.view.v_scale);
    return next.view.k;
}

/* Scores of a block of pages, which n_next further ones follow; false when no query sees any of the block.
 * Pages out of reach get no view. */
static bool score_block(const rs_attention *a, const rs_kernels *kernels, const rs_attention_scratch *scratch,
                        const uint32_t *pages, uint32_t n_pages, uint32_t n_next, span queries,
                        rs_page_view views[RS_ATTEND_PAGES]) {
    const rs_kv *kv = a->kv;
    const uint32_t rows = queries.count * a->group;
    const int32_t *position[RS_ATTEND_PAGES];
    bool any = false;
    for (uint32_t p = 0; p < n_pages; p++) {
        const rs_kv_page page = rs_kv_get_page(kv, pages[p]);
        const bool reached = in_reach(a, queries, page.position);
        views[p] = reached ? page.view : (rs_page_view){0};
        if (p < n_next) views[p].next = look_ahead(kv, pages[n_pages + p]);
        position[p] = page.position;
        any = any || reached;
    }
    if (!any) return false;
    kernels->attend_keys(scratch->q, scratch->q_scale, rows, views, n_pages, kv->head_dim, scratch->score,
                         BLOCK);
    for (uint32_t p = 0; p < n_pages; p++) {
        float *score = scratch->score + (size_t)p * RS_PAGE_ENTRIES;
        if (views[p].k == NULL) {
            mask_all(rows, score);
        } else {
            mask(a, queries, position[p], score);
        }
    }
    return true;
}

/* Sums of one segment of a KV head's stream; the queries are in scratch. */
static void attend_segment(const rs_attention *a, const rs_kernels *kernels,
                           const rs_attention_scratch *scratch, uint32_t kv_head, uint32_t segment,
                           span queries, reach within, const rs_attention_sums *sums) {
    const rs_kv_stream *stream = &a->kv->streams[a->first_stream + kv_head];
    const size_t head_dim = a->kv->head_dim;
    const uint32_t rows = queries.count * a->group, begin = segment * SEGMENT_PAGES;
    const uint32_t end = begin + SEGMENT_PAGES < stream->n_pages ? begin + SEGMENT_PAGES : stream->n_pages;
    for (uint32_t r = 0; r < rows; r++) {
        sums->max[r] = -INFINITY;
        sums->sum[r] = 0;
    }
    memset(sums->acc, 0, rows * head_dim * sizeof *sums->acc);
    for (uint32_t page = begin; page < end; page += RS_ATTEND_PAGES) {
        const uint32_t n_pages = end - page < RS_ATTEND_PAGES ? end - page : RS_ATTEND_PAGES;
        if (!meets(within, page, page + n_pages)) continue;
        const uint32_t n_next = stream->n_pages - page - n_pages;
        rs_page_view views[RS_ATTEND_PAGES];
        if (!score_block(a, kernels, scratch, stream->pages + page, n_pages, n_next, queries, views))
            continue;
        for (uint32_t r = 0; r < rows; r++) {
            scratch->factor[r] =
                kernels->softmax_step(scratch->score + (size_t)r * BLOCK, (size_t)n_pages * RS_PAGE_ENTRIES,
                                      &sums->max[r], &sums->sum[r]);
        }
        kernels->attend_values(scratch->score, BLOCK, scratch->factor, rows, views, n_pages, head_dim,
                               sums->acc);
    }
}

/* Puts a further segment's sums of a row to those of the segments before it. */
static void merge(float *max, float *sum, float *acc, float part_max, float part_sum, const float *part_acc,
                  size_t head_dim) {
    if (part_max == -INFINITY) return;
    if (*max == -INFINITY) {
        *max = part_max;
        *sum = part_sum;
        memcpy(acc, part_acc, head_dim * sizeof *acc);
        return;
    }
    const float top = part_max > *max ? part_max : *max;
    const float factor = expf(*max - top), part_factor = expf(part_max - top);
    for (size_t d = 0; d < head_dim; d++) acc[d] = acc[d] * factor + part_acc[d] * part_factor;
    *sum = *sum * factor + part_sum * part_factor;
    *max = top;
}

static void finish(float *acc, float sum, size_t head_dim) {
    const float inverse = 1.0f / sum;
    for (size_t d = 0; d < head_dim; d++) acc[d] *= inverse;
}

typedef struct attend_task {
    const rs_attention_work *work;
    const rs_attention *attention;
    uint32_t columns; /* tasks of a KV head: blocks of tokens, or segments of a single token's stream */
    uint32_t tokens;  /* of a block */
} attend_task;

/* All segments for a block of query tokens. */
static void attend_tokens(void *argument, size_t thread, size_t index) {
    const attend_task *task = argument;
    const rs_attention *a = task->attention;
    const rs_kernels *kernels = task->work->kernels;
    const rs_attention_scratch *scratch = &task->work->threads[thread];
    const uint32_t kv_head = (uint32_t)index / task->columns;
    const uint32_t first = (uint32_t)index % task->columns * task->tokens, left = a->count - first;
    const span queries = {first, left < task->tokens ? left : task->tokens};
    const rs_kv_stream *stream = &a->kv->streams[a->first_stream + kv_head];
    const reach within = reach_of(a, stream, queries);
    const uint32_t segments = segments_of(stream->n_pages), rows = queries.count * a->group;
    const size_t head_dim = a->kv->head_dim;

    quantize_queries(a, kernels, scratch, kv_head, queries);
    /* The queries are in int8 now: where they were is free for the output. */
    for (uint32_t r = 0; r < rows; r++) {
        scratch->total.max[r] = -INFINITY;
        scratch->total.sum[r] = 0;
    }
    for (uint32_t s = 0; s < segments; s++) {
        if (!meets(within, s * SEGMENT_PAGES, (s + 1) * SEGMENT_PAGES)) continue;
        attend_segment(a, kernels, scratch, kv_head, s, queries, within, &scratch->part);
        for (uint32_t r = 0; r < rows; r++) {
            merge(&scratch->total.max[r], &scratch->total.sum[r], a->out + head_at(a, kv_head, queries, r),
                  scratch->part.max[r], scratch->part.sum[r], scratch->part.acc + r * head_dim, head_dim);
        }
    }
    for (uint32_t r = 0; r < rows; r++)
        finish(a->out + head_at(a, kv_head, queries, r), scratch->total.sum[r], head_dim);
}

/* One segment for a single query token. */
static void attend_part(void *argument, size_t thread, size_t index) {
    const attend_task *task = argument;
    const rs_attention *a = task->attention;
    const rs_attention_scratch *scratch = &task->work->threads[thread];
    const uint32_t kv_head = (uint32_t)index / task->columns, segment = (uint32_t)index % task->columns;
    const span queries = {0, 1};
    const reach within = reach_of(a, &a->kv->streams[a->first_stream + kv_head], queries);
    quantize_queries(a, task->work->kernels, scratch, kv_head, queries);
    attend_segment(a, task->work->kernels, scratch, kv_head, segment, queries, within,
                   &task->work->parts[kv_head * task->work->max_segments + segment]);
}

static void merge_parts(const rs_attention_work *work, const rs_attention *a, uint32_t segments) {
    const size_t head_dim = a->kv->head_dim;
    for (uint32_t head = 0; head < a->n_kv_heads * a->group; head++) {
        const uint32_t kv_head = head / a->group, r = head % a->group;
        float *out = a->out + head * head_dim, max = -INFINITY, sum = 0;
        for (uint32_t s = 0; s < segments; s++) {
            const rs_attention_sums *part = &work->parts[kv_head * work->max_segments + s];
            merge(&max, &sum, out, part->max[r], part->sum[r], part->acc + r * head_dim, head_dim);
        }
        finish(out, sum, head_dim);
    }
}

/* Blocks of as many tokens as a task takes; of fewer where so few tasks would leave threads without one: a
 * short pass over a long cache, with three KV heads and two threads, or more threads than KV heads. */
static void cut_tokens(attend_task *task, uint32_t threads) {
    const rs_attention *a = task->attention;
    enum { ENOUGH = 4 }; /* tasks a thread, of which the last may be one too many */
    for (task->tokens = tokens_of_task(a->group);; task->tokens /= 2) {
        task->columns = (a->count + task->tokens - 1) / task->tokens;
        const uint32_t tasks = a->n_kv_heads * task->columns;
        const bool smallest = task->tokens == 1 || task->tokens * a->group / 2 < FEWEST_ROWS;
        if (tasks % threads == 0 || tasks >= ENOUGH * threads || smallest) return;
    }
}

void rs_attention_run(const rs_attention_work *work, const rs_attention *attention) {
    attend_task task = {work, attention, 0, 0};
    if (attention->count > 1) {
        cut_tokens(&task, work->team->threads);
        rs_team_run(work->team, attend_tokens, &task, (size_t)attention->n_kv_heads * task.columns);
        return;
    }
    for (uint32_t h = 0; h < attention->n_kv_heads; h++) {
        const uint32_t segments = segments_of(attention->kv->streams[attention->first_stream + h].n_pages);
        if (segments > task.columns) task.columns = segments;
    }
    rs_team_run(work->team, attend_part, &task, (size_t)attention->n_kv_heads * task.columns);
    merge_parts(work, attention, task.columns);
}
