/* The NEON kernels, each under the name of its entry in rs_kernels. MUST NOT be called on a CPU without NEON,
 * nor, where it is 32-bit, without fused multiply-add (VFPv4). */
#ifndef RASURE_KERNELS_ARM_NEON_H
#define RASURE_KERNELS_ARM_NEON_H

#include "kernels/kernels.h"

void rs_neon_dequantize_f16(const void *blocks, float *out, size_t n);
void rs_neon_dequantize_bf16(const void *blocks, float *out, size_t n);

void rs_neon_unpack_q4_0(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel);
void rs_neon_unpack_q4_1(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel);
void rs_neon_unpack_q5_0(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel);
void rs_neon_unpack_q5_1(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel);
void rs_neon_unpack_q8_0(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel);
void rs_neon_unpack_q4_k(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel);
void rs_neon_unpack_q5_k(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel);
void rs_neon_unpack_q6_k(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel);

void rs_neon_quantize_acts(const float *x, rs_acts *acts, size_t rows, size_t n);
/* RS_PANEL_U4 and U5 */
void rs_neon_multiply_u4(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels);
void rs_neon_multiply_u6(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels);
void rs_neon_multiply_s8(const rs_panel *panel, const rs_acts *acts, size_t rows, size_t n, float *out,
                         size_t out_stride, size_t channels);
void rs_neon_dot_f32(const float *w, const float *x, size_t rows, size_t n, float *out, size_t out_stride);

void rs_neon_rms_norm(const float *x, const float *w, float eps, size_t n, float *out);
void rs_neon_rope(float *x, const float *cosine, const float *sine, size_t dim, int interleaved);
void rs_neon_rotate_keys(const rs_page_view *page, uint32_t which, const float *cosine, const float *sine,
                         size_t head_dim, size_t dim, int interleaved, int room);
void rs_neon_turn_keys(const rs_page_view *page, uint32_t which, const rs_turn *back, const rs_turn *turn,
                       size_t head_dim, size_t dim, int interleaved);
void rs_neon_swiglu(float *gate, const float *up, size_t n);
void rs_neon_geglu(float *gate, const float *up, size_t n);
void rs_neon_add(float *x, const float *y, size_t n);
size_t rs_neon_largest(const float *x, size_t n);

float rs_neon_quantize_head(const float *x, int8_t *q, size_t n);
void rs_neon_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                         size_t n_pages, size_t head_dim, float *score, size_t score_stride);
float rs_neon_softmax_step(float *score, size_t n, float *max, float *sum);
void rs_neon_attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                           const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc);

#endif
