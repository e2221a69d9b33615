/* Half floats to floats, AVX2. */
#include "kernels/ref/ref.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/avx2_math.h"

static inline __m128i load16(const uint8_t *bytes) {
    return _mm_loadu_si128((const __m128i *)(const void *)bytes);
}

void rs_avx2_dequantize_f16(const void *blocks, float *out, size_t n) {
    const uint8_t *bytes = blocks;
    const size_t even = n / 8 * 8;
    for (size_t i = 0; i < even; i += 8) _mm256_storeu_ps(out + i, _mm256_cvtph_ps(load16(bytes + 2 * i)));
    rs_ref_dequantize_f16(bytes + 2 * even, out + even, n - even);
}

void rs_avx2_dequantize_bf16(const void *blocks, float *out, size_t n) {
    const uint8_t *bytes = blocks;
    const size_t even = n / 8 * 8;
    for (size_t i = 0; i < even; i += 8) {
        const __m256i wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(bytes + 2 * i)), 16);
        _mm256_storeu_ps(out + i, _mm256_castsi256_ps(wide));
    }
    rs_ref_dequantize_bf16(bytes + 2 * even, out + even, n - even);
}
