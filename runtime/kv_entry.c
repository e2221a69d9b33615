/* What is in an entry: its position, its key and value as they lie in a page, what a gate said of it. */
#include <string.h>

#include "runtime/kv.h"

int32_t rs_kv_position(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at) {
    return rs_kv_get_page(kv, stream->pages[at.page_index]).position[at.slot];
}

void rs_kv_move(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at, int32_t by) {
    rs_kv_get_page(kv, stream->pages[at.page_index]).position[at.slot] += by;
}

void rs_kv_set_lambda(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at, float lambda) {
    rs_kv_get_page(kv, stream->pages[at.page_index]).lambda[at.slot] = lambda;
}

float rs_kv_lambda(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at) {
    return rs_kv_get_page(kv, stream->pages[at.page_index]).lambda[at.slot];
}

static void put_key(const rs_kv *kv, const rs_kv_page *page, uint32_t slot, const int8_t *key) {
    for (uint32_t d = 0; d < kv->head_dim; d += 4) {
        memcpy(page->view.k + (size_t)d * RS_PAGE_ENTRIES + slot * 4, key + d, 4);
    }
}

void rs_kv_store_key(const rs_kv *kv, const rs_kernels *kernels, const rs_kv_stream *stream, rs_kv_cursor at,
                     const float *key, int8_t *scratch) {
    const rs_kv_page page = rs_kv_get_page(kv, stream->pages[at.page_index]);
    page.view.k_scale[at.slot] = kernels->quantize_head(key, scratch, kv->head_dim);
    put_key(kv, &page, at.slot, scratch);
}

void rs_kv_store(const rs_kv *kv, const rs_kernels *kernels, const rs_kv_stream *stream, rs_kv_cursor at,
                 const float *key, const float *value, int8_t *scratch) {
    rs_kv_store_key(kv, kernels, stream, at, key, scratch);
    const rs_kv_page page = rs_kv_get_page(kv, stream->pages[at.page_index]);
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
