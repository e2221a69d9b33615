/* Pages that come from a file: whether they can be what a cache held, and into a cache. */
#include <math.h>
#include <string.h>

#include "runtime/kv.h"

static bool is_zero(const void *data, size_t bytes) {
    const unsigned char *byte = data;
    for (size_t i = 0; i < bytes; i++)
        if (byte[i] != 0) return false;
    return true;
}

/* As clear_entry leaves it: nothing is hidden in a hole. */
static bool is_blank(const rs_kv *kv, const rs_kv_page *page, uint32_t slot) {
    for (uint32_t d = 0; d < kv->head_dim; d += 4)
        if (!is_zero(page->view.k + (size_t)d * RS_PAGE_ENTRIES + slot * 4, 4)) return false;
    const int8_t *v = page->view.v + (size_t)(slot / 4) * kv->head_dim * 4 + slot % 4;
    for (uint32_t d = 0; d < kv->head_dim; d++)
        if (v[(size_t)d * 4] != 0) return false;
    return is_zero(page->view.k_scale + slot, sizeof(float)) &&
           is_zero(page->view.v_scale + slot, sizeof(float)) &&
           (!kv->has_lambda || is_zero(page->lambda + slot, sizeof(float)));
}

/* Numbers that quantising and gates give; kernels count on int8 of [-127, 127]. */
static bool has_sound_numbers(const rs_kv *kv, const rs_kv_page *page) {
    const size_t plane = (size_t)RS_PAGE_ENTRIES * kv->head_dim;
    bool sound = true;
    for (size_t i = 0; i < plane; i++)
        sound = sound && page->view.k[i] != INT8_MIN && page->view.v[i] != INT8_MIN;
    for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) {
        const float k = page->view.k_scale[e], v = page->view.v_scale[e];
        sound = sound && isfinite(k) && isfinite(v) && k >= 0 && v >= 0;
        if (kv->has_lambda) sound = sound && isfinite(page->lambda[e]) && page->lambda[e] <= 0;
    }
    return sound;
}

/* A walk over a stream's entries beside the token list. */
typedef struct walk {
    const int32_t *positions;
    uint32_t n, next; /* tokens, and which comes next */
    rs_span gone;
    uint32_t n_live;
} walk;

/* Goes over the tokens below `position`; false where one should have its entry. */
static bool skip_gone(walk *w, int32_t position) {
    for (; w->next < w->n && w->positions[w->next] < position; w->next++)
        if (w->positions[w->next] < w->gone.begin || w->positions[w->next] >= w->gone.end) return false;
    return true;
}

/* Takes the token at `position`; false where there is none. */
static bool take_token(walk *w, int32_t position) {
    if (!skip_gone(w, position) || w->next == w->n || w->positions[w->next] != position) return false;
    w->next++;
    w->n_live++;
    return true;
}

static const char *const OTHER_TOKENS = "entries are not those of its tokens";

static const char *page_fault(const rs_kv *kv, const rs_kv_page *page, uint32_t n_used, walk *w) {
    if (page->position[n_used - 1] == RS_KV_HOLE) return "a page ends with a hole";
    if (!has_sound_numbers(kv, page)) return "a key, value or scale is none";
    for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) {
        const int32_t position = page->position[e];
        if (position == RS_KV_HOLE) {
            if (!is_blank(kv, page, e)) return "a hole is not empty";
            continue;
        }
        if (e >= n_used || !take_token(w, position)) return OTHER_TOKENS;
    }
    return NULL;
}

const char *rs_kv_saved_fault(const rs_kv *kv, const rs_kv_saved *saved, const int32_t *positions, uint32_t n,
                              rs_span gone, uint32_t *n_live) {
    walk w = {positions, n, 0, gone, 0};
    if (saved->n_pages == 0 ? saved->n_used != 0 : saved->n_used < 1 || saved->n_used > RS_PAGE_ENTRIES)
        return "a stream's last page has no such length";
    for (uint32_t p = 0; p < saved->n_pages; p++) {
        const rs_kv_page page = rs_kv_page_at(kv, saved->pages + (size_t)p * kv->page_bytes);
        const uint32_t n_used =
            p + 1 == saved->n_pages ? saved->n_used : rs_kv_slots_used(page.position, RS_PAGE_ENTRIES);
        if (n_used == 0) return "a page is empty";
        const char *fault = page_fault(kv, &page, n_used, &w);
        if (fault != NULL) return fault;
    }
    *n_live = w.n_live;
    return skip_gone(&w, INT32_MAX) ? NULL : OTHER_TOKENS;
}

void rs_kv_restore(rs_kv *kv, rs_kv_stream *stream, const rs_kv_saved *saved) {
    for (uint32_t p = 0; p < saved->n_pages; p++) {
        const uint32_t page = kv->free_pages[--kv->n_free];
        stream->pages[stream->n_pages++] = page;
        memcpy(kv->memory + (size_t)page * kv->page_bytes, saved->pages + (size_t)p * kv->page_bytes,
               kv->page_bytes);
        stream->n_live += rs_kv_live_entries(kv, page);
    }
    stream->n_used = saved->n_used;
}
