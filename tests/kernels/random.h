/* Random numbers of the kernel tests: the same for the same seed, everywhere. */
#ifndef RASURE_TESTS_KERNELS_RANDOM_H
#define RASURE_TESTS_KERNELS_RANDOM_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>

/* A number that is nearly 0. 32-bit Arm's NEON takes denormals for 0: there it is a normal one. */
#if defined(__arm__)
#define NEARLY_0 1e-37f
#else
#define NEARLY_0 1e-41f
#endif

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

/* In [low, high]. */
static inline int8_t random_int8(uint64_t *seed, int low, int high) {
    return (int8_t)(low + (int)(next_random(seed) % (uint64_t)(high - low + 1)));
}

/* Mostly about 1, both signs; one in eight is 0, nearly so, the smallest normal, or large. */
static inline void fill_scales(float *scale, size_t n, uint64_t *seed) {
    static const float odd[] = {0.0f, -0.0f, NEARLY_0, -NEARLY_0, FLT_MIN, 1e8f};
    for (size_t i = 0; i < n; i++) {
        const uint64_t draw = next_random(seed);
        scale[i] = draw % 8 == 0 ? odd[draw / 8 % (sizeof odd / sizeof *odd)] : random_float(seed);
    }
}

#endif
