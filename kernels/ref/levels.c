/* An architecture for which there are portable kernels only. */
#include "kernels/levels.h"

const rs_level *rs_arch_levels(size_t *count) {
    *count = 0;
    return NULL;
}
