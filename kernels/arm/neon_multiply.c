/* Panels of weights against activation rows, NEON: multiplications of bytes. */
#include "kernels/arm/neon.h"
#include "kernels/arm/multiply.h"

void rs_neon_multiply_u4(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels) {
    rs_arm_multiply(RS_PANEL_U4, panel, acts, rows, n, out, out_stride, channels);
}

void rs_neon_multiply_u6(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels) {
    rs_arm_multiply(RS_PANEL_U6, panel, acts, rows, n, out, out_stride, channels);
}

void rs_neon_multiply_s8(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels) {
    rs_arm_multiply(RS_PANEL_S8, panel, acts, rows, n, out, out_stride, channels);
}
