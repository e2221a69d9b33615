/* A queue of candidate pairs in a binary heap; pairs that a merge made obsolete are skipped when their turn
 * comes. */
#include "runtime/tokenizer/merge.h"

#include <stdlib.h>

#include "runtime/checked.h"
#include "runtime/status.h"

/* Merging the two symbols that cover [begin, begin + bytes). */
struct rs_candidate {
    uint32_t order, begin, bytes;
    int32_t token;
};

enum { LEAST_CAPACITY = 256 };

rs_status rs_merger_reserve(rs_merger *merger, size_t bytes, rs_error *error) {
    if (bytes <= merger->capacity) return RS_OK;
    rs_merger_close(merger);
    const size_t capacity = bytes < LEAST_CAPACITY ? LEAST_CAPACITY : bytes;
    /* There are fewer merges than bytes, and a merge takes one candidate away and brings at most two. */
    size_t symbol_bytes, heap_bytes;
    if (rs_mul_size(capacity, sizeof(rs_symbol), &symbol_bytes) &&
        rs_mul_size(capacity, 2 * sizeof(rs_candidate), &heap_bytes)) {
        merger->symbols = malloc(symbol_bytes);
        merger->heap = malloc(heap_bytes);
    }
    if (merger->symbols == NULL || merger->heap == NULL) {
        rs_merger_close(merger);
        return rs_fail(error, RS_NO_MEMORY, "no memory to tokenize %zu bytes", bytes);
    }
    merger->capacity = capacity;
    return RS_OK;
}

void rs_merger_close(rs_merger *merger) {
    free(merger->symbols);
    free(merger->heap);
    *merger = (rs_merger){0};
}

static bool is_before(rs_candidate a, rs_candidate b) {
    return a.order != b.order ? a.order < b.order : a.begin < b.begin;
}

static void push(rs_candidate *heap, size_t *n, rs_candidate c) {
    size_t i = (*n)++;
    for (; i > 0 && is_before(c, heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = c;
}

static rs_candidate pop(rs_candidate *heap, size_t *n) {
    const rs_candidate top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (size_t child = 1; child < *n; child = 2 * i + 1) {
        if (child + 1 < *n && is_before(heap[child + 1], heap[child])) child++;
        if (!is_before(heap[child], last)) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

typedef struct run {
    rs_symbol *symbols;
    rs_candidate *heap;
    size_t n_heap;
    const char *text;
    size_t bytes;
    rs_pair_fn pair;
    const void *model;
} run;

/* Queues the symbol at `begin` and its right neighbour, if there is one and they may merge. */
static void consider(run *r, uint32_t begin) {
    const rs_symbol *left = &r->symbols[begin], *right = left + left->bytes;
    if (begin + left->bytes == r->bytes) return;
    rs_candidate c = {.begin = begin, .bytes = left->bytes + right->bytes};
    if (r->pair(r->model, r->text + begin, left, right, &c.order, &c.token)) push(r->heap, &r->n_heap, c);
}

void rs_merge(rs_merger *merger, const char *text, size_t bytes, rs_pair_fn pair, const void *model) {
    rs_symbol *symbols = merger->symbols;
    run r = {symbols, merger->heap, 0, text, bytes, pair, model};
    for (uint32_t begin = 0; begin < bytes; begin += symbols[begin].bytes) consider(&r, begin);
    while (r.n_heap > 0) {
        const rs_candidate c = pop(r.heap, &r.n_heap);
        rs_symbol *left = &symbols[c.begin], *right = left + left->bytes;
        /* Boundaries only ever vanish: two symbols that cover the same bytes are the two that were meant. */
        if (left->bytes >= c.bytes || left->bytes + right->bytes != c.bytes) continue;
        right->bytes = 0;
        left->bytes = c.bytes;
        left->token = c.token;
        const uint32_t end = c.begin + c.bytes;
        if (end < bytes) symbols[end].before = c.begin;
        consider(&r, c.begin);
        if (c.begin > 0) consider(&r, left->before);
    }
}
