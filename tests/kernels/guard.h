/*
 * Buffers of exactly the size asked for, next to a page that may not be touched: a kernel that reads or
 * writes a byte too far crashes the test. The slack on the other side, up to a page, is filled with a pattern
 * that guard_free checks.
 */
#ifndef RASURE_TESTS_KERNELS_GUARD_H
#define RASURE_TESTS_KERNELS_GUARD_H

#include <stddef.h>

typedef enum guard_side {
    GUARD_AFTER,  /* the buffer ends where the inaccessible page begins */
    GUARD_BEFORE, /* the buffer begins where the inaccessible page ends */
} guard_side;

typedef struct guard {
    void *data;
    size_t bytes;
    guard_side side;
    unsigned char *map;
    size_t map_bytes;
} guard;

/* Zeroed. Fails the running test when the system gives no memory. */
guard guard_alloc(size_t bytes, guard_side side);

/* Fails the running test when the slack was written to. */
void guard_free(guard *buffer);

#endif
