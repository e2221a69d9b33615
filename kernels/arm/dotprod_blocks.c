/* One activation row against weight blocks, sdot. */
#include "kernels/arm/blocks.h"
#include "kernels/arm/dotprod.h"

void rs_dotprod_multiply_q4_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_arm_multiply_blocks(rs_arm_take_q4_0, RS_PANEL_U4, blocks, row_bytes, n, acts, out);
}

void rs_dotprod_multiply_q4_1(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_arm_multiply_blocks(rs_arm_take_q4_1, RS_PANEL_U4, blocks, row_bytes, n, acts, out);
}

void rs_dotprod_multiply_q5_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_arm_multiply_blocks(rs_arm_take_q5_0, RS_PANEL_U5, blocks, row_bytes, n, acts, out);
}

void rs_dotprod_multiply_q5_1(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_arm_multiply_blocks(rs_arm_take_q5_1, RS_PANEL_U5, blocks, row_bytes, n, acts, out);
}

void rs_dotprod_multiply_q8_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_arm_multiply_blocks(rs_arm_take_q8_0, RS_PANEL_S8, blocks, row_bytes, n, acts, out);
}

void rs_dotprod_multiply_q4_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_arm_multiply_blocks(rs_arm_take_q4_k, RS_PANEL_U4, blocks, row_bytes, n, acts, out);
}

void rs_dotprod_multiply_q5_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_arm_multiply_blocks(rs_arm_take_q5_k, RS_PANEL_U5, blocks, row_bytes, n, acts, out);
}

void rs_dotprod_multiply_q6_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_arm_multiply_blocks(rs_arm_take_q6_k, RS_PANEL_U6, blocks, row_bytes, n, acts, out);
}
