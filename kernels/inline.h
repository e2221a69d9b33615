/* For pieces whose arguments must be constants in each call, so that tiles live in registers. */
#ifndef RASURE_KERNELS_INLINE_H
#define RASURE_KERNELS_INLINE_H

#define RS_INLINE static inline __attribute__((always_inline))

#endif
