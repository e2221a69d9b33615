/* Random numbers of the kernel tests: the same for the same seed, everywhere. */
#ifndef RASURE_TESTS_KERNELS_RANDOM_H
#define RASURE_TESTS_KERNELS_RANDOM_H

#include <stdint.h>

/* SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
static inline uint64_t next_random(uint64_t *seed) {
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Evenly in [-1, 1). */
static inline float random_float(uint64_t *seed) {
    return (float)((double)(next_random(seed) >> 11) * 0x1p-52 - 1.0);
}

#endif
