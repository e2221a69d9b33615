/* Taking spans back: what each method leaves in the cache, what it refuses. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/forward.h"
#include "tests/support/support.h"

enum { N_CTX = 160, N = 120 };

typedef struct fixture {
    const char *file;
    rs_model *model;
    int32_t tokens[N];
} fixture;

/* Different tokens throughout, so that a row can be told from every other. */
static int set_up(void **state) {
    fixture *f = *state;
    f->model = rs_test_load(rs_test_golden_path(f->file), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    const uint32_t n_vocab = f->model->shape.n_vocab;
    assert_true(n_vocab > 2 * N);
    for (uint32_t i = 0; i < N; i++) f->tokens[i] = (int32_t)((i * 2 + 17) % n_vocab);
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    rs_model_free(f->model);
    return 0;
}

static rs_context *prefilled(const fixture *f, uint32_t n_batch, uint32_t count) {
    rs_context *c = rs_test_context(f->model, N_CTX, n_batch);
    rs_test_ok(c, rs_decode(c, f->tokens, count));
    return c;
}

/* A context that read the tokens outside [begin, end) only. */
static rs_context *without(const fixture *f, uint32_t begin, uint32_t end) {
    rs_context *c = rs_test_context(f->model, N_CTX, 32);
    if (begin > 0) rs_test_ok(c, rs_decode(c, f->tokens, begin));
    if (end < N) rs_test_ok(c, rs_decode(c, f->tokens + end, N - end));
    return c;
}

static rs_erase_report erase(rs_context *c, rs_erase_method method, const rs_span *spans, size_t n) {
    rs_erase_params params = rs_erase_default_params();
    rs_erase_report report;
    params.method = method;
    params.max_kl = 0.01F; /* of RS_ERASE_AUTO */
    rs_test_ok(c, rs_erase(c, spans, n, &params, &report));
    if (method != RS_ERASE_AUTO) assert_int_equal(report.method, method);
    assert_int_equal(report.n_spans, n);
    assert_int_equal(report.next_position, c->next_position);
    return report;
}

/* The worst row of one cache relative to the other's. Rows that were computed over pages with a hole and
 * without one differ a little: the sums are made in another order, so some int8 steps fall the other way. */
static double cache_distance(const rs_context *a, const rs_context *b) {
    double worst = 0;
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens);
    assert_memory_equal(a->positions, b->positions, a->n_tokens * sizeof *a->positions);
    for (uint32_t s = 0; s < a->kv.n_streams; s++) {
        for (uint32_t i = 0; i < a->n_tokens; i++) {
            float rows[2][2 * RS_HEAD_DIM_MAX] = {{0}};
            double difference = 0, length = 0;
            rs_test_row(a, s, a->positions[i], rows[0], rows[0] + RS_HEAD_DIM_MAX);
            rs_test_row(b, s, b->positions[i], rows[1], rows[1] + RS_HEAD_DIM_MAX);
            for (int d = 0; d < 2 * RS_HEAD_DIM_MAX; d++) {
                difference += pow((double)rows[0][d] - (double)rows[1][d], 2);
                length += pow((double)rows[1][d], 2);
            }
            worst = fmax(worst, sqrt(difference / length));
        }
    }
    return worst;
}

/* And both say the same next. */
static void assert_same_answer(rs_context *a, rs_context *b, int32_t token) {
    size_t n;
    rs_test_ok(a, rs_decode(a, &token, 1));
    rs_test_ok(b, rs_decode(b, &token, 1));
    const float *logits = rs_logits(a, &n);
    assert_memory_equal(logits, rs_logits(b, NULL), n * sizeof *logits);
}

static void test_chunks_do_not_matter(void **state) {
    const fixture *f = *state;
    rs_context *a = prefilled(f, 1, N);
    const uint32_t batches[] = {2, 7, 16, 33, N};
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        rs_context *b = prefilled(f, batches[i], N);
        rs_test_same_cache(a, b);
        assert_memory_equal(a->logits, b->logits, f->model->shape.n_vocab * sizeof(float));
        rs_test_free(b);
    }
    rs_test_free(a);
}

static void test_threads_do_not_matter(void **state) {
    const fixture *f = *state;
    rs_model *model = rs_test_load(rs_test_golden_path(f->file), RS_LINEAR_NATIVE, RS_ISA_AUTO, 3);
    rs_context *a = prefilled(f, 50, N), *b = rs_test_context(model, N_CTX, 50);
    rs_test_ok(b, rs_decode(b, f->tokens, N));
    erase(a, RS_ERASE_SHIFT, &(rs_span){40, 50}, 1);
    erase(b, RS_ERASE_SHIFT, &(rs_span){40, 50}, 1);
    rs_test_same_cache(a, b);
    assert_same_answer(a, b, f->tokens[2]);
    rs_test_free(a);
    rs_test_free(b);
    rs_model_free(model);
}

static void test_exact_is_never_held(void **state) {
    const fixture *f = *state;
    const rs_span spans[] = {{0, 1}, {0, 40}, {20, 37}, {16, 32}, {N - 9, N}, {1, N}};
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        const uint32_t begin = (uint32_t)spans[i].begin, end = (uint32_t)spans[i].end;
        rs_context *a = prefilled(f, 19, N), *b = without(f, begin, end);
        const rs_erase_report report = erase(a, RS_ERASE_EXACT, &spans[i], 1);
        assert_int_equal(report.n_erased, end - begin);
        assert_int_equal(report.n_recomputed, N - end);
        assert_null(rs_logits(a, NULL));
        rs_test_same_cache(a, b);
        assert_same_answer(a, b, f->tokens[3]);
        rs_test_free(a);
        rs_test_free(b);
    }
}

static void test_exact_of_several_spans(void **state) {
    const fixture *f = *state;
    const rs_span spans[] = {{4, 9}, {9, 12}, {30, 31}, {50, 90}};
    rs_context *a = prefilled(f, 32, N), *b = rs_test_context(f->model, N_CTX, 32);
    int32_t kept[N];
    uint32_t n = 0;
    for (int32_t i = 0; i < N; i++) {
        const int inside = (i >= 4 && i < 12) || i == 30 || (i >= 50 && i < 90);
        if (!inside) kept[n++] = f->tokens[i];
    }
    rs_test_ok(b, rs_decode(b, kept, n));
    erase(a, RS_ERASE_EXACT, spans, 4);
    rs_test_same_cache(a, b);
    rs_test_free(a);
    rs_test_free(b);
}

static void test_erasing_everything(void **state) {
    const fixture *f = *state;
    const rs_erase_method methods[] = {RS_ERASE_EXACT, RS_ERASE_DROP, RS_ERASE_SHIFT, RS_ERASE_REPAIR};
    for (size_t i = 0; i < 4; i++) {
        rs_context *a = prefilled(f, 64, N);
        const rs_erase_report report = erase(a, methods[i], &(rs_span){0, N}, 1);
        assert_int_equal(report.n_erased, N);
        assert_int_equal(report.n_recomputed, 0);
        assert_int_equal(a->n_tokens, 0);
        assert_int_equal(rs_kv_used_bytes(&a->kv), 0);
        rs_test_ok(a, rs_decode(a, f->tokens, 4));
        rs_test_free(a);
    }
}

/* The rows before and after the hole stay as they are, to the bit, at their positions. */
static void test_drop_leaves_the_rest(void **state) {
    const fixture *f = *state;
    rs_context *a = prefilled(f, 64, N), *b = prefilled(f, 64, N);
    const rs_erase_report report = erase(a, RS_ERASE_DROP, &(rs_span){25, 70}, 1);
    float rows[4][RS_HEAD_DIM_MAX];
    assert_int_equal(report.n_erased, 45);
    assert_int_equal(report.n_recomputed + report.n_rotated, 0);
    assert_int_equal(a->n_tokens, N - 45);
    assert_int_equal(a->next_position, N);
    for (uint32_t s = 0; s < a->kv.n_streams; s++) {
        assert_int_equal(a->kv.streams[s].n_live, N - 45);
        for (uint32_t i = 0; i < a->n_tokens; i++) {
            rs_test_row(a, s, a->positions[i], rows[0], rows[1]);
            rs_test_row(b, s, a->positions[i], rows[2], rows[3]);
            assert_memory_equal(rows[0], rows[2], sizeof(float) * a->model->shape.head_dim);
            assert_memory_equal(rows[1], rows[3], sizeof(float) * a->model->shape.head_dim);
        }
    }
    rs_test_free(a);
    rs_test_free(b);
}

/* Nobody sees a hole, wherever it lies in its page: what its bytes are does not matter. */
static void test_holes_are_not_seen(void **state) {
    const fixture *f = *state;
    const rs_span spans[] = {{2, 9}, {16, 17}, {37, 47}, {64, 70}, {90, 96}};
    rs_context *a = prefilled(f, 64, N), *b = prefilled(f, 64, N);
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        erase(a, RS_ERASE_DROP, &spans[i], 1);
        erase(b, RS_ERASE_DROP, &spans[i], 1);
    }
    uint32_t holes = 0;
    for (uint32_t s = 0; s < b->kv.n_streams; s++) {
        for (uint32_t p = 0; p < b->kv.streams[s].n_pages; p++) {
            const rs_kv_page page = rs_kv_get_page(&b->kv, b->kv.streams[s].pages[p]);
            for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) {
                if (page.position[e] != RS_KV_HOLE) continue;
                holes++;
                page.view.k_scale[e] = page.view.v_scale[e] = 0.25f;
                for (uint32_t d = 0; d < b->kv.head_dim; d++) {
                    page.view.k[(d / 4) * 4 * RS_PAGE_ENTRIES + e * 4 + d % 4] = 100;
                    page.view.v[(size_t)(e / 4) * 4 * b->kv.head_dim + d * 4 + e % 4] = -100;
                }
            }
        }
    }
    assert_true(holes > 0);
    assert_same_answer(a, b, f->tokens[4]);
    rs_test_ok(a, rs_decode(a, f->tokens, 20));
    rs_test_ok(b, rs_decode(b, f->tokens, 20));
    rs_test_same_cache(a, b);
    rs_test_free(a);
    rs_test_free(b);
}

/* A span at the very end has no suffix: drop is then the same as never having read it, but for the positions.
 */
static void test_drop_at_the_end(void **state) {
    const fixture *f = *state;
    rs_context *a = prefilled(f, 64, N), *b = prefilled(f, 64, N - 20);
    erase(a, RS_ERASE_DROP, &(rs_span){N - 20, N}, 1);
    assert_int_equal(a->next_position, N);
    a->next_position = b->next_position;
    rs_test_same_cache(a, b);
    assert_same_answer(a, b, f->tokens[5]);
    rs_test_free(a);
    rs_test_free(b);
}

/* In the first layer a key depends on its token and position alone: a rotated one must be the key computed
 * there. */
static void test_shift_rotates_right(void **state) {
    const fixture *f = *state;
    const rs_span spans[] = {{10, 33}, {60, 61}};
    rs_context *a = prefilled(f, 64, N), *b = rs_test_context(f->model, N_CTX, 64),
               *before = prefilled(f, 64, N);
    const rs_erase_report report = erase(a, RS_ERASE_SHIFT, spans, 2);
    assert_int_equal(report.n_rotated, N - 10 - 24);
    assert_int_equal(a->next_position, N - 24);
    rs_test_ok(b, rs_decode(b, a->tokens, a->n_tokens));
    assert_memory_equal(a->positions, b->positions, a->n_tokens * sizeof *a->positions);
    double worst = 0, untouched = 0;
    for (uint32_t s = 0; s < f->model->shape.n_kv_heads; s++) {
        for (uint32_t i = 0; i < a->n_tokens; i++) {
            float rows[6][RS_HEAD_DIM_MAX];
            double difference = 0, length = 0, moved = 0;
            rs_test_row(a, s, a->positions[i], rows[0], rows[1]);
            rs_test_row(b, s, b->positions[i], rows[2], rows[3]);
            const int32_t old = (int32_t)i < 10   ? (int32_t)i
                                : (int32_t)i < 37 ? (int32_t)i + 23
                                                  : (int32_t)i + 24;
            rs_test_row(before, s, old, rows[4], rows[5]);
            for (uint32_t d = 0; d < f->model->shape.head_dim; d++) {
                difference += pow((double)rows[0][d] - (double)rows[2][d], 2);
                moved += pow((double)rows[4][d] - (double)rows[2][d], 2);
                length += pow((double)rows[2][d], 2);
            }
            worst = fmax(worst, sqrt(difference / length));
            untouched = fmax(untouched, sqrt(moved / length));
            assert_memory_equal(rows[1], rows[3], sizeof(float) * f->model->shape.head_dim);
        }
    }
    printf("# figure: %s: shifted key off by %.4f of its length at most (not rotated: %.2f)\n", f->file,
           worst, untouched);
    assert_true(
        worst <
        0.03); /* three roundings to int8 between the two, each of a third of a step in 127 of the largest */
    assert_true(untouched > 0.3);
    rs_test_free(a);
    rs_test_free(b);
    rs_test_free(before);
}

/* How far first-layer keys are from those that reading would give, by their length: the mean over all. */
static double key_distance(const fixture *f, const rs_context *c) {
    rs_context *read = rs_test_context(f->model, N_CTX, 64);
    rs_test_ok(read, rs_decode(read, c->tokens, c->n_tokens));
    assert_memory_equal(c->positions, read->positions, c->n_tokens * sizeof *c->positions);
    double sum = 0;
    for (uint32_t s = 0; s < f->model->shape.n_kv_heads; s++) {
        for (uint32_t i = 0; i < c->n_tokens; i++) {
            float key[RS_HEAD_DIM_MAX], want[RS_HEAD_DIM_MAX], value[RS_HEAD_DIM_MAX];
            double difference = 0, length = 0;
            rs_test_row(c, s, c->positions[i], key, value);
            rs_test_row(read, s, c->positions[i], want, value);
            for (uint32_t d = 0; d < f->model->shape.head_dim; d++) {
                difference += pow((double)key[d] - (double)want[d], 2);
                length += pow((double)want[d], 2);
            }
            sum += sqrt(difference / length);
        }
    }
    rs_test_free(read);
    return sum / f->model->shape.n_kv_heads / c->n_tokens;
}

/* Rounding does not add up over many erases. */
static void test_shifting_again_and_again(void **state) {
    const fixture *f = *state;
    enum { ERASES = 40 };
    rs_context *c = prefilled(f, 64, N);
    double off[ERASES + 1] = {0};
    for (int i = 1; i <= ERASES; i++) {
        erase(c, RS_ERASE_SHIFT, &(rs_span){5, 6 + i % 2}, 1);
        off[i] = key_distance(f, c);
    }
    printf("# figure: %s: keys off by %.4f of their length after 1 shift, %.4f after 3, %.4f after %d\n",
           f->file, off[1], off[3], off[ERASES], ERASES);
    assert_true(off[1] > 0 && off[3] < 3 * off[1]);
    for (int i = 4; i <= ERASES; i++) assert_true(off[i] < 1.25 * off[3]);
    rs_test_free(c);
}

/* Keys that have moved before come back to the byte: up by new text, and down again. Tokens that were read in
 * between, or encoded again, move by themselves. */
static void test_moving_up_and_down(void **state) {
    const fixture *f = *state;
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    rs_context *c = prefilled(f, 64, 80), *before = rs_test_context(f->model, N_CTX, 64);
    erase(c, RS_ERASE_SHIFT, &(rs_span){20, 23}, 1);
    rs_test_ok(c, rs_decode(c, f->tokens + 80, 10));
    erase(c, RS_ERASE_SHIFT, &(rs_span){30, 31}, 1);
    rs_test_ok(c,
               rs_erase(c, &(rs_span){40, 41}, 1,
                        &(rs_erase_params){.method = RS_ERASE_REPAIR, .repair_tokens = 4, .close_gap = true},
                        NULL));
    assert_int_equal(c->turns[19], RS_KEYS_READ);
    assert_int_equal(c->turns[25], RS_KEYS_MOVED);
    assert_int_equal(c->turns[35], 0);
    assert_int_equal(c->turns[42], RS_KEYS_READ);
    assert_int_equal(c->turns[50], -1);
    rs_test_ok(before, rs_context_copy(before, c));
    const int32_t old = c->tokens[45];
    rs_test_ok(c, rs_replace(c, (rs_span){45, 46}, (const int32_t[]){1, 2, old}, 3, &drop, NULL));
    assert_int_equal(c->turns[52], 1);
    erase(c, RS_ERASE_SHIFT, &(rs_span){45, 47}, 1);
    assert_int_equal(c->turns[50], -1);
    for (uint32_t s = 0; s < c->kv.n_streams; s++) {
        for (int32_t p = 46; p < c->next_position; p++) {
            float rows[4][RS_HEAD_DIM_MAX];
            if (before->turns[p] == RS_KEYS_READ || before->turns[p] == RS_KEYS_MOVED) continue;
            rs_test_row(c, s, p, rows[0], rows[1]);
            rs_test_row(before, s, p, rows[2], rows[3]);
            assert_memory_equal(rows[0], rows[2], f->model->shape.head_dim * sizeof(float));
        }
    }
    rs_test_free(c);
    rs_test_free(before);
}

/* Repairing the whole suffix is reading it again at its old positions without the span. */
static void test_repair_of_all(void **state) {
    const fixture *f = *state;
    rs_context *a = prefilled(f, 16, N), *b = prefilled(f, 16, 30);
    rs_erase_params params = {.method = RS_ERASE_REPAIR, .repair_tokens = N};
    rs_erase_report report;
    rs_test_ok(a, rs_erase(a, &(rs_span){30, 52}, 1, &params, &report));
    assert_int_equal(report.n_recomputed, N - 52);
    b->next_position = 52; /* leaves the hole */
    rs_test_ok(b, rs_decode(b, f->tokens + 52, N - 52));
    assert_true(cache_distance(a, b) < 0.03);
    /* The same test tells a suffix that was not repaired. */
    rs_context *dropped = prefilled(f, 16, N);
    erase(dropped, RS_ERASE_DROP, &(rs_span){30, 52}, 1);
    assert_true(cache_distance(dropped, b) > 0.1);
    rs_test_free(dropped);
    rs_test_free(a);
    rs_test_free(b);
}

static void test_repair_counts(void **state) {
    const fixture *f = *state;
    rs_erase_report report;
    const rs_span two[] = {{10, 20}, {26, 30}};
    const struct {
        rs_erase_params params;
        const rs_span *spans;
        size_t n_spans;
        uint32_t recomputed;
    } cases[] = {
        {{.method = RS_ERASE_REPAIR, .repair_tokens = 16, .repair_fraction = 0},
         (rs_span[]){{10, 20}},
         1,
         16},
        {{.method = RS_ERASE_REPAIR, .repair_tokens = 0, .repair_fraction = 0.15f},
         (rs_span[]){{10, 20}},
         1,
         15},
        {{.method = RS_ERASE_REPAIR, .repair_tokens = 0, .repair_fraction = 0.001f},
         (rs_span[]){{10, 20}},
         1,
         1},
        {{.method = RS_ERASE_REPAIR, .repair_tokens = 0, .repair_fraction = 1},
         (rs_span[]){{10, 20}},
         1,
         100},
        {{.method = RS_ERASE_REPAIR, .repair_tokens = 16, .repair_fraction = 0},
         (rs_span[]){{100, 113}},
         1,
         7},
        {{.method = RS_ERASE_REPAIR, .repair_tokens = 4, .repair_fraction = 0}, two, 2, 8},
        /* The first hole's sixteen run over the second: six of them, the hole, ten more; then six for the
           second. */
        {{.method = RS_ERASE_REPAIR, .repair_tokens = 16, .repair_fraction = 0}, two, 2, 22},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rs_context *a = prefilled(f, 64, N);
        rs_test_ok(a, rs_erase(a, cases[i].spans, cases[i].n_spans, &cases[i].params, &report));
        assert_int_equal(report.n_recomputed, cases[i].recomputed);
        assert_int_equal(a->next_position, N);
        rs_test_free(a);
    }
}

/* FNV-1a over a context's cache, token list and state. */
static uint64_t fingerprint(const rs_context *c) {
    uint64_t hash = UINT64_C(14695981039346656037);
    const struct {
        const void *data;
        size_t bytes;
    } parts[] = {{c->kv.memory, (size_t)c->kv.n_pages * c->kv.page_bytes},
                 {c->tokens, c->n_tokens * sizeof *c->tokens},
                 {c->positions, c->n_tokens * sizeof *c->positions},
                 {c->logits, c->model->shape.n_vocab * sizeof *c->logits},
                 {&c->n_tokens, sizeof c->n_tokens},
                 {&c->next_position, sizeof c->next_position}};
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        for (size_t i = 0; i < parts[p].bytes; i++) {
            hash = (hash ^ ((const unsigned char *)parts[p].data)[i]) * UINT64_C(1099511628211);
        }
    }
    return hash;
}

static void test_refused_ranges(void **state) {
    const fixture *f = *state;
    rs_context *c = prefilled(f, 64, N);
    erase(c, RS_ERASE_DROP, &(rs_span){40, 50}, 1);
    rs_test_ok(c, rs_decode(c, f->tokens, 1));
    const rs_span bad[][2] = {
        {{-1, 4}},          {{5, 5}},
        {{9, 5}},           {{0, N + 2}},
        {{N + 1, N + 2}},   {{INT32_MIN, INT32_MAX}},
        {{0, INT32_MAX}},   {{INT32_MAX, INT32_MIN}},
        {{41, 49}},         {{40, 50}},
        {{5, 10}, {9, 12}}, {{20, 30}, {5, 10}},
        {{5, 10}, {5, 10}}, {{1, 2}, {3, 3}},
        {{1, 2}, {44, 46}},
    };
    const uint64_t before = fingerprint(c);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const size_t n = bad[i][1].begin != 0 || bad[i][1].end != 0 ? 2 : 1;
        for (int method = RS_ERASE_EXACT; method <= RS_ERASE_REPAIR; method++) {
            rs_erase_params params = rs_erase_default_params();
            params.method = (rs_erase_method)method;
            assert_int_equal(rs_erase(c, bad[i], n, &params, NULL), RS_OUT_OF_RANGE);
            assert_true(strlen(rs_context_message(c)) > 10);
            assert_true(fingerprint(c) == before);
        }
    }
    assert_non_null(rs_logits(c, NULL));
    rs_test_free(c);
}

static void test_refused_methods(void **state) {
    const fixture *f = *state;
    rs_context *c = prefilled(f, 64, N);
    const uint64_t before = fingerprint(c);
    const rs_span span = {4, 8};
    const int32_t negative = -1, large = (int32_t)f->model->shape.n_vocab;
    const struct {
        rs_erase_params params;
        rs_status status;
    } bad[] = {
        {{.method = RS_ERASE_STEER, .repair_fraction = 0.15f}, RS_UNSUPPORTED},
        {{.method = RS_ERASE_BRIDGE, .repair_fraction = 0.15f}, RS_UNSUPPORTED},
        {{.method = RS_ERASE_LEARNED, .repair_fraction = 0.15f}, RS_UNSUPPORTED},
        {{.method = (rs_erase_method)99, .repair_fraction = 0.15f}, RS_INVALID_ARGUMENT},
        {{.method = RS_ERASE_REPAIR, .repair_tokens = 0, .repair_fraction = 0}, RS_INVALID_ARGUMENT},
        {{.method = RS_ERASE_REPAIR, .repair_fraction = -1}, RS_INVALID_ARGUMENT},
        {{.method = RS_ERASE_REPAIR, .repair_tokens = 0, .repair_fraction = 1.5f}, RS_INVALID_ARGUMENT},
        {{.method = RS_ERASE_REPAIR, .repair_fraction = NAN}, RS_INVALID_ARGUMENT},
        {{.method = RS_ERASE_REFILL}, RS_INVALID_ARGUMENT},
        {{.method = RS_ERASE_REFILL, .filler = f->tokens}, RS_INVALID_ARGUMENT},
        {{.method = RS_ERASE_REFILL, .filler = f->tokens, .n_filler = UINT32_MAX}, RS_INVALID_ARGUMENT},
        {{.method = RS_ERASE_REFILL, .filler = f->tokens, .n_filler = 2, .close_gap = true},
         RS_INVALID_ARGUMENT},
        {{.method = RS_ERASE_REFILL, .filler = &negative, .n_filler = 1}, RS_OUT_OF_RANGE},
        {{.method = RS_ERASE_REFILL, .filler = &large, .n_filler = 1}, RS_OUT_OF_RANGE},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(rs_erase(c, &span, 1, &bad[i].params, NULL), bad[i].status);
        assert_true(fingerprint(c) == before);
    }
    assert_int_equal(rs_erase(c, NULL, 1, NULL, NULL), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_erase(c, &span, 0, NULL, NULL), RS_INVALID_ARGUMENT);
    assert_int_equal(rs_erase(NULL, &span, 1, NULL, NULL), RS_INVALID_ARGUMENT);
    static rs_span many[1025];
    assert_int_equal(rs_erase(c, many, 1025, NULL, NULL), RS_INVALID_ARGUMENT);
    assert_true(fingerprint(c) == before);
    c->poisoned = true;
    assert_int_equal(rs_erase(c, &span, 1, NULL, NULL), RS_POISONED);
    assert_int_equal(rs_decode(c, f->tokens, 1), RS_POISONED);
    assert_int_equal(rs_truncate(c, 4), RS_POISONED);
    rs_context_reset(c);
    rs_test_ok(c, rs_decode(c, f->tokens, 1));
    rs_test_free(c);
}

/* ------------------------------------------------------------------------------------------- refill -- */

/* The span's entries are those of the filler, read in its place; what follows keeps its own. */
static void test_refill(void **state) {
    const fixture *f = *state;
    enum { BEGIN = 30, END = 41, N_FILLER = 4 };
    const int32_t filler[N_FILLER] = {3, 5, 7, 9};
    const rs_erase_params params = {.method = RS_ERASE_REFILL, .filler = filler, .n_filler = N_FILLER};
    rs_context *c = prefilled(f, 16, N), *before = prefilled(f, 64, N), *read = prefilled(f, 64, BEGIN);
    rs_erase_report report;
    rs_test_ok(c, rs_erase(c, &(rs_span){BEGIN, END}, 1, &params, &report));
    assert_int_equal(report.n_erased, END - BEGIN);
    assert_int_equal(report.n_recomputed, END - BEGIN);
    assert_int_equal(report.next_position, N);
    for (uint32_t i = BEGIN; i < END; i++) {
        assert_int_equal(c->tokens[i], filler[(i - BEGIN) % N_FILLER]);
        rs_test_ok(read, rs_decode(read, &filler[(i - BEGIN) % N_FILLER], 1));
    }
    rs_test_ok(read, rs_decode(read, f->tokens + END, N - END));
    float rows[3][2][RS_HEAD_DIM_MAX];
    const size_t bytes = f->model->shape.head_dim * sizeof(float);
    for (uint32_t s = 0; s < c->kv.n_streams; s++) {
        for (int32_t i = 0; i < N; i++) {
            rs_test_row(c, s, i, rows[0][0], rows[0][1]);
            rs_test_row(before, s, i, rows[1][0], rows[1][1]);
            rs_test_row(read, s, i, rows[2][0], rows[2][1]);
            const size_t wanted = i >= BEGIN && i < END ? 2 : 1;
            assert_memory_equal(rows[0][0], rows[wanted][0], bytes);
            assert_memory_equal(rows[0][1], rows[wanted][1], bytes);
        }
    }
    /* It is text like any other: a later exact erase in front of it reads it again. */
    const rs_span front = {4, 8};
    rs_test_ok(c, rs_erase(c, &front, 1, NULL, NULL));
    rs_test_ok(read, rs_erase(read, &front, 1, NULL, NULL));
    rs_test_same_cache(c, read);
    rs_test_free(c);
    rs_test_free(before);
    rs_test_free(read);
}

static void test_truncate(void **state) {
    const fixture *f = *state;
    rs_context *a = prefilled(f, 64, N), *b = prefilled(f, 64, 50);
    rs_test_ok(a, rs_truncate(a, 56));
    rs_test_ok(a, rs_truncate(a, 56));
    assert_int_equal(rs_truncate(a, 57), RS_OUT_OF_RANGE);
    assert_int_equal(rs_truncate(a, -1), RS_OUT_OF_RANGE);
    rs_test_ok(a, rs_truncate(a, 50));
    rs_test_same_cache(a, b);
    assert_same_answer(a, b, f->tokens[1]);
    rs_test_free(b);
    rs_test_free(a);
}

/* Long random use: list and cache stay in step, whatever comes after what. */
static void test_random_use(void **state) {
    const fixture *f = *state;
    rs_context *c = rs_test_context(f->model, N_CTX, 24);
    srand(11);
    for (int step = 0; step < (RS_TEST_SANITIZED ? 60 : 300); step++) {
        const uint32_t room = c->params.n_ctx - c->n_tokens;
        if (c->n_tokens < 8 || (rand() % 2 == 0 && room > 0)) {
            const uint32_t n = 1 + (uint32_t)rand() % (room < 40 ? room : 40);
            rs_test_ok(c, rs_decode(c, f->tokens + rand() % (N - (int)n), n));
        } else {
            const int32_t begin = c->positions[(uint32_t)rand() % c->n_tokens];
            const int32_t left = c->next_position - begin, length = 1 + rand() % (left < 20 ? left : 20);
            erase(c, (rs_erase_method)(rand() % 4), &(rs_span){begin, begin + length}, 1);
        }
        for (uint32_t s = 0; s < c->kv.n_streams; s++) {
            rs_kv_cursor at;
            bool more = rs_kv_seek(&c->kv, &c->kv.streams[s], 0, &at);
            for (uint32_t i = 0; i < c->n_tokens; i++) {
                assert_true(more);
                assert_int_equal(rs_kv_position(&c->kv, &c->kv.streams[s], at), c->positions[i]);
                more = rs_kv_next(&c->kv, &c->kv.streams[s], &at);
            }
            assert_false(more);
        }
    }
    rs_test_free(c);
}

#define ERASE_TEST(test, fixture)                                                                            \
    { #test, test, set_up, tear_down, fixture }

int main(void) {
    static fixture llama = {.file = "tiny-llama-linear.gguf"}, gemma = {.file = "tiny-gemma3.gguf"};
    const struct CMUnitTest tests[] = {
        ERASE_TEST(test_chunks_do_not_matter, &llama),
        ERASE_TEST(test_chunks_do_not_matter, &gemma),
        ERASE_TEST(test_threads_do_not_matter, &gemma),
        ERASE_TEST(test_exact_is_never_held, &llama),
        ERASE_TEST(test_exact_is_never_held, &gemma),
        ERASE_TEST(test_exact_of_several_spans, &llama),
        ERASE_TEST(test_erasing_everything, &llama),
        ERASE_TEST(test_drop_leaves_the_rest, &llama),
        ERASE_TEST(test_holes_are_not_seen, &llama),
        ERASE_TEST(test_holes_are_not_seen, &gemma),
        ERASE_TEST(test_drop_at_the_end, &llama),
        ERASE_TEST(test_shift_rotates_right, &llama),
        ERASE_TEST(test_shift_rotates_right, &gemma),
        ERASE_TEST(test_shifting_again_and_again, &llama),
        ERASE_TEST(test_shifting_again_and_again, &gemma),
        ERASE_TEST(test_moving_up_and_down, &llama),
        ERASE_TEST(test_moving_up_and_down, &gemma),
        ERASE_TEST(test_repair_of_all, &llama),
        ERASE_TEST(test_repair_of_all, &gemma),
        ERASE_TEST(test_repair_counts, &llama),
        ERASE_TEST(test_refill, &llama),
        ERASE_TEST(test_refill, &gemma),
        ERASE_TEST(test_refused_ranges, &llama),
        ERASE_TEST(test_refused_methods, &llama),
        ERASE_TEST(test_truncate, &llama),
        ERASE_TEST(test_random_use, &llama),
        ERASE_TEST(test_random_use, &gemma),
    };
    return cmocka_run_group_tests_name("erasing", tests, NULL, NULL);
}
