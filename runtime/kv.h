/*
 * The KV cache: per (layer, KV head) a stream of pages from one pool, 16 entries a page, int8 keys and
 * values.
 *
 * Entries of a stream stand in ascending order of position; an entry that was removed leaves a hole (position
 * -1, all bytes zero) that attention does not see, and a page without entries goes back to the pool. Holes
 * are squeezed out only when an append needs their room. Nothing here knows about models.
 */
#ifndef RASURE_RUNTIME_KV_H
#define RASURE_RUNTIME_KV_H

#include "kernels/kernels.h"
#include "runtime/arena.h"
#include "runtime/team.h"

enum { RS_KV_HOLE = -1 };

typedef struct rs_kv_page {
    rs_page_view view;
    int32_t *position; /* 16; RS_KV_HOLE where empty */
    float *lambda;     /* 16, of the retention gates; NULL in a cache without */
} rs_kv_page;

typedef struct rs_kv_stream {
    uint32_t *pages; /* [max_pages] ids, in order of position */
    uint32_t n_pages, max_pages;
    uint32_t n_used;               /* slots handed out in the last page, 1 to 16; 0 without pages */
    uint32_t n_live;               /* entries that are no holes */
    uint32_t cleared, cleared_end; /* pages [cleared, cleared_end) that a removal has been over */
} rs_kv_stream;

struct rs_kv_journal;

typedef struct rs_kv {
    uint32_t n_streams;
    uint32_t head_dim;
    uint32_t n_pages;     /* of all streams together */
    uint32_t max_pages;   /* of the stream that can have most */
    uint32_t table_pages; /* max_pages of all streams */
    bool has_lambda;      /* pages hold what retention gates said */
    size_t page_bytes;
    unsigned char *memory; /* n_pages pages */
    rs_kv_stream *streams;
    uint32_t *free_pages; /* stack of page ids */
    uint32_t n_free;
    struct rs_kv_journal *journal; /* is told of a page before it changes; NULL: nobody is */
} rs_kv;

/* Streams that follow each other. */
typedef struct rs_streams {
    uint32_t first, count;
} rs_streams;

/* How many entries a stream has room for. */
typedef uint32_t (*rs_kv_room_fn)(const void *user, uint32_t stream);

typedef struct rs_kv_shape {
    uint32_t n_streams, head_dim;
    bool has_lambda;
    rs_kv_room_fn room;
    const void *user;
    uint32_t n_pages; /* that all streams hold together at most; 0: each may be full at once */
    bool spare;       /* beside another cache, and named so */
} rs_kv_shape;

/* Takes the cache's memory from the arena. */
void rs_kv_layout(rs_kv *kv, rs_arena *arena, const rs_kv_shape *shape);

/* Empties the cache and zeroes every page. */
void rs_kv_reset(rs_kv *kv);

/* Pages that so many entries take without holes. */
uint32_t rs_kv_pages_for(uint64_t entries);

/* Bytes of a page, holding 16 entries of head_dim. */
size_t rs_kv_page_bytes(uint32_t head_dim, bool has_lambda);

rs_kv_page rs_kv_get_page(const rs_kv *kv, uint32_t page);

/* The same of a page's bytes, wherever they are; aligned to 4. */
rs_kv_page rs_kv_page_at(const rs_kv *kv, unsigned char *bytes);

/* How many of a page's slots hold an entry. */
uint32_t rs_kv_live_entries(const rs_kv *kv, uint32_t page);

/* How many of the first `most` slots of a page, with these positions, it takes to hold all entries there. */
uint32_t rs_kv_slots_used(const int32_t *position, uint32_t most);

/* Zeroes a page; its entries become holes. */
void rs_kv_clear_page(const rs_kv *kv, uint32_t page);

/* Bytes of the pages that are in use. */
size_t rs_kv_used_bytes(const rs_kv *kv);

rs_streams rs_kv_all(const rs_kv *kv);

/* Adds entries (keys and values zero) for `count` ascending positions, all above those present, to each of
 * the streams. They MUST have room for n_live + count entries, and so MUST the pool. */
void rs_kv_append(rs_kv *kv, rs_streams streams, const int32_t *positions, uint32_t count);

/* Whether `to` has the pages that rs_kv_copy needs. */
bool rs_kv_can_hold(const rs_kv *to, const rs_kv *from);

/* Makes `to` hold what `from` holds, and nothing else. Both have the same streams; rs_kv_can_hold MUST be
 * true. */
void rs_kv_copy(rs_kv *to, const rs_kv *from);

/* Makes `to`, which is empty, hold what `from` holds at positions < end. Else as rs_kv_copy. */
void rs_kv_copy_below(rs_kv *to, rs_team *team, const rs_kv *from, int32_t end);

/* Removes the entries with begin <= position < end from all streams and zeroes their bytes. */
void rs_kv_remove(rs_kv *kv, rs_team *team, int32_t begin, int32_t end);

/* The same from some streams, with a range for each; begin >= end removes nothing. */
typedef rs_span (*rs_kv_range_fn)(const void *user, uint32_t stream);
void rs_kv_remove_each(rs_kv *kv, rs_team *team, rs_streams streams, rs_kv_range_fn range, const void *user);

/* Removes the last n_pages pages of each stream and zeroes them. */
void rs_kv_shorten(rs_kv *kv, uint32_t n_pages);

/* Pages of the stream that has most. */
uint32_t rs_kv_most_pages(const rs_kv *kv);

/* An entry of a stream. */
typedef struct rs_kv_cursor {
    uint32_t page_index; /* into stream->pages */
    uint32_t slot;
} rs_kv_cursor;

/* Removes single entries: clears one (each stream by one thread), and when all are cleared gives the pages
 * back that hold no entry any more. Nothing else may be done to the cache in between. */
void rs_kv_clear(rs_kv *kv, rs_kv_stream *stream, rs_kv_cursor at);
void rs_kv_give_back(rs_kv *kv);

/* The same in two other steps: marks one, its bytes left, and when all are marked moves the entries behind
 * the first of each stream up over them. No hole is left there, and nothing of what was marked. */
void rs_kv_mark(rs_kv *kv, rs_kv_stream *stream, rs_kv_cursor at);
void rs_kv_close_holes(rs_kv *kv, rs_team *team, rs_streams streams);

/* Entries that are lent to some streams at a time: room for `words` * 32 positions of each. */
typedef struct rs_kv_loan {
    uint32_t *lent; /* [streams][words], a bit for each position */
    uint32_t words;
} rs_kv_loan;

/* Adds entries (keys and values zero) for those of `count` ascending positions that a stream does not have,
 * each at its place, and notes which. The streams MUST have room for n_live + count entries, and so MUST the
 * pool. */
void rs_kv_lend(rs_kv *kv, const rs_kv_loan *loan, rs_streams streams, const int32_t *positions,
                uint32_t count);

/* Removes those entries again. */
void rs_kv_take_back(rs_kv *kv, rs_team *team, const rs_kv_loan *loan, rs_streams streams,
                     const int32_t *positions, uint32_t count);

/* Adds entries (keys and values zero) for `count` ascending positions, none of which any stream has, each at
 * its place. All MUST have room for n_live + count entries, and so MUST the pool. */
void rs_kv_insert(rs_kv *kv, const int32_t *positions, uint32_t count);

/* Whether every stream has room for `count` more entries, and the pool for those of `at_once` streams. */
bool rs_kv_has_room(const rs_kv *kv, uint32_t count, uint32_t at_once);

/* The first entry with position >= `position`; false if there is none. */
bool rs_kv_seek(const rs_kv *kv, const rs_kv_stream *stream, int32_t position, rs_kv_cursor *cursor);

/* The next entry that is no hole; false at the end. */
bool rs_kv_next(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor *cursor);

/* Moves on to the entry at `position`, which stands behind the cursor; false if there is none. */
bool rs_kv_advance(const rs_kv *kv, const rs_kv_stream *stream, int32_t position, rs_kv_cursor *cursor);

int32_t rs_kv_position(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at);

/* ------------------------------------------------------------------------------ saved (kv_saved.c) -- */

/* A stream's pages as they were saved, one behind the other. */
typedef struct rs_kv_saved {
    unsigned char *pages; /* only read; aligned to 4 */
    uint32_t n_pages, n_used;
} rs_kv_saved;

/* What is wrong with them, which come from a file, or NULL: they MUST hold an entry for each of the n tokens
 * at `positions` (ascending) but for some at positions within `gone`, and nothing else. *n_live: how many. */
const char *rs_kv_saved_fault(const rs_kv *kv, const rs_kv_saved *saved, const int32_t *positions, uint32_t n,
                              rs_span gone, uint32_t *n_live);

/* Makes a stream without pages hold them. There MUST be room. */
void rs_kv_restore(rs_kv *kv, rs_kv_stream *stream, const rs_kv_saved *saved);

/* ------------------------------------------------------------------------------ entries (kv_entry.c) -- */

/* Copies n entries that follow each other in a page to slots that do so in another, or in the same one
 * further up. */
void rs_kv_copy_entries(const rs_kv *kv, const rs_kv_page *to, uint32_t to_slot, const rs_kv_page *from,
                        uint32_t from_slot, uint32_t n);

/* Quantises one key and one value [head_dim] into an entry. `scratch`: head_dim int8. */
void rs_kv_store(const rs_kv *kv, const rs_kernels *kernels, const rs_kv_stream *stream, rs_kv_cursor at,
                 const float *key, const float *value, int8_t *scratch);

/* What a gate said of an entry, in a cache that has it. */
void rs_kv_set_lambda(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at, float lambda);
float rs_kv_lambda(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at);

/* The length of an entry's key, squared. */
float rs_kv_key_norm(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at);

/* Entries that move together. */
typedef struct rs_kv_rotation {
    int32_t begin, end;         /* positions of them, half-open */
    int32_t by;                 /* positions that they move; the stream's order MUST stay */
    const float *cosine, *sine; /* [dim / 2] of `by` positions; for rotate_keys, with or without room */
    bool room;
    const rs_turn *back, *turn; /* [dim / 2] for turn_keys; `turn` NULL: rotate_keys */
    size_t dim;
    int interleaved;
} rs_kv_rotation;

/* Moves them and rotates their keys. */
void rs_kv_rotate(const rs_kv *kv, const rs_kernels *kernels, const rs_kv_stream *stream,
                  const rs_kv_rotation *rotation);

/* Key and value of an entry as floats. */
void rs_kv_load_key(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at, float *key);
void rs_kv_load_value(const rs_kv *kv, const rs_kv_stream *stream, rs_kv_cursor at, float *value);

#endif
