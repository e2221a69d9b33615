/* Bump allocation with accounting. */
#include "runtime/arena.h"

#include <string.h>

#include "ports/port.h"
#include "runtime/checked.h"

#if defined(__SANITIZE_ADDRESS__)
#define RS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RS_ASAN 1
#endif
#endif
#ifndef RS_ASAN
#define RS_ASAN 0
#endif

#if RS_ASAN
#include <sanitizer/asan_interface.h>
enum { RED_ZONE = RS_ARENA_ALIGN };
#else
enum { RED_ZONE = 0 };
#endif

void rs_arena_open(rs_arena *arena, void *base, size_t capacity) {
    memset(arena, 0, sizeof *arena);
    arena->base = base;
    arena->capacity = capacity;
}

static void account(rs_arena *arena, const char *name, size_t bytes) {
    for (size_t i = 0; i < arena->n_items; i++) {
        if (strcmp(arena->items[i].name, name) == 0) {
            arena->items[i].bytes += bytes;
            return;
        }
    }
    if (arena->n_items == RS_ARENA_MAX_ITEMS) {
        arena->overflow = true;
        return;
    }
    arena->items[arena->n_items++] = (rs_memory_item){name, bytes};
}

/* Bytes of a block with its red zone; false on overflow. */
static bool block_bytes(size_t count, size_t size, size_t *bytes) {
    return rs_mul_size(count, size, bytes) && rs_round_up_size(*bytes, RS_ARENA_ALIGN, bytes) &&
           rs_add_size(*bytes, RED_ZONE, bytes);
}

static void *take(rs_arena *arena, const char *name, size_t count, size_t size, size_t *end_used) {
    size_t bytes, total;
    if (arena->overflow || !block_bytes(count, size, &bytes) ||
        !rs_add_size(arena->front, arena->back, &total) || !rs_add_size(total, bytes, &total) ||
        (arena->base != NULL && total > arena->capacity)) {
        arena->overflow = true;
        return NULL;
    }
    account(arena, name, bytes);
    *end_used += bytes;
    if (arena->base == NULL) return NULL;
    unsigned char *block = end_used == &arena->front ? arena->base + arena->front - bytes
                                                     : arena->base + arena->capacity - arena->back;
#if RS_ASAN
    ASAN_POISON_MEMORY_REGION(block + bytes - RED_ZONE, RED_ZONE);
#endif
    return block;
}

void *rs_arena_take(rs_arena *arena, const char *name, size_t count, size_t size) {
    return take(arena, name, count, size, &arena->front);
}

void *rs_arena_take_scratch(rs_arena *arena, const char *name, size_t count, size_t size) {
    return take(arena, name, count, size, &arena->back);
}

void rs_arena_unpoison(void *base, size_t bytes) {
#if RS_ASAN
    ASAN_UNPOISON_MEMORY_REGION(base, bytes);
#else
    (void)base;
    (void)bytes;
#endif
}

#if RS_ASAN
__attribute__((no_sanitize("address"))) void rs_arena_zero(void *begin, size_t bytes) {
    volatile unsigned char *at = begin;
    for (size_t i = 0; i < bytes; i++) at[i] = 0;
}
#else
void rs_arena_zero(void *begin, size_t bytes) {
    rs_port_secure_zero(begin, bytes);
}
#endif
