/* Weight blocks, AVX2. */
#include "kernels/ref/ref.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/avx2_dot.h"
#include "kernels/x86/blocks256.h"

void rs_avx2_unpack_q4_0(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows == RS_PANEL_ROWS) {
        rs_unpack256(rs_take256_q4_0, blocks, row_bytes, n, panel);
    } else {
        rs_ref_unpack_q4_0(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx2_multiply_q4_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts, float *out) {
    rs_multiply_blocks256(rs_take256_q4_0, RS_PANEL_U4, rs_avx2_dot_u5(), blocks, row_bytes, n, acts, out);
}

void rs_avx2_unpack_q4_1(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows == RS_PANEL_ROWS) {
        rs_unpack256(rs_take256_q4_1, blocks, row_bytes, n, panel);
    } else {
        rs_ref_unpack_q4_1(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx2_multiply_q4_1(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts, float *out) {
    rs_multiply_blocks256(rs_take256_q4_1, RS_PANEL_U4, rs_avx2_dot_u5(), blocks, row_bytes, n, acts, out);
}

void rs_avx2_unpack_q5_0(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows == RS_PANEL_ROWS) {
        rs_unpack256(rs_take256_q5_0, blocks, row_bytes, n, panel);
    } else {
        rs_ref_unpack_q5_0(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx2_multiply_q5_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts, float *out) {
    rs_multiply_blocks256(rs_take256_q5_0, RS_PANEL_U5, rs_avx2_dot_u5(), blocks, row_bytes, n, acts, out);
}

void rs_avx2_unpack_q5_1(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows == RS_PANEL_ROWS) {
        rs_unpack256(rs_take256_q5_1, blocks, row_bytes, n, panel);
    } else {
        rs_ref_unpack_q5_1(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx2_multiply_q5_1(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts, float *out) {
    rs_multiply_blocks256(rs_take256_q5_1, RS_PANEL_U5, rs_avx2_dot_u5(), blocks, row_bytes, n, acts, out);
}

void rs_avx2_unpack_q8_0(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows == RS_PANEL_ROWS) {
        rs_unpack256(rs_take256_q8_0, blocks, row_bytes, n, panel);
    } else {
        rs_ref_unpack_q8_0(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx2_multiply_q8_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts, float *out) {
    rs_multiply_blocks256(rs_take256_q8_0, RS_PANEL_S8, rs_avx2_dot_s8(), blocks, row_bytes, n, acts, out);
}

void rs_avx2_unpack_q4_k(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows == RS_PANEL_ROWS) {
        rs_unpack256(rs_take256_q4_k, blocks, row_bytes, n, panel);
    } else {
        rs_ref_unpack_q4_k(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx2_multiply_q4_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts, float *out) {
    rs_multiply_blocks256(rs_take256_q4_k, RS_PANEL_U4, rs_avx2_dot_u5(), blocks, row_bytes, n, acts, out);
}

void rs_avx2_unpack_q5_k(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows == RS_PANEL_ROWS) {
        rs_unpack256(rs_take256_q5_k, blocks, row_bytes, n, panel);
    } else {
        rs_ref_unpack_q5_k(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx2_multiply_q5_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts, float *out) {
    rs_multiply_blocks256(rs_take256_q5_k, RS_PANEL_U5, rs_avx2_dot_u5(), blocks, row_bytes, n, acts, out);
}

void rs_avx2_unpack_q6_k(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    if (rows == RS_PANEL_ROWS) {
        rs_unpack256(rs_take256_q6_k, blocks, row_bytes, n, panel);
    } else {
        rs_ref_unpack_q6_k(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx2_multiply_q6_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts, float *out) {
    rs_multiply_blocks256(rs_take256_q6_k, RS_PANEL_U6, rs_avx2_dot_u6(), blocks, row_bytes, n, acts, out);
}
