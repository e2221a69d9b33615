/* What the AVX-512 VNNI and the AMX form of attention have in common. */
#ifndef RASURE_KERNELS_X86_AVX512_ATTEND_H
#define RASURE_KERNELS_X86_AVX512_ATTEND_H

#include "kernels/kernels.h"
#include "kernels/ref/math.h"
#include "kernels/x86/avx512_math.h"

enum { RS_ATTEND_ENTRIES = RS_ATTEND_PAGES * RS_PAGE_ENTRIES };

/* ab and cd: numbers of 0 to 127, as _mm512_packs_epi32(a, b) and (c, d) leave them. The bytes of a, b, c, d
 * in order. */
RS_INLINE __m512i rs_avx512_pack_bytes(__m512i ab, __m512i cd) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(ab, cd));
}

/* A row's weights, sixteen a page and 0 where there is none, in two times seven bits. Returns what 1 stands
 * for; 0: there is nothing to add, and both are 0. */
RS_INLINE float rs_avx512_split_weights(const float *prob, const rs_page_view *pages, size_t n_pages,
                                        int8_t *upper, int8_t *lower) {
    _Static_assert((int)RS_ATTEND_PAGES % 4 == 0, "four pages fill a register");
    __m512 weight[RS_ATTEND_PAGES];
    __m512i top = _mm512_setzero_si512();
    for (size_t p = 0; p < RS_ATTEND_PAGES; p++) {
        weight[p] = _mm512_setzero_ps();
        if (p >= n_pages || pages[p].v == NULL) continue;
        weight[p] =
            _mm512_mul_ps(_mm512_loadu_ps(prob + p * RS_PAGE_ENTRIES), _mm512_loadu_ps(pages[p].v_scale));
        top = _mm512_max_epu32(top, rs_avx512_magnitude(weight[p]));
    }
    const float max = rs_avx512_largest_magnitude(top);
    const bool any = !(max < RS_WEIGHT_MIN);
    const __m512 inverse = _mm512_set1_ps(any ? RS_WEIGHT_STEPS / max : 0.0f);
    for (size_t p = 0; p < RS_ATTEND_PAGES; p += 4) {
        __m512i steps[4];
        for (size_t i = 0; i < 4; i++) steps[i] = _mm512_cvtps_epi32(_mm512_mul_ps(weight[p + i], inverse));
        const __m512i ab = _mm512_packs_epi32(steps[0], steps[1]),
                      cd = _mm512_packs_epi32(steps[2], steps[3]);
        const __m512i low = _mm512_set1_epi16(127);
        _mm512_storeu_si512(upper + p * RS_PAGE_ENTRIES,
                            rs_avx512_pack_bytes(_mm512_srli_epi16(ab, 7), _mm512_srli_epi16(cd, 7)));
        _mm512_storeu_si512(lower + p * RS_PAGE_ENTRIES,
                            rs_avx512_pack_bytes(_mm512_and_si512(ab, low), _mm512_and_si512(cd, low)));
    }
    return any ? max / RS_WEIGHT_STEPS : 0.0f;
}

/* Has the keys of a later call fetched into cache. */
RS_INLINE void rs_avx512_fetch_next(const rs_page_view *pages, size_t n_pages, size_t head_dim) {
    for (size_t p = 0; p < n_pages; p++) {
        for (size_t i = 0; pages[p].next != NULL && i < RS_PAGE_ENTRIES * head_dim; i += 64)
            _mm_prefetch((const void *)(pages[p].next + i), _MM_HINT_T1);
    }
}

#endif
