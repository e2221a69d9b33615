/* Copies of contexts: all that counts is copied, nothing that was there stays, and the two part for good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/support.h"

enum { N_CTX = 96, N = 60 };

typedef struct fixture {
    rs_model *model;
    int32_t tokens[N_CTX];
} fixture;

static int set_up(void **state) {
    static fixture f;
    f.model = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    for (int32_t i = 0; i < N_CTX; i++) f.tokens[i] = (i * 2 + 17) % (int32_t)f.model->shape.n_vocab;
    *state = &f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    rs_model_free(f->model);
    return 0;
}

static void drop(rs_context *c, int32_t begin, int32_t end) {
    const rs_erase_params params = {.method = RS_ERASE_DROP};
    rs_test_ok(c, rs_erase(c, &(rs_span){begin, end}, 1, &params, NULL));
}

/* A context that has been through something: holes, a protected head, logits. */
static rs_context *used(const fixture *f, uint32_t n_ctx) {
    rs_context *c = rs_test_context(f->model, n_ctx, 16);
    rs_test_ok(c, rs_decode(c, f->tokens, N));
    rs_test_ok(c, rs_context_set_head(c, 5));
    drop(c, 20, 39);
    drop(c, 50, 53);
    rs_test_ok(c, rs_decode(c, f->tokens + N, 3));
    return c;
}

/* The caches, and what else a context is. */
static void assert_same(const rs_context *a, const rs_context *b) {
    rs_test_same_cache(a, b);
    assert_int_equal(a->head_end, b->head_end);
    assert_int_equal(rs_kv_used_bytes(&a->kv), rs_kv_used_bytes(&b->kv));
    assert_int_equal(a->has_logits, b->has_logits);
    if (a->has_logits) assert_memory_equal(a->logits, b->logits, a->model->shape.n_vocab * sizeof(float));
}

static void test_everything_is_copied(void **state) {
    const fixture *f = *state;
    rs_context *from = used(f, N_CTX);
    const uint32_t sizes[] = {N_CTX, N_CTX + 40, 64};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        rs_context *to = rs_test_context(f->model, sizes[i], 7);
        rs_test_ok(to, rs_context_copy(to, from));
        assert_same(to, from);
        int32_t best[2];
        const rs_sampler_params greedy = rs_sampler_default_params();
        rs_sampler sampler;
        assert_int_equal(rs_sampler_init(&sampler, &greedy, NULL), RS_OK);
        rs_test_ok(to, rs_sample(to, &sampler, &best[0]));
        rs_test_ok(from, rs_sample(from, &sampler, &best[1]));
        assert_int_equal(best[0], best[1]);
        rs_test_free(to);
    }
    rs_test_free(from);
}

/* The same calls on both give the same, and calls on one do nothing to the other. */
static void test_the_two_part(void **state) {
    const fixture *f = *state;
    rs_context *from = used(f, N_CTX), *as_it_was = used(f, N_CTX),
               *to = rs_test_context(f->model, N_CTX, 16);
    rs_test_ok(to, rs_context_copy(to, from));
    drop(to, 5, 15);
    rs_test_ok(to, rs_decode(to, f->tokens, 9));
    assert_same(from, as_it_was);
    drop(from, 5, 15);
    rs_test_ok(from, rs_decode(from, f->tokens, 9));
    assert_same(from, to);
    rs_test_free(from);
    rs_test_free(as_it_was);
    rs_test_free(to);
}

/* Whatever the target held is overwritten: page by page it is as one that never held anything else. */
static void test_nothing_stays(void **state) {
    const fixture *f = *state;
    rs_context *empty = rs_test_context(f->model, N_CTX, 16), *to = used(f, N_CTX);
    const size_t pool = (size_t)to->kv.n_pages * to->kv.page_bytes;
    rs_test_ok(to, rs_context_copy(to, empty));
    assert_same(to, empty);
    assert_memory_equal(to->kv.memory, empty->kv.memory, pool);
    for (uint32_t i = 0; i < N_CTX; i++) assert_int_equal(to->tokens[i] | to->positions[i], 0);
    assert_int_equal(to->kv.n_free, to->kv.n_pages);

    /* And a short one over a long one. */
    rs_context *brief = rs_test_context(f->model, N_CTX, 16);
    rs_test_ok(brief, rs_decode(brief, f->tokens + 40, 3));
    rs_test_ok(to, rs_decode(to, f->tokens, N));
    rs_test_ok(to, rs_context_copy(to, brief));
    assert_same(to, brief);
    for (uint32_t i = 3; i < N_CTX; i++) assert_int_equal(to->tokens[i] | to->positions[i], 0);
    size_t n_nonzero = 0;
    for (uint32_t p = 0; p < to->kv.n_free; p++) {
        const unsigned char *page = to->kv.memory + (size_t)to->kv.free_pages[p] * to->kv.page_bytes;
        const size_t rows = 2 * (size_t)RS_PAGE_ENTRIES * to->kv.head_dim;
        for (size_t b = 0; b < rows; b++) n_nonzero += page[b] != 0;
    }
    assert_int_equal(n_nonzero, 0);
    rs_test_free(empty);
    rs_test_free(brief);
    rs_test_free(to);
}

/* Copies to and fro between contexts that are worked on: the pool loses no page and gives none twice. */
static void test_many_copies(void **state) {
    const fixture *f = *state;
    rs_context *a = rs_test_context(f->model, N_CTX, 16), *b = rs_test_context(f->model, N_CTX, 16);
    uint32_t random = 1;
    for (int round = 0; round < 200; round++) {
        random = random * 1664525U + 1013904223U;
        const uint32_t choice = random >> 24, n = 1 + choice % 20;
        if (a->n_tokens + n <= N_CTX && choice < 200) rs_test_ok(a, rs_decode(a, f->tokens, n));
        else if (a->next_position > 2) rs_test_ok(a, rs_truncate(a, a->next_position / 2));
        const int32_t begin = (int32_t)(random >> 8) % (a->next_position > 0 ? a->next_position : 1);
        const rs_erase_params params = {.method = round % 2 == 0 ? RS_ERASE_DROP : RS_ERASE_SHIFT};
        (void)rs_erase(a, &(rs_span){begin, begin + 3}, 1, &params, NULL); /* refused where nothing is left */
        rs_test_ok(b, rs_context_copy(b, a));
        assert_same(a, b);
        rs_context *other = a;
        a = b;
        b = other;
    }
    uint32_t used_pages = 0;
    for (uint32_t s = 0; s < a->kv.n_streams; s++) used_pages += a->kv.streams[s].n_pages;
    assert_int_equal(a->kv.n_free + used_pages, a->kv.n_pages);
    rs_test_free(a);
    rs_test_free(b);
}

static void test_refused(void **state) {
    const fixture *f = *state;
    rs_model *other_model =
        rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    rs_context *from = used(f, N_CTX), *to = used(f, 64), *before = used(f, 64), *small = used(f, 64),
               *other = rs_test_context(other_model, N_CTX, 16);
    assert_int_equal(rs_context_copy(NULL, from), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_context_copy(to, NULL), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_context_copy(other, from), RS_MISMATCH);
    assert_non_null(strstr(rs_context_message(other), "model"));

    rs_test_ok(from, rs_decode(from, f->tokens, 40));
    assert_int_equal(rs_context_copy(to, from), RS_NO_SPACE);
    assert_non_null(strstr(rs_context_message(to), "64"));
    assert_same(to, before);

    from->poisoned = true;
    assert_int_equal(rs_context_copy(to, from), RS_POISONED);
    assert_same(to, before);

    to->poisoned = true;
    rs_test_ok(to, rs_context_copy(to, small));
    assert_same(to, small);
    rs_test_ok(to, rs_context_copy(to, to));
    assert_same(to, small);
    rs_test_free(from);
    rs_test_free(to);
    rs_test_free(before);
    rs_test_free(small);
    rs_test_free(other);
    rs_model_free(other_model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_is_copied),
        cmocka_unit_test(test_the_two_part),
        cmocka_unit_test(test_nothing_stays),
        cmocka_unit_test(test_many_copies),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests_name("copy", tests, set_up, tear_down);
}
