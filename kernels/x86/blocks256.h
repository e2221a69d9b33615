/*
 * Weight blocks in registers of eight rows: what AVX2 and AVX-VNNI have in common; kernels/ref/unpack.c
 * describes the layouts. Sixteen bytes of each of eight rows are transposed into four registers that hold
 * four bytes of every row: lanes are rows from there on. Groups of weights then go into a panel, or, for a
 * single activation row, straight into its products.
 */
#ifndef RASURE_KERNELS_X86_BLOCKS256_H
#define RASURE_KERNELS_X86_BLOCKS256_H

#include "kernels/x86/multiply256.h"

enum { RS_LANES256 = 8, RS_QUADS256 = 8 };

/* Eight rows on their way out of their blocks. */
typedef struct rs_source256 {
    const uint8_t *at;
    size_t stride;
    const uint8_t *ahead; /* what is to be fetched next, as much for each block as the block has */
} rs_source256;

RS_INLINE void rs_advance256(rs_source256 *s, size_t bytes) {
    rs_fetch_ahead(&s->ahead, RS_LANES256 * bytes);
    s->at += bytes;
}

/* Where groups go: into half `half` of `panel`, or, when that is NULL, into the sums of one activation row.
 */
typedef struct rs_sink256 {
    const rs_panel *panel;
    size_t half;
    rs_dot256 with;
    rs_operand x;
    __m256 total, base;
} rs_sink256;

/* Group g of the eight rows. */
RS_INLINE void rs_put_group256(rs_panel_kind kind, rs_sink256 *out, size_t g, const __m256i *w, __m256 scale,
                               __m256 min) {
    const size_t group = rs_panel_group(kind), quads = group / 4;
    if (out->panel != NULL) {
        const size_t at = g * RS_PANEL_ROWS + RS_LANES256 * out->half;
        int8_t *q = out->panel->q + 4 * (g * quads * RS_PANEL_ROWS + RS_LANES256 * out->half);
        for (size_t j = 0; j < quads; j++) _mm256_store_si256((void *)(q + j * 4 * RS_PANEL_ROWS), w[j]);
        _mm256_store_ps(out->panel->scale + at, scale);
        if (kind != RS_PANEL_S8) _mm256_store_ps(out->panel->min + at, min);
        return;
    }
    __m256i dot = _mm256_setzero_si256();
    for (size_t first = 0; first < quads; first += out->with.run) {
        __m256i sums = _mm256_setzero_si256();
        for (size_t j = first; j < first + out->with.run; j++)
            sums = out->with.add_products(sums, w[j], rs_avx2_spread(out->x.q + g * group + 4 * j));
        dot = _mm256_add_epi32(dot, out->with.widen(sums));
    }
    const __m256 both = _mm256_mul_ps(scale, _mm256_set1_ps(out->x.scale[g * group / RS_ACT_BLOCK]));
    out->total = _mm256_fmadd_ps(both, _mm256_cvtepi32_ps(dot), out->total);
    if (kind != RS_PANEL_S8 || out->with.biased)
        out->base = _mm256_fmadd_ps(min, _mm256_set1_ps(out->x.sum[g]), out->base);
}

RS_INLINE __m256i rs_load_pair256(const uint8_t *low, const uint8_t *high) {
    const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)low);
    const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)high);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
}

/* column[j] lane r = bytes 4 j to 4 j + 3 of row r, from byte `at` of the block on. */
RS_INLINE void rs_load_columns256(rs_source256 in, size_t at, __m256i column[4]) {
    __m256i rows[4]; /* 128-bit lane l of rows[i] is row 4 l + i */
    for (size_t i = 0; i < 4; i++) {
        const uint8_t *row = in.at + at + i * in.stride;
        rows[i] = rs_load_pair256(row, row + 4 * in.stride);
    }
    const __m256i low01 = _mm256_unpacklo_epi32(rows[0], rows[1]);
    const __m256i high01 = _mm256_unpackhi_epi32(rows[0], rows[1]);
    const __m256i low23 = _mm256_unpacklo_epi32(rows[2], rows[3]);
    const __m256i high23 = _mm256_unpackhi_epi32(rows[2], rows[3]);
    column[0] = _mm256_unpacklo_epi64(low01, low23);
    column[1] = _mm256_unpackhi_epi64(low01, low23);
    column[2] = _mm256_unpacklo_epi64(high01, high23);
    column[3] = _mm256_unpackhi_epi64(high01, high23);
}

/* The lower halves of the lanes as floats. */
RS_INLINE __m256 rs_low_halves256(__m256i pairs) {
    const __m256i low = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff));
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}

RS_INLINE __m256 rs_high_halves256(__m256i pairs) {
    return rs_low_halves256(_mm256_srli_epi32(pairs, 16));
}

/* The two bytes at byte `at` of every row's block, as floats. */
RS_INLINE __m256 rs_gather_halves256(rs_source256 in, size_t at) {
    uint16_t half[RS_LANES256];
    __m128i halves;
    for (size_t r = 0; r < RS_LANES256; r++) memcpy(&half[r], in.at + at + r * in.stride, sizeof half[r]);
    memcpy(&halves, half, sizeof halves);
    return _mm256_cvtph_ps(halves);
}

RS_INLINE __m256 rs_symmetric_min256(__m256 scale, float offset) {
    return _mm256_mul_ps(scale, _mm256_set1_ps(-offset));
}

RS_INLINE __m256i rs_low_nibbles256(__m256i bytes) {
    return _mm256_and_si256(bytes, _mm256_set1_epi8(15));
}

RS_INLINE __m256i rs_high_nibbles256(__m256i bytes) {
    return rs_low_nibbles256(_mm256_srli_epi16(bytes, 4));
}

/* Columns of nibbles to the eight quads of a group: low nibbles first. */
RS_INLINE void rs_split_nibbles256(const __m256i column[4], __m256i w[RS_QUADS256]) {
    for (size_t j = 0; j < 4; j++) {
        w[j] = rs_low_nibbles256(column[j]);
        w[j + 4] = rs_high_nibbles256(column[j]);
    }
}

/* Adds bit 4 j + i of a lane as the fifth bit of its byte i of w[j]. */
RS_INLINE void rs_add_fifth_bits256(__m256i high, __m256i w[RS_QUADS256]) {
    const __m256i first =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
    const __m256i bits[2] = {_mm256_set1_epi32(0x08040201), _mm256_set1_epi32((int)0x80402010u)};
    for (size_t j = 0; j < 8; j++) {
        const __m256i byte = _mm256_add_epi8(first, _mm256_set1_epi8((char)(j / 2)));
        const __m256i set = _mm256_and_si256(_mm256_shuffle_epi8(high, byte), bits[j % 2]);
        const __m256i fifth = _mm256_and_si256(_mm256_cmpeq_epi8(set, bits[j % 2]), _mm256_set1_epi8(16));
        w[j] = _mm256_or_si256(w[j], fifth);
    }
}

/* {d, 16 bytes of nibbles} */
RS_INLINE void rs_take256_q4_0(rs_source256 in, size_t n, rs_sink256 *out) {
    for (size_t b = 0; b < n / 32; b++) {
        __m256i column[4], w[RS_QUADS256];
        rs_load_columns256(in, 2, column);
        rs_split_nibbles256(column, w);
        const __m256 scale = rs_gather_halves256(in, 0);
        rs_put_group256(RS_PANEL_U4, out, b, w, scale, rs_symmetric_min256(scale, 8.0f));
        rs_advance256(&in, 18);
    }
}

/* {d, m, 16 bytes of nibbles}: five columns. Four blocks are five times sixteen bytes. */
RS_INLINE void rs_put256_q4_1(__m256i head, const __m256i column[4], size_t b, rs_sink256 *out) {
    __m256i w[RS_QUADS256];
    rs_split_nibbles256(column, w);
    rs_put_group256(RS_PANEL_U4, out, b, w, rs_low_halves256(head), rs_high_halves256(head));
}

RS_INLINE void rs_take256_q4_1(rs_source256 in, size_t n, rs_sink256 *out) {
    const size_t blocks = n / 32;
    size_t b = 0;
    for (; b + 4 <= blocks; b += 4) {
        __m256i column[20];
        for (size_t i = 0; i < 5; i++) rs_load_columns256(in, 16 * i, column + 4 * i);
        for (size_t i = 0; i < 4; i++) rs_put256_q4_1(column[5 * i], column + 5 * i + 1, b + i, out);
        rs_advance256(&in, 80);
    }
    for (; b < blocks; b++) {
        __m256i head[4], column[4];
        rs_load_columns256(in, 0, head);
        rs_load_columns256(in, 4, column);
        rs_put256_q4_1(head[0], column, b, out);
        rs_advance256(&in, 20);
    }
}

/* {d, 32 high bits, 16 bytes of nibbles} */
RS_INLINE void rs_take256_q5_0(rs_source256 in, size_t n, rs_sink256 *out) {
    for (size_t b = 0; b < n / 32; b++) {
        __m256i high[4], column[4], w[RS_QUADS256];
        rs_load_columns256(in, 2, high);
        rs_load_columns256(in, 6, column);
        rs_split_nibbles256(column, w);
        rs_add_fifth_bits256(high[0], w);
        const __m256 scale = rs_gather_halves256(in, 0);
        rs_put_group256(RS_PANEL_U5, out, b, w, scale, rs_symmetric_min256(scale, 16.0f));
        rs_advance256(&in, 22);
    }
}

/* {d, m, 32 high bits, 16 bytes of nibbles} */
RS_INLINE void rs_take256_q5_1(rs_source256 in, size_t n, rs_sink256 *out) {
    for (size_t b = 0; b < n / 32; b++) {
        __m256i head[4], column[4], w[RS_QUADS256];
        rs_load_columns256(in, 0, head);
        rs_load_columns256(in, 8, column);
        rs_split_nibbles256(column, w);
        rs_add_fifth_bits256(head[1], w);
        rs_put_group256(RS_PANEL_U5, out, b, w, rs_low_halves256(head[0]), rs_high_halves256(head[0]));
        rs_advance256(&in, 24);
    }
}

/* {d, 32 bytes} */
RS_INLINE void rs_take256_q8_0(rs_source256 in, size_t n, rs_sink256 *out) {
    for (size_t b = 0; b < n / 32; b++) {
        __m256i w[RS_QUADS256];
        rs_load_columns256(in, 2, w);
        rs_load_columns256(in, 18, w + 4);
        const __m256 scale = rs_gather_halves256(in, 0);
        rs_put_group256(RS_PANEL_S8, out, b, w, scale, scale);
        rs_advance256(&in, 34);
    }
}

/* The heads of Q4_K and Q5_K: of every row {d, dmin} and three times four packed bytes. */
typedef struct rs_k_head256 {
    __m256 d, minus_dmin;
    __m256i a, b, c;
} rs_k_head256;

RS_INLINE rs_k_head256 rs_load_k_head256(rs_source256 in) {
    __m256i column[4];
    rs_load_columns256(in, 0, column);
    const __m256 minus_dmin = _mm256_xor_ps(rs_high_halves256(column[0]), _mm256_set1_ps(-0.0f));
    return (rs_k_head256){rs_low_halves256(column[0]), minus_dmin, column[1], column[2], column[3]};
}

/* `bits` bits of every lane from bit `at` on. */
RS_INLINE __m256i rs_take_bits256(__m256i x, size_t at, int bits) {
    return _mm256_and_si256(_mm256_srli_epi32(x, (int)at), _mm256_set1_epi32((1 << bits) - 1));
}

/* Scale and minimum of group g < 8. */
RS_INLINE void rs_k_scale256(const rs_k_head256 *h, size_t g, __m256 *scale, __m256 *min) {
    const size_t byte = g % 4 * 8;
    __m256i s, m;
    if (g < 4) {
        s = rs_take_bits256(h->a, byte, 6);
        m = rs_take_bits256(h->b, byte, 6);
    } else {
        const __m256i s_high = _mm256_slli_epi32(rs_take_bits256(h->a, byte + 6, 2), 4);
        const __m256i m_high = _mm256_slli_epi32(rs_take_bits256(h->b, byte + 6, 2), 4);
        s = _mm256_or_si256(rs_take_bits256(h->c, byte, 4), s_high);
        m = _mm256_or_si256(rs_take_bits256(h->c, byte + 4, 4), m_high);
    }
    *scale = _mm256_mul_ps(_mm256_cvtepi32_ps(s), h->d);
    *min = _mm256_mul_ps(_mm256_cvtepi32_ps(m), h->minus_dmin);
}

/* {head, maybe 32 bytes of high bits, 128 bytes of nibbles}: 32 bytes hold two groups, the low nibbles the
 * first; bit g of high byte i belongs to element i of group g. */
RS_INLINE void rs_take256_k(rs_source256 in, size_t n, rs_sink256 *out, rs_panel_kind kind) {
    const int has_high = kind == RS_PANEL_U5;
    const size_t nibbles_at = has_high ? 48 : 16;
    for (size_t b = 0; b < n / 256; b++) {
        const rs_k_head256 head = rs_load_k_head256(in);
        for (size_t g = 0; g < 8; g++) {
            __m256i w[RS_QUADS256];
            __m256 scale, min;
            for (size_t half = 0; half < 2; half++) {
                __m256i column[4], high[4];
                rs_load_columns256(in, nibbles_at + g / 2 * 32 + 16 * half, column);
                if (has_high) rs_load_columns256(in, 16 + 16 * half, high);
                for (size_t j = 0; j < 4; j++) {
                    __m256i q = g % 2 == 0 ? rs_low_nibbles256(column[j]) : rs_high_nibbles256(column[j]);
                    if (has_high) {
                        const __m256i bit = _mm256_slli_epi16(_mm256_srli_epi16(high[j], (int)g), 4);
                        q = _mm256_or_si256(q, _mm256_and_si256(bit, _mm256_set1_epi8(16)));
                    }
                    w[4 * half + j] = q;
                }
            }
            rs_k_scale256(&head, g, &scale, &min);
            rs_put_group256(kind, out, 8 * b + g, w, scale, min);
        }
        rs_advance256(&in, nibbles_at + 128);
    }
}

RS_INLINE void rs_take256_q4_k(rs_source256 in, size_t n, rs_sink256 *out) {
    rs_take256_k(in, n, out, RS_PANEL_U4);
}

RS_INLINE void rs_take256_q5_k(rs_source256 in, size_t n, rs_sink256 *out) {
    rs_take256_k(in, n, out, RS_PANEL_U5);
}

/* {128 bytes of low nibbles, 64 bytes of bit pairs, 16 int8 scales, d}. Element 32 k + i of a half of 128 has
 * its nibble in byte i (k even) or 32 + i (k odd) of the half's 64, low if k < 2, and its pair k in byte i of
 * the half's 32. */
RS_INLINE void rs_take256_q6_k(rs_source256 in, size_t n, rs_sink256 *out) {
    for (size_t b = 0; b < n / 256; b++) {
        const __m256 d = rs_gather_halves256(in, 208);
        __m256i scales[4];
        rs_load_columns256(in, 192, scales);
        for (size_t g = 0; g < 16; g++) {
            const size_t half = g / 8, k = g / 2 % 4, part = g % 2;
            __m256i low[4], pairs[4], w[RS_QUADS256];
            rs_load_columns256(in, 64 * half + k % 2 * 32 + 16 * part, low);
            rs_load_columns256(in, 128 + 32 * half + 16 * part, pairs);
            for (size_t j = 0; j < 4; j++) {
                const __m256i nibble = k < 2 ? rs_low_nibbles256(low[j]) : rs_high_nibbles256(low[j]);
                const __m256i pair = _mm256_slli_epi16(_mm256_srli_epi16(pairs[j], (int)(2 * k)), 4);
                w[j] = _mm256_or_si256(nibble, _mm256_and_si256(pair, _mm256_set1_epi8(0x30)));
            }
            /* Byte g % 4 of the lane, with its sign. */
            const __m256i s = _mm256_srai_epi32(_mm256_slli_epi32(scales[g / 4], (int)(24 - g % 4 * 8)), 24);
            const __m256 scale = _mm256_mul_ps(_mm256_cvtepi32_ps(s), d);
            rs_put_group256(RS_PANEL_U6, out, 16 * b + g, w, scale, rs_symmetric_min256(scale, 32.0f));
        }
        rs_advance256(&in, 210);
    }
}

typedef void rs_take256_fn(rs_source256 in, size_t n, rs_sink256 *out);

/* panel: where the rows go; NULL: into products. */
RS_INLINE rs_source256 rs_open_half256(const void *blocks, size_t row_bytes, size_t half,
                                       const rs_panel *panel) {
    const uint8_t *at = (const uint8_t *)blocks + half * RS_LANES256 * row_bytes;
    return (rs_source256){at, row_bytes, rs_fetch_begin(panel, at + RS_PANEL_ROWS * row_bytes)};
}

/* Sixteen rows into a panel. */
RS_INLINE void rs_unpack256(rs_take256_fn *take, const void *blocks, size_t row_bytes, size_t n,
                            const rs_panel *panel) {
    for (size_t half = 0; half < 2; half++) {
        rs_sink256 out = {.panel = panel, .half = half};
        take(rs_open_half256(blocks, row_bytes, half, panel), n, &out);
    }
}

/* Sixteen rows times one activation row. */
RS_INLINE void rs_multiply_blocks256(rs_take256_fn *take, rs_panel_kind kind, rs_dot256 with,
                                     const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                                     float *out) {
    const __m256 factor = _mm256_set1_ps(with.biased ? -128.0f : 1.0f);
    for (size_t half = 0; half < 2; half++) {
        rs_sink256 sums = {.with = with,
                           .x = rs_operand_of(kind, acts),
                           .total = _mm256_setzero_ps(),
                           .base = _mm256_setzero_ps()};
        take(rs_open_half256(blocks, row_bytes, half, NULL), n, &sums);
        _mm256_storeu_ps(out + RS_LANES256 * half, _mm256_fmadd_ps(sums.base, factor, sums.total));
    }
}

#endif
