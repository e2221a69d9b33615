/* Policies that evict: what streams hold, what is computed with it, and what erasing and going back promise.
 */
#include "runtime/policy/policy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/forward.h"
#include "tests/support/support.h"

enum { N_CTX = 300, N_BATCH = 16, SINKS = 4, WINDOW = 24, MAX_STREAMS = 64 };

static uint32_t n_streams(const rs_model *model) {
    return model->shape.n_layers * model->shape.n_kv_heads;
}

static rs_context *windowed(const rs_model *model, uint32_t sinks, uint32_t window) {
    return rs_test_context_of(
        model,
        &(rs_context_params){.n_ctx = N_CTX,
                             .n_batch = N_BATCH,
                             .policy = {.policy = RS_POLICY_WINDOW, .sinks = sinks, .window = window}});
}

/* Every third head keeps everything. */
static rs_context *some_heads(const rs_model *model, bool *full_heads) {
    assert_true(n_streams(model) <= MAX_STREAMS);
    for (uint32_t s = 0; s < n_streams(model); s++) full_heads[s] = s % 3 == 1;
    return rs_test_context_of(model, &(rs_context_params){.n_ctx = N_CTX,
                                                          .n_batch = N_BATCH,
                                                          .policy = {.policy = RS_POLICY_HEADS,
                                                                     .sinks = SINKS,
                                                                     .window = WINDOW,
                                                                     .full_heads = full_heads}});
}

enum { BUDGET = 60 };

static rs_context *scored(const rs_model *model, rs_policy policy, const bool *full_heads) {
    return rs_test_context_of(model, &(rs_context_params){.n_ctx = N_CTX,
                                                          .n_batch = N_BATCH,
                                                          .policy = {.policy = policy,
                                                                     .sinks = SINKS,
                                                                     .window = WINDOW,
                                                                     .budget = BUDGET,
                                                                     .full_heads = full_heads}});
}

enum { OBSERVERS = 4, DECODED = 40 };

static rs_context *by_share(const rs_model *model, rs_policy policy, float keep) {
    return rs_test_context_of(
        model, &(rs_context_params){
                   .n_ctx = N_CTX,
                   .n_batch = N_BATCH,
                   .policy = {.policy = policy, .keep = keep, .observers = OBSERVERS, .decoded = DECODED}});
}

static rs_context *of_policy(const rs_model *model, rs_policy policy) {
    bool heads[MAX_STREAMS];
    switch (policy) {
    case RS_POLICY_WINDOW: return windowed(model, SINKS, WINDOW);
    case RS_POLICY_HEADS: return some_heads(model, heads);
    case RS_POLICY_RANDOM:
    case RS_POLICY_KEYNORM: return scored(model, policy, NULL);
    case RS_POLICY_SNAPKV:
    case RS_POLICY_PYRAMIDKV: return by_share(model, policy, 0.5F);
    default: return rs_test_context(model, N_CTX, N_BATCH);
    }
}

/* Reads in chunks of N_BATCH, whatever the number. */
static void read_tokens(rs_context *c, const int32_t *tokens, uint32_t count) {
    rs_test_ok(c, rs_decode(c, tokens, count));
}

/* ------------------------------------------------------------------------------------- what is held -- */

static void test_window_holds_sinks_and_the_last(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = windowed(model, SINKS, WINDOW);
    for (uint32_t n = 0; n < 120;) {
        const uint32_t count = 1 + n % 20;
        read_tokens(c, tokens + n, count);
        n += count;
        for (uint32_t s = 0; s < n_streams(model); s++) {
            for (uint32_t i = 0; i < n; i++)
                assert_int_equal(rs_test_holds(c, s, (int32_t)i), i < SINKS || i + WINDOW >= n);
            assert_int_equal(c->kv.streams[s].n_live, n < SINKS + WINDOW ? n : SINKS + WINDOW);
        }
    }
    assert_int_equal(c->n_tokens > 100, true); /* the list keeps them all */
    rs_test_free(c);
}

static void test_full_heads_hold_everything(void **state) {
    const rs_model *model = *state;
    bool full_heads[MAX_STREAMS];
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = some_heads(model, full_heads);
    bool kept[MAX_STREAMS];
    memcpy(kept, full_heads, sizeof kept);
    memset(full_heads, 0, sizeof full_heads); /* the context has its own */
    read_tokens(c, tokens, N_CTX);
    for (uint32_t s = 0; s < n_streams(model); s++)
        assert_int_equal(c->kv.streams[s].n_live, kept[s] ? N_CTX : SINKS + WINDOW);
    rs_test_free(c);
}

/* What is reported is what a window needs, however long the context; and every byte of it is enough. */
static void test_room(void **state) {
    const rs_model *model = *state;
    rs_context_params params = {.n_ctx = 4096,
                                .n_batch = N_BATCH,
                                .policy = {.policy = RS_POLICY_WINDOW, .sinks = 64, .window = 128}};
    rs_error error;
    size_t bytes, more, full;
    assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_OK);
    params.n_ctx = 8192;
    assert_int_equal(rs_context_size(model, &params, &more, &error), RS_OK);
    params.policy = (rs_policy_params){0};
    assert_int_equal(rs_context_size(model, &params, &full, &error), RS_OK);
    assert_int_equal(more - bytes, 4096 * 3 * sizeof(int32_t)); /* the list: tokens, positions, turns */
    assert_true(more < full / 4);
}

/* A chunk needs room in one layer at a time, in all policies of which each stream evicts by itself. */
static void test_room_for_a_chunk(void **state) {
    enum { BATCH = 128 };
    const rs_model *model = *state;
    const rs_policy_params policies[] = {
        {.policy = RS_POLICY_WINDOW, .sinks = SINKS, .window = WINDOW},
        {.policy = RS_POLICY_RANDOM, .sinks = SINKS, .window = WINDOW, .budget = BUDGET},
        {.policy = RS_POLICY_KEYNORM, .sinks = SINKS, .window = WINDOW, .budget = BUDGET},
        {.policy = RS_POLICY_SNAPKV, .keep = 0.1F, .observers = OBSERVERS, .decoded = 1},
        {.policy = RS_POLICY_PYRAMIDKV, .keep = 0.1F, .observers = OBSERVERS, .decoded = 1},
    };
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        rs_context *c = rs_test_context_of(
            model, &(rs_context_params){.n_ctx = N_CTX, .n_batch = BATCH, .policy = policies[i]});
        read_tokens(c, tokens, N_CTX);
        uint32_t kept = 0, at_once = 0; /* entries; pages, if all layers had the chunk at once */
        for (uint32_t s = 0; s < c->kv.n_streams; s++) {
            kept += c->kv.streams[s].n_live;
            at_once += c->kv.streams[s].max_pages;
        }
        rs_footprint footprint;
        assert_int_equal(rs_context_footprint(c, &footprint), RS_OK);
        assert_true(footprint.peak_entries >= BATCH * model->shape.n_kv_heads);
        assert_true(footprint.peak_bytes <= (size_t)c->kv.n_pages * c->kv.page_bytes);
        const uint32_t saved = (c->kv.n_streams - model->shape.n_kv_heads) * (BATCH / RS_PAGE_ENTRIES);
        assert_int_equal(c->kv.n_pages, at_once - saved);
        assert_true(kept < (uint32_t)BATCH * c->kv.n_streams);
        rs_test_free(c);
    }
}

/* ----------------------------------------------------------------------------------- what is computed -- */

static void test_before_it_evicts_it_is_a_full_cache(void **state) {
    const rs_model *model = *state;
    int32_t tokens[SINKS + WINDOW];
    rs_test_make_tokens(model, tokens, SINKS + WINDOW);
    rs_context *c = windowed(model, SINKS, WINDOW), *full = rs_test_context(model, N_CTX, N_BATCH);
    read_tokens(c, tokens, SINKS + WINDOW);
    read_tokens(full, tokens, SINKS + WINDOW);
    rs_test_same_cache(full, c);
    assert_memory_equal(rs_logits(c, NULL), rs_logits(full, NULL), model->shape.n_vocab * sizeof(float));
    rs_test_free(c);
    rs_test_free(full);
}

/* Sum of the differences of the logits, relative to their size. */
static double distance(const rs_context *a, const rs_context *b) {
    double difference = 0, size = 0;
    for (uint32_t v = 0; v < a->model->shape.n_vocab; v++) {
        difference += fabs((double)a->logits[v] - (double)b->logits[v]);
        size += fabs((double)b->logits[v]);
    }
    return difference / size;
}

/* Appends tokens and shows them only some of those before. */
static void read_masked(rs_context *c, const int32_t *tokens, uint32_t count, rs_visible visible) {
    const uint32_t n = c->n_tokens;
    for (uint32_t i = n; i < n + count; i++) {
        c->tokens[i] = tokens[i];
        c->positions[i] = (int32_t)i;
    }
    c->n_tokens += count;
    rs_kv_append(&c->kv, rs_kv_all(&c->kv), c->positions + n, count);
    rs_test_ok(c, rs_forward(c, &(rs_pass){.tokens = c->tokens + n,
                                           .positions = c->positions + n,
                                           .count = count,
                                           .visible = visible,
                                           .logits = true}));
}

/* A full cache whose passes are shown the sinks and the last of what came before their chunk: the same, but
 * that entries lie in other pages, so that sums are grouped otherwise and rounded otherwise. */
static void test_window_is_a_mask(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = windowed(model, SINKS, WINDOW), *masked = rs_test_context(model, N_CTX, N_BATCH),
               *full = rs_test_context(model, N_CTX, N_BATCH);
    double to_masked = 0, to_full = 0;
    for (uint32_t n = 0, chunk = 1; n + chunk <= N_CTX; n += chunk, chunk = 1 + (chunk * 7) % N_BATCH) {
        const rs_visible window = {.sinks_end = SINKS, .window_begin = (int32_t)(n - WINDOW)};
        read_masked(masked, tokens, chunk, n > SINKS + WINDOW ? window : rs_visible_all());
        read_tokens(c, tokens + n, chunk);
        read_tokens(full, tokens + n, chunk);
        if (n < 100) assert_true(distance(c, masked) < 1e-5); /* pages are grouped the same way so far */
        to_masked += distance(c, masked);
        to_full += distance(c, full);
    }
    assert_true(c->n_tokens > 10 * WINDOW);
    assert_true(to_masked < 0.1 * to_full);
    rs_test_free(c);
    rs_test_free(masked);
    rs_test_free(full);
}

static void test_all_heads_or_none(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N_CTX];
    bool heads[MAX_STREAMS];
    rs_test_make_tokens(model, tokens, N_CTX);
    for (int all = 0; all <= 1; all++) {
        for (uint32_t s = 0; s < MAX_STREAMS; s++) heads[s] = all == 1;
        rs_context *c = rs_test_context_of(model, &(rs_context_params){.n_ctx = N_CTX,
                                                                       .n_batch = N_BATCH,
                                                                       .policy = {.policy = RS_POLICY_HEADS,
                                                                                  .sinks = SINKS,
                                                                                  .window = WINDOW,
                                                                                  .full_heads = heads}});
        rs_context *other =
            all == 1 ? rs_test_context(model, N_CTX, N_BATCH) : windowed(model, SINKS, WINDOW);
        read_tokens(c, tokens, N_CTX);
        read_tokens(other, tokens, N_CTX);
        rs_test_same_cache(other, c);
        rs_test_free(c);
        rs_test_free(other);
    }
}

/* -------------------------------------------------------------------------------- erasing, going back -- */

/* Everything is read again when the suffix saw what is gone by now. */
static void test_exact_over_evicted_entries(void **state) {
    const rs_model *model = *state;
    int32_t tokens[200], kept[200];
    bool heads[MAX_STREAMS];
    rs_test_make_tokens(model, tokens, 200);
    memcpy(kept, tokens, 30 * sizeof *kept);
    memcpy(kept + 30, tokens + 50, 150 * sizeof *kept);
    rs_context *c = some_heads(model, heads), *clean = some_heads(model, heads);
    rs_erase_report report;
    read_tokens(c, tokens, 200);
    read_tokens(clean, kept, 180);
    rs_test_ok(c, rs_erase(c, &(rs_span){30, 50}, 1, NULL, &report));
    assert_int_equal(report.n_recomputed, 180);
    rs_test_same_cache(clean, c);
    read_tokens(c, tokens, 5);
    read_tokens(clean, tokens, 5);
    rs_test_same_cache(clean, c);
    rs_test_free(c);
    rs_test_free(clean);
}

/* While the window reaches back behind the span's own window, the suffix is enough. */
static void test_exact_at_the_end(void **state) {
    const rs_model *model = *state;
    int32_t tokens[SINKS + WINDOW + 8];
    rs_test_make_tokens(model, tokens, SINKS + WINDOW + 8);
    rs_context *c = windowed(model, SINKS, WINDOW), *clean = windowed(model, SINKS, WINDOW);
    rs_erase_report report;
    read_tokens(c, tokens, SINKS + WINDOW);
    rs_test_ok(c, rs_erase(c, &(rs_span){20, 23}, 1, NULL, &report));
    assert_int_equal(report.n_recomputed, SINKS + WINDOW - 23);
    read_tokens(clean, tokens, 20);
    read_tokens(clean, tokens + 23, SINKS + WINDOW - 23);
    rs_test_same_cache(clean, c);
    rs_test_free(c);
    rs_test_free(clean);
}

/* Which entries a cache holds, [stream][position]. */
static bool *held(const rs_context *c) {
    bool *of = calloc((size_t)c->kv.n_streams * N_CTX, sizeof *of);
    for (uint32_t s = 0; s < c->kv.n_streams; s++)
        for (int32_t p = 0; p < N_CTX; p++) of[s * N_CTX + (uint32_t)p] = rs_test_holds(c, s, p);
    return of;
}

/* Only the last layer's heads keep everything. What is in them was made of what the lower layers saw: when
 * tokens are encoded again far behind the window, that is sinks and each other, as if there had never been
 * anything else. Nothing that was evicted comes back. */
static void test_encoding_over_evicted_entries(void **state) {
    enum { SPAN = 100, SUFFIX = 110, ENCODED = N_BATCH, N = 200 };
    const rs_model *model = *state;
    const uint32_t last = n_streams(model) - model->shape.n_kv_heads;
    bool full_heads[MAX_STREAMS];
    int32_t tokens[N];
    rs_test_make_tokens(model, tokens, N);
    for (uint32_t s = 0; s < n_streams(model); s++) full_heads[s] = s >= last;
    rs_context *c = rs_test_context_of(model, &(rs_context_params){.n_ctx = N_CTX,
                                                                   .n_batch = N_BATCH,
                                                                   .policy = {.policy = RS_POLICY_HEADS,
                                                                              .sinks = SINKS,
                                                                              .window = WINDOW,
                                                                              .full_heads = full_heads}});
    rs_context *apart = rs_test_context(model, N_CTX, N_BATCH);
    read_tokens(c, tokens, N);
    bool *then = held(c);
    const rs_erase_params repair = {.method = RS_ERASE_REPAIR, .repair_tokens = ENCODED};
    rs_erase_report report;
    rs_test_ok(c, rs_erase(c, &(rs_span){SPAN, SUFFIX}, 1, &repair, &report));
    assert_int_equal(report.n_recomputed, ENCODED);
    bool *now = held(c);
    for (uint32_t i = 0; i < c->kv.n_streams * N_CTX; i++) {
        const uint32_t p = i % N_CTX;
        assert_int_equal(now[i], then[i] && (p < SPAN || p >= SUFFIX));
    }

    /* Sinks, nothing, and the tokens at their own places. */
    read_tokens(apart, tokens, SUFFIX);
    rs_test_ok(apart, rs_erase(apart, &(rs_span){SINKS, SUFFIX}, 1,
                               &(rs_erase_params){.method = RS_ERASE_DROP}, NULL));
    read_tokens(apart, tokens + SUFFIX, ENCODED);
    for (uint32_t s = last; s < c->kv.n_streams; s++) {
        for (int32_t p = SUFFIX; p < SUFFIX + ENCODED; p++) {
            float key[2][RS_HEAD_DIM_MAX], value[2][RS_HEAD_DIM_MAX];
            rs_test_row(c, s, p, key[0], value[0]);
            rs_test_row(apart, s, p, key[1], value[1]);
            assert_memory_equal(key[0], key[1], model->shape.head_dim * sizeof(float));
            assert_memory_equal(value[0], value[1], model->shape.head_dim * sizeof(float));
        }
    }
    free(then);
    free(now);
    rs_test_free(c);
    rs_test_free(apart);
}

/* All methods, over spans that are there, gone, or both, in caches of all policies: what is there afterwards
 * is what was, without the span where it goes; and reading goes on. */
static void test_every_method_on_every_policy(void **state) {
    const rs_model *model = *state;
    const int32_t filler = 7;
    const rs_span spans[] = {{1, 3}, {50, 60}, {170, 180}, {185, 199}, {2, 190}};
    const rs_erase_calibration only_adaptive = {.shift.level = 20, .repair.level = 20};
    const rs_erase_params methods[] = {
        {.method = RS_ERASE_DROP},
        {.method = RS_ERASE_REPAIR, .repair_tokens = 9},
        {.method = RS_ERASE_REPAIR, .repair_fraction = 1.0F},
        {.method = RS_ERASE_REPAIR, .repair_tokens = 9, .window = 12, .sinks = 2},
        {.method = RS_ERASE_REFILL, .filler = &filler, .n_filler = 1},
        {.method = RS_ERASE_REFILL, .filler = &filler, .n_filler = 1, .window = 12, .sinks = 2},
        {.method = RS_ERASE_ADAPTIVE},
        {.method = RS_ERASE_ADAPTIVE, .repair_tokens = 200},
        {.method = RS_ERASE_AUTO, .max_kl = 1000},
        {.method = RS_ERASE_AUTO, .max_kl = 1000, .calibration = &only_adaptive},
    };
    int32_t tokens[200];
    rs_test_make_tokens(model, tokens, 200);
    for (rs_policy policy = RS_POLICY_FULL; policy <= RS_POLICY_PYRAMIDKV; policy++) {
        rs_context *read = of_policy(model, policy), *c = of_policy(model, policy);
        read_tokens(read, tokens, 200);
        bool *then = held(read);
        for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
            for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
                const bool stays = methods[m].method == RS_ERASE_REFILL;
                const bool closes = methods[m].method >= RS_ERASE_ADAPTIVE;
                const int32_t gap = spans[i].end - spans[i].begin;
                rs_test_ok(c, rs_context_copy(c, read));
                rs_test_ok(c, rs_erase(c, &spans[i], 1, &methods[m], NULL));
                bool *now = held(c);
                for (uint32_t k = 0; k < c->kv.n_streams * N_CTX; k++) {
                    const int32_t p = (int32_t)(k % N_CTX);
                    bool expected = then[k] && (stays || p < spans[i].begin || p >= spans[i].end);
                    if (closes && p >= spans[i].begin) expected = p + gap < N_CTX && then[k + (uint32_t)gap];
                    assert_int_equal(now[k], expected);
                }
                free(now);
                read_tokens(c, tokens, 20);
            }
        }
        free(then);
        rs_test_free(read);
        rs_test_free(c);
    }
}

static void test_too_far_back(void **state) {
    const rs_model *model = *state;
    int32_t tokens[200];
    rs_test_make_tokens(model, tokens, 200);
    rs_context *c = windowed(model, SINKS, WINDOW), *before = windowed(model, SINKS, WINDOW);
    read_tokens(c, tokens, 200);
    rs_test_ok(before, rs_context_copy(before, c));
    assert_int_equal(rs_truncate(c, 190), RS_UNSUPPORTED);
    assert_non_null(strstr(rs_context_message(c), "too far back"));
    rs_test_same_cache(before, c);

    rs_erase_report report;
    const rs_erase_params repair = {.method = RS_ERASE_REPAIR, .repair_tokens = 8};
    rs_test_ok(c, rs_erase(c, &(rs_span){178, 180}, 1, &repair, &report)); /* in the window */
    assert_int_equal(report.n_recomputed, 8);
    const rs_erase_params drop = {.method = RS_ERASE_DROP}, shift = {.method = RS_ERASE_SHIFT};
    rs_test_ok(c, rs_erase(c, &(rs_span){50, 60}, 1, &drop, &report)); /* of which nothing is there */
    assert_int_equal(report.n_erased, 10);
    rs_test_ok(c, rs_erase(c, &(rs_span){170, 178}, 1, &shift, &report)); /* of which two are */
    assert_int_equal(c->policy.evicted.end, 170);
    rs_test_free(c);
    rs_test_free(before);
}

static void test_going_back(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = windowed(model, SINKS, WINDOW), *other = windowed(model, SINKS, WINDOW);
    read_tokens(c, tokens, SINKS + WINDOW); /* nothing evicted: any place will do */
    rs_test_ok(c, rs_truncate(c, 9));
    read_tokens(other, tokens, 9);
    rs_test_same_cache(other, c);
    read_tokens(c, tokens + 9, 100);
    read_tokens(other, tokens + 9, 100);
    assert_int_equal(rs_truncate(c, 108), RS_UNSUPPORTED);
    rs_test_ok(c, rs_truncate(c, SINKS)); /* only sinks are left, and those are there */
    read_tokens(c, tokens + SINKS, 60);
    rs_context_reset(other);
    read_tokens(other, tokens, SINKS);
    read_tokens(other, tokens + SINKS, 60);
    rs_test_same_cache(other, c);
    rs_test_free(c);
    rs_test_free(other);
}

/* What is kept beyond the window makes going back possible, as far as it goes. */
static void test_rewind(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = rs_test_context_of(
        model, &(rs_context_params){
                   .n_ctx = N_CTX,
                   .n_batch = N_BATCH,
                   .policy = {.policy = RS_POLICY_WINDOW, .sinks = SINKS, .window = WINDOW, .rewind = 10}});
    read_tokens(c, tokens, 200);
    for (uint32_t s = 0; s < n_streams(model); s++)
        assert_int_equal(c->kv.streams[s].n_live, SINKS + WINDOW + 10);
    assert_int_equal(rs_truncate(c, 189), RS_UNSUPPORTED);
    rs_test_ok(c, rs_truncate(c, 190));
    for (uint32_t s = 0; s < n_streams(model); s++) {
        assert_int_equal(c->kv.streams[s].n_live, SINKS + WINDOW);
        assert_true(rs_test_holds(c, s, 190 - WINDOW) && !rs_test_holds(c, s, 190 - WINDOW - 1));
    }
    assert_int_equal(rs_truncate(c, 189), RS_UNSUPPORTED);
    read_tokens(c, tokens + 190, 10);
    rs_test_ok(c, rs_truncate(c, 190));

    /* What going back has left is less than reading leaves: exact begins anew. */
    rs_erase_report report;
    rs_test_ok(c, rs_erase(c, &(rs_span){188, 190}, 1, NULL, &report));
    assert_int_equal(report.n_recomputed, 188);
    for (uint32_t s = 0; s < n_streams(model); s++)
        assert_int_equal(c->kv.streams[s].n_live, SINKS + WINDOW + 10);
    rs_test_free(c);
}

static bool stop_at_second(void *user, uint32_t done, uint32_t total) {
    (void)total;
    return done < *(const uint32_t *)user;
}

/* What was evicted for the first chunks cannot come back, so they stay. */
static void test_stopped_half_way(void **state) {
    const rs_model *model = *state;
    int32_t tokens[100];
    uint32_t stop = 64;
    rs_test_make_tokens(model, tokens, 100);
    rs_context *c = windowed(model, SINKS, WINDOW), *other = windowed(model, SINKS, WINDOW);
    rs_context_set_progress(c, stop_at_second, &stop);
    assert_int_equal(rs_decode(c, tokens, 100), RS_STOPPED);
    assert_int_equal(c->n_tokens, 64);
    read_tokens(other, tokens, 64);
    rs_test_same_cache(other, c);
    rs_context_set_progress(c, NULL, NULL);
    read_tokens(c, tokens + 64, 36);
    read_tokens(other, tokens + 64, 36);
    rs_test_same_cache(other, c);
    rs_test_free(c);
    rs_test_free(other);
}

static void test_bad_policies(void **state) {
    const rs_model *model = *state;
    static const rs_policy_params bad[] = {
        {.policy = RS_POLICY_WINDOW, .sinks = 4, .window = 0},
        {.policy = RS_POLICY_WINDOW, .sinks = 4, .window = (1U << 20) + 1},
        {.policy = RS_POLICY_WINDOW, .sinks = (1U << 20) + 1, .window = 4},
        {.policy = RS_POLICY_WINDOW, .sinks = 4, .window = 4, .rewind = UINT32_MAX},
        {.policy = RS_POLICY_HEADS, .sinks = 4, .window = 16},
        {.policy = RS_POLICY_RANDOM, .sinks = 4, .window = 16, .budget = 19},
        {.policy = RS_POLICY_KEYNORM, .sinks = 4, .window = 16, .rewind = 1, .budget = 20},
        {.policy = RS_POLICY_KEYNORM, .sinks = 4, .window = 16, .budget = UINT32_MAX},
        {.policy = (rs_policy)-1, .sinks = 4, .window = 16},
        {.policy = (rs_policy)99, .sinks = 4, .window = 16},
        {.policy = RS_POLICY_SNAPKV, .keep = 0.0F, .observers = 8},
        {.policy = RS_POLICY_SNAPKV, .keep = 1.01F, .observers = 8},
        {.policy = RS_POLICY_PYRAMIDKV, .keep = NAN, .observers = 8},
        {.policy = RS_POLICY_PYRAMIDKV, .keep = 0.5F, .observers = 0},
        {.policy = RS_POLICY_SNAPKV, .keep = 0.5F, .observers = 1025},
        {.policy = RS_POLICY_SNAPKV, .keep = 0.5F, .observers = 16, .patched = true},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const rs_context_params params = {.n_ctx = 64, .n_batch = 16, .policy = bad[i]};
        rs_error error = {0};
        size_t bytes = 77;
        assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_INVALID_ARGUMENT);
        assert_int_equal(bytes, 77);
        assert_true(strlen(error.message) > 0);
    }
}

static void test_copies_are_of_one_policy(void **state) {
    const rs_model *model = *state;
    bool heads[MAX_STREAMS];
    const int32_t token = 3;
    rs_context *c = windowed(model, SINKS, WINDOW), *longer = windowed(model, SINKS, WINDOW + 1);
    rs_context *full = rs_test_context(model, N_CTX, N_BATCH), *some = some_heads(model, heads);
    read_tokens(c, &token, 1);
    assert_int_equal(rs_context_copy(longer, c), RS_MISMATCH);
    assert_int_equal(rs_context_copy(full, c), RS_MISMATCH);
    assert_int_equal(rs_context_copy(some, c), RS_MISMATCH);
    assert_non_null(strstr(rs_context_message(some), "policy"));
    assert_int_equal(full->n_tokens, 0);
    rs_test_free(c);
    rs_test_free(longer);
    rs_test_free(full);
    rs_test_free(some);
}

/* ---------------------------------------------------------------------------------------- by scores -- */

static int by_score(const void *a, const void *b) {
    const rs_scored *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static void test_choice(void **state) {
    (void)state;
    enum { MOST = 200 };
    srand(3);
    for (int round = 0; round < 2000; round++) {
        rs_scored entries[MOST], sorted[MOST];
        const uint32_t n = (uint32_t)rand() % (MOST + 1), n_gone = n > 0 ? (uint32_t)rand() % (n + 1) : 0;
        for (uint32_t i = 0; i < n; i++) {
            const int kind = round % 4; /* in order, in reverse, many equal, any */
            const float score = kind == 0   ? (float)i
                                : kind == 1 ? -(float)i
                                : kind == 2 ? (float)(rand() % 3)
                                            : (float)rand();
            entries[i] = (rs_scored){score, i};
        }
        memcpy(sorted, entries, n * sizeof *sorted);
        qsort(sorted, n, sizeof *sorted, by_score);
        rs_scored_choose(entries, n, n_gone);
        qsort(entries, n_gone, sizeof *entries, by_score);
        for (uint32_t i = 0; i < n_gone; i++) assert_int_equal(entries[i].order, sorted[i].order);
    }
}

static double key_norm(const rs_context *c, uint32_t stream, int32_t position) {
    float key[RS_HEAD_DIM_MAX], value[RS_HEAD_DIM_MAX];
    double sum = 0;
    rs_test_row(c, stream, position, key, value);
    for (uint32_t d = 0; d < c->model->shape.head_dim; d++) sum += (double)key[d] * (double)key[d];
    return sum;
}

/* Up to the budget and its slack all is kept; then, of what is between, the shortest keys. */
static void test_shortest_keys_stay(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N_CTX];
    const uint32_t n = BUDGET + rs_scored_slack(BUDGET);
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = scored(model, RS_POLICY_KEYNORM, NULL), *full = rs_test_context(model, N_CTX, N_BATCH);
    read_tokens(c, tokens, n);
    assert_int_equal(c->kv.streams[0].n_live, n);
    assert_int_equal(c->policy.evicted.end, 0);
    read_tokens(c, tokens + n, 1);
    read_tokens(full, tokens, n + 1);
    for (uint32_t s = 0; s < n_streams(model); s++) {
        double longest_kept = 0, shortest_gone = INFINITY;
        assert_int_equal(c->kv.streams[s].n_live, BUDGET);
        for (uint32_t i = 0; i < n + 1; i++) {
            const bool there = rs_test_holds(c, s, (int32_t)i);
            const double norm = key_norm(full, s, (int32_t)i);
            if (i < SINKS || i + WINDOW >= n + 1) assert_true(there);
            else if (there) longest_kept = norm > longest_kept ? norm : longest_kept;
            else shortest_gone = norm < shortest_gone ? norm : shortest_gone;
        }
        assert_true(longest_kept <= shortest_gone * (1 + 1e-5));
    }
    rs_test_free(c);
    rs_test_free(full);
}

/* At random, but for sinks and window; heads that keep everything do. */
static void test_random_entries_stay(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N_CTX];
    bool full_heads[MAX_STREAMS];
    rs_test_make_tokens(model, tokens, N_CTX);
    for (uint32_t s = 0; s < MAX_STREAMS; s++) full_heads[s] = s % 4 == 0;
    rs_context *c = scored(model, RS_POLICY_RANDOM, full_heads);
    read_tokens(c, tokens, N_CTX);
    uint32_t early = 0, late = 0;
    for (uint32_t s = 0; s < n_streams(model); s++) {
        const uint32_t live = c->kv.streams[s].n_live;
        if (full_heads[s]) {
            assert_int_equal(live, N_CTX);
            continue;
        }
        assert_in_range(live, BUDGET, BUDGET + rs_scored_slack(BUDGET));
        for (uint32_t i = 0; i < N_CTX; i++) {
            const bool there = rs_test_holds(c, s, (int32_t)i);
            if (i < SINKS || i + WINDOW >= N_CTX) assert_true(there);
            else if (i < N_CTX / 2) early += there;
            else late += there;
        }
    }
    assert_true(early > late / 3 && late > early / 3);
    rs_test_free(c);
}

static void test_exact_over_a_choice(void **state) {
    const rs_model *model = *state;
    int32_t tokens[200], kept[200];
    rs_test_make_tokens(model, tokens, 200);
    memcpy(kept, tokens, 150 * sizeof *kept);
    memcpy(kept + 150, tokens + 160, 40 * sizeof *kept);
    for (rs_policy policy = RS_POLICY_RANDOM; policy <= RS_POLICY_KEYNORM; policy++) {
        rs_context *c = scored(model, policy, NULL), *clean = scored(model, policy, NULL);
        rs_erase_report report;
        read_tokens(c, tokens, 200);
        read_tokens(clean, kept, 190);
        rs_test_ok(c, rs_erase(c, &(rs_span){150, 160}, 1, NULL, &report));
        assert_int_equal(report.n_recomputed, 190);
        rs_test_same_cache(clean, c);
        assert_int_equal(rs_context_copy(c, clean), RS_OK);
        rs_test_free(c);
        rs_test_free(clean);
    }
}

/* ------------------------------------------------------------------------------------ by attention -- */

static void test_kept_of_a_chunk(void **state) {
    (void)state;
    /* 512 tokens and 64 observers more, of which 217 are kept: 299, 289, ..., 9 besides the observers. */
    for (uint32_t layer = 0; layer < 30; layer++)
        assert_int_equal(rs_observed_kept(576, 0, 217.0F / 576, 64, true, layer, 30), 64 + 299 - 10 * layer);
    assert_int_equal(rs_observed_kept(32832, 0, 9894.0F / 32832, 64, true, 0, 32), 64 + 19169);
    assert_int_equal(rs_observed_kept(32832, 0, 9894.0F / 32832, 64, true, 31, 32), 64 + 507);
    static const struct {
        uint32_t count, kept;
        float keep;
        uint32_t observers;
    } cases[] = {
        {256, 76, 0.3F, 32}, {512, 153, 0.3F, 32}, {100, 30, 0.3F, 8},  /* rounded down, not below */
        {8, 8, 0.5F, 8},     {9, 8, 0.5F, 8},      {100, 32, 0.3F, 32}, /* nothing but observers */
        {100, 100, 1.0F, 8}, {100, 60, 0.6F, 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(rs_observed_kept(cases[i].count, 0, cases[i].keep, cases[i].observers, false, 3, 30),
                         cases[i].kept);
    }
    /* More than half: the same in every layer. */
    assert_int_equal(rs_observed_kept(100, 0, 0.7F, 8, true, 0, 30),
                     rs_observed_kept(100, 0, 0.7F, 8, true, 29, 30));
}

/* The scores of one layer against sums in double precision, over keys and queries as they are in int8. The
 * chunk begins within a page. */
static void test_scores(void **state) {
    const rs_model *model = *state;
    enum { BEFORE = 21, COUNT = 13 };
    const uint32_t head_dim = model->shape.head_dim, heads = model->shape.n_heads;
    const uint32_t kv_heads = model->shape.n_kv_heads, group = heads / kv_heads;
    const float scale = 0.125F;
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = by_share(model, RS_POLICY_SNAPKV, 1.0F); /* has the work, and evicts nothing */
    read_tokens(c, tokens, BEFORE);
    read_tokens(c, tokens + BEFORE, COUNT);
    float *q = malloc((size_t)COUNT * heads * head_dim * sizeof *q);
    srand(5);
    for (size_t i = 0; i < (size_t)COUNT * heads * head_dim; i++)
        q[i] = (float)(rand() % 2001 - 1000) / 250.0F;
    rs_observed_score(&c->policy.observed,
                      &(rs_observation){&c->kv, model->kernels, kv_heads, kv_heads, group, scale, q,
                                        c->positions + BEFORE, COUNT},
                      &c->team);
    for (uint32_t h = 0; h < kv_heads; h++) {
        double sums[COUNT - OBSERVERS] = {0};
        for (uint32_t t = COUNT - OBSERVERS; t < COUNT; t++) {
            for (uint32_t j = 0; j < group; j++) {
                int8_t q8[RS_HEAD_DIM_MAX];
                const float unit = model->kernels->quantize_head(
                    q + ((size_t)t * heads + h * group + j) * head_dim, q8, head_dim);
                double weights[COUNT], total = 0;
                for (uint32_t i = 0; i <= t; i++) {
                    float key[RS_HEAD_DIM_MAX], value[RS_HEAD_DIM_MAX];
                    rs_test_row(c, kv_heads + h, (int32_t)(BEFORE + i), key, value);
                    double dot = 0;
                    for (uint32_t d = 0; d < head_dim; d++) dot += (double)key[d] * q8[d] * (double)unit;
                    weights[i] = exp(dot * (double)scale);
                    total += weights[i];
                }
                for (uint32_t i = 0; i < COUNT - OBSERVERS; i++) sums[i] += weights[i] / total;
            }
        }
        const float *found = c->policy.observed.scores + (size_t)h * N_BATCH;
        for (int i = 0; i < COUNT - OBSERVERS; i++) {
            double pooled = 0;
            for (int k = i - 2; k <= i + 2; k++)
                if (k >= 0 && k < COUNT - OBSERVERS) pooled += sums[k];
            pooled /= 5.0 * group;
            assert_true(fabs((double)found[i] - pooled) <= 1e-4 * (1e-3 + pooled));
        }
    }
    free(q);
    rs_test_free(c);
}

/* A share of each chunk with its observers, all that is decoded token by token, and no holes. */
static void test_shares(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    for (rs_policy policy = RS_POLICY_SNAPKV; policy <= RS_POLICY_PYRAMIDKV; policy++) {
        rs_context *c = by_share(model, policy, 0.5F);
        read_tokens(c, tokens, 100); /* six chunks of 16, one of 4 that is not longer than its observers */
        for (uint32_t i = 100; i < 110; i++) read_tokens(c, tokens + i, 1);
        for (uint32_t s = 0; s < n_streams(model); s++) {
            const uint32_t kept = rs_observed_kept(N_BATCH, 0, 0.5F, OBSERVERS, policy == RS_POLICY_PYRAMIDKV,
                                                   s / model->shape.n_kv_heads, model->shape.n_layers);
            const rs_kv_stream *stream = &c->kv.streams[s];
            assert_int_equal(stream->n_live, 6 * kept + 4 + 10);
            assert_int_equal(stream->n_pages, (stream->n_live + RS_PAGE_ENTRIES - 1) / RS_PAGE_ENTRIES);
            for (uint32_t i = 0; i < 110; i++)
                if (i >= 96 || i % N_BATCH >= N_BATCH - OBSERVERS)
                    assert_true(rs_test_holds(c, s, (int32_t)i));
        }
        assert_int_equal(rs_truncate(c, 90), RS_UNSUPPORTED);
        rs_test_ok(c, rs_truncate(c, 97));
        rs_test_free(c);
    }
}

static void test_a_share_of_all_is_a_full_cache(void **state) {
    const rs_model *model = *state;
    int32_t tokens[100];
    rs_test_make_tokens(model, tokens, 100);
    rs_context *c = by_share(model, RS_POLICY_PYRAMIDKV, 1.0F),
               *full = rs_test_context(model, N_CTX, N_BATCH);
    read_tokens(c, tokens, 100);
    read_tokens(full, tokens, 100);
    rs_test_same_cache(full, c);
    rs_test_free(c);
    rs_test_free(full);
}

/* What is decoded has its room and no more; a refusal changes nothing. */
static void test_room_for_shares(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = by_share(model, RS_POLICY_SNAPKV, 0.5F);
    rs_status status = RS_OK;
    uint32_t n = 0;
    for (; status == RS_OK && n < N_CTX; n++) status = rs_decode(c, tokens + n, 1);
    assert_int_equal(status, RS_NO_SPACE);
    assert_non_null(strstr(rs_context_message(c), "room"));
    assert_int_equal(c->n_tokens, n - 1);
    assert_true(n > DECODED && n < N_CTX);
    rs_context_reset(c);
    read_tokens(c, tokens, N_CTX - DECODED);
    for (uint32_t i = 0; i < DECODED; i++) read_tokens(c, tokens + i, 1);
    rs_test_free(c);
}

static void test_exact_over_shares(void **state) {
    const rs_model *model = *state;
    int32_t tokens[120], kept[120];
    rs_test_make_tokens(model, tokens, 120);
    memcpy(kept, tokens, 40 * sizeof *kept);
    memcpy(kept + 40, tokens + 50, 70 * sizeof *kept);
    rs_context *c = by_share(model, RS_POLICY_SNAPKV, 0.5F), *clean = by_share(model, RS_POLICY_SNAPKV, 0.5F);
    rs_erase_report report;
    read_tokens(c, tokens, 120);
    read_tokens(clean, kept, 110);
    rs_test_ok(c, rs_erase(c, &(rs_span){40, 50}, 1, NULL, &report));
    assert_int_equal(report.n_recomputed, 110);
    rs_test_same_cache(clean, c);
    rs_test_free(c);
    rs_test_free(clean);
}

/* Short calls are kept whole: behind enough of them the suffix has no room to be read again as one call, and
 * everything is. */
static void test_exact_where_the_suffix_does_not_fit(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N_CTX], kept[N_CTX];
    uint32_t first;
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = rs_test_crowded(model, false, tokens, N_CTX, &first);
    rs_context *clean = rs_test_context_of(model, &c->params);
    const uint32_t n = c->n_tokens;
    memcpy(kept, tokens, first * sizeof *kept);
    memcpy(kept + first, tokens + first + 2, (n - first - 2) * sizeof *kept);
    read_tokens(clean, kept, n - 2);
    rs_erase_report report;
    rs_test_ok(c, rs_erase(c, &(rs_span){(int32_t)first, (int32_t)first + 2}, 1, NULL, &report));
    assert_int_equal(report.n_recomputed, n - 2);
    rs_test_same_cache(clean, c);
    rs_test_free(c);
    rs_test_free(clean);
}

static rs_context *patched(const rs_model *model, rs_policy policy) {
    return rs_test_context_of(model, &(rs_context_params){.n_ctx = N_CTX,
                                                          .n_batch = N_BATCH,
                                                          .policy = {.policy = policy,
                                                                     .keep = 0.5F,
                                                                     .observers = OBSERVERS,
                                                                     .patched = true,
                                                                     .decoded = DECODED}});
}

/* The last tokens of the call choose in every chunk but the last, and leave nothing behind. */
static void test_patched_chunks(void **state) {
    enum { OWN = N_BATCH - OBSERVERS, N = 10 * OWN };
    const rs_model *model = *state;
    int32_t tokens[N], first[N_BATCH];
    rs_test_make_tokens(model, tokens, N);
    memcpy(first, tokens, OWN * sizeof *first);
    memcpy(first + OWN, tokens + N - OBSERVERS, OBSERVERS * sizeof *first);
    /* A chunk of its own that ends with those tokens, and so has the same scores. */
    rs_context *c = patched(model, RS_POLICY_SNAPKV), *alone = by_share(model, RS_POLICY_SNAPKV, 0.5F);
    read_tokens(c, tokens, N);
    read_tokens(alone, first, N_BATCH);
    assert_int_equal(c->n_tokens, N);
    assert_int_equal(c->next_position, N);
    const uint32_t last_layer = c->kv.n_streams - model->shape.n_kv_heads;
    for (uint32_t s = 0; s < c->kv.n_streams; s++) {
        for (int32_t chunk = 0; chunk < N; chunk += OWN) {
            uint32_t kept = 0;
            for (int32_t p = chunk; p < chunk + OWN; p++) kept += rs_test_holds(c, s, p);
            assert_int_equal(kept, OWN / 2);
        }
        const float *scores = alone->policy.observed.scores + (size_t)(s - last_layer) * N_BATCH;
        float least_kept = INFINITY, most_gone = -INFINITY;
        for (int32_t p = 0; s >= last_layer && p < OWN; p++) {
            if (rs_test_holds(c, s, p)) least_kept = fminf(least_kept, scores[p]);
            else most_gone = fmaxf(most_gone, scores[p]);
        }
        assert_true(least_kept >= most_gone);
        assert_false(rs_test_holds(c, s, N));
        assert_int_equal(c->kv.streams[s].n_live, N / 2);
    }
    rs_footprint footprint;
    assert_int_equal(rs_context_footprint(c, &footprint), RS_OK);
    assert_true(footprint.held_at_once > footprint.held);
    rs_test_free(c);
    rs_test_free(alone);
}

/* Recomputing chooses as reading what is left in one call does. */
static void test_exact_over_patched_chunks(void **state) {
    const rs_model *model = *state;
    int32_t tokens[120], kept[120];
    rs_test_make_tokens(model, tokens, 120);
    memcpy(kept, tokens, 40 * sizeof *kept);
    memcpy(kept + 40, tokens + 50, 70 * sizeof *kept);
    for (rs_policy policy = RS_POLICY_SNAPKV; policy <= RS_POLICY_PYRAMIDKV; policy++) {
        rs_context *c = patched(model, policy), *clean = patched(model, policy);
        read_tokens(c, tokens, 120);
        read_tokens(clean, kept, 110);
        rs_test_ok(c, rs_erase(c, &(rs_span){40, 50}, 1, NULL, NULL));
        rs_test_same_cache(clean, c);
        rs_test_free(c);
        rs_test_free(clean);
    }
}

/* What the paper's repository keeps of a chunk of 512 with 64 tokens behind it. */
static void test_kept_of_a_patched_chunk(void **state) {
    (void)state;
    const float keep = 153.0F / 512;
    for (uint32_t layer = 0; layer < 30; layer++) {
        assert_int_equal(rs_observed_kept(512, 64, keep, 64, false, layer, 30), 153);
        assert_int_equal(rs_observed_kept(512, 64, keep, 64, true, layer, 30), 299 - 10 * layer);
    }
    assert_int_equal(rs_observed_kept(32768, 64, 0.3F, 64, true, 0, 32), 19169);
    assert_int_equal(rs_observed_kept(100, 8, 1.0F, 8, false, 0, 30), 100);
    assert_int_equal(rs_observed_kept(100, 8, 0.001F, 8, false, 0, 30), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_window_holds_sinks_and_the_last),
        cmocka_unit_test(test_full_heads_hold_everything),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_room_for_a_chunk),
        cmocka_unit_test(test_before_it_evicts_it_is_a_full_cache),
        cmocka_unit_test(test_window_is_a_mask),
        cmocka_unit_test(test_all_heads_or_none),
        cmocka_unit_test(test_exact_over_evicted_entries),
        cmocka_unit_test(test_exact_at_the_end),
        cmocka_unit_test(test_encoding_over_evicted_entries),
        cmocka_unit_test(test_every_method_on_every_policy),
        cmocka_unit_test(test_too_far_back),
        cmocka_unit_test(test_going_back),
        cmocka_unit_test(test_rewind),
        cmocka_unit_test(test_stopped_half_way),
        cmocka_unit_test(test_bad_policies),
        cmocka_unit_test(test_copies_are_of_one_policy),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_shortest_keys_stay),
        cmocka_unit_test(test_random_entries_stay),
        cmocka_unit_test(test_exact_over_a_choice),
        cmocka_unit_test(test_kept_of_a_chunk),
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_a_share_of_all_is_a_full_cache),
        cmocka_unit_test(test_room_for_shares),
        cmocka_unit_test(test_exact_where_the_suffix_does_not_fit),
        cmocka_unit_test(test_exact_over_shares),
        cmocka_unit_test(test_patched_chunks),
        cmocka_unit_test(test_exact_over_patched_chunks),
        cmocka_unit_test(test_kept_of_a_patched_chunk),
    };
    return cmocka_run_group_tests_name("policies", tests, rs_test_set_up_tiny, rs_test_tear_down);
}
