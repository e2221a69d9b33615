/* What feeds the tiles, AVX-512: panels to channel panels, activations to two terms. To the bit as
 * kernels/ref/channels.c, which says why the arithmetic is what it is. */
#include "kernels/ref/math.h"
#include "kernels/x86/amx.h"
#include "kernels/x86/avx512_math.h"

static const __mmask64 ODD_BYTES = 0xaaaaaaaaaaaaaaaau;
static const __mmask32 ODD_WORDS = 0xaaaaaaaau;

RS_INLINE __m512i nearest(__m512 x) {
    return _mm512_cvtps_epi32(x);
}

/* The low half of every lane in both halves. */
RS_INLINE __m512i twice(__m512i x) {
    return _mm512_mask_blend_epi16(ODD_WORDS, x, _mm512_slli_epi32(x, 16));
}

RS_INLINE __m512 bounds_of(rs_panel_kind kind, const rs_panel *panel, size_t groups) {
    const float tops[RS_PANEL_KINDS] = {15.0f, 31.0f, 63.0f, 128.0f};
    const __m512 top = _mm512_set1_ps(tops[kind]);
    __m512i bound = _mm512_setzero_si512();
    for (size_t g = 0; g < groups; g++) {
        const __m512 scale = _mm512_load_ps(panel->scale + g * RS_PANEL_ROWS);
        if (kind == RS_PANEL_S8) {
            bound = _mm512_max_epu32(bound, rs_avx512_magnitude(_mm512_mul_ps(scale, top)));
            continue;
        }
        const __m512 min = _mm512_load_ps(panel->min + g * RS_PANEL_ROWS);
        bound = _mm512_max_epu32(bound, rs_avx512_magnitude(min));
        bound = _mm512_max_epu32(bound, rs_avx512_magnitude(_mm512_fmadd_ps(scale, top, min)));
    }
    return _mm512_castsi512_ps(bound);
}

/* Even and odd bytes apart, in sixteen bits: the upper eight of factor * q + offset. */
RS_INLINE __m512i requantize_unsigned(__m512i q, __m512i factor, __m512i offset) {
    const __m512i even = _mm512_and_si512(q, _mm512_set1_epi16(0xff)), odd = _mm512_srli_epi16(q, 8);
    const __m512i y_even = _mm512_add_epi16(_mm512_mullo_epi16(even, factor), offset);
    const __m512i y_odd = _mm512_add_epi16(_mm512_mullo_epi16(odd, factor), offset);
    return _mm512_mask_blend_epi8(ODD_BYTES, _mm512_srli_epi16(y_even, 8), y_odd);
}

/* The same with fifteen bits of fraction in the factor, rounded. */
RS_INLINE __m512i requantize_signed(__m512i q, __m512i factor) {
    const __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(q, 8), 8), odd = _mm512_srai_epi16(q, 8);
    const __m512i y_even = _mm512_mulhrs_epi16(even, factor), y_odd = _mm512_mulhrs_epi16(odd, factor);
    return _mm512_mask_blend_epi8(ODD_BYTES, y_even, _mm512_slli_epi16(y_odd, 8));
}

/* The blocks that share channel scales, `groups` of them. */
RS_INLINE void requantize_group(rs_panel_kind kind, const rs_panel *panel, size_t groups, int8_t *out,
                                float *out_scale) {
    const size_t group_bytes = rs_panel_group(kind) * RS_PANEL_ROWS;
    const unsigned shift = kind == RS_PANEL_U4 ? 3 : kind == RS_PANEL_U5 ? 4 : 5; /* middle = 1 << shift */
    const __m512 middle = _mm512_set1_ps((float)(1 << shift));
    const __m512 bound = bounds_of(kind, panel, groups), steps = _mm512_set1_ps(127.0f);
    const __mmask16 some = _mm512_cmp_ps_mask(bound, _mm512_set1_ps(RS_QUANTIZE_MIN), _CMP_NLT_UQ);
    const __m512 inverse = _mm512_maskz_div_ps(some, steps, bound);
    _mm512_store_ps(out_scale, _mm512_maskz_div_ps(some, bound, steps));

    const int8_t *q = panel->q;
    for (size_t g = 0; g < groups; g++, q += group_bytes, out += group_bytes) {
        const __m512 scale = _mm512_load_ps(panel->scale + g * RS_PANEL_ROWS);
        const __m512 in_steps = _mm512_mul_ps(scale, inverse);
        if (kind == RS_PANEL_S8) {
            const __m512i factor = twice(nearest(_mm512_mul_ps(in_steps, _mm512_set1_ps(32768.0f))));
            for (size_t i = 0; i < group_bytes; i += 64)
                _mm512_store_si512(out + i, requantize_signed(_mm512_load_si512(q + i), factor));
            continue;
        }
        const __m512 unit = _mm512_set1_ps(256.0f);
        const __m512 min = _mm512_load_ps(panel->min + g * RS_PANEL_ROWS);
        const __m512 centre = _mm512_mul_ps(_mm512_fmadd_ps(scale, middle, min), inverse);
        const __m512i factor = nearest(_mm512_mul_ps(in_steps, unit));
        const __m512i base =
            _mm512_sub_epi32(nearest(_mm512_mul_ps(centre, unit)), _mm512_slli_epi32(factor, shift));
        const __m512i offset = twice(_mm512_add_epi32(base, _mm512_set1_epi32(128)));
        for (size_t i = 0; i < group_bytes; i += 64)
            _mm512_store_si512(out + i, requantize_unsigned(_mm512_load_si512(q + i), twice(factor), offset));
    }
}

RS_INLINE void requantize(rs_panel_kind kind, const rs_panel *panel, size_t n,
                          const rs_channel_panel *channels) {
    for (size_t begin = 0; begin < n; begin += RS_CHANNEL_GROUP) {
        const size_t length = n - begin < RS_CHANNEL_GROUP ? n - begin : RS_CHANNEL_GROUP;
        const rs_panel part = rs_panel_from(kind, panel, begin);
        requantize_group(kind, &part, length / rs_panel_group(kind), channels->q + begin * RS_PANEL_ROWS,
                         channels->scale + begin / RS_CHANNEL_GROUP * RS_PANEL_ROWS);
    }
    memset(channels->q + n * RS_PANEL_ROWS, 0, (rs_term_bytes(n) - n) * RS_PANEL_ROWS);
}

void rs_amx_requantize_u4(const rs_panel *panel, size_t n, const rs_channel_panel *channels) {
    requantize(RS_PANEL_U4, panel, n, channels);
}

void rs_amx_requantize_u5(const rs_panel *panel, size_t n, const rs_channel_panel *channels) {
    requantize(RS_PANEL_U5, panel, n, channels);
}

void rs_amx_requantize_u6(const rs_panel *panel, size_t n, const rs_channel_panel *channels) {
    requantize(RS_PANEL_U6, panel, n, channels);
}

void rs_amx_requantize_s8(const rs_panel *panel, size_t n, const rs_channel_panel *channels) {
    requantize(RS_PANEL_S8, panel, n, channels);
}

void rs_amx_quantize_terms(const float *x, const rs_two_terms *terms, size_t rows, size_t n) {
    const size_t bytes = rs_term_bytes(n);
    for (size_t r = 0; r < rows; r++, x += n) {
        int8_t *high = terms->high + r * bytes, *low = terms->low + r * bytes;
        __m512i top = _mm512_setzero_si512();
        for (size_t i = 0; i < n; i += 16)
            top = _mm512_max_epu32(top, rs_avx512_magnitude(_mm512_loadu_ps(x + i)));
        const float max = rs_avx512_largest_magnitude(top);
        const bool zero = max < RS_QUANTIZE_MIN;
        const __m512 inverse = _mm512_set1_ps(zero ? 0.0f : 127.0f / max);
        terms->scale[r] = zero ? 0.0f : max / 127.0f;
        for (size_t i = 0; i < n; i += 16) {
            const __m512 y = _mm512_mul_ps(_mm512_loadu_ps(x + i), inverse);
            const __m512i q = nearest(y);
            const __m512 rest = _mm512_sub_ps(y, _mm512_cvtepi32_ps(q));
            const __m512i q_rest = nearest(_mm512_mul_ps(rest, _mm512_set1_ps(254.0f)));
            _mm_store_si128((__m128i *)(void *)(high + i), _mm512_cvtepi32_epi8(q));
            _mm_store_si128((__m128i *)(void *)(low + i), _mm512_cvtepi32_epi8(q_rest));
        }
        memset(high + n, 0, bytes - n);
        memset(low + n, 0, bytes - n);
    }
}
