/* What is in an entry: its position, its key and value as they lie in a page, what a gate said of it. */
#include <string.h>

#include "runtime/kv.h"
#include "runtime/kv_journal.h"

int32_t rs_kv_position(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at) {
    return rs_kv_get_page(kv, stream->pages[at.page_index]).position[at.slot];
}

void rs_kv_set_lambda(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at, float lambda) {
    rs_kv_touch(kv, stream->pages[at.page_index]);
    rs_kv_get_page(kv, stream->pages[at.page_index]).lambda[at.slot] = lambda;
}

float rs_kv_lambda(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at) {
    return rs_kv_get_page(kv, stream->pages[at.page_index]).lambda[at.slot];
}

/* Of a dimension, the values of four entries are a word. Some come to lie within one word of each dimension,
 * out of one or two. The first entry has the lowest byte: machines here are little-endian, as GGUF files are.
 * The places may be the same, so that words are read some at a time before they are written. */
static void copy_in_words(uint32_t head_dim, int8_t *to, uint32_t to_byte, const int8_t *from,
                          uint32_t from_byte, uint32_t n) {
    const uint32_t mask = (n == 4 ? UINT32_MAX : (1U << 8 * n) - 1) << 8 * to_byte;
    const int8_t *next = from_byte + n > 4 ? from + (size_t)head_dim * 4 : from;
    for (uint32_t d = 0; d < head_dim; d += RS_HEAD_DIM_UNIT) {
        uint32_t low[RS_HEAD_DIM_UNIT], high[RS_HEAD_DIM_UNIT], word[RS_HEAD_DIM_UNIT];
        memcpy(low, from + (size_t)d * 4, sizeof low);
        memcpy(high, next + (size_t)d * 4, sizeof high);
        memcpy(word, to + (size_t)d * 4, sizeof word);
        for (uint32_t i = 0; i < RS_HEAD_DIM_UNIT; i++) {
            const uint32_t moved = low[i] >> 8 * from_byte | high[i] << (24 - 8 * from_byte) << 8;
            word[i] = (word[i] & ~mask) | (moved << 8 * to_byte & mask);
        }
        memcpy(to + (size_t)d * 4, word, sizeof word);
    }
}

static void copy_values(uint32_t head_dim, int8_t *to, uint32_t to_slot, const int8_t *from,
                        uint32_t from_slot, uint32_t n) {
    for (uint32_t done = 0; done < n;) {
        const uint32_t at = to_slot + done, source = from_slot + done;
        const uint32_t left = n - done, some = left < 4 - at % 4 ? left : 4 - at % 4;
        copy_in_words(head_dim, to + (size_t)(at / 4) * head_dim * 4, at % 4,
                      from + (size_t)(source / 4) * head_dim * 4, source % 4, some);
        done += some;
    }
}

void rs_kv_copy_entries(const rs_kv *kv, const rs_kv_page *to, uint32_t to_slot, const rs_kv_page *from,
                        uint32_t from_slot, uint32_t n) {
    rs_kv_touch_view(kv, to);
    for (uint32_t d = 0; d < kv->head_dim; d += 4) {
        int8_t *row = to->view.k + (size_t)d * RS_PAGE_ENTRIES;
        const int8_t *source = from->view.k + (size_t)d * RS_PAGE_ENTRIES;
        memmove(row + (size_t)to_slot * 4, source + (size_t)from_slot * 4, (size_t)n * 4);
    }
    copy_values(kv->head_dim, to->view.v, to_slot, from->view.v, from_slot, n);
    memmove(to->view.k_scale + to_slot, from->view.k_scale + from_slot, n * sizeof(float));
    memmove(to->view.v_scale + to_slot, from->view.v_scale + from_slot, n * sizeof(float));
    memmove(to->position + to_slot, from->position + from_slot, n * sizeof(int32_t));
    if (kv->has_lambda) memmove(to->lambda + to_slot, from->lambda + from_slot, n * sizeof(float));
}

static void put_key(const rs_kv *kv, const rs_kv_page *page, uint32_t slot, const int8_t *key) {
    for (uint32_t d = 0; d < kv->head_dim; d += 4) {
        memcpy(page->view.k + (size_t)d * RS_PAGE_ENTRIES + slot * 4, key + d, 4);
    }
}

void rs_kv_store(const rs_kv *kv, const rs_kernels *kernels, const rs_kv_stream *stream, rs_kv_cursor at,
                 const float *key, const float *value, int8_t *scratch) {
    rs_kv_touch(kv, stream->pages[at.page_index]);
    const rs_kv_page page = rs_kv_get_page(kv, stream->pages[at.page_index]);
    page.view.k_scale[at.slot] = kernels->quantize_head(key, scratch, kv->head_dim);
    put_key(kv, &page, at.slot, scratch);
    page.view.v_scale[at.slot] = kernels->quantize_head(value, scratch, kv->head_dim);
    int8_t *v = page.view.v + (size_t)(at.slot / 4) * kv->head_dim * 4 + at.slot % 4;
    for (uint32_t d = 0; d < kv->head_dim; d++) v[(size_t)d * 4] = scratch[d];
}

void rs_kv_load_key(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at, float *key) {
    const rs_kv_page page = rs_kv_get_page(kv, stream->pages[at.page_index]);
    const float scale = page.view.k_scale[at.slot];
    for (uint32_t d = 0; d < kv->head_dim; d++) {
        key[d] = scale * (float)page.view.k[(size_t)(d / 4) * RS_PAGE_ENTRIES * 4 + at.slot * 4 + d % 4];
    }
}

float rs_kv_key_norm(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at) {
    const rs_kv_page page = rs_kv_get_page(kv, stream->pages[at.page_index]);
    const float scale = page.view.k_scale[at.slot];
    int32_t sum = 0;
    for (uint32_t d = 0; d < kv->head_dim; d++) {
        const int32_t k = page.view.k[(size_t)(d / 4) * RS_PAGE_ENTRIES * 4 + at.slot * 4 + d % 4];
        sum += k * k;
    }
    return scale * scale * (float)sum;
}

void rs_kv_load_value(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at, float *value) {
    const rs_kv_page page = rs_kv_get_page(kv, stream->pages[at.page_index]);
    const float scale = page.view.v_scale[at.slot];
    const int8_t *v = page.view.v + (size_t)(at.slot / 4) * kv->head_dim * 4 + at.slot % 4;
    for (uint32_t d = 0; d < kv->head_dim; d++) value[d] = scale * (float)v[(size_t)d * 4];
}

/* Bits of a page's entries that lie within [begin, end). */
static uint32_t entries_within(const rs_kv_page *page, int32_t begin, int32_t end) {
    uint32_t which = 0;
    for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++)
        which |= (uint32_t)(page->position[e] >= begin && page->position[e] < end) << e;
    return which;
}

static void rotate_page(const rs_kv *kv, const rs_kernels *kernels, const rs_page_view *page, uint32_t which,
                        const rs_kv_rotation *r) {
    if (r->turn != NULL)
        kernels->turn_keys(page, which, r->back, r->turn, kv->head_dim, r->dim, r->interleaved);
    else kernels->rotate_keys(page, which, r->cosine, r->sine, kv->head_dim, r->dim, r->interleaved, r->room);
}

void rs_kv_rotate(const rs_kv *kv, const rs_kernels *kernels, const rs_kv_stream *stream,
                  const rs_kv_rotation *rotation) {
    rs_kv_cursor at;
    if (!rs_kv_seek(kv, stream, rotation->begin, &at)) return;
    for (uint32_t p = at.page_index; p < stream->n_pages; p++) {
        const rs_kv_page page = rs_kv_get_page(kv, stream->pages[p]);
        const uint32_t which = entries_within(&page, rotation->begin, rotation->end);
        if (which == 0) return;
        rs_kv_touch(kv, stream->pages[p]);
        rotate_page(kv, kernels, &page.view, which, rotation);
        for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++)
            if (which >> e & 1) page.position[e] += rotation->by;
    }
}
