/* Activation rows as the multiply kernels walk over them. */
#ifndef RASURE_KERNELS_OPERAND_H
#define RASURE_KERNELS_OPERAND_H

#include "kernels/kernels.h"

/* One activation row, or where the first of several begins: `sum` of the groups that a kind of panel has. */
typedef struct rs_operand {
    const int8_t *q;
    const float *scale, *sum;
} rs_operand;

static inline rs_operand rs_operand_of(rs_panel_kind kind, const rs_acts *acts) {
    return (rs_operand){acts->q, acts->scale, kind == RS_PANEL_U6 ? acts->half_sum : acts->sum};
}

/* The operand `rows` rows of n further on. */
static inline rs_operand rs_operand_skip(rs_panel_kind kind, rs_operand x, size_t rows, size_t n) {
    return (rs_operand){x.q + rows * n, x.scale + rows * (n / RS_ACT_BLOCK),
                        x.sum + rows * (n / rs_panel_group(kind))};
}

#endif
