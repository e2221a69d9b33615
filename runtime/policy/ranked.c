/*
 * The lowest of all streams without a list of them: a key of 64 bits is made of score and position, and its
 * limit found digit by digit, by counting over the pages again. What that takes does not grow with the cache.
 */
#include "runtime/policy/ranked.h"

#include <string.h>

#include "kernels/inline.h"
#include "kernels/ref/math.h"

enum { DIGIT = 11, BINS = 1 << DIGIT, KEY_BITS = 64, PAGES_AHEAD = 8 };

/* What a pass finds out about a stream. */
typedef struct rs_ranked_stream {
    uint64_t protected_from; /* keys from here on are among the best that the floor keeps */
    uint32_t n_loose;        /* entries that may go */
    uint32_t n_equal;        /* of them, those with the limit's key that do go */
} rs_ranked_stream;

void rs_ranked_layout(rs_ranked_work *work, rs_arena *arena, uint32_t n_streams, uint32_t threads) {
    work->threads = threads;
    work->counts = rs_arena_take_scratch(arena, "policy", (size_t)threads * BINS, sizeof *work->counts);
    work->streams = rs_arena_take_scratch(arena, "policy", n_streams, sizeof *work->streams);
}

/* Of entries that may not go: above all keys. */
static const uint64_t NO_KEY = UINT64_MAX;

typedef struct search {
    const rs_ranked_work *work;
    const rs_ranked_plan *plan;
    rs_kv *kv;
    uint64_t known; /* the limit's digits that are known; the others are zero */
    int shift;      /* of the digit that is counted */
    uint64_t limit; /* keys below it go */
} search;

/* Positions of the entries that a stream may lose. */
static rs_span middle_of(const search *s, const rs_kv_stream *stream) {
    const ptrdiff_t index = stream - s->kv->streams;
    return index < (ptrdiff_t)s->plan->n_read ? s->plan->middle : s->plan->middle_of_rest;
}

/* Keys of a page's entries. They ascend with the score, then with the position. The loop is one that
 * compilers make vector code of. */
static void keys_of(int32_t now, rs_span middle, const rs_kv_page *page, uint64_t key[RS_PAGE_ENTRIES]) {
    uint32_t upper[RS_PAGE_ENTRIES], lower[RS_PAGE_ENTRIES];
    RS_KEEP_LOOP
    for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) {
        const int32_t position = page->position[e];
        const float score = rs_ranked_score(page->lambda[e], now, position) + 0.0F; /* -0 is 0 */
        const uint32_t bits = rs_float_bits(score), sign = 0U - (bits >> 31);
        const bool stays = position < middle.begin || position >= middle.end;
        const uint32_t none = 0U - (uint32_t)stays;
        upper[e] = (bits ^ (sign | 0x80000000U)) | none;
        lower[e] = (uint32_t)position | none;
    }
    for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) key[e] = (uint64_t)upper[e] << 32 | lower[e];
}

/* Has what keys are made of fetched ahead: pages lie apart in memory, and hardware does not foresee them. */
static void look_ahead(const rs_kv *kv, const rs_kv_stream *stream, uint32_t page) {
    if (page >= stream->n_pages) return;
    const rs_kv_page next = rs_kv_get_page(kv, stream->pages[page]);
    __builtin_prefetch(next.lambda);
    __builtin_prefetch(next.position);
}

/* Calls `each` with the key of every entry of a stream. Inline, so that the call is none. */
RS_INLINE void over_entries(const search *s, const rs_kv_stream *stream,
                            void (*each)(void *user, uint64_t key, rs_kv_cursor at), void *user) {
    const rs_span middle = middle_of(s, stream);
    for (uint32_t p = 0; p < stream->n_pages; p++) {
        const rs_kv_page page = rs_kv_get_page(s->kv, stream->pages[p]);
        look_ahead(s->kv, stream, p + PAGES_AHEAD);
        uint64_t key[RS_PAGE_ENTRIES];
        keys_of(s->plan->now, middle, &page, key);
        for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) each(user, key[e], (rs_kv_cursor){p, e});
    }
}

/* ------------------------------------------------------------------------------------------ the floor -- */

typedef struct best {
    uint64_t keys[RS_RANKED_MAX_FLOOR]; /* a heap, the lowest first */
    uint32_t n, wanted;
} best;

static void sift_down(best *b) {
    uint32_t at = 0;
    const uint64_t key = b->keys[0];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= b->n) break;
        if (child + 1 < b->n && b->keys[child + 1] < b->keys[child]) child++;
        if (b->keys[child] >= key) break;
        b->keys[at] = b->keys[child];
        at = child;
    }
    b->keys[at] = key;
}

static void sift_up(best *b) {
    uint32_t at = b->n - 1;
    const uint64_t key = b->keys[at];
    for (; at > 0 && b->keys[(at - 1) / 2] > key; at = (at - 1) / 2) b->keys[at] = b->keys[(at - 1) / 2];
    b->keys[at] = key;
}

static void note_best(void *user, uint64_t key, rs_kv_cursor at) {
    best *b = user;
    (void)at;
    if (key == NO_KEY) return;
    if (b->n < b->wanted) {
        b->keys[b->n++] = key;
        sift_up(b);
    } else if (b->wanted > 0 && key > b->keys[0]) {
        b->keys[0] = key;
        sift_down(b);
    }
}

/* Entries of a stream that may not go: few, at its ends. */
static uint32_t count_pinned(const search *s, const rs_kv_stream *stream) {
    const rs_span middle = middle_of(s, stream);
    uint32_t n = 0;
    rs_kv_cursor at;
    bool more = rs_kv_seek(s->kv, stream, 0, &at);
    for (; more && rs_kv_position(s->kv, stream, at) < middle.begin; n++)
        more = rs_kv_next(s->kv, stream, &at);
    more = rs_kv_seek(s->kv, stream, middle.end, &at);
    for (; more; n++) more = rs_kv_next(s->kv, stream, &at);
    return n;
}

/* How many entries of a stream may go, and which of them its floor keeps. Keys of a stream are all
 * different. */
static void protect(void *argument, size_t thread, size_t index) {
    const search *s = argument;
    const rs_kv_stream *stream = &s->kv->streams[index];
    rs_ranked_stream *found = &s->work->streams[index];
    (void)thread;
    const uint32_t pinned = count_pinned(s, stream);
    best b;
    b.n = 0;
    b.wanted = s->plan->floor > pinned ? s->plan->floor - pinned : 0;
    if (b.wanted > 0) over_entries(s, stream, note_best, &b);
    found->protected_from = b.n > 0 ? b.keys[0] : NO_KEY;
    found->n_loose = stream->n_live - pinned - b.n;
}

/* ------------------------------------------------------------------------------------------- the limit -- */

typedef struct counting {
    const search *search;
    uint64_t protected_from;
    uint32_t *counts;
} counting;

static void count_digit(void *user, uint64_t key, rs_kv_cursor at) {
    const counting *c = user;
    const int above = c->search->shift + DIGIT;
    (void)at;
    if (key >= c->protected_from) return;
    if (above < KEY_BITS && key >> above != c->search->known >> above) return;
    c->counts[key >> c->search->shift & (BINS - 1)]++;
}

static void count_stream(void *argument, size_t thread, size_t index) {
    const search *s = argument;
    counting c = {s, s->work->streams[index].protected_from, s->work->counts + thread * BINS};
    over_entries(s, &s->kv->streams[index], count_digit, &c);
}

/* Finds the limit below which `n` entries go, 0 < n <= those that may. Returns how many of them have just the
 * limit's own key, and so are chosen among by their streams. */
static uint64_t find_limit(search *s, rs_team *team, uint64_t n) {
    uint32_t *counts = s->work->counts;
    for (s->shift = KEY_BITS - KEY_BITS % DIGIT; s->shift >= 0; s->shift -= DIGIT) {
        memset(counts, 0, (size_t)s->work->threads * BINS * sizeof *counts);
        rs_team_run(team, count_stream, s, s->kv->n_streams);
        uint64_t digit = 0, held = 0;
        for (;; digit++) {
            held = 0;
            for (uint32_t t = 0; t < s->work->threads; t++) held += counts[(size_t)t * BINS + digit];
            if (held >= n) break;
            n -= held;
        }
        s->known |= digit << s->shift;
        if (held == n) { /* the whole bin goes: no need to look into it */
            s->limit = s->known + ((uint64_t)1 << s->shift);
            return 0;
        }
    }
    s->limit = s->known;
    return n;
}

/* --------------------------------------------------------------------------------------------- eviction --
 */

typedef struct clearing {
    const search *search;
    rs_kv_stream *stream;
    rs_ranked_stream *found;
} clearing;

static void clear_below(void *user, uint64_t key, rs_kv_cursor at) {
    const clearing *c = user;
    if (key >= c->found->protected_from) return;
    if (key == c->search->limit && c->found->n_equal > 0) c->found->n_equal--;
    else if (key >= c->search->limit) return;
    rs_kv_mark(c->search->kv, c->stream, at);
}

static void clear_stream(void *argument, size_t thread, size_t index) {
    const search *s = argument;
    clearing c = {s, &s->kv->streams[index], &s->work->streams[index]};
    (void)thread;
    over_entries(s, c.stream, clear_below, &c);
}

static void count_limit(void *user, uint64_t key, rs_kv_cursor at) {
    clearing *c = user;
    (void)at;
    if (key < c->found->protected_from && key == c->search->limit) c->found->n_equal++;
}

/* Gives the entries that have the limit's own key and go to the first streams. */
static void share_equal(search *s, uint64_t n) {
    for (uint32_t i = 0; i < s->kv->n_streams; i++) {
        clearing c = {s, &s->kv->streams[i], &s->work->streams[i]};
        c.found->n_equal = 0;
        if (n == 0) continue;
        over_entries(s, c.stream, count_limit, &c);
        if (c.found->n_equal > n) c.found->n_equal = (uint32_t)n;
        n -= c.found->n_equal;
    }
}

bool rs_ranked_evict(const rs_ranked_work *work, const rs_ranked_plan *plan, rs_kv *kv, rs_team *team) {
    search s = {.work = work, .plan = plan, .kv = kv};
    uint64_t live = 0, loose = 0;
    for (uint32_t i = 0; i < kv->n_streams; i++) live += kv->streams[i].n_live;
    if (live <= plan->budget) return false;
    rs_team_run(team, protect, &s, kv->n_streams);
    for (uint32_t i = 0; i < kv->n_streams; i++) loose += work->streams[i].n_loose;
    const uint64_t excess = live - plan->budget, n = excess < loose ? excess : loose;
    if (n == 0) return false;
    share_equal(&s, find_limit(&s, team, n));
    rs_team_run(team, clear_stream, &s, kv->n_streams);
    rs_kv_close_holes(kv, team, rs_kv_all(kv));
    return true;
}
