/* One activation row against weight blocks, AVX-VNNI. */
#include "kernels/x86/avxvnni.h"
#include "kernels/x86/avxvnni_dot.h"
#include "kernels/x86/blocks256.h"

void rs_avxvnni_multiply_q4_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_multiply_blocks256(rs_take256_q4_0, RS_PANEL_U4, rs_avxvnni_dot_u4(), blocks, row_bytes, n, acts, out);
}

void rs_avxvnni_multiply_q4_1(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_multiply_blocks256(rs_take256_q4_1, RS_PANEL_U4, rs_avxvnni_dot_u4(), blocks, row_bytes, n, acts, out);
}

void rs_avxvnni_multiply_q5_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_multiply_blocks256(rs_take256_q5_0, RS_PANEL_U5, rs_avxvnni_dot_u4(), blocks, row_bytes, n, acts, out);
}

void rs_avxvnni_multiply_q5_1(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_multiply_blocks256(rs_take256_q5_1, RS_PANEL_U5, rs_avxvnni_dot_u4(), blocks, row_bytes, n, acts, out);
}

void rs_avxvnni_multiply_q8_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_multiply_blocks256(rs_take256_q8_0, RS_PANEL_S8, rs_avxvnni_dot_s8(), blocks, row_bytes, n, acts, out);
}

void rs_avxvnni_multiply_q4_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_multiply_blocks256(rs_take256_q4_k, RS_PANEL_U4, rs_avxvnni_dot_u4(), blocks, row_bytes, n, acts, out);
}

void rs_avxvnni_multiply_q5_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_multiply_blocks256(rs_take256_q5_k, RS_PANEL_U5, rs_avxvnni_dot_u4(), blocks, row_bytes, n, acts, out);
}

void rs_avxvnni_multiply_q6_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                              float *out) {
    rs_multiply_blocks256(rs_take256_q6_k, RS_PANEL_U6, rs_avxvnni_dot_u6(), blocks, row_bytes, n, acts, out);
}
