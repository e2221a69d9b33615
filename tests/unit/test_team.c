/* A team runs every task of every step once, and a step sees all that the steps before it wrote. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthreadpool.h>

#include "ports/port.h"
#include "runtime/team.h"

enum { MAX_TASKS = 1000, MAX_THREADS = 4, STEPS = 300 };

typedef struct fixture {
    rs_team team;
    pthreadpool_t pool;
    void *memory;
} fixture;

static fixture open_team(uint32_t threads) {
    fixture f;
    rs_arena arena;
    memset(&f, 0, sizeof f);
    rs_arena_open(&arena, NULL, 0);
    rs_team_layout(&f.team, &arena, threads);
    const size_t bytes = arena.front;
    f.memory = aligned_alloc(RS_ARENA_ALIGN, bytes);
    assert_non_null(f.memory);
    rs_arena_open(&arena, f.memory, bytes);
    rs_team_layout(&f.team, &arena, threads);
    f.pool = threads > 1 ? pthreadpool_create(threads) : NULL;
    rs_team_init(&f.team, f.pool);
    return f;
}

static void close_team(fixture *f) {
    if (f->pool != NULL) pthreadpool_destroy(f->pool);
    rs_arena_unpoison(f->memory, f->team.threads * sizeof *f->team.shares);
    free(f->memory);
}

typedef struct job {
    rs_team *team;
    size_t count;
    uint32_t step;
    uint32_t done[MAX_TASKS]; /* the step that ran each task last */
    uint32_t wrong;           /* tasks that did not find the step before theirs done everywhere */
    atomic_uint busy[MAX_THREADS];
    atomic_uint shared; /* times that two tasks ran under one thread's number */
} job;

static void count_task(void *argument, size_t thread, size_t index) {
    job *j = argument;
    if (atomic_fetch_add(&j->busy[thread], 1) != 0) atomic_fetch_add(&j->shared, 1);
    const size_t other = (index * 7 + j->step) % j->count;
    /* Another task of this step may have come first; no older step may be the last. */
    const uint32_t seen = __atomic_load_n(&j->done[other], __ATOMIC_RELAXED);
    if (seen != j->step && seen + 1 != j->step) __atomic_fetch_add(&j->wrong, 1, __ATOMIC_RELAXED);
    if (__atomic_load_n(&j->done[index], __ATOMIC_RELAXED) + 1 != j->step)
        __atomic_fetch_add(&j->wrong, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&j->done[index], j->step, __ATOMIC_RELAXED);
    atomic_fetch_sub(&j->busy[thread], 1);
}

static void run_steps(void *argument) {
    job *j = argument;
    for (uint32_t s = 0; s < STEPS; s++) {
        j->step++;
        rs_team_run(j->team, count_task, j, j->count);
        for (size_t i = 0; i < j->count; i++) {
            if (j->done[i] != j->step) j->wrong++;
        }
    }
}

static void every_task_runs_once(void **state) {
    static const size_t counts[] = {1, 2, 3, 7, 64, MAX_TASKS};
    (void)state;
    for (uint32_t threads = 1; threads <= MAX_THREADS; threads++) {
        fixture f = open_team(threads);
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            job j = {.team = &f.team, .count = counts[c]};
            if (threads > 1) {
                rs_team_section(&f.team, run_steps, &j);
                rs_team_section(&f.team, run_steps, &j);
            }
            run_steps(&j); /* each step a section of its own, or this thread alone */
            assert_int_equal(j.wrong, 0);
            assert_int_equal(atomic_load(&j.shared), 0);
            assert_int_equal(j.step, threads > 1 ? 3 * STEPS : STEPS);
        }
        close_team(&f);
    }
}

static void run_nothing(void *argument) {
    *(int *)argument += 1;
}

static void a_section_may_be_empty(void **state) {
    (void)state;
    fixture f = open_team(MAX_THREADS);
    int runs = 0;
    for (int i = 0; i < 1000; i++) rs_team_section(&f.team, run_nothing, &runs);
    assert_int_equal(runs, 1000);
    close_team(&f);
}

/* One task in eight takes long: the others' tasks of the same share are taken by whoever is free. */
static void uneven_task(void *argument, size_t thread, size_t index) {
    if (index % 8 == 0) {
        const uint64_t begin = rs_port_clock_ns();
        while (rs_port_clock_ns() - begin < 200000) {
        }
    }
    count_task(argument, thread, index);
}

static void run_uneven(void *argument) {
    job *j = argument;
    for (uint32_t s = 0; s < 20; s++) {
        j->step++;
        rs_team_run(j->team, uneven_task, j, j->count);
    }
}

static void uneven_tasks_all_run(void **state) {
    (void)state;
    fixture f = open_team(3);
    job j = {.team = &f.team, .count = 50};
    rs_team_section(&f.team, run_uneven, &j);
    assert_int_equal(j.wrong, 0);
    for (size_t i = 0; i < j.count; i++) assert_int_equal(j.done[i], 20);
    close_team(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once),
        cmocka_unit_test(a_section_may_be_empty),
        cmocka_unit_test(uneven_tasks_all_run),
    };
    return cmocka_run_group_tests_name("team", tests, NULL, NULL);
}
