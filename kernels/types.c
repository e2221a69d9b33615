/* The tensor types: names, ids in GGUF files, and block shapes. */
#include "kernels/types.h"

const rs_type_info rs_types[RS_TYPE_COUNT] = {
    [RS_TYPE_F32] = {"F32", 0, 1, 4},        [RS_TYPE_F16] = {"F16", 1, 1, 2},
    [RS_TYPE_BF16] = {"BF16", 30, 1, 2},     [RS_TYPE_Q4_0] = {"Q4_0", 2, 32, 18},
    [RS_TYPE_Q4_1] = {"Q4_1", 3, 32, 20},    [RS_TYPE_Q5_0] = {"Q5_0", 6, 32, 22},
    [RS_TYPE_Q5_1] = {"Q5_1", 7, 32, 24},    [RS_TYPE_Q8_0] = {"Q8_0", 8, 32, 34},
    [RS_TYPE_Q4_K] = {"Q4_K", 12, 256, 144}, [RS_TYPE_Q5_K] = {"Q5_K", 13, 256, 176},
    [RS_TYPE_Q6_K] = {"Q6_K", 14, 256, 210},
};
