/*
 * The eight AMX tile registers: at most 16 rows of 64 bytes each, shaped by a configuration.
 *
 * Own wrappers, since GCC 12's name neither all of the configuration nor the memory behind a tile load as
 * inputs, and stores to them get lost. Here the whole configuration is an operand and whatever touches memory
 * through a pointer says so. All are volatile: they stay in order among themselves. Macros, so that register
 * numbers are constants in every build.
 */
#ifndef RASURE_KERNELS_X86_AMX_TILE_H
#define RASURE_KERNELS_X86_AMX_TILE_H

#include <stddef.h>
#include <stdint.h>

enum { RS_TILES = 8, RS_TILE_ROWS = 16, RS_TILE_ROW_BYTES = 64 };

/* As ldtilecfg reads it. */
typedef struct rs_tile_config {
    uint8_t palette; /* 1 */
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16]; /* the upper eight of both stay 0 */
    uint8_t rows[16];
} rs_tile_config;

_Static_assert(sizeof(rs_tile_config) == 64 && offsetof(rs_tile_config, row_bytes) == 16 &&
                   offsetof(rs_tile_config, rows) == 48,
               "not what ldtilecfg reads");

/* Shapes the tiles as *config says, and zeroes them. */
#define RS_TILE_CONFIGURE(config) __asm__ volatile("ldtilecfg %0" : : "m"(*(const rs_tile_config *)(config)))

/* Back to the state in which a thread begins; the system then has no tiles to save. */
#define RS_TILE_RELEASE() __asm__ volatile("tilerelease" : :)

#define RS_TILE_ZERO(tile) __asm__ volatile("tilezero %%tmm%c0" : : "i"(tile))

/* Rows are `stride` bytes apart. */
#define RS_TILE_LOAD(tile, base, stride)                                                                     \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2"                                                         \
                     :                                                                                       \
                     : "r"((const void *)(base)), "r"((size_t)(stride)), "i"(tile)                           \
                     : "memory")
#define RS_TILE_STORE(tile, base, stride)                                                                    \
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)"                                                        \
                     :                                                                                       \
                     : "r"((void *)(base)), "r"((size_t)(stride)), "i"(tile)                                 \
                     : "memory")

/* sum[m][n] += sum over k < 16, j < 4 of a[m][4 k + j] * b[k][4 n + j]: int8 by int8, in int32. */
#define RS_TILE_DOT(sum, a, b)                                                                               \
    __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(a), "i"(b))

/* Rows of 64 bytes: `rows` of them (1 to 16) in the tiles below `full`, sixteen in the others. */
static inline void rs_tile_shape(size_t rows, size_t full) {
    rs_tile_config config = {.palette = 1};
    for (size_t t = 0; t < RS_TILES; t++) {
        config.row_bytes[t] = RS_TILE_ROW_BYTES;
        config.rows[t] = (uint8_t)(t < full ? rows : RS_TILE_ROWS);
    }
    RS_TILE_CONFIGURE(&config);
}

#endif
