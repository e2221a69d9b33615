/*
 * The memory of one context: a bump allocator over the caller's block. The same layout code runs twice, first
 * over no memory to learn the size, then over the block, so the size that was reported is the size that is
 * used. Two-ended: what lasts grows from the front, scratch from the back, so that scratch is one range that
 * an erase can zero.
 */
#ifndef RASURE_RUNTIME_ARENA_H
#define RASURE_RUNTIME_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "rasure/rasure.h"

enum { RS_ARENA_ALIGN = 64, RS_ARENA_MAX_ITEMS = 32 };

typedef struct rs_arena {
    unsigned char *base; /* NULL while measuring */
    size_t capacity;
    size_t front, back; /* bytes taken from either end */
    bool overflow;      /* a size did not fit size_t, or the block was too small */
    rs_memory_item items[RS_ARENA_MAX_ITEMS];
    size_t n_items;
} rs_arena;

/* `base` NULL measures; else it is aligned to RS_ARENA_ALIGN, and `capacity` is what measuring gave. */
void rs_arena_open(rs_arena *arena, void *base, size_t capacity);

/* count * size bytes aligned to RS_ARENA_ALIGN, accounted under `name` (a literal; equal names add up). NULL
 * while measuring and after an overflow. In sanitizer builds a poisoned zone follows every block. */
void *rs_arena_take(rs_arena *arena, const char *name, size_t count, size_t size);
void *rs_arena_take_scratch(rs_arena *arena, const char *name, size_t count, size_t size);

/* Makes a whole block readable and writable again, before it is zeroed or given back. */
void rs_arena_unpoison(void *base, size_t bytes);

/* Zeroes a range that may hold poisoned zones, which stay poisoned. */
void rs_arena_zero(void *begin, size_t bytes);

#endif
