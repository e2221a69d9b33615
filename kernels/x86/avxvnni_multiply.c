/* Panels of weights against activation rows, AVX-VNNI. */
#include "kernels/x86/avxvnni.h"
#include "kernels/x86/avxvnni_dot.h"

void rs_avxvnni_multiply_u4(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                            size_t out_stride, size_t channels) {
    rs_multiply256(RS_PANEL_U4, rs_avxvnni_dot_u4(), panel, acts, rows, n, out, out_stride, channels);
}

void rs_avxvnni_multiply_u6(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                            size_t out_stride, size_t channels) {
    rs_multiply256(RS_PANEL_U6, rs_avxvnni_dot_u6(), panel, acts, rows, n, out, out_stride, channels);
}

void rs_avxvnni_multiply_s8(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                            size_t out_stride, size_t channels) {
    rs_multiply256(RS_PANEL_S8, rs_avxvnni_dot_s8(), panel, acts, rows, n, out, out_stride, channels);
}
