/*
 * Channel panels against activations in two terms, AMX-INT8. Sixteen activation rows and two panels at a
 * time: four tiles of sums, one for each pair of a term and a panel, are as many as hide the latency of a
 * product, and each tile that is loaded serves two of them. They run over a group before the first float.
 */
#include "kernels/x86/amx.h"
#include "kernels/x86/amx_tile.h"
#include "kernels/x86/avx512_math.h"

enum { HIGH_0, HIGH_1, LOW_0, LOW_1, SUMS, TERM_HIGH = SUMS, TERM_LOW, PANEL_0, PANEL_1 };

_Static_assert((int)PANEL_1 + 1 == (int)RS_TILES, "one register for each");
_Static_assert((int)RS_TILE_ROWS == (int)RS_PANEL_ROWS && (int)RS_TILE_ROW_BYTES == 4 * (int)RS_PANEL_ROWS,
               "a tile holds sixteen quads of a panel");
_Static_assert((int)RS_TERM_UNIT == (int)RS_TILE_ROW_BYTES, "a tile holds one unit of sixteen rows");
_Static_assert(RS_CHANNEL_GROUP % RS_TERM_UNIT == 0, "groups end where steps do");
_Static_assert(RS_CHANNELS_MAX == 2 * RS_PANEL_ROWS, "two panels at a time");

typedef struct tile_sums {
    _Alignas(64) int32_t of[SUMS][RS_TILE_ROWS][RS_PANEL_ROWS];
} tile_sums;

/* Where a tile's worth of rows, or a group of theirs, begins. */
typedef struct operand {
    const int8_t *high, *low;
    size_t stride;
} operand;

static void sum_panel(const int8_t *w, operand x, size_t length, tile_sums *sums) {
    RS_TILE_ZERO(HIGH_0);
    RS_TILE_ZERO(LOW_0);
    for (size_t k = 0; k < length; k += RS_TERM_UNIT) {
        RS_TILE_LOAD(PANEL_0, w + k * RS_PANEL_ROWS, RS_TILE_ROW_BYTES);
        RS_TILE_LOAD(TERM_HIGH, x.high + k, x.stride);
        RS_TILE_DOT(HIGH_0, TERM_HIGH, PANEL_0);
        RS_TILE_LOAD(TERM_LOW, x.low + k, x.stride);
        RS_TILE_DOT(LOW_0, TERM_LOW, PANEL_0);
    }
    RS_TILE_STORE(HIGH_0, sums->of[HIGH_0], RS_TILE_ROW_BYTES);
    RS_TILE_STORE(LOW_0, sums->of[LOW_0], RS_TILE_ROW_BYTES);
}

static void sum_panels(const int8_t *w0, const int8_t *w1, operand x, size_t length, tile_sums *sums) {
    RS_TILE_ZERO(HIGH_0);
    RS_TILE_ZERO(HIGH_1);
    RS_TILE_ZERO(LOW_0);
    RS_TILE_ZERO(LOW_1);
    for (size_t k = 0; k < length; k += RS_TERM_UNIT) {
        RS_TILE_LOAD(PANEL_0, w0 + k * RS_PANEL_ROWS, RS_TILE_ROW_BYTES);
        RS_TILE_LOAD(TERM_HIGH, x.high + k, x.stride);
        RS_TILE_DOT(HIGH_0, TERM_HIGH, PANEL_0);
        RS_TILE_LOAD(PANEL_1, w1 + k * RS_PANEL_ROWS, RS_TILE_ROW_BYTES);
        RS_TILE_DOT(HIGH_1, TERM_HIGH, PANEL_1);
        RS_TILE_LOAD(TERM_LOW, x.low + k, x.stride);
        RS_TILE_DOT(LOW_0, TERM_LOW, PANEL_0);
        RS_TILE_DOT(LOW_1, TERM_LOW, PANEL_1);
    }
    RS_TILE_STORE(HIGH_0, sums->of[HIGH_0], RS_TILE_ROW_BYTES);
    RS_TILE_STORE(HIGH_1, sums->of[HIGH_1], RS_TILE_ROW_BYTES);
    RS_TILE_STORE(LOW_0, sums->of[LOW_0], RS_TILE_ROW_BYTES);
    RS_TILE_STORE(LOW_1, sums->of[LOW_1], RS_TILE_ROW_BYTES);
}

/* Outputs of one panel before the scales of their rows. */
typedef struct outputs {
    _Alignas(64) float of[RS_TILE_ROWS][RS_PANEL_ROWS];
} outputs;

/* Adds a group's sums; the first group finds nothing to add them to. */
static void add_group(const int32_t (*high)[RS_PANEL_ROWS], const int32_t (*low)[RS_PANEL_ROWS],
                      const float *w_scale, size_t rows, bool first, outputs *out) {
    const __m512 by_channel = _mm512_load_ps(w_scale), unit = _mm512_set1_ps(1.0f / 254.0f);
    for (size_t r = 0; r < rows; r++) {
        const __m512 h = _mm512_cvtepi32_ps(rs_avx512_load(high[r]));
        const __m512 l = _mm512_cvtepi32_ps(rs_avx512_load(low[r]));
        const __m512 before = first ? _mm512_setzero_ps() : _mm512_load_ps(out->of[r]);
        _mm512_store_ps(out->of[r], _mm512_fmadd_ps(_mm512_fmadd_ps(l, unit, h), by_channel, before));
    }
}

static void finish(const outputs *sums, const float *x_scale, size_t rows, float *out, size_t out_stride,
                   size_t channels) {
    const __mmask16 some = rs_avx512_first(channels);
    for (size_t r = 0; r < rows; r++) {
        const __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(x_scale[r]), _mm512_load_ps(sums->of[r]));
        _mm512_mask_storeu_ps(out + r * out_stride, some, scaled);
    }
}

/* At most a tile's worth of rows; `paired`: with two panels. */
static void multiply_rows(const rs_channel_panel *panels, bool paired, operand x, size_t rows, size_t bytes,
                          outputs out[2]) {
    tile_sums sums;
    for (size_t begin = 0; begin < bytes; begin += RS_CHANNEL_GROUP) {
        const size_t length = bytes - begin < RS_CHANNEL_GROUP ? bytes - begin : RS_CHANNEL_GROUP;
        const size_t at = begin * RS_PANEL_ROWS, scale = begin / RS_CHANNEL_GROUP * RS_PANEL_ROWS;
        const operand part = {x.high + begin, x.low + begin, x.stride};
        if (paired) {
            sum_panels(panels[0].q + at, panels[1].q + at, part, length, &sums);
            add_group(sums.of[HIGH_1], sums.of[LOW_1], panels[1].scale + scale, rows, begin == 0, &out[1]);
        } else {
            sum_panel(panels[0].q + at, part, length, &sums);
        }
        add_group(sums.of[HIGH_0], sums.of[LOW_0], panels[0].scale + scale, rows, begin == 0, &out[0]);
    }
}

void rs_amx_multiply_channels(const rs_channel_panel *panels, const rs_two_terms *terms, size_t rows,
                              size_t n, float *out, size_t out_stride, size_t channels) {
    const size_t bytes = rs_term_bytes(n);
    const size_t first = channels < RS_PANEL_ROWS ? channels : RS_PANEL_ROWS;
    const bool paired = channels > first;
    operand x = {terms->high, terms->low, bytes};
    const float *x_scale = terms->scale;
    outputs sums[2];
    size_t configured = 0;
    while (rows > 0) {
        const size_t tile = rows < RS_TILE_ROWS ? rows : RS_TILE_ROWS;
        if (tile != configured)
            rs_tile_shape(configured = tile, PANEL_0); /* at most twice: for the last rows again */
        multiply_rows(panels, paired, x, tile, bytes, sums);
        finish(&sums[0], x_scale, tile, out, out_stride, first);
        if (paired) finish(&sums[1], x_scale, tile, out + first, out_stride, channels - first);
        x = (operand){x.high + tile * bytes, x.low + tile * bytes, bytes};
        x_scale += tile;
        out += tile * out_stride;
        rows -= tile;
    }
    RS_TILE_RELEASE();
}
