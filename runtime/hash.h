/* FNV-1a, 64 bits (Fowler, Noll and Vo). */
#ifndef RASURE_RUNTIME_HASH_H
#define RASURE_RUNTIME_HASH_H

#include <stddef.h>
#include <stdint.h>

#define RS_FNV1A_START UINT64_C(0xcbf29ce484222325)

/* The hash of what `hash` stands for and `bytes` more. */
static inline uint64_t rs_fnv1a(uint64_t hash, const void *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

#endif
