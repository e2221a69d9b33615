/* Pages and streams: where entries are, how they come and go. */
#include "runtime/kv.h"

#include "runtime/kv_journal.h"

#include <string.h>

size_t rs_kv_page_bytes(uint32_t head_dim, bool has_lambda) {
    const size_t entry = 2 * (size_t)head_dim + (has_lambda ? 3 : 2) * sizeof(float) + sizeof(int32_t);
    return (RS_PAGE_ENTRIES * entry + RS_ARENA_ALIGN - 1) / RS_ARENA_ALIGN * RS_ARENA_ALIGN;
}

uint32_t rs_kv_pages_for(uint64_t entries) {
    return (uint32_t)((entries + RS_PAGE_ENTRIES - 1) / RS_PAGE_ENTRIES);
}

rs_streams rs_kv_all(const rs_kv *kv) {
    return (rs_streams){0, kv->n_streams};
}

void rs_kv_layout(rs_kv *kv, rs_arena *arena, const rs_kv_shape *shape) {
    memset(kv, 0, sizeof *kv);
    kv->n_streams = shape->n_streams;
    kv->head_dim = shape->head_dim;
    kv->has_lambda = shape->has_lambda;
    kv->page_bytes = rs_kv_page_bytes(shape->head_dim, shape->has_lambda);
    uint32_t table_pages = 0;
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        const uint32_t n = rs_kv_pages_for(shape->room(shape->user, s));
        table_pages += n;
        if (n > kv->max_pages) kv->max_pages = n;
    }
    kv->table_pages = table_pages;
    kv->n_pages = shape->n_pages > 0 && shape->n_pages < table_pages ? shape->n_pages : table_pages;
    const char *tables = shape->spare ? "spare KV pages" : "KV page tables";
    kv->memory =
        rs_arena_take(arena, shape->spare ? "spare KV pages" : "KV pages", kv->n_pages, kv->page_bytes);
    kv->free_pages = rs_arena_take(arena, tables, kv->n_pages, sizeof *kv->free_pages);
    kv->streams = rs_arena_take(arena, tables, kv->n_streams, sizeof *kv->streams);
    uint32_t *table = rs_arena_take(arena, tables, table_pages, sizeof *table);
    if (arena->base == NULL) return;
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        kv->streams[s].pages = table;
        kv->streams[s].max_pages = rs_kv_pages_for(shape->room(shape->user, s));
        table += kv->streams[s].max_pages;
    }
}

rs_kv_page rs_kv_page_at(const rs_kv *kv, unsigned char *bytes) {
    const size_t plane = (size_t)RS_PAGE_ENTRIES * kv->head_dim;
    float *scales = (float *)(void *)(bytes + 2 * plane);
    return (rs_kv_page){
        .view = {.k = (int8_t *)bytes,
                 .v = (int8_t *)(bytes + plane),
                 .k_scale = scales,
                 .v_scale = scales + RS_PAGE_ENTRIES},
        .position = (int32_t *)(void *)(scales + 2 * RS_PAGE_ENTRIES),
        .lambda = kv->has_lambda ? scales + 3 * RS_PAGE_ENTRIES : NULL,
    };
}

rs_kv_page rs_kv_get_page(const rs_kv *kv, uint32_t page) {
    return rs_kv_page_at(kv, kv->memory + (size_t)page * kv->page_bytes);
}

void rs_kv_clear_page(const rs_kv *kv, uint32_t page) {
    rs_kv_touch(kv, page);
    memset(kv->memory + (size_t)page * kv->page_bytes, 0, kv->page_bytes);
    const rs_kv_page view = rs_kv_get_page(kv, page);
    for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) view.position[e] = RS_KV_HOLE;
}

void rs_kv_reset(rs_kv *kv) {
    /* Pages are handed out in ascending order, so that a fresh cache is filled front to back. */
    for (uint32_t p = 0; p < kv->n_pages; p++) {
        rs_kv_clear_page(kv, p);
        kv->free_pages[p] = kv->n_pages - 1 - p;
    }
    kv->n_free = kv->n_pages;
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        rs_kv_stream *stream = &kv->streams[s];
        stream->n_pages = stream->n_used = stream->n_live = 0;
        stream->cleared = stream->cleared_end = 0;
    }
}

size_t rs_kv_used_bytes(const rs_kv *kv) {
    return (size_t)(kv->n_pages - kv->n_free) * kv->page_bytes;
}

static void clear_entry(const rs_kv *kv, const rs_kv_page *page, uint32_t slot) {
    rs_kv_touch_view(kv, page);
    for (uint32_t d = 0; d < kv->head_dim; d += 4) {
        memset(page->view.k + (size_t)d * RS_PAGE_ENTRIES + slot * 4, 0, 4);
    }
    int8_t *v = page->view.v + (size_t)(slot / 4) * kv->head_dim * 4 + slot % 4;
    for (uint32_t d = 0; d < kv->head_dim; d++) v[(size_t)d * 4] = 0;
    page->view.k_scale[slot] = 0;
    page->view.v_scale[slot] = 0;
    page->position[slot] = RS_KV_HOLE;
    if (kv->has_lambda) page->lambda[slot] = 0;
}

uint32_t rs_kv_slots_used(const int32_t *position, uint32_t most) {
    while (most > 0 && position[most - 1] == RS_KV_HOLE) most--;
    return most;
}

static uint32_t slots_of(const rs_kv_stream *stream, uint32_t page_index) {
    return page_index + 1 == stream->n_pages ? stream->n_used : RS_PAGE_ENTRIES;
}

bool rs_kv_next(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor *cursor) {
    uint32_t slot = cursor->slot + 1;
    for (uint32_t p = cursor->page_index; p < stream->n_pages; p++, slot = 0) {
        const int32_t *position = rs_kv_get_page(kv, stream->pages[p]).position;
        for (; slot < slots_of(stream, p); slot++) {
            if (position[slot] != RS_KV_HOLE) {
                *cursor = (rs_kv_cursor){p, slot};
                return true;
            }
        }
    }
    return false;
}

/* Pages never consist of holes only, so every page has a last entry to compare with. */
static int32_t last_position(const rs_kv *kv, const rs_kv_stream *stream, uint32_t page_index) {
    const int32_t *position = rs_kv_get_page(kv, stream->pages[page_index]).position;
    int32_t last = RS_KV_HOLE;
    for (uint32_t e = 0; e < slots_of(stream, page_index); e++) {
        if (position[e] != RS_KV_HOLE) last = position[e];
    }
    return last;
}

bool rs_kv_seek(const rs_kv *kv, const rs_kv_stream *stream, int32_t position, rs_kv_cursor *cursor) {
    uint32_t low = 0, high = stream->n_pages;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (last_position(kv, stream, middle) < position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == stream->n_pages) return false;
    const int32_t *at = rs_kv_get_page(kv, stream->pages[low]).position;
    uint32_t slot = 0;
    while (at[slot] < position) slot++; /* holes are below any position */
    *cursor = (rs_kv_cursor){low, slot};
    return true;
}

bool rs_kv_advance(const rs_kv *kv, const rs_kv_stream *stream, int32_t position, rs_kv_cursor *cursor) {
    if (rs_kv_next(kv, stream, cursor) && rs_kv_position(kv, stream, *cursor) == position) return true;
    return rs_kv_seek(kv, stream, position, cursor);
}

/* Gives the pages first to end - 1 of a stream's table back where they hold no entry, and cuts the holes
 * behind the stream's last entry off. Other pages are not looked at: the cost does not depend on the length
 * of the stream. */
static void trim(rs_kv *kv, rs_kv_stream *stream, uint32_t first, uint32_t end) {
    const bool at_tail = end == stream->n_pages;
    uint32_t kept = first;
    for (uint32_t p = first; p < end; p++) {
        const uint32_t page = stream->pages[p];
        const int32_t *position = rs_kv_get_page(kv, page).position;
        if (rs_kv_slots_used(position, slots_of(stream, p)) == 0) {
            kv->free_pages[kv->n_free++] = page;
        } else {
            stream->pages[kept++] = page;
        }
    }
    memmove(stream->pages + kept, stream->pages + end, (stream->n_pages - end) * sizeof *stream->pages);
    stream->n_pages -= end - kept;
    if (!at_tail) return;
    stream->n_used = 0;
    if (stream->n_pages == 0) return;
    const int32_t *position = rs_kv_get_page(kv, stream->pages[stream->n_pages - 1]).position;
    stream->n_used = rs_kv_slots_used(position, RS_PAGE_ENTRIES);
}

/* How many entries follow each other from a slot of a page on, up to `most`. */
static uint32_t run_length(const rs_kv_page *page, uint32_t slot, uint32_t most) {
    uint32_t n = 0;
    while (n < most && page->position[slot + n] != RS_KV_HOLE) n++;
    return n;
}

/* Moves the entries of a stream's pages from `first` on together. What was there is written over, or zeroed
 * behind them; pages that are left empty are to be trimmed. */
static void move_together(const rs_kv *kv, const rs_kv_stream *stream, uint32_t first) {
    uint32_t to = first * RS_PAGE_ENTRIES;
    for (uint32_t p = first; p < stream->n_pages; p++) {
        const rs_kv_page source = rs_kv_get_page(kv, stream->pages[p]);
        for (uint32_t slot = 0; slot < slots_of(stream, p);) {
            const rs_kv_page target = rs_kv_get_page(kv, stream->pages[to / RS_PAGE_ENTRIES]);
            const uint32_t to_slot = to % RS_PAGE_ENTRIES, left = slots_of(stream, p) - slot;
            const uint32_t room = RS_PAGE_ENTRIES - to_slot;
            const uint32_t n = run_length(&source, slot, left < room ? left : room);
            if (n > 0 && p * RS_PAGE_ENTRIES + slot != to)
                rs_kv_copy_entries(kv, &target, to_slot, &source, slot, n);
            to += n;
            slot += n > 0 ? n : 1;
        }
    }
    for (; to < stream->n_pages * RS_PAGE_ENTRIES && to % RS_PAGE_ENTRIES != 0; to++) {
        const rs_kv_page last = rs_kv_get_page(kv, stream->pages[to / RS_PAGE_ENTRIES]);
        clear_entry(kv, &last, to % RS_PAGE_ENTRIES);
    }
    for (uint32_t p = to / RS_PAGE_ENTRIES; p < stream->n_pages; p++) rs_kv_clear_page(kv, stream->pages[p]);
}

static void squeeze_stream(rs_kv *kv, rs_kv_stream *stream) {
    move_together(kv, stream, 0);
    trim(kv, stream, 0, stream->n_pages);
}

static uint32_t slots(const rs_kv_stream *stream) {
    return stream->n_pages > 0 ? (stream->n_pages - 1) * RS_PAGE_ENTRIES + stream->n_used : 0;
}

static void append_stream(rs_kv *kv, rs_kv_stream *stream, const int32_t *positions, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (stream->n_pages == 0 || stream->n_used == RS_PAGE_ENTRIES) {
            stream->pages[stream->n_pages++] = kv->free_pages[--kv->n_free];
            stream->n_used = 0;
        }
        const uint32_t page = stream->pages[stream->n_pages - 1];
        rs_kv_touch(kv, page);
        rs_kv_get_page(kv, page).position[stream->n_used++] = positions[i];
    }
    stream->n_live += count;
}

/* Squeezes holes out of all streams if the pool could not take `count` more entries in each of some. */
static void make_room(rs_kv *kv, rs_streams streams, uint32_t count) {
    uint32_t wanted = 0;
    for (uint32_t s = streams.first; s < streams.first + streams.count; s++)
        wanted += rs_kv_pages_for(slots(&kv->streams[s]) + count) - kv->streams[s].n_pages;
    if (wanted <= kv->n_free) return;
    for (uint32_t s = 0; s < kv->n_streams; s++) squeeze_stream(kv, &kv->streams[s]);
}

void rs_kv_append(rs_kv *kv, rs_streams streams, const int32_t *positions, uint32_t count) {
    const uint32_t end = streams.first + streams.count;
    for (uint32_t s = streams.first; s < end; s++) {
        rs_kv_stream *stream = &kv->streams[s];
        if (slots(stream) + count > stream->max_pages * RS_PAGE_ENTRIES) squeeze_stream(kv, stream);
    }
    make_room(kv, streams, count);
    for (uint32_t s = streams.first; s < end; s++) append_stream(kv, &kv->streams[s], positions, count);
}

/* Clears a page's entries with begin <= position < end; returns how many. Zeroing a whole page at once is ten
 * times as fast as entry by entry. */
static uint32_t clear_entries(const rs_kv *kv, uint32_t page_id, int32_t begin, int32_t end) {
    const rs_kv_page page = rs_kv_get_page(kv, page_id);
    uint32_t n_inside = 0, n_outside = 0;
    for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) {
        const int32_t position = page.position[e];
        if (position >= begin && position < end) n_inside++;
        else if (position != RS_KV_HOLE) n_outside++;
    }
    if (n_outside == 0) {
        rs_kv_clear_page(kv, page_id);
        return n_inside;
    }
    for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++)
        if (page.position[e] >= begin && page.position[e] < end) clear_entry(kv, &page, e);
    return n_inside;
}

typedef struct removal {
    rs_kv *kv;
    uint32_t first; /* of the streams */
    rs_kv_range_fn range;
    const void *user;
} removal;

static void clear_in_stream(void *argument, size_t thread, size_t index) {
    const removal *r = argument;
    const uint32_t s = r->first + (uint32_t)index;
    rs_kv_stream *stream = &r->kv->streams[s];
    const rs_span range = r->range(r->user, s);
    rs_kv_cursor at;
    (void)thread;
    stream->cleared = stream->cleared_end = 0;
    if (range.begin >= range.end || !rs_kv_seek(r->kv, stream, range.begin, &at)) return;
    stream->cleared = stream->cleared_end = at.page_index;
    for (; stream->cleared_end < stream->n_pages; stream->cleared_end++) {
        const uint32_t removed =
            clear_entries(r->kv, stream->pages[stream->cleared_end], range.begin, range.end);
        if (removed == 0) break;
        stream->n_live -= removed;
    }
}

/* Streams are cleared side by side; pages go back one by one, so that their order does not depend on threads.
 */
void rs_kv_give_back(rs_kv *kv) {
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        rs_kv_stream *stream = &kv->streams[s];
        if (stream->cleared < stream->cleared_end) trim(kv, stream, stream->cleared, stream->cleared_end);
        stream->cleared = stream->cleared_end = 0;
    }
}

typedef struct closing {
    const rs_kv *kv;
    uint32_t first; /* of the streams */
} closing;

static void close_stream(void *argument, size_t thread, size_t index) {
    const closing *c = argument;
    const rs_kv_stream *stream = &c->kv->streams[c->first + index];
    (void)thread;
    if (stream->cleared < stream->cleared_end) move_together(c->kv, stream, stream->cleared);
}

void rs_kv_close_holes(rs_kv *kv, rs_team *team, rs_streams streams) {
    rs_team_run(team, close_stream, &(closing){kv, streams.first}, streams.count);
    for (uint32_t s = streams.first; s < streams.first + streams.count; s++) {
        rs_kv_stream *stream = &kv->streams[s];
        if (stream->cleared < stream->cleared_end) trim(kv, stream, stream->cleared, stream->n_pages);
        stream->cleared = stream->cleared_end = 0;
    }
}

static void note_cleared(rs_kv_stream *stream, rs_kv_cursor at) {
    stream->n_live--;
    if (stream->cleared_end == 0 || at.page_index < stream->cleared) stream->cleared = at.page_index;
    if (at.page_index >= stream->cleared_end) stream->cleared_end = at.page_index + 1;
}

void rs_kv_clear(rs_kv *kv, rs_kv_stream *stream, rs_kv_cursor at) {
    const rs_kv_page page = rs_kv_get_page(kv, stream->pages[at.page_index]);
    clear_entry(kv, &page, at.slot);
    note_cleared(stream, at);
}

void rs_kv_mark(rs_kv *kv, rs_kv_stream *stream, rs_kv_cursor at) {
    const uint32_t page = stream->pages[at.page_index];
    rs_kv_touch(kv, page);
    rs_kv_get_page(kv, page).position[at.slot] = RS_KV_HOLE;
    note_cleared(stream, at);
}

void rs_kv_remove_each(rs_kv *kv, rs_team *team, rs_streams streams, rs_kv_range_fn range, const void *user) {
    rs_team_run(team, clear_in_stream, &(removal){kv, streams.first, range, user}, streams.count);
    rs_kv_give_back(kv);
}

/* Whether a stream has an entry at this very position. */
static bool holds(const rs_kv *kv, const rs_kv_stream *stream, int32_t position) {
    rs_kv_cursor at;
    return rs_kv_seek(kv, stream, position, &at) && rs_kv_position(kv, stream, at) == position;
}

static rs_kv_cursor slot_at(uint32_t index) {
    return (rs_kv_cursor){index / RS_PAGE_ENTRIES, index % RS_PAGE_ENTRIES};
}

/* Puts blank entries at `missing` [n] among those of a stream, from the end on, so that every entry moves
 * once. */
static void insert(rs_kv *kv, rs_kv_stream *stream, const int32_t *missing, uint32_t n) {
    squeeze_stream(kv, stream);
    uint32_t from = stream->n_live;
    append_stream(kv, stream, missing, n);
    for (uint32_t to = stream->n_live; n > 0; to--) {
        const rs_kv_cursor target = slot_at(to - 1), source = slot_at(from > 0 ? from - 1 : 0);
        const rs_kv_page target_page = rs_kv_get_page(kv, stream->pages[target.page_index]);
        if (from > 0 && rs_kv_position(kv, stream, source) > missing[n - 1]) {
            const rs_kv_page source_page = rs_kv_get_page(kv, stream->pages[source.page_index]);
            rs_kv_copy_entries(kv, &target_page, target.slot, &source_page, source.slot, 1);
            from--;
        } else {
            clear_entry(kv, &target_page, target.slot);
            target_page.position[target.slot] = missing[--n];
        }
    }
}

enum { WORD = 32, LENT_AT_ONCE = 64 };

void rs_kv_insert(rs_kv *kv, const int32_t *positions, uint32_t count) {
    make_room(kv, rs_kv_all(kv), count);
    for (uint32_t s = 0; s < kv->n_streams; s++) insert(kv, &kv->streams[s], positions, count);
}

void rs_kv_lend(rs_kv *kv, const rs_kv_loan *loan, rs_streams streams, const int32_t *positions,
                uint32_t count) {
    make_room(kv, streams, count);
    for (uint32_t s = 0; s < streams.count; s++) {
        rs_kv_stream *stream = &kv->streams[streams.first + s];
        uint32_t *lent = loan->lent + (size_t)s * loan->words, n = 0;
        int32_t missing[LENT_AT_ONCE];
        memset(lent, 0, loan->words * sizeof *lent);
        for (uint32_t i = 0; i < count; i++) {
            if (!holds(kv, stream, positions[i])) {
                lent[i / WORD] |= 1U << i % WORD;
                missing[n++] = positions[i];
            }
            if (n == LENT_AT_ONCE || (n > 0 && i + 1 == count)) {
                insert(kv, stream, missing, n);
                n = 0;
            }
        }
    }
}

void rs_kv_take_back(rs_kv *kv, rs_team *team, const rs_kv_loan *loan, rs_streams streams,
                     const int32_t *positions, uint32_t count) {
    for (uint32_t s = 0; s < streams.count; s++) {
        rs_kv_stream *stream = &kv->streams[streams.first + s];
        const uint32_t *lent = loan->lent + (size_t)s * loan->words;
        rs_kv_cursor at;
        bool more = rs_kv_seek(kv, stream, positions[0], &at);
        for (uint32_t i = 0; i < count && more;) {
            const rs_kv_cursor here = at;
            const bool wanted = rs_kv_position(kv, stream, here) == positions[i];
            more = rs_kv_next(kv, stream, &at);
            if (wanted && (lent[i / WORD] >> i % WORD & 1U) != 0) rs_kv_mark(kv, stream, here);
            i += wanted;
        }
    }
    rs_kv_close_holes(kv, team, streams);
}

bool rs_kv_has_room(const rs_kv *kv, uint32_t count, uint32_t at_once) {
    uint64_t live = 0, most = 0, more = 0; /* pages: of all, and of the streams that want most, at once */
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        const uint32_t now = rs_kv_pages_for(kv->streams[s].n_live);
        const uint32_t then = rs_kv_pages_for((uint64_t)kv->streams[s].n_live + count);
        if (then > kv->streams[s].max_pages) return false;
        if (s % at_once == 0) more = 0;
        live += now;
        more += then - now;
        if (more > most) most = more;
    }
    return live + most <= kv->n_pages;
}

static rs_span same_range(const void *user, uint32_t stream) {
    (void)stream;
    return *(const rs_span *)user;
}

void rs_kv_remove(rs_kv *kv, rs_team *team, int32_t begin, int32_t end) {
    rs_kv_remove_each(kv, team, rs_kv_all(kv), same_range, &(rs_span){begin, end});
}

bool rs_kv_can_hold(const rs_kv *to, const rs_kv *from) {
    for (uint32_t s = 0; s < from->n_streams; s++)
        if (from->streams[s].n_pages > to->streams[s].max_pages) return false;
    return from->n_pages - from->n_free <= to->n_pages;
}

/* The first n_pages. Pages that the target has already are written over, so that nothing is written twice. */
static void copy_pages(rs_kv *to, rs_kv_stream *target, const rs_kv *from, const rs_kv_stream *source,
                       uint32_t n_pages) {
    while (target->n_pages < n_pages) target->pages[target->n_pages++] = to->free_pages[--to->n_free];
    for (uint32_t p = 0; p < n_pages; p++)
        memcpy(to->memory + (size_t)target->pages[p] * to->page_bytes,
               from->memory + (size_t)source->pages[p] * from->page_bytes, to->page_bytes);
}

static void copy_stream(rs_kv *to, rs_kv_stream *target, const rs_kv *from, const rs_kv_stream *source) {
    copy_pages(to, target, from, source, source->n_pages);
    target->n_used = source->n_used;
    target->n_live = source->n_live;
}

static void shrink_stream(rs_kv *kv, rs_kv_stream *stream, uint32_t n_pages) {
    while (stream->n_pages > n_pages) {
        const uint32_t page = stream->pages[--stream->n_pages];
        rs_kv_clear_page(kv, page);
        kv->free_pages[kv->n_free++] = page;
    }
}

uint32_t rs_kv_live_entries(const rs_kv *kv, uint32_t page) {
    const int32_t *position = rs_kv_get_page(kv, page).position;
    uint32_t n = 0;
    for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) n += position[e] != RS_KV_HOLE;
    return n;
}

void rs_kv_shorten(rs_kv *kv, uint32_t n_pages) {
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        rs_kv_stream *stream = &kv->streams[s];
        const uint32_t kept = stream->n_pages > n_pages ? stream->n_pages - n_pages : 0;
        for (uint32_t p = kept; p < stream->n_pages; p++)
            stream->n_live -= rs_kv_live_entries(kv, stream->pages[p]);
        if (kept < stream->n_pages) stream->n_used = kept > 0 ? RS_PAGE_ENTRIES : 0;
        shrink_stream(kv, stream, kept);
    }
}

uint32_t rs_kv_most_pages(const rs_kv *kv) {
    uint32_t most = 0;
    for (uint32_t s = 0; s < kv->n_streams; s++)
        most = kv->streams[s].n_pages > most ? kv->streams[s].n_pages : most;
    return most;
}

void rs_kv_copy(rs_kv *to, const rs_kv *from) {
    for (uint32_t s = 0; s < to->n_streams; s++) shrink_stream(to, &to->streams[s], from->streams[s].n_pages);
    for (uint32_t s = 0; s < to->n_streams; s++) copy_stream(to, &to->streams[s], from, &from->streams[s]);
}

void rs_kv_copy_below(rs_kv *to, rs_team *team, const rs_kv *from, int32_t end) {
    for (uint32_t s = 0; s < to->n_streams; s++) {
        rs_kv_stream *target = &to->streams[s];
        const rs_kv_stream *source = &from->streams[s];
        rs_kv_cursor at = {source->n_pages, 0};
        const bool cut = rs_kv_seek(from, source, end, &at) && at.page_index < source->n_pages;
        const uint32_t n_pages = cut ? at.page_index + 1 : source->n_pages;
        copy_pages(to, target, from, source, n_pages);
        target->n_used = n_pages == source->n_pages ? source->n_used : RS_PAGE_ENTRIES;
        target->n_live = 0;
        for (uint32_t p = 0; p < n_pages; p++) target->n_live += rs_kv_live_entries(to, target->pages[p]);
    }
    rs_kv_remove(to, team, end, INT32_MAX);
}
