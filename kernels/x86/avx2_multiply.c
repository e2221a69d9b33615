/* Panels of weights against activation rows, AVX2. */
#include "kernels/x86/avx2.h"
#include "kernels/x86/avx2_dot.h"

void rs_avx2_multiply_u4(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels) {
    rs_multiply256(RS_PANEL_U4, rs_avx2_dot_u5(), panel, acts, rows, n, out, out_stride, channels);
}

void rs_avx2_multiply_u6(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels) {
    rs_multiply256(RS_PANEL_U6, rs_avx2_dot_u6(), panel, acts, rows, n, out, out_stride, channels);
}

void rs_avx2_multiply_s8(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels) {
    rs_multiply256(RS_PANEL_S8, rs_avx2_dot_s8(), panel, acts, rows, n, out, out_stride, channels);
}
