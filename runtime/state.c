/*
 * Saving a context and loading it: a head, the token list, the streams' lengths, logits, the pages as they
 * lie in memory, and a checksum. Numbers are little-endian, as on all machines that this runs on; parts are
 * aligned to 4. What comes from a file is checked whole before the context changes.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "runtime/checked.h"
#include "runtime/context.h"
#include "runtime/hash.h"
#include "runtime/status.h"

enum { VERSION = 2, ALIGN = 8 };

static const char MAGIC[8] = {'r', 'a', 's', 'u', 'r', 'e', 'K', 'V'};

typedef struct head {
    char magic[sizeof MAGIC];
    uint32_t version;
    uint32_t n_logits;
    uint64_t model, policy; /* fingerprints */
    uint32_t n_tokens;
    int32_t next_position, head_end;
    uint32_t first_cheap;
    int32_t evicted_begin, evicted_end;
} head;

typedef struct stream_length {
    uint32_t n_pages, n_used;
} stream_length;

_Static_assert(sizeof(head) == 56 && sizeof(head) % ALIGN == 0, "no padding, and what follows is aligned");
_Static_assert(sizeof(stream_length) == 8, "no padding");

/* ------------------------------------------------------------------------------------------- saving -- */

typedef struct writer {
    rs_write_fn write;
    void *user;
    uint64_t hash;
    bool stopped;
} writer;

static void put(writer *w, const void *data, size_t bytes) {
    w->hash = rs_fnv1a(w->hash, data, bytes);
    w->stopped = w->stopped || (bytes > 0 && !w->write(w->user, data, bytes));
}

static void put_cache(writer *w, const rs_kv *kv) {
    for (uint32_t s = 0; s < kv->n_streams; s++) {
        const rs_kv_stream *stream = &kv->streams[s];
        for (uint32_t p = 0; p < stream->n_pages && !w->stopped; p++)
            put(w, kv->memory + (size_t)stream->pages[p] * kv->page_bytes, kv->page_bytes);
    }
}

rs_status rs_context_save(rs_context *context, rs_write_fn write, void *user) {
    RS_TRY(rs_context_check(context));
    rs_context *c = context;
    if (write == NULL) return rs_fail(&c->error, RS_INVALID_ARGUMENT, "write is NULL");
    head h = {.version = VERSION,
              .n_logits = c->has_logits ? c->model->shape.n_vocab : 0,
              .model = rs_model_fingerprint(c->model),
              .policy = rs_policy_fingerprint(&c->policy),
              .n_tokens = c->n_tokens,
              .next_position = c->next_position,
              .head_end = c->head_end,
              .first_cheap = c->first_cheap,
              .evicted_begin = c->policy.evicted.begin,
              .evicted_end = c->policy.evicted.end};
    memcpy(h.magic, MAGIC, sizeof MAGIC);
    writer w = {write, user, RS_FNV1A_START, false};
    put(&w, &h, sizeof h);
    put(&w, c->tokens, c->n_tokens * sizeof *c->tokens);
    put(&w, c->positions, c->n_tokens * sizeof *c->positions);
    put(&w, c->turns, c->n_tokens * sizeof *c->turns);
    for (uint32_t s = 0; s < c->kv.n_streams; s++)
        put(&w, &(stream_length){c->kv.streams[s].n_pages, c->kv.streams[s].n_used}, sizeof(stream_length));
    put(&w, c->logits, h.n_logits * sizeof *c->logits);
    put_cache(&w, &c->kv);
    const uint64_t hash = w.hash;
    put(&w, &hash, sizeof hash);
    return w.stopped ? rs_fail(&c->error, RS_STOPPED, "stopped by the callback that writes") : RS_OK;
}

/* ------------------------------------------------------------------------------------------ loading -- */

/* What was saved, in the caller's memory. */
typedef struct saved {
    const head *h;
    const int32_t *tokens, *positions, *turns;
    const stream_length *lengths;
    const float *logits;
    unsigned char *pages; /* only read */
} saved;

typedef struct reader {
    unsigned char *at;
    size_t left;
    bool short_of; /* less was left than was asked for */
} reader;

static void *take(reader *r, uint64_t count, size_t size) {
    size_t n, bytes;
    if (r->short_of || !rs_u64_to_size(count, &n) || !rs_mul_size(n, size, &bytes) || bytes > r->left) {
        r->short_of = true;
        return NULL;
    }
    void *data = r->at;
    r->at += bytes;
    r->left -= bytes;
    return data;
}

static rs_status damaged(rs_context *c, const char *what) {
    return rs_fail(&c->error, RS_BAD_FILE, "the saved context is damaged: %s", what);
}

static rs_status check_head(rs_context *c, const head *h) {
    if (h == NULL || memcmp(h->magic, MAGIC, sizeof MAGIC) != 0)
        return rs_fail(&c->error, RS_BAD_FILE, "this is no saved context");
    if (h->version != VERSION) {
        return rs_fail(&c->error, RS_UNSUPPORTED, "the saved context is of version %" PRIu32 ", not %d",
                       h->version, VERSION);
    }
    if (h->model != rs_model_fingerprint(c->model))
        return rs_fail(&c->error, RS_MISMATCH, "the saved context is of another model");
    if (h->policy != rs_policy_fingerprint(&c->policy))
        return rs_fail(&c->error, RS_MISMATCH, "the saved context keeps other entries: its policy differs");
    return RS_OK;
}

static rs_status check_room(rs_context *c, const saved *s, uint64_t *n_pages) {
    bool fits = s->h->n_tokens <= c->params.n_ctx;
    *n_pages = 0;
    for (uint32_t i = 0; i < c->kv.n_streams; i++) {
        fits = fits && s->lengths[i].n_pages <= c->kv.streams[i].max_pages;
        *n_pages += s->lengths[i].n_pages;
    }
    if (fits && *n_pages <= c->kv.n_pages) return RS_OK;
    return rs_fail(&c->error, RS_NO_SPACE,
                   "the %" PRIu32 " tokens of the saved context do not fit a cache for %" PRIu32,
                   s->h->n_tokens, c->params.n_ctx);
}

/* Finds the parts; afterwards all of them are there, their contents not looked at. */
static rs_status find_parts(rs_context *c, unsigned char *data, size_t bytes, saved *s) {
    static const char short_or_long[] = "it is cut off, or too long";
    reader r = {data, bytes, false};
    uint64_t n_pages, hash;
    s->h = take(&r, 1, sizeof *s->h);
    RS_TRY(check_head(c, s->h));
    s->tokens = take(&r, s->h->n_tokens, sizeof *s->tokens);
    s->positions = take(&r, s->h->n_tokens, sizeof *s->positions);
    s->turns = take(&r, s->h->n_tokens, sizeof *s->turns);
    s->lengths = take(&r, c->kv.n_streams, sizeof *s->lengths);
    if (r.short_of) return damaged(c, short_or_long);
    RS_TRY(check_room(c, s, &n_pages));
    s->logits = take(&r, s->h->n_logits, sizeof *s->logits);
    s->pages = take(&r, n_pages, c->kv.page_bytes);
    const void *end = take(&r, 1, sizeof hash);
    if (end == NULL || r.left > 0) return damaged(c, short_or_long);
    memcpy(&hash, end, sizeof hash);
    if (hash != rs_fnv1a(RS_FNV1A_START, data, bytes - sizeof hash))
        return damaged(c, "its checksum does not fit");
    return RS_OK;
}

/* Keys that were turned stood at a position before. */
static bool is_turn(int32_t turn, int32_t position) {
    const int64_t before = (int64_t)position - turn;
    return turn == RS_KEYS_READ || turn == RS_KEYS_MOVED || (before >= 0 && before < INT32_MAX);
}

static const char *list_fault(const rs_context *c, const saved *s) {
    const head *h = s->h;
    int32_t next = 0;
    for (uint32_t i = 0; i < h->n_tokens; i++) {
        const bool known = s->tokens[i] >= 0 && (uint32_t)s->tokens[i] < c->model->shape.n_vocab;
        if (!known && s->tokens[i] != RS_TOKEN_GONE) return "a token is not in the vocabulary";
        if (s->positions[i] < next || s->positions[i] >= h->next_position)
            return "positions are out of order";
        next = s->positions[i] + 1;
        if (!is_turn(s->turns[i], s->positions[i])) return "keys have come from nowhere";
    }
    if (h->next_position < 0 || h->head_end < 0 || h->head_end > h->next_position)
        return "a position is out of range";
    if (h->first_cheap != RS_NOTHING_CHEAP && h->first_cheap >= h->n_tokens)
        return "a token that is to be read again is not there";
    const bool full = c->params.policy.policy == RS_POLICY_FULL;
    if (h->evicted_begin < 0 || h->evicted_end > h->next_position || h->evicted_begin > h->evicted_end ||
        (full && h->evicted_begin != h->evicted_end))
        return "what was evicted is out of range";
    if (h->n_logits != 0 && h->n_logits != c->model->shape.n_vocab) return "there are not so many logits";
    for (uint32_t i = 0; i < h->n_logits; i++)
        if (!isfinite(s->logits[i])) return "a logit is no number";
    return NULL;
}

static rs_kv_saved stream_of(const rs_context *c, const saved *s, uint32_t stream, unsigned char **pages) {
    const rs_kv_saved of = {*pages, s->lengths[stream].n_pages, s->lengths[stream].n_used};
    *pages += of.n_pages * c->kv.page_bytes;
    return of;
}

static rs_status check_streams(rs_context *c, const saved *s) {
    const rs_span evicted = {s->h->evicted_begin, s->h->evicted_end};
    unsigned char *pages = s->pages;
    uint64_t n_all = 0;
    for (uint32_t i = 0; i < c->kv.n_streams; i++) {
        const rs_kv_saved of = stream_of(c, s, i, &pages);
        uint32_t n_live;
        const char *fault = rs_kv_saved_fault(&c->kv, &of, s->positions, s->h->n_tokens,
                                              rs_policy_gone_from(&c->policy, i, evicted), &n_live);
        if (fault != NULL) return damaged(c, fault);
        if (n_live > rs_policy_most_kept(&c->policy, i, c->params.n_ctx, c->params.n_batch))
            return damaged(c, "a stream holds more than the policy keeps");
        n_all += n_live;
    }
    return n_all <= rs_policy_most_kept_of_all(&c->policy)
               ? RS_OK
               : damaged(c, "it holds more than the policy keeps");
}

static void apply(rs_context *c, const saved *s) {
    const head *h = s->h;
    rs_context_reset(c);
    memcpy(c->tokens, s->tokens, h->n_tokens * sizeof *c->tokens);
    memcpy(c->positions, s->positions, h->n_tokens * sizeof *c->positions);
    memcpy(c->turns, s->turns, h->n_tokens * sizeof *c->turns);
    c->n_tokens = h->n_tokens;
    c->next_position = h->next_position;
    c->head_end = h->head_end;
    c->first_cheap = h->first_cheap;
    rs_policy_set_evicted(&c->policy, (rs_span){h->evicted_begin, h->evicted_end});
    unsigned char *pages = s->pages;
    for (uint32_t i = 0; i < c->kv.n_streams; i++) {
        const rs_kv_saved of = stream_of(c, s, i, &pages);
        rs_kv_restore(&c->kv, &c->kv.streams[i], &of);
    }
    memcpy(c->logits, s->logits, h->n_logits * sizeof *c->logits);
    c->has_logits = h->n_logits > 0;
}

rs_status rs_context_load(rs_context *context, const void *data, size_t bytes) {
    if (context == NULL) return RS_INVALID_ARGUMENT;
    rs_context *c = context;
    if (data == NULL || (uintptr_t)data % ALIGN != 0)
        return rs_fail(&c->error, RS_INVALID_ARGUMENT, "data is NULL, or not aligned to %d", ALIGN);
    saved s = {0};
    RS_TRY(find_parts(c, (unsigned char *)(uintptr_t)data, bytes, &s));
    const char *fault = list_fault(c, &s);
    if (fault != NULL) return damaged(c, fault);
    RS_TRY(check_streams(c, &s));
    apply(c, &s);
    return RS_OK;
}
