/* The KV footprint against worked figures: requests of P prompt tokens in chunks of C and R decoded ones. */
#include "runtime/meter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { STREAMS = 2 };

typedef struct request {
    uint64_t prompt, decoded, chunk;
} request;

typedef struct fixture {
    rs_meter meter;
    void *memory;
    uint64_t past[STREAMS]; /* entries that each holds */
    uint64_t read;          /* tokens so far */
} fixture;

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    rs_arena arena;
    rs_arena_open(&arena, NULL, 0);
    rs_meter_layout(&f->meter, &arena, STREAMS);
    const size_t bytes = arena.front + arena.back;
    f->memory = aligned_alloc(RS_ARENA_ALIGN, bytes);
    rs_arena_open(&arena, f->memory, bytes);
    rs_meter_layout(&f->meter, &arena, STREAMS);
    rs_meter_reset(&f->meter);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    free(f->memory);
    free(f);
    return 0;
}

static void restart(fixture *f) {
    rs_meter_reset(&f->meter);
    f->past[0] = f->past[1] = f->read = 0;
}

/* All streams take a chunk; nothing is evicted yet. */
static void take(fixture *f, uint64_t count) {
    uint64_t entries = 0;
    for (uint32_t s = 0; s < STREAMS; s++) {
        rs_meter_stream(&f->meter, s, f->past[s], count, 0);
        f->past[s] += count;
        entries += f->past[s];
    }
    rs_meter_chunk(&f->meter, f->read, count);
    rs_meter_peak(&f->meter, entries, (size_t)entries * 100);
    f->read += count;
}

typedef void (*evict_fn)(fixture *f, uint32_t stream, uint64_t count, const void *how);

/* After each chunk of the prompt and after each decoded token (count 1, past the prompt) a stream may lose
 * entries. */
static void run(fixture *f, request r, evict_fn evict_first, const void *first, evict_fn evict_second,
                const void *second) {
    restart(f);
    while (f->read < r.prompt + r.decoded) {
        const uint64_t left = r.prompt > f->read ? r.prompt - f->read : 0;
        const uint64_t count = left == 0 ? 1 : left < r.chunk ? left : r.chunk;
        take(f, count);
        if (evict_first != NULL) evict_first(f, 0, count, first);
        if (evict_second != NULL) evict_second(f, 1, count, second);
    }
}

/* Keeps the sinks and the last `window`. */
static void stream_head(fixture *f, uint32_t stream, uint64_t count, const void *how) {
    const uint64_t most = *(const uint64_t *)how;
    (void)count;
    if (f->past[stream] > most) f->past[stream] = most;
}

/* Keeps a share of each chunk of the prompt and everything that is decoded. */
typedef struct share {
    uint64_t prompt;
    uint64_t (*kept)(uint64_t count);
} share;

static void evict_share(fixture *f, uint32_t stream, uint64_t count, const void *how) {
    const share *s = how;
    if (f->read <= s->prompt) f->past[stream] -= count - s->kept(count);
}

static uint64_t half(uint64_t count) {
    return count / 2;
}
static uint64_t rounded(uint64_t count) { /* 0.3 of it, half up */
    return (3 * count + 5) / 10;
}
static uint64_t cut_off(uint64_t count) { /* 0.3 of it */
    return 3 * count / 10;
}

static void test_full(void **state) {
    fixture *f = *state;
    run(f, (request){12, 4, 4}, NULL, NULL, NULL, NULL);
    assert_int_equal(f->meter.full, 136);
    assert_int_equal(rs_meter_total(&f->meter).one_by_one, 2 * 136);
    assert_int_equal(f->meter.peak_entries, 2 * 16);
    assert_int_equal(f->meter.peak_bytes, 2 * 16 * 100);
}

static void test_streaming(void **state) {
    static const struct {
        request request;
        uint64_t sinks_and_window, full, held, peak;
    } cases[] = {
        {{12, 4, 4}, 1 + 3, 136, 82, 8},
        {{1000, 24, 128}, 16 + 128, 524800, 190252, 272},
        {{2048, 32, 256}, 64 + 256, 2164240, 830496, 576},
        {{4096, 64, 512}, 64 + 256, 8654880, 2218048, 832},
        {{8000, 192, 256}, 64 + 256, 33558528, 3545184, 576},
        {{32000, 256, 512}, 128 + 1024, 520240896, 44351360, 1664},
    };
    fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const void *most = &cases[i].sinks_and_window;
        run(f, cases[i].request, stream_head, most, stream_head, most);
        assert_int_equal(f->meter.full, cases[i].full);
        assert_int_equal(f->meter.held[0].one_by_one, cases[i].held);
        assert_int_equal(f->meter.held[1].one_by_one, cases[i].held);
        assert_int_equal(f->meter.peak_entries, 2 * cases[i].peak);
    }
}

/* A whole chunk is there during the chunk: a square in place of a triangle. */
static void test_at_once(void **state) {
    const uint64_t most = 4;
    fixture *f = *state;
    run(f, (request){12, 4, 4}, stream_head, &most, stream_head, &most);
    assert_int_equal(f->meter.held[0].at_once, 100);
}

static void test_evicting_of_each_chunk(void **state) {
    static const struct {
        request request;
        uint64_t (*kept)(uint64_t count);
        uint64_t held, left, peak;
    } cases[] = {
        {{12, 4, 4}, half, 88, 6, 10},
        {{2048, 32, 256}, rounded, 835344, 616, 7 * 77 + 256},
        {{4096, 64, 512}, rounded, 3339296, 1232, 7 * 154 + 512},
        {{8000, 192, 512}, rounded, 11520000, 2406, 14 * 154 + 512},
        {{2048, 32, 256}, cut_off, 827920, 608, 7 * 76 + 256},
        {{4096, 64, 512}, cut_off, 3324448, 1224, 7 * 153 + 512},
        {{8000, 192, 512}, cut_off, 11458560, 2391, 14 * 153 + 512},
    };
    fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const share s = {cases[i].request.prompt, cases[i].kept};
        run(f, cases[i].request, evict_share, &s, evict_share, &s);
        assert_int_equal(f->meter.held[0].one_by_one, cases[i].held);
        assert_int_equal(f->past[0], cases[i].left + cases[i].request.decoded);
        assert_int_equal(f->meter.peak_entries, 2 * cases[i].peak);
    }
}

/* One prefill, after which half is kept. */
static void test_evicting_once(void **state) {
    const share s = {12, half};
    fixture *f = *state;
    run(f, (request){12, 4, 12}, evict_share, &s, evict_share, &s);
    assert_int_equal(f->meter.held[0].one_by_one, 112);
    assert_int_equal(f->meter.peak_entries, 2 * 12);
}

/* Points 4, 8, 10 and 10.5 a stream: the mean of both at the same step, then the largest. */
static void test_half_of_the_heads_streaming(void **state) {
    const uint64_t most = 4;
    fixture *f = *state;
    run(f, (request){12, 4, 4}, stream_head, &most, NULL, NULL);
    assert_int_equal(rs_meter_total(&f->meter).one_by_one, 82 + 136);
    assert_int_equal(f->meter.peak_entries, 5 + 16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_streaming, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_evicting_of_each_chunk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_evicting_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_half_of_the_heads_streaming, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
