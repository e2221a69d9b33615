/* Saved contexts in memory, and damaged ones whose checksum is right. */
#ifndef RASURE_TESTS_SUPPORT_STATE_BUILDER_H
#define RASURE_TESTS_SUPPORT_STATE_BUILDER_H

#include <stddef.h>

#include "rasure/rasure.h"

typedef struct rs_test_state {
    unsigned char *data; /* malloc'ed */
    size_t bytes;
} rs_test_state;

/* What rs_context_save writes; {NULL, 0} where it fails. */
rs_test_state rs_test_save(rs_context *context);

rs_test_state rs_test_state_copy(const rs_test_state *state);

/* Makes the checksum right; `bytes` MUST be 8 or more. */
void rs_test_state_seal(const rs_test_state *state);

#endif
