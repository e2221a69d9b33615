/* The instruction set levels of this architecture: what kernels/x86 or kernels/arm offers beside the portable
 * table. */
#ifndef RASURE_KERNELS_LEVELS_H
#define RASURE_KERNELS_LEVELS_H

#include <stdbool.h>

#include "kernels/kernels.h"

typedef struct rs_level {
    rs_isa isa;
    bool (*present)(void); /* on this CPU; cpuinfo was asked to initialise */
    const rs_kernels *table;
} rs_level;

extern const rs_kernels rs_ref_table;

/* Lowest first. A CPU may lack one in between. */
const rs_level *rs_arch_levels(size_t *count);

#endif
