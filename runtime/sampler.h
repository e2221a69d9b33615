/* What rs_generate and a context need to know of sampling. */
#ifndef RASURE_RUNTIME_SAMPLER_H
#define RASURE_RUNTIME_SAMPLER_H

#include "rasure/rasure.h"

enum { RS_MAX_STOP_STRINGS = 16, RS_MAX_STOP_BYTES = 128 };

typedef struct rs_candidate {
    float logit;
    int32_t token;
} rs_candidate;

/* Whether the parameters are in range; a sentence if not. */
rs_status rs_sampler_check(const rs_sampler_params *params, rs_error *error);

#endif
