/* The tensor types that rasure reads, as GGUF files store them. */
#ifndef RASURE_KERNELS_TYPES_H
#define RASURE_KERNELS_TYPES_H

#include <stddef.h>
#include <stdint.h>

typedef enum rs_type {
    RS_TYPE_F32,
    RS_TYPE_F16,
    RS_TYPE_BF16,
    RS_TYPE_Q4_0,
    RS_TYPE_Q4_1,
    RS_TYPE_Q5_0,
    RS_TYPE_Q5_1,
    RS_TYPE_Q8_0,
    RS_TYPE_Q4_K,
    RS_TYPE_Q5_K,
    RS_TYPE_Q6_K,
    RS_TYPE_COUNT,
} rs_type;

typedef struct rs_type_info {
    const char *name;
    uint32_t gguf_id;
    uint32_t block_elems; /* 1, 32 or 256 */
    uint32_t block_bytes;
} rs_type_info;

/* Indexed by rs_type. */
extern const rs_type_info rs_types[RS_TYPE_COUNT];

/* Types whose blocks hold integers; the others hold floats. */
static inline int rs_type_is_quantized(rs_type type) {
    return type >= RS_TYPE_Q4_0;
}

/* Bytes of a row of n elements, n a multiple of block_elems. */
static inline size_t rs_row_bytes(rs_type type, size_t n) {
    return n / rs_types[type].block_elems * rs_types[type].block_bytes;
}

#endif
