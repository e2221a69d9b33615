/* Files that say which heads need everything. */
#ifndef RASURE_RUNTIME_POLICY_HEADS_H
#define RASURE_RUNTIME_POLICY_HEADS_H

#include "rasure/rasure.h"

/* Reads a table of n_layers lines with n_heads numbers each, clipped to 0 to 1, into values
 * [n_layers][n_heads]. RS_BAD_FILE, with line and column, where it is none. */
rs_status rs_heads_parse(const char *text, size_t bytes, uint32_t n_layers, uint32_t n_heads, double *values,
                         rs_error *error);

/* Those that keep everything: the floor(n * (1 - local_share)) largest, of equal ones the first; with
 * RS_HEADS_AS_WRITTEN those of at least 0.5. */
rs_status rs_heads_choose(const double *values, size_t n, float local_share, bool *full_heads);

#endif
