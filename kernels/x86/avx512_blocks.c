/*
 * Weight blocks, AVX-512; kernels/ref/unpack.c describes the layouts. Sixteen bytes of each of sixteen rows
 * are transposed into four registers that hold four bytes of every row: lanes are rows from there on. Groups
 * of weights then go into a panel, or, for a single activation row, straight into its products.
 */
#include "kernels/ref/ref.h"
#include "kernels/x86/avx512.h"
#include "kernels/x86/avx512_dot.h"
#include "kernels/x86/fetch.h"

enum { LANES = RS_PANEL_ROWS, MAX_QUADS = 8 };

static inline __m128i load16(const uint8_t *bytes) {
    return _mm_loadu_si128((const __m128i *)(const void *)bytes);
}

static inline __m256i load_pair(const uint8_t *low, const uint8_t *high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load16(low)), load16(high), 1);
}

/* column[j] lane r = bytes 4 j to 4 j + 3 of row r, rows being `stride` apart. */
RS_INLINE void load_columns(const uint8_t *bytes, size_t stride, __m512i column[4]) {
    __m512i rows[4]; /* 128-bit lane l of rows[i] is row 4 l + i */
    for (size_t i = 0; i < 4; i++) {
        const uint8_t *row = bytes + i * stride;
        const __m256i low = load_pair(row, row + 4 * stride);
        const __m256i high = load_pair(row + 8 * stride, row + 12 * stride);
        rows[i] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
    const __m512i low01 = _mm512_unpacklo_epi32(rows[0], rows[1]);
    const __m512i high01 = _mm512_unpackhi_epi32(rows[0], rows[1]);
    const __m512i low23 = _mm512_unpacklo_epi32(rows[2], rows[3]);
    const __m512i high23 = _mm512_unpackhi_epi32(rows[2], rows[3]);
    column[0] = _mm512_unpacklo_epi64(low01, low23);
    column[1] = _mm512_unpackhi_epi64(low01, low23);
    column[2] = _mm512_unpacklo_epi64(high01, high23);
    column[3] = _mm512_unpackhi_epi64(high01, high23);
}

/* Sixteen rows on their way out of their blocks. */
typedef struct source {
    const uint8_t *at;
    size_t stride;
    const uint8_t *ahead; /* what is to be fetched next, as much for each block as the block has */
} source;

/* panel: where the rows go; NULL: into products. */
RS_INLINE source open_source(const void *blocks, size_t row_bytes, const rs_panel *panel) {
    return (source){blocks, row_bytes, rs_fetch_begin(panel, (const uint8_t *)blocks + LANES * row_bytes)};
}

RS_INLINE void advance(source *s, size_t bytes) {
    rs_fetch_ahead(&s->ahead, LANES * bytes);
    s->at += bytes;
}

/* Where groups go: into `panel`, or, when that is NULL, into the sums of one activation row. */
typedef struct sink {
    const rs_panel *panel;
    rs_operand x;
    rs_avx512_sums sums;
} sink;

/* Group g of the sixteen rows. */
RS_INLINE void put_group(rs_panel_kind kind, sink *out, size_t g, const __m512i *w, __m512 scale,
                         __m512 min) {
    const size_t group = rs_panel_group(kind), quads = group / 4;
    if (out->panel == NULL) {
        rs_avx512_add_group(kind, w, scale, min, out->x, g, &out->sums);
        return;
    }
    for (size_t j = 0; j < quads; j++)
        _mm512_store_si512((void *)(out->panel->q + (g * quads + j) * 4 * LANES), w[j]);
    _mm512_store_ps(out->panel->scale + g * LANES, scale);
    if (kind != RS_PANEL_S8) _mm512_store_ps(out->panel->min + g * LANES, min);
}

RS_INLINE __m512 low_halves(__m512i pairs) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs));
}

RS_INLINE __m512 high_halves(__m512i pairs) {
    return low_halves(_mm512_srli_epi32(pairs, 16));
}

/* The two bytes at `bytes` of every row. */
RS_INLINE __m512i gather_halves(const uint8_t *bytes, size_t stride) {
    __m256i halves = _mm256_setzero_si256();
    uint16_t half[LANES];
    for (size_t r = 0; r < LANES; r++) memcpy(&half[r], bytes + r * stride, sizeof half[r]);
    memcpy(&halves, half, sizeof halves);
    return _mm512_cvtepu16_epi32(halves);
}

/* Columns of nibbles to the eight quads of a group: low nibbles first. */
RS_INLINE void split_nibbles(const __m512i column[4], __m512i w[MAX_QUADS]) {
    const __m512i low4 = _mm512_set1_epi8(15);
    for (size_t j = 0; j < 4; j++) {
        w[j] = _mm512_and_si512(column[j], low4);
        w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(column[j], 4), low4);
    }
}

/* Adds bit 4 j + i of a lane as the fifth bit of its byte i of w[j]. */
RS_INLINE void add_fifth_bits(__m512i high, __m512i w[MAX_QUADS]) {
    const __m512i spread =
        _mm512_setr_epi32(0, 0x10, 0x1000, 0x1010, 0x100000, 0x100010, 0x101000, 0x101010, 0x10000000,
                          0x10000010, 0x10001000, 0x10001010, 0x10100000, 0x10100010, 0x10101000, 0x10101010);
    for (size_t j = 0; j < 8; j++) {
        const __m512i four = _mm512_srli_epi32(high, (unsigned)(4 * j));
        w[j] = _mm512_or_si512(w[j], _mm512_permutexvar_epi32(four, spread));
    }
}

RS_INLINE __m512 symmetric_min(__m512 scale, float offset) {
    return _mm512_mul_ps(scale, _mm512_set1_ps(-offset));
}

/* {d, 16 bytes of nibbles} */
RS_INLINE void take_q4_0(source in, size_t n, sink *out) {
    for (size_t b = 0; b < n / 32; b++) {
        __m512i column[4], w[MAX_QUADS];
        load_columns(in.at + 2, in.stride, column);
        split_nibbles(column, w);
        const __m512 scale = low_halves(gather_halves(in.at, in.stride));
        put_group(RS_PANEL_U4, out, b, w, scale, symmetric_min(scale, 8.0f));
        advance(&in, 18);
    }
}

/* {d, m, 16 bytes of nibbles}: five columns. Four blocks are five times sixteen bytes. */
RS_INLINE void put_q4_1(const __m512i column[5], size_t b, sink *out) {
    __m512i w[MAX_QUADS];
    split_nibbles(column + 1, w);
    put_group(RS_PANEL_U4, out, b, w, low_halves(column[0]), high_halves(column[0]));
}

RS_INLINE void take_q4_1(source in, size_t n, sink *out) {
    const size_t blocks = n / 32;
    size_t b = 0;
    __m512i column[20];
    for (; b + 4 <= blocks; b += 4) {
        for (size_t i = 0; i < 5; i++) load_columns(in.at + 16 * i, in.stride, column + 4 * i);
        for (size_t i = 0; i < 4; i++) put_q4_1(column + 5 * i, b + i, out);
        advance(&in, 80);
    }
    for (; b < blocks; b++) {
        __m512i head[4];
        load_columns(in.at, in.stride, head);
        load_columns(in.at + 4, in.stride, column + 1);
        column[0] = head[0];
        put_q4_1(column, b, out);
        advance(&in, 20);
    }
}

/* {d, 32 high bits, 16 bytes of nibbles} */
RS_INLINE void take_q5_0(source in, size_t n, sink *out) {
    for (size_t b = 0; b < n / 32; b++) {
        __m512i high[4], column[4], w[MAX_QUADS];
        load_columns(in.at + 2, in.stride, high);
        load_columns(in.at + 6, in.stride, column);
        split_nibbles(column, w);
        add_fifth_bits(high[0], w);
        const __m512 scale = low_halves(gather_halves(in.at, in.stride));
        put_group(RS_PANEL_U5, out, b, w, scale, symmetric_min(scale, 16.0f));
        advance(&in, 22);
    }
}

/* {d, m, 32 high bits, 16 bytes of nibbles} */
RS_INLINE void take_q5_1(source in, size_t n, sink *out) {
    for (size_t b = 0; b < n / 32; b++) {
        __m512i head[4], column[4], w[MAX_QUADS];
        load_columns(in.at, in.stride, head);
        load_columns(in.at + 8, in.stride, column);
        split_nibbles(column, w);
        add_fifth_bits(head[1], w);
        put_group(RS_PANEL_U5, out, b, w, low_halves(head[0]), high_halves(head[0]));
        advance(&in, 24);
    }
}

/* {d, 32 bytes} */
RS_INLINE void take_q8_0(source in, size_t n, sink *out) {
    for (size_t b = 0; b < n / 32; b++) {
        __m512i w[MAX_QUADS];
        load_columns(in.at + 2, in.stride, w);
        load_columns(in.at + 18, in.stride, w + 4);
        const __m512 scale = low_halves(gather_halves(in.at, in.stride));
        put_group(RS_PANEL_S8, out, b, w, scale, scale);
        advance(&in, 34);
    }
}

/* The heads of Q4_K and Q5_K: of every row {d, dmin} and three times four packed bytes. */
typedef struct k_head {
    __m512 d, minus_dmin;
    __m512i a, b, c;
} k_head;

RS_INLINE k_head load_k_head(source in) {
    __m512i column[4];
    load_columns(in.at, in.stride, column);
    const __m512 dmin = high_halves(column[0]);
    return (k_head){low_halves(column[0]), _mm512_xor_ps(dmin, _mm512_set1_ps(-0.0f)), column[1], column[2],
                    column[3]};
}

/* `bits` bits of every lane from bit `at` on. */
RS_INLINE __m512i take_bits(__m512i x, size_t at, int bits) {
    return _mm512_and_si512(_mm512_srli_epi32(x, (unsigned)at), _mm512_set1_epi32((int)((1u << bits) - 1u)));
}

/* Scale and minimum of group g < 8. */
RS_INLINE void k_scale(const k_head *h, size_t g, __m512 *scale, __m512 *min) {
    const size_t byte = g % 4 * 8;
    __m512i s, m;
    if (g < 4) {
        s = take_bits(h->a, byte, 6);
        m = take_bits(h->b, byte, 6);
    } else {
        s = _mm512_or_si512(take_bits(h->c, byte, 4), _mm512_slli_epi32(take_bits(h->a, byte + 6, 2), 4));
        m = _mm512_or_si512(take_bits(h->c, byte + 4, 4), _mm512_slli_epi32(take_bits(h->b, byte + 6, 2), 4));
    }
    *scale = _mm512_mul_ps(_mm512_cvtepi32_ps(s), h->d);
    *min = _mm512_mul_ps(_mm512_cvtepi32_ps(m), h->minus_dmin);
}

/* {head, maybe 32 bytes of high bits, 128 bytes of nibbles}: 32 bytes hold two groups, the low nibbles the
 * first; bit g of high byte i belongs to element i of group g. */
RS_INLINE void take_k(source in, size_t n, sink *out, rs_panel_kind kind) {
    const int has_high = kind == RS_PANEL_U5;
    const size_t nibbles_at = has_high ? 48 : 16;
    const __m512i low4 = _mm512_set1_epi8(15), bit4 = _mm512_set1_epi8(16);
    for (size_t b = 0; b < n / 256; b++) {
        const k_head head = load_k_head(in);
        for (size_t part = 0; part < 4; part++) {
            __m512i column[8], first[MAX_QUADS], second[MAX_QUADS];
            load_columns(in.at + nibbles_at + 32 * part, in.stride, column);
            load_columns(in.at + nibbles_at + 32 * part + 16, in.stride, column + 4);
            for (size_t j = 0; j < 8; j++) {
                first[j] = _mm512_and_si512(column[j], low4);
                second[j] = _mm512_and_si512(_mm512_srli_epi16(column[j], 4), low4);
            }
            if (has_high) {
                load_columns(in.at + 16, in.stride, column);
                load_columns(in.at + 32, in.stride, column + 4);
                for (size_t j = 0; j < 8; j++) {
                    const __m512i pair = _mm512_srli_epi16(column[j], (uint8_t)(2 * part));
                    first[j] = _mm512_or_si512(first[j], _mm512_and_si512(_mm512_slli_epi16(pair, 4), bit4));
                    second[j] =
                        _mm512_or_si512(second[j], _mm512_and_si512(_mm512_slli_epi16(pair, 3), bit4));
                }
            }
            __m512 scale, min;
            k_scale(&head, 2 * part, &scale, &min);
            put_group(kind, out, 8 * b + 2 * part, first, scale, min);
            k_scale(&head, 2 * part + 1, &scale, &min);
            put_group(kind, out, 8 * b + 2 * part + 1, second, scale, min);
        }
        advance(&in, nibbles_at + 128);
    }
}

RS_INLINE void take_q4_k(source in, size_t n, sink *out) {
    take_k(in, n, out, RS_PANEL_U4);
}

RS_INLINE void take_q5_k(source in, size_t n, sink *out) {
    take_k(in, n, out, RS_PANEL_U5);
}

/* {128 bytes of low nibbles, 64 bytes of bit pairs, 16 int8 scales, d}. Element 32 k + i of a half of 128 has
 * its nibble in byte i (k even) or 32 + i (k odd) of the half's 64, low if k < 2, and its pair k in byte i of
 * the half's 32. */
RS_INLINE void take_q6_k(source in, size_t n, sink *out) {
    const __m512i low4 = _mm512_set1_epi8(15), bits45 = _mm512_set1_epi8(0x30);
    for (size_t b = 0; b < n / 256; b++) {
        const __m512 d = low_halves(gather_halves(in.at + 208, in.stride));
        __m512i scales[4];
        load_columns(in.at + 192, in.stride, scales);
        for (size_t block = 0; block < 8; block++) {
            const size_t half = block / 4, k = block % 4;
            for (size_t part = 0; part < 2; part++) {
                const size_t g = 2 * block + part;
                __m512i low[4], pairs[4], w[MAX_QUADS];
                load_columns(in.at + 64 * half + k % 2 * 32 + 16 * part, in.stride, low);
                load_columns(in.at + 128 + 32 * half + 16 * part, in.stride, pairs);
                for (size_t j = 0; j < 4; j++) {
                    const __m512i nibble = _mm512_srli_epi16(low[j], k < 2 ? 0 : 4);
                    const __m512i pair = _mm512_slli_epi16(_mm512_srli_epi16(pairs[j], (uint8_t)(2 * k)), 4);
                    w[j] = _mm512_or_si512(_mm512_and_si512(nibble, low4), _mm512_and_si512(pair, bits45));
                }
                /* Byte g % 4 of the lane, with its sign. */
                const __m512i s =
                    _mm512_srai_epi32(_mm512_slli_epi32(scales[g / 4], 24u - 8u * (unsigned)(g % 4)), 24);
                const __m512 scale = _mm512_mul_ps(_mm512_cvtepi32_ps(s), d);
                put_group(RS_PANEL_U6, out, 16 * b + g, w, scale, symmetric_min(scale, 32.0f));
            }
        }
        advance(&in, 210);
    }
}

void rs_avx512_unpack_q4_0(const void *blocks, size_t row_bytes, size_t rows, size_t n,
                           const rs_panel *panel) {
    sink out = {.panel = panel};
    if (rows == LANES) {
        take_q4_0(open_source(blocks, row_bytes, panel), n, &out);
    } else {
        rs_ref_unpack_q4_0(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx512_multiply_q4_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                             float *out) {
    sink sums = {.x = rs_operand_of(RS_PANEL_U4, acts)};
    take_q4_0(open_source(blocks, row_bytes, NULL), n, &sums);
    _mm512_storeu_ps(out, rs_avx512_finish(RS_PANEL_U4, &sums.sums));
}

void rs_avx512_unpack_q4_1(const void *blocks, size_t row_bytes, size_t rows, size_t n,
                           const rs_panel *panel) {
    sink out = {.panel = panel};
    if (rows == LANES) {
        take_q4_1(open_source(blocks, row_bytes, panel), n, &out);
    } else {
        rs_ref_unpack_q4_1(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx512_multiply_q4_1(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                             float *out) {
    sink sums = {.x = rs_operand_of(RS_PANEL_U4, acts)};
    take_q4_1(open_source(blocks, row_bytes, NULL), n, &sums);
    _mm512_storeu_ps(out, rs_avx512_finish(RS_PANEL_U4, &sums.sums));
}

void rs_avx512_unpack_q5_0(const void *blocks, size_t row_bytes, size_t rows, size_t n,
                           const rs_panel *panel) {
    sink out = {.panel = panel};
    if (rows == LANES) {
        take_q5_0(open_source(blocks, row_bytes, panel), n, &out);
    } else {
        rs_ref_unpack_q5_0(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx512_multiply_q5_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                             float *out) {
    sink sums = {.x = rs_operand_of(RS_PANEL_U5, acts)};
    take_q5_0(open_source(blocks, row_bytes, NULL), n, &sums);
    _mm512_storeu_ps(out, rs_avx512_finish(RS_PANEL_U5, &sums.sums));
}

void rs_avx512_unpack_q5_1(const void *blocks, size_t row_bytes, size_t rows, size_t n,
                           const rs_panel *panel) {
    sink out = {.panel = panel};
    if (rows == LANES) {
        take_q5_1(open_source(blocks, row_bytes, panel), n, &out);
    } else {
        rs_ref_unpack_q5_1(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx512_multiply_q5_1(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                             float *out) {
    sink sums = {.x = rs_operand_of(RS_PANEL_U5, acts)};
    take_q5_1(open_source(blocks, row_bytes, NULL), n, &sums);
    _mm512_storeu_ps(out, rs_avx512_finish(RS_PANEL_U5, &sums.sums));
}

void rs_avx512_unpack_q8_0(const void *blocks, size_t row_bytes, size_t rows, size_t n,
                           const rs_panel *panel) {
    sink out = {.panel = panel};
    if (rows == LANES) {
        take_q8_0(open_source(blocks, row_bytes, panel), n, &out);
    } else {
        rs_ref_unpack_q8_0(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx512_multiply_q8_0(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                             float *out) {
    sink sums = {.x = rs_operand_of(RS_PANEL_S8, acts)};
    take_q8_0(open_source(blocks, row_bytes, NULL), n, &sums);
    _mm512_storeu_ps(out, rs_avx512_finish(RS_PANEL_S8, &sums.sums));
}

void rs_avx512_unpack_q4_k(const void *blocks, size_t row_bytes, size_t rows, size_t n,
                           const rs_panel *panel) {
    sink out = {.panel = panel};
    if (rows == LANES) {
        take_q4_k(open_source(blocks, row_bytes, panel), n, &out);
    } else {
        rs_ref_unpack_q4_k(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx512_multiply_q4_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                             float *out) {
    sink sums = {.x = rs_operand_of(RS_PANEL_U4, acts)};
    take_q4_k(open_source(blocks, row_bytes, NULL), n, &sums);
    _mm512_storeu_ps(out, rs_avx512_finish(RS_PANEL_U4, &sums.sums));
}

void rs_avx512_unpack_q5_k(const void *blocks, size_t row_bytes, size_t rows, size_t n,
                           const rs_panel *panel) {
    sink out = {.panel = panel};
    if (rows == LANES) {
        take_q5_k(open_source(blocks, row_bytes, panel), n, &out);
    } else {
        rs_ref_unpack_q5_k(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx512_multiply_q5_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                             float *out) {
    sink sums = {.x = rs_operand_of(RS_PANEL_U5, acts)};
    take_q5_k(open_source(blocks, row_bytes, NULL), n, &sums);
    _mm512_storeu_ps(out, rs_avx512_finish(RS_PANEL_U5, &sums.sums));
}

void rs_avx512_unpack_q6_k(const void *blocks, size_t row_bytes, size_t rows, size_t n,
                           const rs_panel *panel) {
    sink out = {.panel = panel};
    if (rows == LANES) {
        take_q6_k(open_source(blocks, row_bytes, panel), n, &out);
    } else {
        rs_ref_unpack_q6_k(blocks, row_bytes, rows, n, panel);
    }
}

void rs_avx512_multiply_q6_k(const void *blocks, size_t row_bytes, size_t n, const rs_acts *acts,
                             float *out) {
    sink sums = {.x = rs_operand_of(RS_PANEL_U6, acts)};
    take_q6_k(open_source(blocks, row_bytes, NULL), n, &sums);
    _mm512_storeu_ps(out, rs_avx512_finish(RS_PANEL_U6, &sums.sums));
}
