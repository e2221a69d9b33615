/* What erasing has left cheap is made good aside: the same bytes as by an exact erase, whatever happens in
 * between. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/context.h"
#include "tests/support/adapter_builder.h"
#include "tests/support/gates_builder.h"
#include "tests/support/state_builder.h"
#include "tests/support/support.h"

enum { N_CTX = 300, N_BATCH = 16, SINKS = 4, WINDOW = 24 };

static rs_context *refining(const rs_model *model, const rs_policy_params *policy) {
    return rs_test_context_of(
        model, &(rs_context_params){.n_ctx = N_CTX, .n_batch = N_BATCH, .policy = *policy, .refine = true});
}

static const rs_policy_params everything = {.policy = RS_POLICY_FULL};
static const rs_erase_params progressive = {.method = RS_ERASE_PROGRESSIVE};

static uint32_t n_cheap(const rs_context *c) {
    rs_context_info info;
    assert_int_equal(rs_context_get_info(c, &info), RS_OK);
    return info.n_cheap;
}

static void refine_all(rs_context *c) {
    uint32_t left = 1;
    rs_test_ok(c, rs_refine(c, 0, 0, &left));
    assert_int_equal(left, 0);
    assert_int_equal(n_cheap(c), 0);
}

/* Nothing of the old cache is left in the spare pages. */
static void check_wiped(const rs_context *c) {
    const rs_kv *kv = &c->draft.kv;
    assert_int_equal(kv->n_free, kv->n_pages);
    for (uint32_t p = 0; p < kv->n_pages; p++) {
        const rs_kv_page page = rs_kv_get_page(kv, p);
        for (uint32_t i = 0; i < RS_PAGE_ENTRIES * kv->head_dim; i++)
            assert_true(page.view.k[i] == 0 && page.view.v[i] == 0);
        for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) {
            assert_int_equal(page.position[e], RS_KV_HOLE);
            assert_true(page.view.k_scale[e] == 0 && page.view.v_scale[e] == 0);
        }
    }
}

/* ---------------------------------------------------------------------------------------- one erase -- */

static void test_ends_as_exact(void **state) {
    const rs_model *model = *state;
    int32_t tokens[200];
    rs_test_make_tokens(model, tokens, 200);
    rs_context *c = refining(model, &everything), *exact = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(c, rs_decode(c, tokens, 200));
    rs_test_ok(exact, rs_decode(exact, tokens, 200));
    const rs_span spans[] = {{40, 47}, {90, 100}};
    rs_erase_report report;
    rs_test_ok(c, rs_erase(c, spans, 2, &progressive, &report));
    assert_int_equal(report.method, RS_ERASE_PROGRESSIVE);
    assert_int_equal(report.n_erased, 17);
    assert_true(report.n_recomputed >= 2 * 16); /* what is near the holes, at least */
    assert_int_equal(report.next_position, 183);
    assert_int_equal(n_cheap(c), 143);
    rs_test_ok(exact, rs_erase(exact, spans, 2, NULL, NULL));
    assert_int_equal(n_cheap(exact), 0);
    assert_memory_equal(c->positions, exact->positions, 183 * sizeof *c->positions);
    refine_all(c);
    assert_null(rs_logits(c, NULL));
    rs_test_same_cache(exact, c);
    check_wiped(c);
    refine_all(c); /* nothing to do */
    rs_test_same_cache(exact, c);
    rs_test_ok(c, rs_decode(c, tokens, 30));
    rs_test_ok(exact, rs_decode(exact, tokens, 30));
    rs_test_same_cache(exact, c);
    assert_memory_equal(rs_logits(c, NULL), rs_logits(exact, NULL), model->shape.n_vocab * sizeof(float));
    rs_test_free(c);
    rs_test_free(exact);
}

/* At first it is the cheap method, with its gap closed. */
static void test_begins_cheaply(void **state) {
    const rs_model *model = *state;
    const rs_test_adapter_spec specs[] = {
        {.kind = "bridge", .rank = 8, .size = 0.02F},
        {.kind = "steer", .rank = 8, .size = 0.02F},
    };
    int32_t tokens[150];
    rs_test_make_tokens(model, tokens, 150);
    rs_adapter *bridge = rs_test_adapter(model, &specs[0]), *steer = rs_test_adapter(model, &specs[1]);
    rs_context *c = refining(model, &everything), *cheap = rs_test_context(model, N_CTX, N_BATCH);
    for (int with = 0; with <= 1; with++) {
        rs_context_reset(c);
        rs_context_reset(cheap);
        rs_test_ok(c, rs_decode(c, tokens, 150));
        rs_test_ok(cheap, rs_decode(cheap, tokens, 150));
        rs_erase_params first = {.method = with ? RS_ERASE_BRIDGE : RS_ERASE_ADAPTIVE, .close_gap = true};
        rs_erase_params params = progressive;
        if (with) first.adapter = params.adapter = bridge;
        rs_test_ok(c, rs_erase(c, &(rs_span){30, 50}, 1, &params, NULL));
        rs_test_ok(cheap, rs_erase(cheap, &(rs_span){30, 50}, 1, &first, NULL));
        rs_test_same_cache(cheap, c);
        assert_int_equal(n_cheap(cheap), 100); /* is told without spare pages too */
    }
    rs_erase_params params = progressive;
    params.adapter = steer;
    assert_int_equal(rs_erase(c, &(rs_span){5, 9}, 1, &params, NULL), RS_MISMATCH);
    assert_non_null(strstr(rs_context_message(c), "steer"));
    rs_test_free(c);
    rs_test_free(cheap);
    rs_adapter_free(bridge);
    rs_adapter_free(steer);
}

static void test_needs_spare_pages(void **state) {
    const rs_model *model = *state;
    rs_context_params params = {.n_ctx = N_CTX, .n_batch = N_BATCH};
    rs_error error;
    size_t without, with;
    assert_int_equal(rs_context_size(model, &params, &without, &error), RS_OK);
    params.refine = true;
    assert_int_equal(rs_context_size(model, &params, &with, &error), RS_OK);
    rs_context *c = rs_test_context(model, N_CTX, N_BATCH);
    rs_context_info info;
    assert_int_equal(rs_context_get_info(c, &info), RS_OK);
    assert_true(with > without + info.kv_capacity && with < without + info.kv_capacity + 20000);
    const int32_t tokens[] = {1, 2, 3};
    rs_test_ok(c, rs_decode(c, tokens, 3));
    uint32_t left = 77;
    assert_int_equal(rs_erase(c, &(rs_span){0, 1}, 1, &progressive, NULL), RS_UNSUPPORTED);
    assert_non_null(strstr(rs_context_message(c), "spare pages"));
    assert_int_equal(c->n_tokens, 3);
    assert_int_equal(rs_refine(c, 0, 0, &left), RS_UNSUPPORTED);
    assert_non_null(strstr(rs_context_message(c), "spare pages"));
    assert_int_equal(left, 77);
    assert_int_equal(rs_refine(NULL, 0, 0, NULL), RS_INVALID_ARGUMENT);
    rs_test_free(c);
}

/* Older gaps are closed too, and what was protected or evicted is still known by its tokens. */
static void test_closes_older_gaps(void **state) {
    const rs_model *model = *state;
    int32_t tokens[120];
    rs_test_make_tokens(model, tokens, 120);
    rs_context *c = refining(model, &everything), *exact = rs_test_context(model, N_CTX, N_BATCH);
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    rs_context *both[] = {c, exact};
    for (int i = 0; i < 2; i++) {
        rs_test_ok(both[i], rs_decode(both[i], tokens, 120));
        rs_test_ok(both[i], rs_erase(both[i], &(rs_span){80, 90}, 1, &drop, NULL));
        rs_test_ok(both[i], rs_context_set_head(both[i], 10));
    }
    rs_test_ok(c, rs_erase(c, &(rs_span){20, 25}, 1, &progressive, NULL));
    rs_test_ok(exact, rs_erase(exact, &(rs_span){20, 25}, 1, NULL, NULL));
    assert_memory_equal(c->positions, exact->positions, 105 * sizeof *c->positions);
    assert_int_equal(c->next_position, 105);
    assert_int_equal(c->head_end, 10);
    refine_all(c);
    rs_test_same_cache(exact, c);
    rs_test_free(c);
    rs_test_free(exact);
}

/* Older gaps in front of the span stay, and so does what was protected there. */
static void test_leaves_what_is_in_front(void **state) {
    const rs_model *model = *state;
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    int32_t tokens[60];
    rs_test_make_tokens(model, tokens, 60);
    rs_context *c = refining(model, &everything);
    for (int32_t head = 0; head <= 5; head += 5) {
        rs_context_reset(c);
        rs_test_ok(c, rs_decode(c, tokens, 60));
        rs_test_ok(c, rs_erase(c, &(rs_span){head, 15}, 1, &drop, NULL));
        rs_test_ok(c, rs_context_set_head(c, head));
        rs_test_ok(c, rs_erase(c, &(rs_span){30, 35}, 1, &progressive, NULL));
        assert_int_equal(c->head_end, head);
        assert_int_equal(c->policy.evicted.begin, 0);
        assert_int_equal(c->policy.evicted.end, 0);
        rs_test_ok(c, rs_erase(c, &(rs_span){10, 16}, 1, &drop, NULL));
        refine_all(c);
    }
    rs_test_free(c);
}

/* Positions are EXACT's from the start, which leaves no place for what was steered. */
static void test_over_what_was_steered(void **state) {
    const rs_model *model = *state;
    rs_adapter *steer =
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "steer", .rank = 8, .size = 0.02F});
    const rs_erase_params steered = {.method = RS_ERASE_STEER, .adapter = steer};
    int32_t tokens[100];
    rs_test_make_tokens(model, tokens, 100);
    rs_context *c = refining(model, &everything), *exact = refining(model, &everything);
    rs_test_ok(c, rs_decode(c, tokens, 100));
    rs_test_ok(c, rs_erase(c, (rs_span[]){{50, 53}, {70, 71}}, 2, &steered, NULL));
    rs_test_ok(exact, rs_context_copy(exact, c));
    rs_test_ok(c, rs_erase(c, (rs_span[]){{20, 25}, {60, 62}}, 2, &progressive, NULL));
    rs_test_ok(exact, rs_erase(exact, (rs_span[]){{20, 25}, {60, 62}}, 2, NULL, NULL));
    assert_int_equal(c->next_position, exact->next_position);
    refine_all(c);
    rs_test_same_cache(exact, c);
    rs_adapter_free(steer);
    rs_test_free(c);
    rs_test_free(exact);
}

/* What was cheap can go itself, and then nothing is. */
static void test_nothing_cheap_is_left(void **state) {
    const rs_model *model = *state;
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    const int32_t fresh[] = {5, 6};
    int32_t tokens[100];
    rs_test_make_tokens(model, tokens, 100);
    for (int replaces = 0; replaces < 2; replaces++) {
        rs_context *c = refining(model, &everything), *loaded = refining(model, &everything);
        rs_test_ok(c, rs_decode(c, tokens, 100));
        rs_test_ok(c, rs_erase(c, &(rs_span){50, 60}, 1, &drop, NULL));
        assert_int_equal(n_cheap(c), 40);
        if (replaces) rs_test_ok(c, rs_replace(c, (rs_span){40, 100}, fresh, 2, &drop, NULL));
        else rs_test_ok(c, rs_erase(c, &(rs_span){40, 100}, 1, &drop, NULL));
        assert_int_equal(n_cheap(c), 0);
        const rs_test_state saved = rs_test_save(c);
        rs_test_ok(loaded, rs_context_load(loaded, saved.data, saved.bytes));
        rs_test_ok(c, rs_decode(c, tokens, 30));
        assert_int_equal(n_cheap(c), 0);
        free(saved.data);
        rs_test_free(c);
        rs_test_free(loaded);
    }
}

/* ------------------------------------------------------------------------------------ bit by bit -- */

static bool stop_at_once(void *user, uint32_t done, uint32_t total) {
    uint32_t *calls = user;
    ++*calls;
    assert_true(done <= total);
    return false;
}

/* In a context that reads many tokens at a time, idle time may be shorter than these take. */
static void test_reads_no_more_than_it_may(void **state) {
    const rs_model *model = *state;
    int32_t tokens[200];
    rs_test_make_tokens(model, tokens, 200);
    rs_context *c =
        rs_test_context_of(model, &(rs_context_params){.n_ctx = N_CTX, .n_batch = 128, .refine = true});
    rs_test_ok(c, rs_decode(c, tokens, 200));
    rs_test_ok(c, rs_erase(c, &(rs_span){30, 50}, 1, &progressive, NULL));
    uint32_t left;
    rs_test_ok(c, rs_refine(c, 1, 0, &left));
    assert_int_equal(left, 150 - 16);
    rs_test_ok(c, rs_refine(c, 40, 0, &left));
    assert_int_equal(left, 134 - 40);
    c->ms_per_token = 1e9; /* so slow that no time is enough */
    rs_test_ok(c, rs_refine(c, 0, 1e-9, &left));
    assert_int_equal(left, 94 - 16);
    rs_test_ok(c, rs_refine(c, 0, 0, &left));
    rs_context *fresh = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(fresh, rs_decode(fresh, tokens, 30));
    rs_test_ok(fresh, rs_decode(fresh, tokens + 50, 150));
    rs_test_same_cache(fresh, c);
    rs_test_free(c);
    rs_test_free(fresh);
}

/* What was begun for an erase that is taken back, or whose text is gone, is no place to go on from: what
 * stands in front of the next one is as it should be. */
static void test_begins_at_what_is_cheap(void **state) {
    const rs_model *model = *state;
    int32_t tokens[200];
    rs_test_make_tokens(model, tokens, 200);
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    for (int way = 0; way < 3; way++) {
        rs_context *c = rs_test_context_of(
            model,
            &(rs_context_params){.n_ctx = N_CTX, .n_batch = N_BATCH, .refine = true, .undo_bytes = 1 << 22});
        rs_test_ok(c, rs_decode(c, tokens, 150));
        rs_test_ok(c, rs_erase(c, &(rs_span){20, 25}, 1, &drop, NULL));
        uint32_t left;
        rs_test_ok(c, rs_refine(c, 40, 0, &left));
        switch (way) {
        case 0: rs_test_ok(c, rs_undo(c)); break;
        case 1: rs_test_ok(c, rs_truncate(c, 20)); break;
        default: rs_test_ok(c, rs_replace(c, (rs_span){19, 30}, tokens, 11, NULL, NULL)); break;
        }
        assert_int_equal(n_cheap(c), 0);
        rs_test_ok(c, rs_decode(c, tokens + 150, 50));
        const int32_t end = c->next_position;
        rs_test_ok(c, rs_erase(c, &(rs_span){end - 40, end - 30}, 1, &drop, NULL));
        assert_int_equal(n_cheap(c), 30);
        rs_test_ok(c, rs_refine(c, 1, 0, &left));
        assert_int_equal(left, 30 - N_BATCH);
        rs_test_free(c);
    }
}

static void test_goes_on_where_it_was(void **state) {
    const rs_model *model = *state;
    int32_t tokens[200];
    rs_test_make_tokens(model, tokens, 200);
    rs_context *c = refining(model, &everything);
    rs_test_ok(c, rs_decode(c, tokens, 150));
    rs_test_ok(c, rs_erase(c, &(rs_span){30, 50}, 1, &progressive, NULL));
    uint32_t left, calls = 0;
    rs_test_ok(c, rs_refine(c, 1, 0, &left));
    assert_int_equal(left, 100 - N_BATCH);
    rs_test_ok(c, rs_refine(c, N_BATCH + 1, 0, &left));
    assert_int_equal(left, 100 - 3 * N_BATCH);
    rs_test_ok(c, rs_refine(c, 0, 1e-9, &left));
    assert_int_equal(left, 100 - 4 * N_BATCH);
    rs_context_set_progress(c, stop_at_once, &calls);
    rs_test_ok(c, rs_refine(c, 0, 0, &left));
    assert_int_equal(left, 100 - 5 * N_BATCH);
    assert_int_equal(calls, 1);
    rs_context_set_progress(c, NULL, NULL);
    rs_test_ok(c, rs_decode(c, tokens + 150, 50)); /* more to read */
    const float *logits = rs_logits(c, NULL);
    assert_non_null(logits);
    rs_test_ok(c, rs_refine(c, 1, 0, &left));
    assert_int_equal(left, 150 - 6 * N_BATCH);
    assert_ptr_equal(rs_logits(c, NULL), logits); /* the caches have not been exchanged */
    rs_test_ok(c, rs_truncate(c, 60));            /* to before what has been read */
    assert_int_equal(n_cheap(c), 30);
    rs_test_ok(c, rs_refine(c, 0, 0, &left));
    rs_context *fresh = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(fresh, rs_decode(fresh, tokens, 30));
    rs_test_ok(fresh, rs_decode(fresh, tokens + 50, 30));
    rs_test_same_cache(fresh, c);
    check_wiped(c);
    rs_test_free(c);
    rs_test_free(fresh);
}

/* What was steered is taken out, and its positions stay empty. */
static void test_after_steering(void **state) {
    const rs_model *model = *state;
    rs_adapter *steer =
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "steer", .rank = 8, .size = 0.02F});
    int32_t tokens[100];
    rs_test_make_tokens(model, tokens, 100);
    rs_context *c = refining(model, &everything), *fresh = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(c, rs_decode(c, tokens, 100));
    const rs_erase_params params = {.method = RS_ERASE_STEER, .adapter = steer};
    rs_test_ok(c, rs_erase(c, &(rs_span){40, 60}, 1, &params, NULL));
    assert_int_equal(n_cheap(c), 60);
    refine_all(c);
    rs_test_ok(fresh, rs_decode(fresh, tokens, 40));
    fresh->next_position = 60;
    rs_test_ok(fresh, rs_decode(fresh, tokens + 60, 40));
    rs_test_same_cache(fresh, c);
    rs_adapter_free(steer);
    rs_test_free(c);
    rs_test_free(fresh);
}

/* A context that has read what `c` holds, at its positions. */
static rs_context *read_like(const rs_model *model, const rs_context *c) {
    rs_context *fresh = rs_test_context(model, N_CTX, N_BATCH);
    for (uint32_t i = 0; i < c->n_tokens;) {
        uint32_t n = 1;
        while (i + n < c->n_tokens && c->positions[i + n] == c->positions[i] + (int32_t)n) n++;
        fresh->next_position = c->positions[i];
        rs_test_ok(fresh, rs_decode(fresh, c->tokens + i, n));
        i += n;
    }
    fresh->next_position = c->next_position;
    return fresh;
}

/* Appending, erasing by any method, going back and refining in any order; in the end all is as if read. */
static void test_random_edits(void **state) {
    const rs_model *model = *state;
    const int32_t filler[] = {5, 6};
    rs_adapter *adapters[] = {
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "steer", .rank = 8, .size = 0.02F}),
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "bridge", .rank = 8, .size = 0.02F}),
    };
    const rs_erase_params methods[] = {
        {.method = RS_ERASE_DROP},
        {.method = RS_ERASE_SHIFT},
        {.method = RS_ERASE_REPAIR, .repair_tokens = 9},
        {.method = RS_ERASE_STEER, .adapter = adapters[0]},
        {.method = RS_ERASE_BRIDGE, .adapter = adapters[1]},
        {.method = RS_ERASE_REFILL, .filler = filler, .n_filler = 2},
        {.method = RS_ERASE_ADAPTIVE},
        {.method = RS_ERASE_PROGRESSIVE},
        {.method = RS_ERASE_PROGRESSIVE, .adapter = adapters[1]},
        {.method = RS_ERASE_EXACT},
    };
    int32_t tokens[N_CTX];
    rs_test_make_tokens(model, tokens, N_CTX);
    srand(13);
    uint32_t exchanged = 0;
    rs_context *c = refining(model, &everything);
    for (int step = 0; step < 300; step++) {
        const int what = rand() % 10;
        const uint32_t count = 1 + (uint32_t)rand() % 40;
        if (c->n_tokens + count > N_CTX || c->next_position > 2 * N_CTX) rs_context_reset(c);
        if (what < 3 || c->n_tokens < 12) {
            rs_test_ok(c, rs_decode(c, tokens + c->n_tokens, count));
        } else if (what < 6) {
            const uint32_t first = (uint32_t)rand() % (c->n_tokens - 1);
            const uint32_t last = first + (uint32_t)rand() % 12, end = c->n_tokens - 1;
            const rs_span span = {c->positions[first], c->positions[last < end ? last : end] + 1};
            const size_t m = (size_t)rand() % (sizeof methods / sizeof *methods);
            rs_test_ok(c, rs_erase(c, &span, 1, &methods[m], NULL));
        } else if (what < 7) {
            rs_test_ok(c,
                       rs_truncate(c, c->positions[c->n_tokens / 2 + (uint32_t)rand() % (c->n_tokens / 2)]));
        } else {
            uint32_t left;
            const uint32_t before = n_cheap(c);
            rs_test_ok(c, rs_refine(c, 1 + (uint32_t)rand() % 60, 0, &left));
            exchanged += before > 0 && n_cheap(c) == 0;
            assert_int_equal(left == 0, n_cheap(c) == 0 && !c->draft.is_old);
        }
        if (n_cheap(c) > 0 || step % 3 > 0) continue;
        rs_context *fresh = read_like(model, c);
        rs_test_same_cache(fresh, c);
        if (!c->draft.is_old) check_wiped(c);
        rs_test_free(fresh);
    }
    assert_true(exchanged > 10);
    refine_all(c);
    rs_context *fresh = read_like(model, c);
    rs_test_same_cache(fresh, c);
    rs_test_free(fresh);
    rs_test_free(c);
    for (int i = 0; i < 2; i++) rs_adapter_free(adapters[i]);
}

/* ------------------------------------------------------------------------------------- policies -- */

/* Steps until the caches have been exchanged and the old one is there still. */
static void refine_to_the_exchange(rs_context *c) {
    uint32_t left = 1;
    while (n_cheap(c) > 0) rs_test_ok(c, rs_refine(c, 1, 0, &left));
    assert_true(left > 0 && c->draft.is_old);
}

/* The old cache goes in steps of its own, and at once when the context is edited before it is gone. */
static void test_old_cache_is_zeroed(void **state) {
    const rs_model *model = *state;
    int32_t tokens[200];
    rs_test_make_tokens(model, tokens, 200);
    rs_context *c = refining(model, &everything), *other = refining(model, &everything);
    rs_context *exact = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(exact, rs_decode(exact, tokens, 30));
    rs_test_ok(exact, rs_decode(exact, tokens + 50, 100));
    for (int way = 0; way < 6; way++) {
        rs_context_reset(c);
        rs_test_ok(c, rs_decode(c, tokens, 150));
        rs_test_ok(c, rs_erase(c, &(rs_span){30, 50}, 1, &progressive, NULL));
        refine_to_the_exchange(c);
        rs_test_same_cache(exact, c);
        uint32_t left, before = UINT32_MAX, calls = 0;
        switch (way) {
        case 0:
            do {
                rs_test_ok(c, rs_refine(c, 1, 0, &left));
                assert_true(left < before);
                before = left;
                calls++;
            } while (left > 0);
            assert_true(calls >= 100 / N_BATCH);
            rs_test_same_cache(exact, c);
            break;
        case 1: rs_test_ok(c, rs_refine(c, 0, 0, &left)); break;
        case 2: rs_test_ok(c, rs_erase(c, &(rs_span){100, 110}, 1, &progressive, NULL)); break;
        case 3: rs_test_ok(c, rs_truncate(c, 120)); break;
        case 4: rs_context_reset(c); break;
        default: rs_test_ok(c, rs_context_copy(c, other)); break;
        }
        check_wiped(c);
        rs_test_ok(c, rs_decode(c, tokens, 5));
    }
    rs_test_free(c);
    rs_test_free(other);
    rs_test_free(exact);
}

/* Over what was evicted too: the same as an exact erase of the same context. */
static void test_under_policies(void **state) {
    const rs_model *model = *state;
    rs_gates *gates = rs_test_gates(
        model, &(rs_test_gates_spec){.form = "constant", .scope = "global", .bias = 5, .bias_step = -1});
    const rs_policy_params policies[] = {
        {.policy = RS_POLICY_WINDOW, .sinks = SINKS, .window = WINDOW},
        {.policy = RS_POLICY_KEYNORM, .sinks = SINKS, .window = WINDOW, .budget = 60},
        {.policy = RS_POLICY_SNAPKV, .keep = 0.5F, .observers = 4, .decoded = 40},
        {.policy = RS_POLICY_SNAPKV, .keep = 0.5F, .observers = 4, .patched = true, .decoded = 40},
        {.policy = RS_POLICY_GATES, .sinks = SINKS, .window = WINDOW, .budget = 60, .gates = gates},
    };
    const rs_span spans[] = {{8, 12}, {20, 30}, {140, 150}};
    int32_t tokens[160];
    rs_test_make_tokens(model, tokens, 160);
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        rs_context *c = refining(model, &policies[i]), *exact = refining(model, &policies[i]);
        for (size_t s = 0; s < sizeof spans / sizeof *spans; s++) {
            rs_context_reset(c);
            rs_test_ok(c, rs_decode(c, tokens, 160));
            rs_test_ok(exact, rs_context_copy(exact, c));
            rs_test_ok(c, rs_erase(c, &spans[s], 1, &progressive, NULL));
            rs_test_ok(exact, rs_erase(exact, &spans[s], 1, NULL, NULL));
            uint32_t left;
            do {
                rs_test_ok(c, rs_refine(c, N_BATCH, 0, &left));
            } while (left > 0);
            rs_test_same_cache(exact, c);
            assert_int_equal(c->policy.evicted.begin, exact->policy.evicted.begin);
            assert_int_equal(c->policy.evicted.end, exact->policy.evicted.end);
            check_wiped(c);
        }
        rs_test_free(c);
        rs_test_free(exact);
    }
    rs_gates_free(gates);
}

/* What short calls have kept may leave no room to read the rest as one: then everything is read. */
static void test_where_the_rest_does_not_fit(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N_CTX];
    uint32_t first;
    rs_test_make_tokens(model, tokens, N_CTX);
    rs_context *c = rs_test_crowded(model, true, tokens, N_CTX, &first);
    rs_context *exact = rs_test_context_of(model, &c->params);
    const rs_span span = {(int32_t)first, (int32_t)first + 2};
    rs_test_ok(exact, rs_context_copy(exact, c));
    rs_test_ok(c,
               rs_erase(c, &span, 1, &(rs_erase_params){.method = RS_ERASE_DROP, .close_gap = true}, NULL));
    rs_test_ok(exact, rs_erase(exact, &span, 1, NULL, NULL));
    refine_all(c);
    rs_test_same_cache(exact, c);
    rs_test_free(c);
    rs_test_free(exact);
}

/* A copy is as cheap as what it was made of, and begins to refine anew. */
static void test_copies(void **state) {
    const rs_model *model = *state;
    int32_t tokens[100];
    rs_test_make_tokens(model, tokens, 100);
    rs_context *c = refining(model, &everything), *copy = refining(model, &everything);
    uint32_t left;
    rs_test_ok(c, rs_decode(c, tokens, 100));
    rs_test_ok(c, rs_erase(c, &(rs_span){20, 30}, 1, &progressive, NULL));
    rs_test_ok(c, rs_refine(c, 1, 0, &left));
    rs_test_ok(copy, rs_context_copy(copy, c));
    assert_int_equal(n_cheap(copy), 70);
    refine_all(copy);
    refine_all(c);
    rs_test_same_cache(c, copy);
    rs_test_free(c);
    rs_test_free(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaves_what_is_in_front),
        cmocka_unit_test(test_over_what_was_steered),
        cmocka_unit_test(test_nothing_cheap_is_left),
        cmocka_unit_test(test_where_the_rest_does_not_fit),
        cmocka_unit_test(test_ends_as_exact),
        cmocka_unit_test(test_begins_cheaply),
        cmocka_unit_test(test_needs_spare_pages),
        cmocka_unit_test(test_closes_older_gaps),
        cmocka_unit_test(test_reads_no_more_than_it_may),
        cmocka_unit_test(test_begins_at_what_is_cheap),
        cmocka_unit_test(test_goes_on_where_it_was),
        cmocka_unit_test(test_after_steering),
        cmocka_unit_test(test_random_edits),
        cmocka_unit_test(test_old_cache_is_zeroed),
        cmocka_unit_test(test_under_policies),
        cmocka_unit_test(test_copies),
    };
    return cmocka_run_group_tests_name("refining", tests, rs_test_set_up_tiny, rs_test_tear_down);
}
