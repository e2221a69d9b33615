/* Contexts that are saved and loaded again: they go on as if nothing had been, and damaged files change
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/hash.h"
#include "tests/support/adapter_builder.h"
#include "tests/support/gates_builder.h"
#include "tests/support/state_builder.h"
#include "tests/support/support.h"

enum { N_CTX = 200, N_BATCH = 16, N = 120 };

static const rs_policy_params everything = {.policy = RS_POLICY_FULL};
static const rs_erase_params drop = {.method = RS_ERASE_DROP};

static rs_context *make(const rs_model *model, const rs_policy_params *policy) {
    return rs_test_context_of(
        model, &(rs_context_params){.n_ctx = N_CTX, .n_batch = N_BATCH, .policy = *policy, .refine = true});
}

static void load(rs_context *to, const rs_test_state *state) {
    rs_test_ok(to, rs_context_load(to, state->data, state->bytes));
}

static void check_same(const rs_context *a, const rs_context *b) {
    rs_test_same_cache(a, b);
    assert_int_equal(a->next_position, b->next_position);
    assert_int_equal(a->head_end, b->head_end);
    assert_int_equal(a->first_cheap, b->first_cheap);
    assert_int_equal(a->has_logits, b->has_logits);
    assert_memory_equal(&a->policy.evicted, &b->policy.evicted, sizeof a->policy.evicted);
    if (a->has_logits) assert_memory_equal(a->logits, b->logits, a->model->shape.n_vocab * sizeof(float));
}

/* Reads on and erases in both; they stay the same. */
static void check_same_future(rs_context *a, rs_context *b, const int32_t *tokens) {
    rs_context *both[] = {a, b};
    for (int i = 0; i < 2; i++) {
        rs_test_ok(both[i], rs_decode(both[i], tokens, 21));
        rs_test_ok(both[i], rs_erase(both[i], &(rs_span){30, 41}, 1, &drop, NULL));
        rs_test_ok(both[i], rs_decode(both[i], tokens + 30, 5));
    }
    check_same(a, b);
}

/* A context with holes of several kinds: dropped within pages and over some, steered, protected. */
static rs_context *used(const rs_model *model, const rs_policy_params *policy, const int32_t *tokens) {
    rs_context *c = make(model, policy);
    rs_test_ok(c, rs_decode(c, tokens, N));
    rs_test_ok(c, rs_context_set_head(c, 3));
    rs_test_ok(c, rs_erase(c, (rs_span[]){{20, 25}, {50, 90}, {100, 103}}, 3, &drop, NULL));
    rs_test_ok(c, rs_decode(c, tokens + 7, 2));
    return c;
}

static void test_goes_on(void **state) {
    const rs_model *model = *state;
    rs_gates *gates = rs_test_gates(
        model, &(rs_test_gates_spec){"tied", "global", .width = 32, .features = 16, .size = 0.1F, .seed = 2});
    bool *some = calloc((size_t)model->shape.n_layers * model->shape.n_kv_heads, sizeof *some);
    some[1] = true;
    const rs_policy_params policies[] = {
        everything,
        {.policy = RS_POLICY_WINDOW, .sinks = 4, .window = 24, .rewind = 8},
        {.policy = RS_POLICY_HEADS, .sinks = 4, .window = 24, .full_heads = some},
        {.policy = RS_POLICY_KEYNORM, .sinks = 4, .window = 8, .budget = 40},
        {.policy = RS_POLICY_SNAPKV, .keep = 0.5F, .observers = 4, .decoded = 60},
        {.policy = RS_POLICY_GATES, .sinks = 4, .window = 8, .budget = 40, .floor = 4, .gates = gates},
        {.policy = RS_POLICY_HEAD_GATES, .sinks = 4, .window = 8, .budget = 40, .gates = gates},
    };
    int32_t tokens[N];
    rs_test_make_tokens(model, tokens, N);
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        rs_context *c = used(model, &policies[i], tokens), *to = make(model, &policies[i]);
        rs_test_ok(to, rs_decode(to, tokens + 5, 90)); /* and nothing of this stays */
        rs_test_state saved = rs_test_save(c);
        load(to, &saved);
        check_same(c, to);
        rs_test_state again = rs_test_save(to);
        assert_int_equal(saved.bytes, again.bytes);
        assert_memory_equal(saved.data, again.data, saved.bytes);
        check_same_future(c, to, tokens);
        free(saved.data);
        free(again.data);
        rs_test_free(c);
        rs_test_free(to);
    }
    rs_gates_free(gates);
    free(some);
}

/* An empty context, one that was steered, and one from a context of other measures. */
static void test_any_state(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    rs_test_make_tokens(model, tokens, N);
    rs_context *c = make(model, &everything), *to = make(model, &everything);
    rs_test_state saved = rs_test_save(c);
    rs_test_ok(to, rs_decode(to, tokens, 50));
    load(to, &saved);
    check_same(c, to);
    assert_int_equal(to->kv.n_free, to->kv.n_pages);
    free(saved.data);

    rs_adapter *steer =
        rs_test_adapter(model, &(rs_test_adapter_spec){.kind = "steer", .rank = 8, .size = 1});
    const rs_erase_params params = {.method = RS_ERASE_STEER, .adapter = steer};
    rs_test_ok(c, rs_decode(c, tokens, N));
    rs_test_ok(c, rs_erase(c, &(rs_span){33, 50}, 1, &params, NULL));
    saved = rs_test_save(c);
    load(to, &saved);
    check_same(c, to);
    assert_int_equal(to->tokens[33], RS_TOKEN_GONE);
    check_same_future(c, to, tokens);
    rs_context *small = rs_test_context(model, N, 5);
    load(small, &saved);
    assert_int_equal(small->n_tokens, N);
    free(saved.data);
    rs_adapter_free(steer);
    rs_test_free(c);
    rs_test_free(to);
    rs_test_free(small);
}

/* What is left to make good is known after loading, and ends with the bytes of an exact erase. */
static void test_refines_after_loading(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    rs_test_make_tokens(model, tokens, N);
    rs_context *c = make(model, &everything), *to = make(model, &everything),
               *exact = make(model, &everything);
    rs_test_ok(c, rs_decode(c, tokens, N));
    rs_test_ok(exact, rs_decode(exact, tokens, N));
    const rs_erase_params progressive = {.method = RS_ERASE_PROGRESSIVE};
    rs_test_ok(c, rs_erase(c, &(rs_span){20, 30}, 1, &progressive, NULL));
    rs_test_ok(exact, rs_erase(exact, &(rs_span){20, 30}, 1, NULL, NULL));
    uint32_t left;
    rs_test_ok(c, rs_refine(c, 1, 0, &left));
    assert_true(left > 0);
    const rs_test_state saved = rs_test_save(c);
    load(to, &saved);
    rs_test_ok(to, rs_refine(to, 0, 0, &left));
    assert_int_equal(left, 0);
    check_same(exact, to);
    free(saved.data);
    rs_test_free(c);
    rs_test_free(to);
    rs_test_free(exact);
}

static bool holds(const rs_test_state *saved, const void *bytes, size_t n) {
    for (size_t i = 0; i + n <= saved->bytes; i++)
        if (memcmp(saved->data + i, bytes, n) == 0) return true;
    return false;
}

/* Neither the ids of erased tokens nor their values are in what is saved, with or without an undo area. */
static void test_nothing_erased_is_saved(void **state) {
    const rs_model *model = *state;
    enum { BEGIN = 32, END = 48 }; /* a page, so that its bytes follow each other */
    int32_t tokens[N];
    rs_test_make_tokens(model, tokens, N);
    rs_context *c = rs_test_context_of(
        model,
        &(rs_context_params){.n_ctx = N_CTX, .n_batch = N_BATCH, .refine = true, .undo_bytes = 200000});
    rs_test_ok(c, rs_decode(c, tokens, N));
    const rs_kv_page page = rs_kv_get_page(&c->kv, c->kv.streams[0].pages[BEGIN / RS_PAGE_ENTRIES]);
    int8_t value[64];
    memcpy(value, page.view.v, sizeof value);
    rs_test_state saved = rs_test_save(c);
    assert_true(holds(&saved, value, sizeof value));
    assert_true(holds(&saved, tokens + BEGIN, (END - BEGIN) * sizeof *tokens));
    free(saved.data);
    rs_test_ok(c, rs_erase(c, &(rs_span){BEGIN, END}, 1, &drop, NULL));
    saved = rs_test_save(c);
    assert_false(holds(&saved, value, sizeof value));
    assert_false(holds(&saved, tokens + BEGIN, (END - BEGIN) * sizeof *tokens));
    assert_true(holds(&saved, tokens + END, (N - END) * sizeof *tokens));
    free(saved.data);
    rs_test_free(c);
}

static bool write_some(void *user, const void *data, size_t bytes) {
    size_t *left = user;
    (void)data;
    if (bytes > *left) return false;
    *left -= bytes;
    return true;
}

static void check_refused(rs_context *c, const rs_context *before, const rs_test_state *saved,
                          rs_status status, const char *word) {
    assert_int_equal(rs_context_load(c, saved->data, saved->bytes), status);
    if (strstr(rs_context_message(c), word) == NULL) fail_msg("\"%s\"", rs_context_message(c));
    check_same(c, before);
}

static void test_refused(void **state) {
    const rs_model *model = *state;
    rs_model *other = rs_test_load(rs_test_golden_path("tiny-gemma3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    int32_t tokens[N];
    rs_test_make_tokens(model, tokens, N);
    rs_context *c = used(model, &everything, tokens), *before = used(model, &everything, tokens);
    const rs_test_state saved = rs_test_save(c);
    size_t left = saved.bytes - 1;
    assert_int_equal(rs_context_save(c, write_some, &left), RS_STOPPED);
    assert_int_equal(rs_context_save(c, NULL, NULL), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_context_save(NULL, write_some, &left), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_context_load(NULL, saved.data, saved.bytes), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_context_load(c, NULL, 0), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_context_load(c, saved.data + 4, saved.bytes - 4), RS_INVALID_ARGUMENT);
    check_same(c, before);

    check_refused(c, before, &(rs_test_state){saved.data, 0}, RS_BAD_FILE, "no saved context");
    check_refused(c, before, &(rs_test_state){saved.data + 8, 400}, RS_BAD_FILE, "no saved context");
    rs_test_state version = rs_test_state_copy(&saved);
    version.data[8]++;
    check_refused(c, before, &version, RS_UNSUPPORTED, "version 3");
    free(version.data);

    rs_context *foreign = rs_test_context(other, N_CTX, N_BATCH),
               *small = rs_test_context(model, 112, N_BATCH);
    const rs_policy_params window = {.policy = RS_POLICY_WINDOW, .sinks = 4, .window = 24};
    rs_context *evicting = make(model, &window);
    assert_int_equal(rs_context_load(foreign, saved.data, saved.bytes), RS_MISMATCH);
    assert_non_null(strstr(rs_context_message(foreign), "model"));
    assert_int_equal(rs_context_load(evicting, saved.data, saved.bytes), RS_MISMATCH);
    assert_non_null(strstr(rs_context_message(evicting), "policy"));
    const rs_test_state fits = rs_test_save(c);
    rs_test_ok(c, rs_decode(c, tokens, 40));
    const rs_test_state large = rs_test_save(c);
    load(small, &fits);
    check_same(small, before);
    check_refused(small, before, &large, RS_NO_SPACE, "112");

    c->poisoned = true;
    assert_int_equal(rs_context_save(c, write_some, &left), RS_POISONED);
    load(c, &saved);
    check_same(c, before);
    assert_false(c->poisoned);
    free(saved.data);
    free(fits.data);
    free(large.data);
    rs_test_free(c);
    rs_test_free(before);
    rs_test_free(foreign);
    rs_test_free(small);
    rs_test_free(evicting);
    rs_model_free(other);
}

/* Cut off anywhere, longer, or with any byte changed. */
static void test_damaged(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    rs_test_make_tokens(model, tokens, N);
    rs_context *c = rs_test_context(model, 40, N_BATCH), *before = rs_test_context(model, 40, N_BATCH);
    rs_test_ok(c, rs_decode(c, tokens, 19));
    rs_test_ok(before, rs_decode(before, tokens, 19));
    const rs_test_state saved = rs_test_save(c);
    for (size_t bytes = 0; bytes < saved.bytes; bytes += bytes < 1000 ? 1 : 97) {
        rs_test_state cut = {malloc(bytes + 1), bytes};
        memcpy(cut.data, saved.data, bytes);
        assert_int_equal(rs_context_load(c, cut.data, cut.bytes), RS_BAD_FILE);
        free(cut.data);
    }
    rs_test_state longer = {malloc(saved.bytes + 8), saved.bytes + 8};
    memcpy(longer.data, saved.data, saved.bytes);
    memset(longer.data + saved.bytes, 0, 8);
    check_refused(c, before, &longer, RS_BAD_FILE, "cut off, or too long");
    free(longer.data);
    for (size_t at = 0; at < saved.bytes; at += at < 1000 ? 1 : 89) {
        saved.data[at] ^= 0x10;
        assert_int_not_equal(rs_context_load(c, saved.data, saved.bytes), RS_OK);
        saved.data[at] ^= 0x10;
    }
    check_same(c, before);
    free(saved.data);
    rs_test_free(c);
    rs_test_free(before);
}

/* What has a right checksum and cannot be: every sentence of it. */
static void test_impossible(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    rs_test_make_tokens(model, tokens, N);
    rs_context *c = rs_test_context(model, N_CTX, N_BATCH), *before = rs_test_context(model, N_CTX, N_BATCH);
    rs_context *const both[] = {c, before};
    for (int i = 0; i < 2; i++) {
        rs_test_ok(both[i], rs_decode(both[i], tokens, 40));
        rs_test_ok(both[i], rs_erase(both[i], &(rs_span){20, 25}, 1, &drop, NULL));
        rs_test_ok(both[i], rs_decode(both[i], tokens, 1));
    }
    const rs_test_state saved = rs_test_save(c);
    const size_t n_streams = c->kv.n_streams, n_vocab = model->shape.n_vocab, plane = 16 * c->kv.head_dim;
    const size_t lists = 56, positions = lists + 36 * 4, turns = positions + 36 * 4;
    const size_t lengths = turns + 36 * 4, logits = lengths + n_streams * 8, pages = logits + n_vocab * 4,
                 scales = pages + 2 * plane;
    const size_t hole = pages + c->kv.page_bytes + 4 * 4; /* of the first key of position 20 */
    const struct {
        size_t at;
        uint32_t value;
        const char *word;
    } changes[] = {
        {lists + 4, 1000000, "vocabulary"},
        {lists + 4, (uint32_t)-2, "vocabulary"},
        {positions + 8, 1, "out of order"},
        {positions, (uint32_t)-1, "out of order"},
        {positions + 35 * 4, 41, "out of order"},
        {turns + 8, 3, "from nowhere"}, /* of position 2, the first two at either end of what is possible */
        {turns + 8, (uint32_t)(2 - INT32_MAX), "from nowhere"},
        {36, 40, "out of order"}, /* the next position */
        {40, 42, "out of range"}, /* the protected head */
        {40, (uint32_t)-1, "out of range"},
        {44, 36, "read again"}, /* the first cheap token */
        {48, 1, "evicted"},     /* the span of what was evicted */
        {52, 9, "evicted"},     /* in a full cache */
        {12, 5, "too long"},    /* logits */
        {12, 0, "too long"},
        {logits, 0x7f800000, "logit"},
        {lengths, 2, "too long"},
        {lengths + 4, 0, "no such length"},
        {lengths + 4, 17, "no such length"},
        {lengths + 4, 15, "ends with a hole"},
        {lengths + 4, 8, "not those of its tokens"},
        {pages, 0x80808080U, "key, value or scale"},
        {pages + plane, 0x80U, "key, value or scale"},
        {scales, 0x7fc00000, "key, value or scale"},
        {scales + 64, 0xbf800000, "key, value or scale"},
        {scales + 128 + 4, 2, "not those of its tokens"},
        {scales + 128 + 4, (uint32_t)-1, "not empty"},
        {scales + 128 + 60, (uint32_t)-1, "not empty"},
        {hole, 1, "not empty"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        rs_test_state changed = rs_test_state_copy(&saved);
        memcpy(changed.data + changes[i].at, &changes[i].value, 4);
        rs_test_state_seal(&changed);
        check_refused(c, before, &changed, RS_BAD_FILE, changes[i].word);
        free(changed.data);
    }
    free(saved.data);
    rs_test_free(c);
    rs_test_free(before);
}

/* Loads what a full cache of n tokens holds, as if it were of another policy. */
static void load_as(rs_context *c, const rs_model *model, uint32_t n, rs_status status) {
    int32_t tokens[N];
    rs_test_make_tokens(model, tokens, N);
    rs_context *full = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(full, rs_decode(full, tokens, n));
    const rs_test_state saved = rs_test_save(full);
    const uint64_t policy = rs_policy_fingerprint(&c->policy);
    memcpy(saved.data + 24, &policy, sizeof policy);
    rs_test_state_seal(&saved);
    assert_int_equal(rs_context_load(c, saved.data, saved.bytes), status);
    free(saved.data);
    rs_test_free(full);
}

/* More entries than the policy ever leaves would not have room in what it works on. */
static void test_more_than_kept(void **state) {
    const rs_model *model = *state;
    const int32_t token = 3;
    const struct {
        uint32_t n_batch, most;
        rs_policy_params policy;
    } cases[] = {
        {N_BATCH, 40 + 16, {.policy = RS_POLICY_KEYNORM, .sinks = 4, .window = 8, .budget = 40}},
        {1, 4 + 16, {.policy = RS_POLICY_WINDOW, .sinks = 4, .window = 16}},
        {1, 4 + 16 + 5, {.policy = RS_POLICY_WINDOW, .sinks = 4, .window = 16, .rewind = 5}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rs_context *c = rs_test_context_of(
            model,
            &(rs_context_params){.n_ctx = N_CTX, .n_batch = cases[i].n_batch, .policy = cases[i].policy});
        load_as(c, model, cases[i].most + 1, RS_BAD_FILE);
        assert_non_null(strstr(rs_context_message(c), "more than the policy keeps"));
        assert_int_equal(c->n_tokens, 0);
        load_as(c, model, cases[i].most, RS_OK);
        for (int k = 0; k < 40; k++) rs_test_ok(c, rs_decode(c, &token, 1));
        rs_test_free(c);
    }
}

/* Nothing was evicted, wherever the file says that it begins and ends. */
static void test_nothing_evicted(void **state) {
    const rs_model *model = *state;
    int32_t tokens[N];
    const int32_t at[] = {30, 30};
    rs_test_make_tokens(model, tokens, N);
    rs_context *c = rs_test_context(model, N_CTX, N_BATCH);
    rs_test_ok(c, rs_decode(c, tokens, 60));
    const rs_test_state saved = rs_test_save(c);
    memcpy(saved.data + 48, at, sizeof at);
    rs_test_state_seal(&saved);
    load(c, &saved);
    assert_int_equal(c->policy.evicted.end, 0);
    const rs_erase_params repair = {.method = RS_ERASE_REPAIR, .repair_tokens = 8};
    rs_test_ok(c, rs_erase(c, &(rs_span){10, 12}, 1, &repair, NULL));
    free(saved.data);
    rs_test_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_any_state),
        cmocka_unit_test(test_refines_after_loading),
        cmocka_unit_test(test_nothing_erased_is_saved),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_impossible),
        cmocka_unit_test(test_more_than_kept),
        cmocka_unit_test(test_nothing_evicted),
    };
    return cmocka_run_group_tests_name("state", tests, rs_test_set_up_tiny, rs_test_tear_down);
}
