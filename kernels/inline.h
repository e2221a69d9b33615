/* What the compiler is told where it matters for speed. */
#ifndef RASURE_KERNELS_INLINE_H
#define RASURE_KERNELS_INLINE_H

/* For pieces whose arguments must be constants in each call, so that tiles live in registers. */
#define RS_INLINE static inline __attribute__((always_inline))

/* RS_UNROLL: before a loop of at most eight steps over a tile. GCC leaves the longer ones as they are, clang
 * those that hold loops, and sums then lie in memory. RS_KEEP_LOOP: before a short loop that is to become
 * vector code. GCC would unroll it first and then not find the vectors. */
#ifdef __clang__
#define RS_UNROLL _Pragma("unroll")
#define RS_KEEP_LOOP
#else
#define RS_UNROLL _Pragma("GCC unroll 8")
#define RS_KEEP_LOOP _Pragma("GCC unroll 1")
#endif

#endif
