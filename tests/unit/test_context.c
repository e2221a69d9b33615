/* A context's life: its size, its parameters, queries, progress, and failures that leave it as it was. */
#define _POSIX_C_SOURCE 200809L /* fileno */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/forward.h"
#include "tests/support/support.h"

enum { N_CTX = 64 };

static int set_up(void **state) {
    *state = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    return 0;
}

static int tear_down(void **state) {
    rs_model_free(*state);
    return 0;
}

static void test_size_is_what_init_takes(void **state) {
    const rs_model *model = *state;
    const uint32_t sizes[] = {16, 17, 64, 1000, 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const rs_context_params params = {.n_ctx = sizes[i], .n_batch = 1 + sizes[i] % 97};
        rs_context *context;
        size_t bytes, count;
        rs_memory_item items[RS_ARENA_MAX_ITEMS];
        rs_error error;
        assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_OK);
        assert_int_equal(bytes % 64, 0);
        /* To the byte: a guard of what lies behind, and one byte less is refused. */
        unsigned char *memory = aligned_alloc(64, bytes + 64);
        memset(memory + bytes, 0x5a, 64);
        assert_int_equal(rs_context_init(memory, bytes - 1, model, &params, &context, &error), RS_NO_MEMORY);
        assert_non_null(strstr(error.message, "bytes"));
        assert_int_equal(rs_context_init(memory, bytes, model, &params, &context, &error), RS_OK);
        assert_int_equal(rs_context_memory(context, items, RS_ARENA_MAX_ITEMS, &count), RS_OK);
        size_t sum = 0;
        for (size_t k = 0; k < count; k++) sum += items[k].bytes;
        assert_int_equal(sum, bytes);
        const int32_t tokens[] = {1, 2, 3, 4, 5};
        rs_test_ok(context, rs_decode(context, tokens, 5));
        for (size_t k = 0; k < 64; k++) assert_int_equal(memory[bytes + k], 0x5a);
        rs_context_wipe(context);
        free(memory);
    }
}

/* A file's rows and a caller's batch, each within its limit: 2^32 numbers, which no product may lose. */
static void test_sizes_do_not_wrap(void **state) {
    rs_model wide = *(const rs_model *)*state;
    const rs_context_params params = {.n_ctx = 64, .n_batch = 4096};
    size_t bytes = 0;
    rs_error error;
    wide.shape.n_ff = 1U << 20;
    const rs_status status = rs_context_size(&wide, &params, &bytes, &error);
    assert_int_equal(status, SIZE_MAX > UINT32_MAX ? RS_OK : RS_NO_MEMORY);
    assert_true(status != RS_OK || bytes / sizeof(float) > (uint64_t)wide.shape.n_ff * params.n_batch);
}

static void test_bad_parameters(void **state) {
    const rs_model *model = *state;
    const struct {
        uint32_t n_ctx, n_batch;
    } bad[] = {{0, 16}, {15, 16}, {UINT32_MAX, 16}, {64, 0}, {64, 4097}, {(1u << 20) + 1, 1}};
    size_t bytes = 77;
    rs_error error;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const rs_context_params params = {.n_ctx = bad[i].n_ctx, .n_batch = bad[i].n_batch};
        assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_INVALID_ARGUMENT);
        assert_int_equal(bytes, 77);
        assert_non_null(strstr(error.message, "must be"));
    }
    assert_int_equal(rs_context_size(NULL, NULL, &bytes, NULL), RS_INVALID_ARGUMENT);
    static _Alignas(64) unsigned char small[256];
    rs_context *context = (rs_context *)small;
    assert_int_equal(rs_context_init(small + 1, 255, model, NULL, &context, &error), RS_INVALID_ARGUMENT);
    assert_null(context);
    assert_int_equal(rs_context_init(small, 256, model, NULL, &context, &error), RS_NO_MEMORY);
    assert_int_equal(rs_context_init(NULL, 256, model, NULL, &context, &error), RS_INVALID_ARGUMENT);
}

static void test_model_parameters(void **state) {
    (void)state;
    rs_model *model = (rs_model *)1;
    rs_error error;
    const char *path = rs_test_golden_path("tiny-qwen3.gguf");
    rs_model_params params = rs_model_default_params();
    params.threads = 0;
    assert_int_equal(rs_model_load(path, &params, &model, &error), RS_INVALID_ARGUMENT);
    assert_null(model);
    params.threads = 257;
    assert_int_equal(rs_model_load(path, &params, &model, &error), RS_INVALID_ARGUMENT);
    params = rs_model_default_params();
    params.linear = (rs_linear)9;
    assert_int_equal(rs_model_load(path, &params, &model, &error), RS_INVALID_ARGUMENT);
    params = rs_model_default_params();
    params.isa = (rs_isa)42;
    assert_int_not_equal(rs_model_load(path, &params, &model, &error), RS_OK);
    assert_int_equal(rs_model_load("/nonexistent/model.gguf", NULL, &model, &error), RS_IO);
    assert_non_null(strstr(error.message, "/nonexistent/model.gguf"));
    assert_int_equal(rs_model_load("/", NULL, &model, &error), RS_IO);
    assert_int_equal(rs_model_load(NULL, NULL, &model, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_model_load(path, NULL, &model, NULL), RS_OK);
    rs_model_free(model);
    rs_model_free(NULL);
}

/* As an application's package has it: in the middle of a file, and at no multiple of 8. */
static void test_a_model_within_a_file(void **state) {
    (void)state;
    const char *path = rs_test_golden_path("tiny-qwen3.gguf");
    rs_port_map map;
    assert_int_equal(rs_port_map_file(path, &map), 0);
    FILE *package = tmpfile();
    assert_non_null(package);
    const char before[] = "twelve bytes";
    assert_int_equal(fwrite(before, 1, 12, package), 12);
    assert_int_equal(fwrite(map.data, 1, map.bytes, package), map.bytes);
    assert_int_equal(fwrite(before, 1, 5, package), 5);
    assert_int_equal(fflush(package), 0);

    rs_model *models[2], *none = (rs_model *)&map;
    const int32_t tokens[] = {1, 2, 3, 4, 5};
    const float *logits[2];
    rs_context *contexts[2];
    size_t n;
    rs_error error;
    assert_int_equal(rs_model_load_memory(map.data, map.bytes, NULL, &models[0], NULL), RS_OK);
    assert_int_equal(rs_model_load_fd(fileno(package), 12, map.bytes, NULL, &models[1], NULL), RS_OK);
    assert_int_equal(rs_model_load_fd(fileno(package), 12, map.bytes + 6, NULL, &none, &error), RS_IO);
    assert_null(none);
    assert_non_null(strstr(error.message, "from byte 12 on: Invalid argument"));
    assert_int_equal(rs_model_load_fd(fileno(package), 0, 0, NULL, &none, &error), RS_BAD_FILE);
    assert_int_equal(rs_model_load_fd(fileno(package), 14, 0, NULL, &none, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_model_load_fd(-1, 0, 0, NULL, &none, &error), RS_IO);
    assert_int_equal(rs_model_load_fd(0, 0, 0, NULL, NULL, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(fclose(package), 0); /* the mapping stays */
    for (int i = 0; i < 2; i++) {
        contexts[i] = rs_test_context(models[i], N_CTX, 4);
        rs_test_ok(contexts[i], rs_decode(contexts[i], tokens, 5));
        logits[i] = rs_logits(contexts[i], &n);
    }
    assert_memory_equal(logits[0], logits[1], n * sizeof **logits);
    assert_true(rs_model_fingerprint(models[0]) == rs_model_fingerprint(models[1]));
    for (int i = 0; i < 2; i++) {
        rs_test_free(contexts[i]);
        rs_model_free(models[i]);
    }
    rs_port_unmap(&map);
}

static void test_strings_of_a_model(void **state) {
    const char *text = NULL;
    size_t bytes = 7;
    rs_error error;
    assert_int_equal(rs_model_get_string(*state, "tokenizer.ggml.model", &text, &bytes, &error), RS_OK);
    assert_true(bytes == 4 && memcmp(text, "gpt2", 4) == 0);
    assert_int_equal(rs_model_get_string(*state, "no.such.key", &text, &bytes, &error), RS_BAD_FILE);
    assert_non_null(strstr(error.message, "no.such.key"));
    assert_int_equal(rs_model_get_string(*state, "tokenizer.ggml.tokens", &text, &bytes, &error),
                     RS_BAD_FILE);
    assert_int_equal(rs_model_get_string(*state, NULL, &text, &bytes, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(bytes, 4);
}

static void test_bad_tokens(void **state) {
    rs_context *c = rs_test_context(*state, N_CTX, 8);
    const int32_t good[] = {5, 6, 7}, bad[] = {5, -1, 7}, worse[] = {5, INT32_MAX};
    rs_test_ok(c, rs_decode(c, good, 3));
    const float first = rs_logits(c, NULL)[0];
    assert_int_equal(rs_decode(c, bad, 3), RS_OUT_OF_RANGE);
    assert_non_null(strstr(rs_context_message(c), "-1"));
    assert_int_equal(rs_decode(c, worse, 2), RS_OUT_OF_RANGE);
    assert_int_equal(rs_decode(c, NULL, 2), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_decode(c, good, 0), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_decode_each(c, good, 3, NULL, NULL), RS_INVALID_ARGUMENT);
    assert_int_equal(c->n_tokens, 3);
    assert_true(rs_logits(c, NULL)[0] == first);
    rs_test_free(c);
}

static void test_full_cache(void **state) {
    rs_context *c = rs_test_context(*state, N_CTX, 16);
    int32_t tokens[N_CTX + 1];
    for (int i = 0; i <= N_CTX; i++) tokens[i] = i;
    assert_int_equal(rs_decode(c, tokens, N_CTX + 1), RS_NO_SPACE);
    rs_test_ok(c, rs_decode(c, tokens, N_CTX));
    assert_int_equal(rs_decode(c, tokens, 1), RS_NO_SPACE);
    /* Holes do not cost room: what was dropped can be filled again. */
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    for (int32_t p = 1; p < N_CTX; p += 4) rs_test_ok(c, rs_erase(c, &(rs_span){p, p + 1}, 1, &drop, NULL));
    rs_test_ok(c, rs_decode(c, tokens, N_CTX / 4));
    assert_int_equal(c->n_tokens, N_CTX);
    rs_context_info info;
    assert_int_equal(rs_context_get_info(c, &info), RS_OK);
    assert_int_equal(info.next_position, N_CTX + N_CTX / 4);
    assert_int_equal(info.kv_bytes, info.kv_capacity);
    rs_test_free(c);
}

typedef struct calls {
    uint32_t n, last_done, last_total, stop_at;
} calls;

static bool on_progress(void *user, uint32_t done, uint32_t total) {
    calls *c = user;
    c->n++;
    c->last_done = done;
    c->last_total = total;
    return c->n != c->stop_at;
}

static bool on_logits(void *user, int32_t position, const float *logits, size_t n_vocab) {
    calls *c = user;
    assert_non_null(logits);
    assert_true(n_vocab > 0);
    c->last_done = (uint32_t)position;
    return ++c->n != c->stop_at;
}

static void test_progress_and_stopping(void **state) {
    rs_context *c = rs_test_context(*state, N_CTX, 10);
    int32_t tokens[50];
    for (int i = 0; i < 50; i++) tokens[i] = 3 * i;
    calls seen = {0};
    rs_context_set_progress(c, on_progress, &seen);
    rs_test_ok(c, rs_decode(c, tokens, 7));
    assert_int_equal(seen.n, 0);
    rs_test_ok(c, rs_decode(c, tokens, 45));
    assert_int_equal(seen.n, 5);
    assert_int_equal(seen.last_done, 45);
    assert_int_equal(seen.last_total, 45);
    rs_test_ok(c, rs_truncate(c, 7));
    seen = (calls){.stop_at = 3};
    assert_int_equal(rs_decode(c, tokens, 45), RS_STOPPED);
    assert_int_equal(c->n_tokens, 7);
    assert_int_equal(c->next_position, 7);
    assert_int_equal(c->kv.streams[0].n_live, 7);
    assert_null(rs_logits(c, NULL));
    rs_context_set_progress(c, NULL, NULL);
    seen = (calls){.stop_at = 12};
    assert_int_equal(rs_decode_each(c, tokens, 45, on_logits, &seen), RS_STOPPED);
    assert_int_equal(seen.last_done, 7 + 11);
    assert_int_equal(c->n_tokens, 7);
    rs_test_ok(c, rs_decode(c, tokens, 1));
    rs_test_free(c);
}

typedef struct kept_logits {
    size_t n, capacity;
    float *values;
} kept_logits;

static bool keep_logits(void *user, int32_t position, const float *logits, size_t n_vocab) {
    kept_logits *kept = user;
    (void)position;
    assert_true((kept->n + 1) * n_vocab <= kept->capacity);
    memcpy(kept->values + kept->n++ * n_vocab, logits, n_vocab * sizeof *logits);
    return true;
}

/* However many rows of logits are computed at once: each is what decoding token by token gives. */
static void test_logits_of_every_token(void **state) {
    const rs_model *model = *state;
    enum { COUNT = 61 };
    const size_t n_vocab = model->shape.n_vocab;
    int32_t tokens[COUNT];
    for (int i = 0; i < COUNT; i++) tokens[i] = (5 * i + 3) % (int32_t)n_vocab;
    kept_logits kept = {.capacity = COUNT * n_vocab, .values = malloc(COUNT * n_vocab * sizeof(float))};
    assert_non_null(kept.values);
    rs_context *single = rs_test_context(model, N_CTX, 1);
    uint32_t most = 0;
    for (uint32_t batch = 1; batch <= 64; batch *= 4) {
        rs_context *c = rs_test_context(model, N_CTX, batch);
        if (rs_forward_logits_rows(c) > most) most = rs_forward_logits_rows(c);
        kept.n = 0;
        rs_test_ok(c, rs_decode_each(c, tokens, COUNT, keep_logits, &kept));
        assert_int_equal(kept.n, COUNT);
        rs_test_ok(single, rs_truncate(single, 0));
        for (size_t i = 0; i < COUNT; i++) {
            rs_test_ok(single, rs_decode(single, tokens + i, 1));
            assert_memory_equal(kept.values + i * n_vocab, rs_logits(single, NULL), n_vocab * sizeof(float));
        }
        assert_memory_equal(rs_logits(c, NULL), rs_logits(single, NULL), n_vocab * sizeof(float));
        rs_test_free(c);
    }
    assert_true(most > 1);
    rs_test_free(single);
    free(kept.values);
}

static void test_token_list(void **state) {
    rs_context *c = rs_test_context(*state, N_CTX, 8);
    const int32_t tokens[] = {10, 11, 12, 13, 14, 15};
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    int32_t got[8], positions[8];
    size_t count;
    rs_test_ok(c, rs_decode(c, tokens, 6));
    rs_test_ok(c, rs_erase(c, &(rs_span){2, 4}, 1, &drop, NULL));
    rs_test_ok(c, rs_context_tokens(c, 0, 6, got, positions, 8, &count));
    const int32_t expected[] = {10, 11, 14, 15}, at[] = {0, 1, 4, 5};
    assert_int_equal(count, 4);
    assert_memory_equal(got, expected, sizeof expected);
    assert_memory_equal(positions, at, sizeof at);
    rs_test_ok(c, rs_context_tokens(c, 2, 4, NULL, NULL, 0, &count));
    assert_int_equal(count, 0);
    assert_int_equal(rs_context_tokens(c, 0, 6, got, NULL, 3, &count), RS_NO_SPACE);
    assert_int_equal(rs_context_tokens(c, 4, 2, got, NULL, 8, &count), RS_OUT_OF_RANGE);
    assert_int_equal(rs_context_tokens(c, 0, 7, got, NULL, 8, &count), RS_OUT_OF_RANGE);
    assert_int_equal(rs_context_tokens(c, 0, 6, got, NULL, 8, NULL), RS_INVALID_ARGUMENT);
    rs_test_free(c);
}

enum { THREADS = 3 };

typedef struct job {
    rs_context *context;
    float logits[1024];
} job;

static void *converse(void *argument) {
    job *j = argument;
    const int32_t tokens[] = {9, 8, 7, 6, 5, 4, 3, 2, 1};
    for (int round = 0; round < 5; round++) {
        rs_context_reset(j->context);
        if (rs_decode(j->context, tokens, 9) != RS_OK) return j;
        if (rs_erase(j->context, &(rs_span){2, 4}, 1, NULL, NULL) != RS_OK) return j;
        if (rs_decode(j->context, tokens, 2) != RS_OK) return j;
    }
    memcpy(j->logits, rs_logits(j->context, NULL), sizeof(float) * j->context->model->shape.n_vocab);
    return NULL;
}

/* Contexts of one model, on threads of their own, over one shared pool: each as if it were alone. */
static void test_contexts_side_by_side(void **state) {
    (void)state;
    rs_model *model = rs_test_load(rs_test_golden_path("tiny-qwen3.gguf"), RS_LINEAR_AUTO, RS_ISA_AUTO, 2);
    assert_true(model->shape.n_vocab <= 1024);
    static job jobs[THREADS + 1];
    pthread_t threads[THREADS];
    for (int i = 0; i <= THREADS; i++) jobs[i].context = rs_test_context(model, N_CTX, 4);
    assert_null(converse(&jobs[THREADS]));
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, converse, &jobs[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
        assert_memory_equal(jobs[i].logits, jobs[THREADS].logits, sizeof jobs[i].logits);
    }
    for (int i = 0; i <= THREADS; i++) rs_test_free(jobs[i].context);
    rs_model_free(model);
}

/* 20 tokens in chunks of 8, then two by themselves, five of them erased in between. */
static void test_footprint(void **state) {
    const rs_model *model = *state;
    const uint64_t streams = (uint64_t)model->shape.n_layers * model->shape.n_kv_heads;
    rs_context *c = rs_test_context(model, N_CTX, 8), *copy = rs_test_context(model, N_CTX, 8);
    rs_footprint f;
    int32_t tokens[20];
    for (int32_t i = 0; i < 20; i++) tokens[i] = i + 1;
    assert_int_equal(rs_context_footprint(c, &f), RS_OK);
    assert_int_equal(f.full + f.held + f.held_at_once + f.peak_entries + f.peak_bytes, 0);

    rs_test_ok(c, rs_decode(c, tokens, 20));
    assert_int_equal(rs_context_footprint(c, &f), RS_OK);
    assert_int_equal(f.full, streams * 210);
    assert_int_equal(f.held, streams * 210);
    assert_int_equal(f.held_at_once, streams * (8 * 8 + 8 * 16 + 4 * 20));
    assert_int_equal(f.peak_entries, streams * 20);
    assert_int_equal(f.peak_bytes, streams * 2 * rs_kv_page_bytes(model->shape.head_dim, false));

    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    rs_test_ok(c, rs_erase(c, &(rs_span){3, 8}, 1, &drop, NULL));
    rs_test_ok(c, rs_decode(c, tokens, 1));
    rs_test_ok(c, rs_decode(c, tokens, 1));
    assert_int_equal(rs_context_footprint(c, &f), RS_OK);
    assert_int_equal(f.held, streams * (210 + 16 + 17));
    assert_int_equal(f.full, f.held); /* what is erased is no longer kept by anybody */
    assert_int_equal(f.peak_entries, streams * 20);

    rs_footprint of_copy;
    rs_test_ok(copy, rs_context_copy(copy, c));
    assert_int_equal(rs_context_footprint(copy, &of_copy), RS_OK);
    assert_int_equal(of_copy.full, f.full);
    assert_int_equal(of_copy.held, f.held);
    assert_int_equal(of_copy.held_at_once, f.held_at_once);
    assert_int_equal(of_copy.peak_entries, f.peak_entries);
    assert_int_equal(of_copy.peak_bytes, f.peak_bytes);
    rs_context_reset(c);
    assert_int_equal(rs_context_footprint(c, &f), RS_OK);
    assert_int_equal(f.full + f.held, 0);
    assert_int_equal(rs_context_footprint(c, NULL), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_context_footprint(NULL, &f), RS_INVALID_ARGUMENT);
    rs_test_free(c);
    rs_test_free(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size_is_what_init_takes),
        cmocka_unit_test(test_sizes_do_not_wrap),
        cmocka_unit_test(test_bad_parameters),
        cmocka_unit_test(test_model_parameters),
        cmocka_unit_test(test_a_model_within_a_file),
        cmocka_unit_test(test_strings_of_a_model),
        cmocka_unit_test(test_bad_tokens),
        cmocka_unit_test(test_full_cache),
        cmocka_unit_test(test_progress_and_stopping),
        cmocka_unit_test(test_logits_of_every_token),
        cmocka_unit_test(test_token_list),
        cmocka_unit_test(test_contexts_side_by_side),
        cmocka_unit_test(test_footprint),
    };
    return cmocka_run_group_tests_name("context", tests, set_up, tear_down);
}
