/*
 * Pages as they were before they were changed, so that a cache can be taken back to an earlier state. Between
 * begin and forget a page is copied before its first change; what was free then is only cleared.
 */
#ifndef RASURE_RUNTIME_KV_JOURNAL_H
#define RASURE_RUNTIME_KV_JOURNAL_H

#include <stdatomic.h>

#include "runtime/kv.h"

typedef struct rs_kv_journal {
    uint32_t max_pages;
    unsigned char *pages;       /* [max_pages] pages */
    uint32_t *ids;              /* [max_pages] which those are */
    uint8_t *states;            /* [n_pages] of the cache */
    _Atomic uint32_t n_changed; /* pages that were to be copied: above max_pages not all of them are */
    bool active;
    rs_kv_stream *streams; /* [n_streams] as they were; their tables one after the other in `tables` */
    uint32_t *tables, *free_pages;
    uint32_t n_free;
} rs_kv_journal;

/* For a cache that is laid out already; `bytes` are for pages, besides what the tables take. */
void rs_kv_journal_layout(rs_kv_journal *journal, rs_arena *arena, const rs_kv *kv, size_t bytes);

/* From now on. What was noted before is forgotten. */
void rs_kv_journal_begin(rs_kv_journal *journal, rs_kv *kv);

/* Whether the cache can be taken back. */
bool rs_kv_journal_is_whole(const rs_kv_journal *journal);

/* Makes the cache what it was at the beginning, and forgets. The journal MUST be whole. */
void rs_kv_journal_back(rs_kv_journal *journal, rs_kv *kv);

/* Zeroes what was noted, and notes no more. */
void rs_kv_journal_forget(rs_kv_journal *journal, rs_kv *kv);

/* Copies a page if that has not been done. A page MUST be touched by one thread at a time: where several are
 * to write to it, before they begin. */
void rs_kv_journal_note(const rs_kv *kv, uint32_t page);

/* To be called before a page changes. */
static inline void rs_kv_touch(const rs_kv *kv, uint32_t page) {
    if (kv->journal != NULL) rs_kv_journal_note(kv, page);
}

static inline void rs_kv_touch_view(const rs_kv *kv, const rs_kv_page *page) {
    if (kv->journal == NULL) return;
    const size_t offset = (size_t)((const unsigned char *)page->view.k - kv->memory);
    rs_kv_journal_note(kv, (uint32_t)(offset / kv->page_bytes));
}

#endif
