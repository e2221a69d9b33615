/* Weight blocks to rs_row form, and half floats to floats, AVX2; kernels/ref/unpack.c describes the layouts.
 */
#include <string.h>

#include "kernels/ref/ref.h"
#include "kernels/x86/avx2.h"
#include "kernels/x86/avx2_math.h"

static inline __m128i load16(const uint8_t *bytes) {
    return _mm_loadu_si128((const __m128i *)(const void *)bytes);
}

static inline __m256i load32(const uint8_t *bytes) {
    return _mm256_loadu_si256((const __m256i *)(const void *)bytes);
}

static inline void store32(int8_t *q, __m256i bytes) {
    _mm256_storeu_si256((__m256i *)(void *)q, bytes);
}

static inline uint32_t load_u32(const uint8_t *bytes) {
    uint32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* Two halves (d, m) as floats in lanes 0 and 1. */
static inline __m128 load_halves(const uint8_t *bytes) {
    return _mm_cvtph_ps(_mm_cvtsi32_si128((int)load_u32(bytes)));
}

static inline float load_half(const uint8_t *bytes) {
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return _cvtsh_ss(half);
}

static inline void set_pair(float *pair, float value) {
    pair[0] = value;
    pair[1] = value;
}

/* One scale and one minimum for the two groups of a 32-element block. */
static inline void set_scale_min(const uint8_t *halves, float *scale, float *min) {
    const __m128 both = load_halves(halves);
    const __m128 pairs = _mm_unpacklo_ps(both, both);
    _mm_storel_pi((__m64 *)(void *)scale, pairs);
    _mm_storeh_pi((__m64 *)(void *)min, pairs);
}

static inline __m256i split_nibbles(const uint8_t *nibbles) {
    const __m128i bytes = load16(nibbles);
    const __m256i both = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* Byte i is 16 where bit i of the 4 bytes at `high` is set, else 0. */
static inline __m256i spread_bits(const uint8_t *high) {
    const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2,
                                            2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u);
    const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)load_u32(high)), spread);
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    return _mm256_and_si256(set, _mm256_set1_epi8(16));
}

void rs_avx2_unpack_q4_0(const void *blocks, rs_row *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 0;
    for (size_t b = 0; b < n / 32; b++, block += 18) {
        set_pair(row->scale + 2 * b, load_half(block));
        store32(row->q + 32 * b, _mm256_sub_epi8(split_nibbles(block + 2), _mm256_set1_epi8(8)));
    }
}

void rs_avx2_unpack_q4_1(const void *blocks, rs_row *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 1;
    for (size_t b = 0; b < n / 32; b++, block += 20) {
        set_scale_min(block, row->scale + 2 * b, row->min + 2 * b);
        store32(row->q + 32 * b, split_nibbles(block + 4));
    }
}

void rs_avx2_unpack_q5_0(const void *blocks, rs_row *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 0;
    for (size_t b = 0; b < n / 32; b++, block += 22) {
        set_pair(row->scale + 2 * b, load_half(block));
        const __m256i q = _mm256_or_si256(split_nibbles(block + 6), spread_bits(block + 2));
        store32(row->q + 32 * b, _mm256_sub_epi8(q, _mm256_set1_epi8(16)));
    }
}

void rs_avx2_unpack_q5_1(const void *blocks, rs_row *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 1;
    for (size_t b = 0; b < n / 32; b++, block += 24) {
        set_scale_min(block, row->scale + 2 * b, row->min + 2 * b);
        store32(row->q + 32 * b, _mm256_or_si256(split_nibbles(block + 8), spread_bits(block + 4)));
    }
}

void rs_avx2_unpack_q8_0(const void *blocks, rs_row *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 0;
    for (size_t b = 0; b < n / 32; b++, block += 34) {
        set_pair(row->scale + 2 * b, load_half(block));
        store32(row->q + 32 * b, load32(block + 2));
    }
}

/* Eight bytes times `factor`, each product twice: the 16 groups of a block of 256. */
static inline void store_groups(uint64_t bytes, float factor, float *groups) {
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes));
    const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(wide), _mm256_set1_ps(factor));
    _mm256_storeu_ps(groups, _mm256_permutevar8x32_ps(product, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)));
    _mm256_storeu_ps(groups + 8,
                     _mm256_permutevar8x32_ps(product, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7)));
}

/* Four bytes at a time: a, b and c are the packed bytes 0 to 3, 4 to 7 and 8 to 11. */
static inline void unpack_k_scales(const uint8_t *block, float *scale, float *min) {
    const uint32_t a = load_u32(block + 4), b = load_u32(block + 8), c = load_u32(block + 12);
    const uint32_t low6 = 0x3f3f3f3fu, low4 = 0x0f0f0f0fu, low2 = 0x03030303u;
    const uint64_t scales_high = (c & low4) | (a >> 6 & low2) << 4;
    const uint64_t mins_high = (c >> 4 & low4) | (b >> 6 & low2) << 4;
    const __m128 factors = load_halves(block);
    store_groups((a & low6) | scales_high << 32, _mm_cvtss_f32(factors), scale);
    store_groups((b & low6) | mins_high << 32, -_mm_cvtss_f32(_mm_movehdup_ps(factors)), min);
}

void rs_avx2_unpack_q4_k(const void *blocks, rs_row *row, size_t n) {
    const uint8_t *block = blocks;
    const __m256i low4 = _mm256_set1_epi8(15);
    row->has_min = 1;
    for (size_t b = 0; b < n / 256; b++, block += 144) {
        unpack_k_scales(block, row->scale + 16 * b, row->min + 16 * b);
        for (size_t part = 0; part < 4; part++) {
            const __m256i nibbles = load32(block + 16 + 32 * part);
            int8_t *q = row->q + 256 * b + 64 * part;
            store32(q, _mm256_and_si256(nibbles, low4));
            store32(q + 32, _mm256_and_si256(_mm256_srli_epi16(nibbles, 4), low4));
        }
    }
}

void rs_avx2_unpack_q5_k(const void *blocks, rs_row *row, size_t n) {
    const uint8_t *block = blocks;
    const __m256i low4 = _mm256_set1_epi8(15), bit4 = _mm256_set1_epi8(16);
    row->has_min = 1;
    for (size_t b = 0; b < n / 256; b++, block += 176) {
        unpack_k_scales(block, row->scale + 16 * b, row->min + 16 * b);
        __m256i high = load32(block + 16); /* its bits 0 and 1 are this part's */
        for (size_t part = 0; part < 4; part++) {
            const __m256i nibbles = load32(block + 48 + 32 * part);
            const __m256i first = _mm256_and_si256(_mm256_slli_epi16(high, 4), bit4);
            const __m256i second = _mm256_and_si256(_mm256_slli_epi16(high, 3), bit4);
            int8_t *q = row->q + 256 * b + 64 * part;
            store32(q, _mm256_or_si256(_mm256_and_si256(nibbles, low4), first));
            store32(q + 32, _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(nibbles, 4), low4), second));
            high = _mm256_srli_epi16(high, 2);
        }
    }
}

void rs_avx2_unpack_q6_k(const void *blocks, rs_row *row, size_t n) {
    const uint8_t *block = blocks;
    const __m256i low4 = _mm256_set1_epi8(15), bits45 = _mm256_set1_epi8(0x30), offset = _mm256_set1_epi8(32);
    row->has_min = 0;
    for (size_t b = 0; b < n / 256; b++, block += 210) {
        const __m128i scales = load16(block + 192);
        const __m256 d = _mm256_set1_ps(load_half(block + 208));
        const __m256i scales_low = _mm256_cvtepi8_epi32(scales);
        const __m256i scales_high = _mm256_cvtepi8_epi32(_mm_srli_si128(scales, 8));
        _mm256_storeu_ps(row->scale + 16 * b, _mm256_mul_ps(_mm256_cvtepi32_ps(scales_low), d));
        _mm256_storeu_ps(row->scale + 16 * b + 8, _mm256_mul_ps(_mm256_cvtepi32_ps(scales_high), d));
        for (size_t half = 0; half < 2; half++) {
            const __m256i low_a = load32(block + 64 * half), low_b = load32(block + 64 * half + 32);
            const __m256i pairs = load32(block + 128 + 32 * half);
            const __m256i nibble[4] = {
                _mm256_and_si256(low_a, low4),
                _mm256_and_si256(low_b, low4),
                _mm256_and_si256(_mm256_srli_epi16(low_a, 4), low4),
                _mm256_and_si256(_mm256_srli_epi16(low_b, 4), low4),
            };
            const __m256i pair[4] = {
                _mm256_and_si256(_mm256_slli_epi16(pairs, 4), bits45),
                _mm256_and_si256(_mm256_slli_epi16(pairs, 2), bits45),
                _mm256_and_si256(pairs, bits45),
                _mm256_and_si256(_mm256_srli_epi16(pairs, 2), bits45),
            };
            int8_t *q = row->q + 256 * b + 128 * half;
            for (size_t k = 0; k < 4; k++) {
                store32(q + 32 * k, _mm256_sub_epi8(_mm256_or_si256(nibble[k], pair[k]), offset));
            }
        }
    }
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
