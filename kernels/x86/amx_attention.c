/*
 * Attention over blocks of KV pages, AMX-INT8: the bits of avx512_attention.c, whose functions do what would
 * leave most of a tile empty. What tiles sum up here are whole numbers below 2^31; the arithmetic around them
 * is the same.
 */
#include "kernels/x86/amx.h"
#include "kernels/x86/amx_tile.h"
#include "kernels/x86/avx512.h"
#include "kernels/x86/avx512_attend.h"

enum {
    ROWS_MIN = 6,       /* fewer leave most of a tile empty; not measured */
    HEAD_DIM_MAX = 256, /* values of a block, taken together, are 32 KB */
    QUAD = 4,           /* pages that tiles take together */
    TILE_DIMS = 16,     /* of the values in a tile */
    TILE_ENTRIES = QUAD * RS_PAGE_ENTRIES,
};

enum { SUM_0, SUM_1, SUM_2, SUM_3, SUMS, ROWS_0 = SUMS, ROWS_1, OTHER_0, OTHER_1 };

_Static_assert((int)OTHER_1 + 1 == (int)RS_TILES, "one register for each");
_Static_assert((int)RS_TILE_ROWS == (int)RS_PAGE_ENTRIES &&
                   (int)RS_TILE_ROW_BYTES == 4 * (int)RS_PAGE_ENTRIES,
               "a tile holds 64 dimensions of a page's keys");
_Static_assert((int)TILE_ENTRIES == (int)RS_TILE_ROW_BYTES && (int)RS_TILE_ROW_BYTES == 4 * (int)TILE_DIMS,
               "a tile holds 16 dimensions of four pages' values");

typedef struct tile_sums {
    _Alignas(64) int32_t of[SUMS][RS_TILE_ROWS][16];
} tile_sums;

static bool fits(size_t rows, size_t head_dim) {
    return rows >= ROWS_MIN && head_dim % RS_TILE_ROW_BYTES == 0 && head_dim <= HEAD_DIM_MAX;
}

static void store_sums(tile_sums *sums) {
    RS_TILE_STORE(SUM_0, sums->of[SUM_0], RS_TILE_ROW_BYTES);
    RS_TILE_STORE(SUM_1, sums->of[SUM_1], RS_TILE_ROW_BYTES);
    RS_TILE_STORE(SUM_2, sums->of[SUM_2], RS_TILE_ROW_BYTES);
    RS_TILE_STORE(SUM_3, sums->of[SUM_3], RS_TILE_ROW_BYTES);
}

static void zero_sums(void) {
    RS_TILE_ZERO(SUM_0);
    RS_TILE_ZERO(SUM_1);
    RS_TILE_ZERO(SUM_2);
    RS_TILE_ZERO(SUM_3);
}

/* Products of a tile of queries with the keys of four pages. */
static void sum_keys(const int8_t *q, const int8_t *const k[QUAD], size_t head_dim, tile_sums *sums) {
    zero_sums();
    for (size_t d = 0; d < head_dim; d += RS_TILE_ROW_BYTES) {
        const size_t at = d * RS_PAGE_ENTRIES;
        RS_TILE_LOAD(ROWS_0, q + d, head_dim);
        RS_TILE_LOAD(OTHER_0, k[0] + at, RS_TILE_ROW_BYTES);
        RS_TILE_DOT(SUM_0, ROWS_0, OTHER_0);
        RS_TILE_LOAD(OTHER_1, k[1] + at, RS_TILE_ROW_BYTES);
        RS_TILE_DOT(SUM_1, ROWS_0, OTHER_1);
        RS_TILE_LOAD(OTHER_0, k[2] + at, RS_TILE_ROW_BYTES);
        RS_TILE_DOT(SUM_2, ROWS_0, OTHER_0);
        RS_TILE_LOAD(OTHER_1, k[3] + at, RS_TILE_ROW_BYTES);
        RS_TILE_DOT(SUM_3, ROWS_0, OTHER_1);
    }
    store_sums(sums);
}

/* At most a tile's worth of queries against at most four pages. */
static void keys_of_quad(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                         size_t n_pages, size_t head_dim, float *score, size_t score_stride) {
    const int8_t *any = NULL;
    for (size_t p = 0; p < n_pages; p++) any = pages[p].k != NULL ? pages[p].k : any;
    if (any == NULL) return;
    /* For what is not there, another page's products are made, and not looked at. */
    const int8_t *k[QUAD];
    for (size_t p = 0; p < QUAD; p++) k[p] = p < n_pages && pages[p].k != NULL ? pages[p].k : any;
    tile_sums sums;
    sum_keys(q, k, head_dim, &sums);
    for (size_t p = 0; p < n_pages; p++) {
        if (pages[p].k == NULL) continue;
        const __m512 k_scale = _mm512_loadu_ps(pages[p].k_scale);
        for (size_t r = 0; r < rows; r++) {
            const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(q_scale[r]), k_scale);
            const __m512 dot = _mm512_cvtepi32_ps(rs_avx512_load(sums.of[p][r]));
            _mm512_storeu_ps(score + r * score_stride + p * RS_PAGE_ENTRIES, _mm512_mul_ps(scale, dot));
        }
    }
}

void rs_amx_attend_keys(const int8_t *q, const float *q_scale, size_t rows, const rs_page_view *pages,
                        size_t n_pages, size_t head_dim, float *score, size_t score_stride) {
    size_t configured = 0;
    while (fits(rows, head_dim)) {
        const size_t tile = rows < RS_TILE_ROWS ? rows : RS_TILE_ROWS;
        if (tile != configured) rs_tile_shape(configured = tile, OTHER_0);
        for (size_t p = 0; p < n_pages; p += QUAD) {
            const size_t left = n_pages - p;
            keys_of_quad(q, q_scale, tile, pages + p, left < QUAD ? left : QUAD, head_dim,
                         score + p * RS_PAGE_ENTRIES, score_stride);
        }
        q += tile * head_dim;
        q_scale += tile;
        score += tile * score_stride;
        rows -= tile;
    }
    if (configured > 0) RS_TILE_RELEASE();
    if (rows > 0) rs_avx512_attend_keys(q, q_scale, rows, pages, n_pages, head_dim, score, score_stride);
}

/* The values of a block as if its pages were one, with zeros for those that are not there. */
typedef struct block_values {
    _Alignas(64) int8_t of[RS_ATTEND_ENTRIES * HEAD_DIM_MAX]; /* [entries / 4][head_dim][4] */
} block_values;

static void take_values(const rs_page_view *pages, size_t n_pages, size_t quads, size_t head_dim,
                        block_values *values) {
    const size_t bytes = RS_PAGE_ENTRIES * head_dim;
    for (size_t p = 0; p < quads * QUAD; p++) {
        if (p < n_pages && pages[p].v != NULL) memcpy(values->of + p * bytes, pages[p].v, bytes);
        else memset(values->of + p * bytes, 0, bytes);
    }
}

/* A tile's worth of rows of weights. */
typedef struct weights {
    _Alignas(64) int8_t upper[RS_TILE_ROWS][RS_ATTEND_ENTRIES];
    int8_t lower[RS_TILE_ROWS][RS_ATTEND_ENTRIES];
    float unit[RS_TILE_ROWS];
} weights;

/* Upper and lower weights times sixteen dimensions from `values` on, and the same for the sixteen after. */
static void sum_values(const weights *w, const int8_t *values, size_t quads, size_t head_dim,
                       tile_sums *sums) {
    const size_t stride = 4 * head_dim;
    zero_sums();
    for (size_t i = 0; i < quads; i++) {
        const int8_t *v = values + i * RS_TILE_ROWS * stride;
        RS_TILE_LOAD(ROWS_0, w->upper[0] + i * TILE_ENTRIES, RS_ATTEND_ENTRIES);
        RS_TILE_LOAD(OTHER_0, v, stride);
        RS_TILE_DOT(SUM_0, ROWS_0, OTHER_0);
        RS_TILE_LOAD(ROWS_1, w->lower[0] + i * TILE_ENTRIES, RS_ATTEND_ENTRIES);
        RS_TILE_DOT(SUM_1, ROWS_1, OTHER_0);
        RS_TILE_LOAD(OTHER_1, v + RS_TILE_ROW_BYTES, stride);
        RS_TILE_DOT(SUM_2, ROWS_0, OTHER_1);
        RS_TILE_DOT(SUM_3, ROWS_1, OTHER_1);
    }
    store_sums(sums);
}

/* acc = acc * factor + (128 * upper + lower) * unit, sixteen dimensions. */
RS_INLINE void add_sums(const int32_t *upper, const int32_t *lower, float unit, float factor, float *acc) {
    const __m512 old = _mm512_mul_ps(_mm512_loadu_ps(acc), _mm512_set1_ps(factor));
    const __m512i whole =
        _mm512_add_epi32(_mm512_slli_epi32(rs_avx512_load(upper), 7), rs_avx512_load(lower));
    _mm512_storeu_ps(acc, _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), _mm512_set1_ps(unit), old));
}

void rs_amx_attend_values(const float *prob, size_t stride, const float *factor, size_t rows,
                          const rs_page_view *pages, size_t n_pages, size_t head_dim, float *acc) {
    const size_t quads = (n_pages + QUAD - 1) / QUAD;
    size_t configured = 0;
    block_values values;
    weights w;
    if (fits(rows, head_dim)) {
        take_values(pages, n_pages, quads, head_dim, &values);
        rs_avx512_fetch_next(pages, n_pages, head_dim);
    }
    while (fits(rows, head_dim)) {
        const size_t tile = rows < RS_TILE_ROWS ? rows : RS_TILE_ROWS;
        if (tile != configured) rs_tile_shape(configured = tile, OTHER_0);
        for (size_t r = 0; r < tile; r++)
            w.unit[r] = rs_avx512_split_weights(prob + r * stride, pages, n_pages, w.upper[r], w.lower[r]);
        for (size_t d = 0; d < head_dim; d += 2 * TILE_DIMS) {
            tile_sums sums;
            sum_values(&w, values.of + 4 * d, quads, head_dim, &sums);
            for (size_t r = 0; r < tile; r++) {
                float *at = acc + r * head_dim + d;
                add_sums(sums.of[SUM_0][r], sums.of[SUM_1][r], w.unit[r], factor[r], at);
                add_sums(sums.of[SUM_2][r], sums.of[SUM_3][r], w.unit[r], factor[r], at + TILE_DIMS);
            }
        }
        prob += tile * stride;
        factor += tile;
        acc += tile * head_dim;
        rows -= tile;
    }
    if (configured > 0) RS_TILE_RELEASE();
    if (rows > 0) rs_avx512_attend_values(prob, stride, factor, rows, pages, n_pages, head_dim, acc);
}
