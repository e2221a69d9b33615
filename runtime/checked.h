/* Arithmetic on sizes that came from a file or a request: false when the result would not fit. */
#ifndef RASURE_RUNTIME_CHECKED_H
#define RASURE_RUNTIME_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool rs_add_size(size_t a, size_t b, size_t *sum) {
    return !__builtin_add_overflow(a, b, sum);
}

static inline bool rs_mul_size(size_t a, size_t b, size_t *product) {
    return !__builtin_mul_overflow(a, b, product);
}

static inline bool rs_u64_to_size(uint64_t value, size_t *size) {
    *size = (size_t)value;
    return *size == value;
}

/* Rounds up to a multiple of `unit`, a power of two. */
static inline bool rs_round_up_size(size_t value, size_t unit, size_t *rounded) {
    if (!rs_add_size(value, unit - 1, rounded)) return false;
    *rounded &= ~(unit - 1);
    return true;
}

#endif
