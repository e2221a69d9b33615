/* Copies of pages, and the way back. */
#include "runtime/kv_journal.h"

#include <string.h>

#include "ports/port.h"

enum { UNCHANGED, SAVED, WAS_FREE };

static const char name[] = "undo area";

void rs_kv_journal_layout(rs_kv_journal *journal, rs_arena *arena, const rs_kv *kv, size_t bytes) {
    const size_t wanted = bytes / kv->page_bytes;
    journal->max_pages = wanted < kv->n_pages ? (uint32_t)wanted : kv->n_pages;
    journal->pages = rs_arena_take(arena, name, journal->max_pages, kv->page_bytes);
    journal->ids = rs_arena_take(arena, name, journal->max_pages, sizeof *journal->ids);
    journal->states = rs_arena_take(arena, name, kv->n_pages, sizeof *journal->states);
    journal->streams = rs_arena_take(arena, name, kv->n_streams, sizeof *journal->streams);
    journal->tables = rs_arena_take(arena, name, kv->table_pages, sizeof *journal->tables);
    journal->free_pages = rs_arena_take(arena, name, kv->n_pages, sizeof *journal->free_pages);
}

void rs_kv_journal_begin(rs_kv_journal *journal, rs_kv *kv) {
    rs_kv_journal_forget(journal, kv);
    uint32_t *table = journal->tables;
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        const rs_kv_stream *stream = &kv->streams[s];
        journal->streams[s] = *stream;
        memcpy(table, stream->pages, stream->n_pages * sizeof *table);
        table += stream->max_pages;
    }
    memcpy(journal->free_pages, kv->free_pages, kv->n_free * sizeof *kv->free_pages);
    journal->n_free = kv->n_free;
    memset(journal->states, UNCHANGED, kv->n_pages);
    for (uint32_t i = 0; i < kv->n_free; i++) journal->states[kv->free_pages[i]] = WAS_FREE;
    journal->active = true;
    kv->journal = journal;
}

bool rs_kv_journal_is_whole(const rs_kv_journal *journal) {
    return journal->active && journal->n_changed <= journal->max_pages;
}

void rs_kv_journal_note(const rs_kv *kv, uint32_t page) {
    rs_kv_journal *journal = kv->journal;
    if (journal->states[page] != UNCHANGED) return;
    journal->states[page] = SAVED;
    const uint32_t slot = atomic_fetch_add(&journal->n_changed, 1);
    if (slot >= journal->max_pages) return;
    journal->ids[slot] = page;
    memcpy(journal->pages + (size_t)slot * kv->page_bytes, kv->memory + (size_t)page * kv->page_bytes,
           kv->page_bytes);
}

void rs_kv_journal_back(rs_kv_journal *journal, rs_kv *kv) {
    kv->journal = NULL; /* what is changed now is not to be noted */
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        const rs_kv_stream *stream = &kv->streams[s];
        for (uint32_t p = 0; p < stream->n_pages; p++)
            if (journal->states[stream->pages[p]] == WAS_FREE) rs_kv_clear_page(kv, stream->pages[p]);
    }
    for (uint32_t i = 0; i < journal->n_changed; i++)
        memcpy(kv->memory + (size_t)journal->ids[i] * kv->page_bytes,
               journal->pages + (size_t)i * kv->page_bytes, kv->page_bytes);
    const uint32_t *table = journal->tables;
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        rs_kv_stream *stream = &kv->streams[s];
        const rs_kv_stream *then = &journal->streams[s];
        memcpy(stream->pages, table, then->n_pages * sizeof *table);
        stream->n_pages = then->n_pages;
        stream->n_used = then->n_used;
        stream->n_live = then->n_live;
        table += stream->max_pages;
    }
    memcpy(kv->free_pages, journal->free_pages, journal->n_free * sizeof *kv->free_pages);
    kv->n_free = journal->n_free;
    rs_kv_journal_forget(journal, kv);
}

void rs_kv_journal_forget(rs_kv_journal *journal, rs_kv *kv) {
    kv->journal = NULL;
    if (!journal->active) return;
    const uint32_t n = journal->n_changed < journal->max_pages ? journal->n_changed : journal->max_pages;
    rs_port_secure_zero(journal->pages, (size_t)n * kv->page_bytes);
    journal->n_changed = 0;
    journal->active = false;
}
