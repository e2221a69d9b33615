/* For pieces whose arguments must be constants in each call, so that tiles live in registers. */
#ifndef RASURE_KERNELS_INLINE_H
#define RASURE_KERNELS_INLINE_H

#define RS_INLINE static inline __attribute__((always_inline))

/* Before a loop of at most eight steps over a tile: GCC leaves the longer ones as they are, and sums then lie
 * in memory. */
#ifdef __clang__
#define RS_UNROLL _Pragma("unroll")
#else
#define RS_UNROLL _Pragma("GCC unroll 8")
#endif

#endif
