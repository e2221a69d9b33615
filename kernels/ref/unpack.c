/*
 * Weight blocks, in ggml's layouts, to panels and to floats. Blocks are read byte by byte or through memcpy:
 * they may lie at any address. A block's numbers f16 are little endian, as GGUF files are.
 */
#include <string.h>

#include "kernels/inline.h"
#include "kernels/ref/math.h"
#include "kernels/ref/ref.h"

/* The largest block of any type, and its scales. */
enum { MAX_BLOCK = 256, GROUP = 16, MAX_GROUPS = MAX_BLOCK / GROUP };

/* A piece of a row:  w[i] = scale[i / 16] * q[i] + min[i / 16], the minima all zero unless has_min. */
typedef struct piece {
    int8_t q[MAX_BLOCK];
    float scale[MAX_GROUPS], min[MAX_GROUPS];
    int has_min;
} piece;

/* Takes n elements, at most MAX_BLOCK, out of their blocks. */
typedef void unpack_fn(const void *blocks, piece *row, size_t n);

float rs_f16_to_f32(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t exponent = half >> 10 & 0x1fu;
    const uint32_t mantissa = half & 0x3ffu;
    if (exponent == 0) return rs_bits_float(sign | rs_float_bits((float)mantissa * 0x1p-24f));
    if (exponent == 31) return rs_bits_float(sign | 0x7f800000u | mantissa << 13);
    return rs_bits_float(sign | (exponent + 112u) << 23 | mantissa << 13);
}

uint16_t rs_f32_to_f16(float value) {
    const uint32_t bits = rs_float_bits(value), sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x47800000u) return (uint16_t)(sign | 0x7c00u); /* 2^16 */
    if (magnitude < 0x38800000u) {
        /* Below 2^-14 the step is 2^-24, as that of floats from a half on. */
        return (uint16_t)(sign | (rs_float_bits(rs_bits_float(magnitude) + 0.5f) - rs_float_bits(0.5f)));
    }
    magnitude += 0xfffu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | (magnitude - 0x38000000u) >> 13);
}

static float f16_at(const uint8_t *bytes) {
    return rs_f16_to_f32((uint16_t)(bytes[0] | bytes[1] << 8));
}

/* One scale for the two groups of a 32-element block. */
static void set_pair(float *pair, float value) {
    pair[0] = value;
    pair[1] = value;
}

/* 16 bytes of nibbles: the low ones are elements 0 to 15, the high ones 16 to 31. */
static void split_nibbles(const uint8_t *restrict nibbles, int8_t *restrict q, int offset) {
    RS_KEEP_LOOP
    for (size_t i = 0; i < 16; i++) {
        q[i] = (int8_t)((nibbles[i] & 15) + offset);
        q[i + 16] = (int8_t)((nibbles[i] >> 4) + offset);
    }
}

/* The same with a fifth bit each, element i's being bit i of the 4 bytes at `high`. */
static void split_nibbles5(const uint8_t *restrict nibbles, const uint8_t *restrict high, int8_t *restrict q,
                           int offset) {
    static const uint8_t bit[32] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                                    1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8_t spread[32];
    split_nibbles(nibbles, q, offset);
    for (size_t j = 0; j < 4; j++) memset(spread + 8 * j, high[j], 8);
    for (size_t i = 0; i < 32; i++) q[i] = (int8_t)(q[i] + ((spread[i] & bit[i]) != 0 ? 16 : 0));
}

/* {f16 d, 16 bytes of nibbles}: d * (nibble - 8) */
static void unpack_q4_0(const void *blocks, piece *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 0;
    for (size_t b = 0; b < n / 32; b++, block += 18) {
        set_pair(row->scale + 2 * b, f16_at(block));
        split_nibbles(block + 2, row->q + 32 * b, -8);
    }
}

/* {f16 d, f16 m, 16 bytes of nibbles}: d * nibble + m */
static void unpack_q4_1(const void *blocks, piece *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 1;
    for (size_t b = 0; b < n / 32; b++, block += 20) {
        set_pair(row->scale + 2 * b, f16_at(block));
        set_pair(row->min + 2 * b, f16_at(block + 2));
        split_nibbles(block + 4, row->q + 32 * b, 0);
    }
}

/* {f16 d, 32 high bits, 16 bytes of nibbles}: d * (five bits - 16) */
static void unpack_q5_0(const void *blocks, piece *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 0;
    for (size_t b = 0; b < n / 32; b++, block += 22) {
        set_pair(row->scale + 2 * b, f16_at(block));
        split_nibbles5(block + 6, block + 2, row->q + 32 * b, -16);
    }
}

/* {f16 d, f16 m, 32 high bits, 16 bytes of nibbles}: d * five bits + m */
static void unpack_q5_1(const void *blocks, piece *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 1;
    for (size_t b = 0; b < n / 32; b++, block += 24) {
        set_pair(row->scale + 2 * b, f16_at(block));
        set_pair(row->min + 2 * b, f16_at(block + 2));
        split_nibbles5(block + 8, block + 4, row->q + 32 * b, 0);
    }
}

/* {f16 d, 32 int8}: d * q */
static void unpack_q8_0(const void *blocks, piece *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 0;
    for (size_t b = 0; b < n / 32; b++, block += 34) {
        set_pair(row->scale + 2 * b, f16_at(block));
        memcpy(row->q + 32 * b, block + 2, 32);
    }
}

/*
 * Head of Q4_K and Q5_K: {f16 d, f16 dmin, 12 bytes}, the bytes being eight 6-bit scales and eight 6-bit
 * minima, one of each per 32 elements. Scales 0 to 3 are the low 6 bits of bytes 0 to 3, minima 0 to 3 those
 * of bytes 4 to 7; of 4 to 7, the low 4 bits are the nibbles of bytes 8 to 11 (scale low, minimum high), the
 * high 2 bits are the top bits of the first eight bytes. A weight is d * scale * q - dmin * minimum.
 */
static void unpack_k_scales(const uint8_t *block, float *scale, float *min) {
    const float d = f16_at(block), dmin = f16_at(block + 2);
    const uint8_t *p = block + 4;
    for (size_t i = 0; i < 4; i++) {
        set_pair(scale + 2 * i, d * (float)(p[i] & 63));
        set_pair(min + 2 * i, -(dmin * (float)(p[i + 4] & 63)));
        set_pair(scale + 2 * i + 8, d * (float)((p[i + 8] & 15) | p[i] >> 6 << 4));
        set_pair(min + 2 * i + 8, -(dmin * (float)(p[i + 8] >> 4 | p[i + 4] >> 6 << 4)));
    }
}

/* {head, 128 bytes of nibbles}: each 32 bytes hold 64 elements, low nibbles first */
static void unpack_q4_k(const void *blocks, piece *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 1;
    for (size_t b = 0; b < n / 256; b++, block += 144) {
        unpack_k_scales(block, row->scale + 16 * b, row->min + 16 * b);
        for (size_t part = 0; part < 4; part++) {
            const uint8_t *nibbles = block + 16 + 32 * part;
            int8_t *q = row->q + 256 * b + 64 * part;
            for (size_t i = 0; i < 32; i++) {
                q[i] = (int8_t)(nibbles[i] & 15);
                q[i + 32] = (int8_t)(nibbles[i] >> 4);
            }
        }
    }
}

/* {head, 32 bytes of high bits, 128 bytes of nibbles}: as Q4_K; bit k of high byte i belongs to element 32 k
 * + i */
static void unpack_q5_k(const void *blocks, piece *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 1;
    for (size_t b = 0; b < n / 256; b++, block += 176) {
        unpack_k_scales(block, row->scale + 16 * b, row->min + 16 * b);
        const uint8_t *high = block + 16;
        for (size_t part = 0; part < 4; part++) {
            const uint8_t *nibbles = block + 48 + 32 * part;
            int8_t *q = row->q + 256 * b + 64 * part;
            for (size_t i = 0; i < 32; i++) {
                q[i] = (int8_t)((nibbles[i] & 15) | (high[i] >> 2 * part & 1) << 4);
                q[i + 32] = (int8_t)(nibbles[i] >> 4 | (high[i] >> (2 * part + 1) & 1) << 4);
            }
        }
    }
}

/*
 * {128 bytes of low nibbles, 64 bytes of high bit pairs, 16 int8 scales, f16 d}: d * scale * (six bits - 32).
 * Each half of 128 elements has 64 nibble bytes (low nibbles are its elements 0 to 63) and 32 bytes of pairs
 * (pair k of byte i belongs to element 32 k + i).
 */
static void unpack_q6_k(const void *blocks, piece *row, size_t n) {
    const uint8_t *block = blocks;
    row->has_min = 0;
    for (size_t b = 0; b < n / 256; b++, block += 210) {
        int8_t scales[16];
        memcpy(scales, block + 192, sizeof scales);
        const float d = f16_at(block + 208);
        for (size_t g = 0; g < 16; g++) row->scale[16 * b + g] = d * (float)scales[g];
        for (size_t half = 0; half < 2; half++) {
            const uint8_t *low = block + 64 * half, *pairs = block + 128 + 32 * half;
            int8_t *q = row->q + 256 * b + 128 * half;
            for (size_t i = 0; i < 32; i++) {
                q[i] = (int8_t)(((low[i] & 15) | (pairs[i] & 3) << 4) - 32);
                q[i + 32] = (int8_t)(((low[i + 32] & 15) | (pairs[i] >> 2 & 3) << 4) - 32);
                q[i + 64] = (int8_t)((low[i] >> 4 | (pairs[i] >> 4 & 3) << 4) - 32);
                q[i + 96] = (int8_t)((low[i + 32] >> 4 | pairs[i] >> 6 << 4) - 32);
            }
        }
    }
}

void rs_ref_dequantize_f32(const void *blocks, float *out, size_t n) {
    memcpy(out, blocks, n * sizeof *out);
}

void rs_ref_dequantize_f16(const void *blocks, float *out, size_t n) {
    const uint8_t *bytes = blocks;
    for (size_t i = 0; i < n; i++) out[i] = f16_at(bytes + 2 * i);
}

void rs_ref_dequantize_bf16(const void *blocks, float *out, size_t n) {
    const uint8_t *bytes = blocks;
    for (size_t i = 0; i < n; i++) {
        out[i] = rs_bits_float((uint32_t)bytes[2 * i] << 16 | (uint32_t)bytes[2 * i + 1] << 24);
    }
}

/* The quantised types, a piece at a time, multiplied out. */
static void dequantize(rs_type type, unpack_fn *unpack, const void *blocks, float *out, size_t n) {
    const uint8_t *block = blocks;
    piece row;
    for (size_t done = 0; done < n; done += MAX_BLOCK) {
        const size_t count = n - done < MAX_BLOCK ? n - done : MAX_BLOCK;
        unpack(block, &row, count);
        for (size_t i = 0; i < count; i++) {
            const float value = row.scale[i / GROUP] * (float)row.q[i];
            out[done + i] = row.has_min ? value + row.min[i / GROUP] : value;
        }
        block += rs_row_bytes(type, count);
    }
}

/* Elements [first, first + count) of a panel's row `lane`. */
static void put_piece(const piece *row, rs_panel_kind kind, size_t lane, size_t first, size_t count,
                      const rs_panel *panel) {
    /* What makes the integers of types that are symmetric about 0 non-negative. */
    static const int offsets[RS_PANEL_KINDS] = {[RS_PANEL_U4] = 8, [RS_PANEL_U5] = 16, [RS_PANEL_U6] = 32};
    const int offset = row->has_min ? 0 : offsets[kind];
    const size_t group = rs_panel_group(kind);
    for (size_t i = 0; i < count; i++) {
        const size_t at = first + i;
        panel->q[(at / 4 * RS_PANEL_ROWS + lane) * 4 + at % 4] = (int8_t)(row->q[i] + offset);
    }
    for (size_t i = 0; i < count; i += group) {
        const size_t at = (first + i) / group * RS_PANEL_ROWS + lane;
        const float scale = row->scale[i / GROUP];
        panel->scale[at] = scale;
        if (kind != RS_PANEL_S8) panel->min[at] = row->has_min ? row->min[i / GROUP] : (float)-offset * scale;
    }
}

static void unpack_rows(rs_type type, unpack_fn *unpack, const void *blocks, size_t row_bytes, size_t rows,
                        size_t n, const rs_panel *panel) {
    const rs_panel_kind kind = rs_panel_kind_of(type);
    for (size_t lane = 0; lane < RS_PANEL_ROWS; lane++) {
        const uint8_t *block = (const uint8_t *)blocks + (lane < rows ? lane : rows - 1) * row_bytes;
        for (size_t done = 0; done < n; done += MAX_BLOCK) {
            const size_t count = n - done < MAX_BLOCK ? n - done : MAX_BLOCK;
            piece row;
            unpack(block, &row, count);
            put_piece(&row, kind, lane, done, count, panel);
            block += rs_row_bytes(type, count);
        }
    }
}

void rs_ref_dequantize_q4_0(const void *blocks, float *out, size_t n) {
    dequantize(RS_TYPE_Q4_0, unpack_q4_0, blocks, out, n);
}

void rs_ref_unpack_q4_0(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    unpack_rows(RS_TYPE_Q4_0, unpack_q4_0, blocks, row_bytes, rows, n, panel);
}

void rs_ref_dequantize_q4_1(const void *blocks, float *out, size_t n) {
    dequantize(RS_TYPE_Q4_1, unpack_q4_1, blocks, out, n);
}

void rs_ref_unpack_q4_1(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    unpack_rows(RS_TYPE_Q4_1, unpack_q4_1, blocks, row_bytes, rows, n, panel);
}

void rs_ref_dequantize_q5_0(const void *blocks, float *out, size_t n) {
    dequantize(RS_TYPE_Q5_0, unpack_q5_0, blocks, out, n);
}

void rs_ref_unpack_q5_0(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    unpack_rows(RS_TYPE_Q5_0, unpack_q5_0, blocks, row_bytes, rows, n, panel);
}

void rs_ref_dequantize_q5_1(const void *blocks, float *out, size_t n) {
    dequantize(RS_TYPE_Q5_1, unpack_q5_1, blocks, out, n);
}

void rs_ref_unpack_q5_1(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    unpack_rows(RS_TYPE_Q5_1, unpack_q5_1, blocks, row_bytes, rows, n, panel);
}

void rs_ref_dequantize_q8_0(const void *blocks, float *out, size_t n) {
    dequantize(RS_TYPE_Q8_0, unpack_q8_0, blocks, out, n);
}

void rs_ref_unpack_q8_0(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    unpack_rows(RS_TYPE_Q8_0, unpack_q8_0, blocks, row_bytes, rows, n, panel);
}

void rs_ref_dequantize_q4_k(const void *blocks, float *out, size_t n) {
    dequantize(RS_TYPE_Q4_K, unpack_q4_k, blocks, out, n);
}

void rs_ref_unpack_q4_k(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    unpack_rows(RS_TYPE_Q4_K, unpack_q4_k, blocks, row_bytes, rows, n, panel);
}

void rs_ref_dequantize_q5_k(const void *blocks, float *out, size_t n) {
    dequantize(RS_TYPE_Q5_K, unpack_q5_k, blocks, out, n);
}

void rs_ref_unpack_q5_k(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    unpack_rows(RS_TYPE_Q5_K, unpack_q5_k, blocks, row_bytes, rows, n, panel);
}

void rs_ref_dequantize_q6_k(const void *blocks, float *out, size_t n) {
    dequantize(RS_TYPE_Q6_K, unpack_q6_k, blocks, out, n);
}

void rs_ref_unpack_q6_k(const void *blocks, size_t row_bytes, size_t rows, size_t n, const rs_panel *panel) {
    unpack_rows(RS_TYPE_Q6_K, unpack_q6_k, blocks, row_bytes, rows, n, panel);
}
