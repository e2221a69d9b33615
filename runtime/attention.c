/*
 * One task is one KV head and a few query tokens: the query heads of its group share the sweep over the
 * pages. Pages are taken in fixed blocks counted from the start of the stream, so that a query's sums are
 * made in the same order whatever chunk it came in.
 */
#include "runtime/attention.h"

#include <math.h>
#include <pthreadpool.h>
#include <string.h>

enum {
    TASK_TOKENS = 8,
    BLOCK = RS_ATTEND_PAGES * RS_PAGE_ENTRIES,
};

void rs_attention_layout(rs_attention_work *work, rs_arena *arena, uint32_t threads, uint32_t group,
                         uint32_t head_dim) {
    static const char name[] = "attention scratch";
    const size_t rows = (size_t)TASK_TOKENS * group;
    work->threads = rs_arena_take(arena, "context", threads, sizeof *work->threads);
    for (uint32_t t = 0; t < threads; t++) {
        rs_attention_scratch scratch;
        scratch.q = rs_arena_take_scratch(arena, name, rows * head_dim, sizeof *scratch.q);
        scratch.q_scale = rs_arena_take_scratch(arena, name, rows, sizeof *scratch.q_scale);
        scratch.score = rs_arena_take_scratch(arena, name, rows * BLOCK, sizeof *scratch.score);
        scratch.sum = rs_arena_take_scratch(arena, name, rows, sizeof *scratch.sum);
        scratch.max = rs_arena_take_scratch(arena, name, rows, sizeof *scratch.max);
        if (arena->base != NULL) work->threads[t] = scratch;
    }
}

/* A task's query tokens, [first, first + count) of the pass. */
typedef struct span {
    uint32_t first, count;
} span;

static bool sees(const rs_attention *a, int32_t query, int32_t position) {
    return position != RS_KV_HOLE && position <= query &&
           (position < a->visible.sinks_end || position >= a->visible.window_begin) &&
           (a->window == 0 || (int64_t)query - position < (int64_t)a->window);
}

/* Whether every query of the task sees all sixteen entries. */
static bool all_see(const rs_attention *a, span queries, const int32_t *position) {
    const int32_t first = position[0], last = position[RS_PAGE_ENTRIES - 1];
    /* Positions ascend and holes are negative: sixteen in a row leave no room for a hole. */
    if (first < 0 || last - first != RS_PAGE_ENTRIES - 1) return false;
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

/* Where the output of a task's row r = token * group + head goes. */
static float *head_of(const rs_attention *a, size_t head_dim, uint32_t kv_head, span queries, uint32_t row) {
    const size_t token = queries.first + row / a->group, head = kv_head * a->group + row % a->group;
    return a->out + (token * a->n_kv_heads * a->group + head) * head_dim;
}

static void attend(const rs_attention *a, const rs_kernels *kernels, const rs_attention_scratch *scratch,
                   uint32_t kv_head, span queries) {
    const rs_kv *kv = a->kv;
    const rs_kv_stream *stream = &kv->streams[a->first_stream + kv_head];
    const size_t head_dim = kv->head_dim;
    const uint32_t rows = queries.count * a->group;

    for (uint32_t r = 0; r < rows; r++) {
        float *out = head_of(a, head_dim, kv_head, queries, r);
        const float *q = a->q + (out - a->out);
        const float scale = kernels->quantize_head(q, scratch->q + r * head_dim, head_dim);
        scratch->q_scale[r] = scale * a->scale;
        scratch->max[r] = -INFINITY;
        scratch->sum[r] = 0;
        /* The query is in int8 now: its floats make room for the sums when out is q. */
        memset(out, 0, head_dim * sizeof *out);
    }

    for (uint32_t begin = 0; begin < stream->n_pages; begin += RS_ATTEND_PAGES) {
        bool reached[RS_ATTEND_PAGES] = {false}, any = false;
        for (uint32_t i = 0; i < RS_ATTEND_PAGES; i++) {
            float *score = scratch->score + (size_t)i * RS_PAGE_ENTRIES;
            if (begin + i < stream->n_pages) {
                const rs_kv_page page = rs_kv_get_page(kv, stream->pages[begin + i]);
                if (in_reach(a, queries, page.position)) {
                    kernels->attend_keys(scratch->q, scratch->q_scale, rows, &page.view, head_dim, score,
                                         BLOCK);
                    mask(a, queries, page.position, score);
                    any = reached[i] = true;
                    continue;
                }
            }
            mask_all(rows, score);
        }
        if (!any) continue;
        for (uint32_t r = 0; r < rows; r++) {
            float *score = scratch->score + (size_t)r * BLOCK;
            const float factor = kernels->softmax_step(score, BLOCK, &scratch->max[r], &scratch->sum[r]);
            if (factor == 1.0f) continue;
            float *out = head_of(a, head_dim, kv_head, queries, r);
            for (size_t d = 0; d < head_dim; d++) out[d] *= factor;
        }
        for (uint32_t i = 0; i < RS_ATTEND_PAGES; i++) {
            if (!reached[i]) continue;
            const rs_kv_page page = rs_kv_get_page(kv, stream->pages[begin + i]);
            for (uint32_t t = 0; t < queries.count; t++) {
                const float *score =
                    scratch->score + (size_t)t * a->group * BLOCK + (size_t)i * RS_PAGE_ENTRIES;
                kernels->attend_values(score, BLOCK, a->group, &page.view, head_dim,
                                       head_of(a, head_dim, kv_head, queries, t * a->group));
            }
        }
    }
    for (uint32_t r = 0; r < rows; r++) {
        float *out = head_of(a, head_dim, kv_head, queries, r);
        const float inverse = 1.0f / scratch->sum[r];
        for (size_t d = 0; d < head_dim; d++) out[d] *= inverse;
    }
}

typedef struct attend_task {
    const rs_attention_work *work;
    const rs_attention *attention;
} attend_task;

static void attend_block(void *argument, size_t thread, size_t kv_head, size_t block) {
    const attend_task *task = argument;
    const rs_attention *a = task->attention;
    const uint32_t first = (uint32_t)block * TASK_TOKENS;
    const uint32_t left = a->count - first;
    attend(a, task->work->kernels, &task->work->threads[thread], (uint32_t)kv_head,
           (span){first, left < TASK_TOKENS ? left : TASK_TOKENS});
}

void rs_attention_run(const rs_attention_work *work, const rs_attention *attention) {
    attend_task task = {work, attention};
    const size_t blocks = (attention->count + TASK_TOKENS - 1) / TASK_TOKENS;
    pthreadpool_parallelize_2d_with_thread(work->pool, attend_block, &task, attention->n_kv_heads, blocks, 0);
}
