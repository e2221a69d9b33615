/* The KV cache against a slow, obvious shadow: a sorted list of entries for each stream, whose rooms differ.
 */
#include "runtime/kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STREAMS = 3, HEAD_DIM = 32, CAPACITY = 100 };

static const uint32_t rooms[STREAMS] = {40, CAPACITY, 21};

static uint32_t room(const void *user, uint32_t stream) {
    return ((const uint32_t *)user)[stream];
}

typedef struct fixture {
    rs_kv kv;
    const rs_kernels *kernels;
    void *memory;
    size_t bytes;
} fixture;

static int set_up(void **state) {
    const rs_kv_shape shape = {.n_streams = STREAMS, .head_dim = HEAD_DIM, .room = room, .user = rooms};
    fixture *f = calloc(1, sizeof *f);
    rs_arena arena;
    rs_arena_open(&arena, NULL, 0);
    rs_kv_layout(&f->kv, &arena, &shape);
    f->bytes = arena.front + arena.back;
    f->memory = aligned_alloc(RS_ARENA_ALIGN, f->bytes);
    memset(f->memory, 0xa5, f->bytes); /* the cache has to bring its own zeros */
    rs_arena_open(&arena, f->memory, f->bytes);
    rs_kv_layout(&f->kv, &arena, &shape);
    rs_kv_reset(&f->kv);
    *state = f;
    return rs_kernels_select(RS_ISA_REF, &f->kernels, NULL) != RS_OK;
}

static int tear_down(void **state) {
    fixture *f = *state;
    rs_arena_unpoison(f->memory, f->bytes);
    free(f->memory);
    free(f);
    return 0;
}

/* Keys and values that tell stream and token apart, exact in int8: the largest element is 127. */
static void make_row(float *row, uint32_t stream, uint32_t id) {
    for (uint32_t d = 0; d < HEAD_DIM; d++)
        row[d] = (float)((int)((id * 7 + stream * 31 + d * 13) % 255) - 127);
    row[id % HEAD_DIM] = 127;
}

static void store(fixture *f, uint32_t stream, int32_t position, uint32_t id) {
    float key[HEAD_DIM], value[HEAD_DIM];
    int8_t scratch[HEAD_DIM];
    rs_kv_cursor at;
    make_row(key, stream, id);
    make_row(value, stream + STREAMS, id);
    assert_true(rs_kv_seek(&f->kv, &f->kv.streams[stream], position, &at));
    assert_int_equal(rs_kv_position(&f->kv, &f->kv.streams[stream], at), position);
    rs_kv_store(&f->kv, f->kernels, &f->kv.streams[stream], at, key, value, scratch);
}

static void check_row(const float *row, uint32_t stream, uint32_t id) {
    float expected[HEAD_DIM];
    make_row(expected, stream, id);
    for (uint32_t d = 0; d < HEAD_DIM; d++)
        assert_true(row[d] - expected[d] < 1e-3f && expected[d] - row[d] < 1e-3f);
}

typedef struct shadow {
    int32_t positions[CAPACITY];
    uint32_t ids[CAPACITY];
    uint32_t n;
} shadow;

/* What all streams should hold. */
typedef struct shadows {
    shadow of[STREAMS];
    int32_t position; /* of the next entry */
    uint32_t next_id;
} shadows;

static void check_hole(const rs_kv_page *page, uint32_t slot) {
    assert_true(page->view.k_scale[slot] == 0 && page->view.v_scale[slot] == 0);
    for (uint32_t d = 0; d < HEAD_DIM; d++) {
        assert_int_equal(page->view.k[(d / 4) * RS_PAGE_ENTRIES * 4 + slot * 4 + d % 4], 0);
        assert_int_equal(page->view.v[(slot / 4) * HEAD_DIM * 4 + d * 4 + slot % 4], 0);
    }
}

static uint32_t check_stream(fixture *f, uint32_t stream, const shadow *s) {
    const rs_kv_stream *found = &f->kv.streams[stream];
    rs_kv_cursor at;
    bool more = rs_kv_seek(&f->kv, found, 0, &at);
    assert_int_equal(found->n_live, s->n);
    for (uint32_t i = 0; i < s->n; i++) {
        float row[HEAD_DIM];
        assert_true(more);
        assert_int_equal(rs_kv_position(&f->kv, found, at), s->positions[i]);
        rs_kv_load_key(&f->kv, found, at, row);
        check_row(row, stream, s->ids[i]);
        rs_kv_load_value(&f->kv, found, at, row);
        check_row(row, stream + STREAMS, s->ids[i]);
        more = rs_kv_next(&f->kv, found, &at);
    }
    assert_false(more);
    assert_true(found->n_pages <= (rooms[stream] + RS_PAGE_ENTRIES - 1) / RS_PAGE_ENTRIES);
    return found->n_pages;
}

/* Every stream lists its shadow's entries in order, with their rows, and everything else in all pages is
 * zero. */
static void check_against(fixture *f, const shadows *s) {
    uint32_t pages = 0, expected = 0, live = 0;
    for (uint32_t stream = 0; stream < STREAMS; stream++) {
        pages += check_stream(f, stream, &s->of[stream]);
        expected += s->of[stream].n;
    }
    assert_int_equal(pages + f->kv.n_free, f->kv.n_pages);
    assert_int_equal(rs_kv_used_bytes(&f->kv), pages * f->kv.page_bytes);
    for (uint32_t p = 0; p < f->kv.n_pages; p++) {
        const rs_kv_page page = rs_kv_get_page(&f->kv, p);
        for (uint32_t e = 0; e < RS_PAGE_ENTRIES; e++) {
            if (page.position[e] == RS_KV_HOLE) {
                check_hole(&page, e);
            } else {
                live++;
            }
        }
    }
    assert_int_equal(live, expected);
}

static void forget(shadow *s, rs_span range) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->positions[i] >= range.begin && s->positions[i] < range.end) continue;
        s->positions[kept] = s->positions[i];
        s->ids[kept++] = s->ids[i];
    }
    s->n = kept;
}

static void remove_range(fixture *f, shadows *s, int32_t begin, int32_t end) {
    rs_kv_remove(&f->kv, &(rs_team){.threads = 1}, begin, end);
    for (uint32_t stream = 0; stream < STREAMS; stream++) forget(&s->of[stream], (rs_span){begin, end});
}

static rs_span range_of(const void *user, uint32_t stream) {
    return ((const rs_span *)user)[stream];
}

/* Makes room for `count` entries in every stream: those behind the first two go, oldest first. */
static void make_room(fixture *f, shadows *s, uint32_t count) {
    rs_span ranges[STREAMS];
    for (uint32_t stream = 0; stream < STREAMS; stream++) {
        shadow *of = &s->of[stream];
        ranges[stream] = (rs_span){0, 0};
        if (of->n + count <= rooms[stream]) continue;
        const uint32_t excess = of->n + count - rooms[stream], first = of->n > 2 + excess ? 2 : 0;
        ranges[stream] = (rs_span){of->positions[first], of->positions[first + excess - 1] + 1};
        forget(of, ranges[stream]);
    }
    rs_kv_remove_each(&f->kv, &(rs_team){.threads = 1}, rs_kv_all(&f->kv), range_of, ranges);
}

/* Some of the streams after the others. */
static void append(fixture *f, shadows *s, uint32_t count) {
    int32_t positions[CAPACITY];
    for (uint32_t i = 0; i < count; i++) positions[i] = s->position + (int32_t)i;
    const uint32_t n_first = s->next_id % (STREAMS + 1);
    rs_kv_append(&f->kv, (rs_streams){0, n_first}, positions, count);
    rs_kv_append(&f->kv, (rs_streams){n_first, STREAMS - n_first}, positions, count);
    for (uint32_t stream = 0; stream < STREAMS; stream++) {
        shadow *of = &s->of[stream];
        for (uint32_t i = 0; i < count; i++) {
            of->positions[of->n] = positions[i];
            of->ids[of->n++] = s->next_id + i;
            store(f, stream, positions[i], s->next_id + i);
        }
    }
    s->position += (int32_t)count;
    s->next_id += count;
}

/* The stream with least room is full first; the others go on while it gives its oldest entries up. */
static void test_fills_every_stream(void **state) {
    fixture *f = *state;
    shadows s = {0};
    append(f, &s, 1);
    append(f, &s, 20);
    check_against(f, &s);
    while (s.of[1].n < CAPACITY) {
        make_room(f, &s, 1);
        append(f, &s, 1);
    }
    check_against(f, &s);
    for (uint32_t stream = 0; stream < STREAMS; stream++) assert_int_equal(s.of[stream].n, rooms[stream]);
    remove_range(f, &s, 0, CAPACITY);
    check_against(f, &s);
    assert_int_equal(f->kv.n_free, f->kv.n_pages);
}

/* Holes all over, so that an append has to squeeze them out: a stream still holds as much as it has room for.
 */
static void test_squeezes_holes(void **state) {
    fixture *f = *state;
    shadows s = {0};
    append(f, &s, 20);
    for (int32_t p = 0; p < 20; p += 2) remove_range(f, &s, p, p + 1);
    check_against(f, &s);
    append(f, &s, 11);
    check_against(f, &s);
    assert_int_equal(s.of[2].n, rooms[2]);
}

static void test_refills_tail(void **state) {
    fixture *f = *state;
    shadows s = {0};
    append(f, &s, 20);
    remove_range(f, &s, 18, 20);
    s.position = 18;
    append(f, &s, 2);
    check_against(f, &s);
    assert_int_equal(f->kv.streams[0].n_pages, 2);
    assert_int_equal(f->kv.streams[0].n_used, 4);
}

static void test_seek(void **state) {
    fixture *f = *state;
    const rs_kv_stream *longest = &f->kv.streams[1];
    shadows s = {0};
    rs_kv_cursor at;
    assert_false(rs_kv_seek(&f->kv, longest, 0, &at));
    while (s.position < 64) {
        make_room(f, &s, 16);
        append(f, &s, 16);
    }
    remove_range(f, &s, 10, 40);
    assert_true(rs_kv_seek(&f->kv, longest, 10, &at));
    assert_int_equal(rs_kv_position(&f->kv, longest, at), 40);
    assert_true(rs_kv_seek(&f->kv, longest, 9, &at));
    assert_int_equal(rs_kv_position(&f->kv, longest, at), 9);
    assert_false(rs_kv_seek(&f->kv, longest, 64, &at));
}

static void test_random_edits(void **state) {
    fixture *f = *state;
    shadows s = {0};
    srand(7);
    for (int step = 0; step < 3000; step++) {
        const shadow *any = &s.of[rand() % STREAMS];
        if (rand() % 2 == 0) {
            const uint32_t count = 1 + (uint32_t)rand() % 21;
            make_room(f, &s, count);
            append(f, &s, count);
        } else if (any->n > 0) {
            const int32_t at = any->positions[(uint32_t)rand() % any->n];
            remove_range(f, &s, at, at + 1 + rand() % 20);
        }
        if (step % 10 == 0) check_against(f, &s);
    }
    check_against(f, &s);
}

/* Entries that are lent to some streams stand at their places among the others, with zeros, and are gone
 * again afterwards. */
static void test_lending(void **state) {
    enum { LENT = 21, WORDS = 1 };
    fixture *f = *state;
    shadows s = {0};
    uint32_t bits[STREAMS * WORDS];
    const rs_kv_loan loan = {bits, WORDS};
    rs_team team = {.threads = 1};
    uint32_t n_lent = 0;
    srand(8);
    for (int step = 0; step < 600; step++) {
        const uint32_t count = 1 + (uint32_t)rand() % LENT;
        make_room(f, &s, count);
        append(f, &s, count);
        if (rand() % 2 == 0) remove_range(f, &s, s.position - 1 - rand() % 30, s.position - rand() % 30);
        make_room(f, &s, LENT);
        int32_t positions[LENT];
        uint32_t n = 0;
        const int32_t first = s.position > 60 ? s.position - 60 + rand() % 40 : 0;
        for (int32_t p = first; p < s.position && n < LENT; p += 1 + rand() % 2) positions[n++] = p;
        if (n == 0) continue;
        assert_true(rs_kv_has_room(&f->kv, LENT, STREAMS));
        const uint32_t from = (uint32_t)step % STREAMS;
        const rs_streams streams = {from, STREAMS - from};
        rs_kv_lend(&f->kv, &loan, streams, positions, n);
        for (uint32_t stream = 0; stream < STREAMS; stream++) {
            const rs_kv_stream *of = &f->kv.streams[stream];
            uint32_t lent = 0;
            if (stream < from) {
                assert_int_equal(of->n_live, s.of[stream].n);
                continue;
            }
            for (uint32_t i = 0; i < n; i++) {
                rs_kv_cursor at;
                assert_true(rs_kv_seek(&f->kv, of, positions[i], &at));
                assert_int_equal(rs_kv_position(&f->kv, of, at), positions[i]);
                if ((bits[stream - from] >> i & 1U) == 0) continue;
                float row[HEAD_DIM];
                rs_kv_load_key(&f->kv, of, at, row);
                for (uint32_t d = 0; d < HEAD_DIM; d++) assert_true(row[d] == 0);
                store(f, stream, positions[i], 3); /* a pass writes here */
                lent++;
            }
            assert_int_equal(of->n_live, s.of[stream].n + lent);
            n_lent += lent;
        }
        rs_kv_take_back(&f->kv, &team, &loan, streams, positions, n);
        check_against(f, &s);
    }
    assert_true(n_lent > 1000);
    assert_false(rs_kv_has_room(&f->kv, CAPACITY + 1, STREAMS));
}

/* What a pool has room for where not all streams take entries at once. */
static void test_room_of_a_pool(void **state) {
    enum { HELD = 32, COUNT = 20, AT_ONCE = 1, POOL = 8 };
    static const uint32_t wide[STREAMS] = {CAPACITY, CAPACITY, CAPACITY};
    int32_t positions[HELD + COUNT];
    rs_arena arena;
    rs_kv kv;
    (void)state;
    const rs_kv_shape shape = {
        .n_streams = STREAMS, .head_dim = HEAD_DIM, .room = room, .user = wide, .n_pages = POOL};
    rs_arena_open(&arena, NULL, 0);
    rs_kv_layout(&kv, &arena, &shape);
    const size_t bytes = arena.front + arena.back;
    void *memory = aligned_alloc(RS_ARENA_ALIGN, bytes);
    rs_arena_open(&arena, memory, bytes);
    rs_kv_layout(&kv, &arena, &shape);
    rs_kv_reset(&kv);
    for (int32_t i = 0; i < HELD + COUNT; i++) positions[i] = i;
    rs_kv_append(&kv, rs_kv_all(&kv), positions, HELD);
    assert_int_equal(kv.n_free, POOL - STREAMS * HELD / RS_PAGE_ENTRIES);
    assert_true(rs_kv_has_room(&kv, COUNT, AT_ONCE));
    assert_false(rs_kv_has_room(&kv, COUNT, STREAMS));
    for (uint32_t s = 0; s < STREAMS; s++) {
        rs_kv_append(&kv, (rs_streams){s, AT_ONCE}, positions + HELD, COUNT);
        assert_int_equal(kv.streams[s].n_live, HELD + COUNT);
        assert_int_equal(kv.n_free, 0);
        rs_kv_remove(&kv, &(rs_team){.threads = 1}, HELD, HELD + COUNT);
    }
    rs_arena_unpoison(memory, bytes);
    free(memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lending, set_up, tear_down),
        cmocka_unit_test(test_room_of_a_pool),
        cmocka_unit_test_setup_teardown(test_fills_every_stream, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_squeezes_holes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refills_tail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_seek, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_random_edits, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("KV cache", tests, NULL, NULL);
}
