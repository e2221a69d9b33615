/* Tasks are taken by compare and swap on the shares. */
#include "runtime/team.h"

#include <pthreadpool.h>

#include "ports/port.h"

/* Looks in vain before a thread lets others run on its core. */
enum { PATIENCE = 2000 };

void rs_team_layout(rs_team *team, rs_arena *arena, uint32_t threads) {
    team->threads = threads;
    team->shares = rs_arena_take(arena, "context", threads, sizeof *team->shares);
}

void rs_team_init(rs_team *team, struct pthreadpool *pool) {
    team->pool = pool;
    atomic_init(&team->arrived, 0);
    atomic_init(&team->closed, true);
    atomic_init(&team->unfinished, 0);
    for (uint32_t t = 0; t < team->threads; t++) atomic_init(&team->shares[t].word, 0);
}

/* A share as a word: 20 bits of the step's number, 22 of where it ends, 22 of where it begins. */
enum { INDEX_BITS = 22, INDEX_MASK = RS_TEAM_MAX_TASKS };

static uint64_t pack(uint32_t step, uint64_t begin, uint64_t end) {
    return (uint64_t)step << 2 * INDEX_BITS | end << INDEX_BITS | begin;
}

/* Tells the core that this is a loop of waiting. */
static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

static void wait_a_little(uint32_t *looks) {
    relax();
    if (++*looks % PATIENCE == 0) rs_port_yield();
}

/* Takes a task of a share, from the front of the thread's own and from the back of another's. */
static bool take(rs_team_share *share, bool own, uint32_t *index) {
    uint64_t word = atomic_load_explicit(&share->word, memory_order_acquire), rest;
    do {
        const uint32_t begin = (uint32_t)(word & INDEX_MASK);
        const uint32_t end = (uint32_t)(word >> INDEX_BITS & INDEX_MASK);
        if (begin == end) return false;
        *index = own ? begin : end - 1;
        rest = own ? word + 1 : word - ((uint64_t)1 << INDEX_BITS);
    } while (!atomic_compare_exchange_weak_explicit(&share->word, &word, rest, memory_order_acquire,
                                                    memory_order_acquire));
    return true;
}

/* Takes and runs one task; false when there is none. */
static bool work(rs_team *team, uint32_t thread) {
    for (uint32_t i = 0; i < team->threads; i++) {
        uint32_t index;
        if (!take(&team->shares[(thread + i) % team->threads], i == 0, &index)) continue;
        /* A task in hand holds the step: what describes it does not change before this task is finished. */
        team->task(team->argument, thread, index);
        atomic_fetch_sub_explicit(&team->unfinished, 1, memory_order_release);
        return true;
    }
    return false;
}

static void member(void *argument, size_t index) {
    rs_team *team = argument;
    (void)index;
    /* Whoever comes first runs the body, so that it does not matter which thread of the pool that is. */
    const uint32_t thread = atomic_fetch_add_explicit(&team->arrived, 1, memory_order_relaxed);
    if (thread == 0) {
        team->body(team->body_argument);
        atomic_store_explicit(&team->closed, true, memory_order_release);
        return;
    }
    uint32_t looks = 0;
    while (!atomic_load_explicit(&team->closed, memory_order_acquire)) {
        if (work(team, thread)) {
            looks = 0;
        } else {
            wait_a_little(&looks);
        }
    }
}

void rs_team_section(rs_team *team, void (*body)(void *argument), void *argument) {
    team->body = body;
    team->body_argument = argument;
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&team->closed, false, memory_order_relaxed);
    /* The workers would otherwise spin after the section for as long as a token takes. */
    pthreadpool_parallelize_1d(team->pool, member, team, team->threads, PTHREADPOOL_FLAG_YIELD_WORKERS);
}

/* A section of one step. */
typedef struct step {
    rs_team *team;
    rs_task_fn task;
    void *argument;
    size_t count;
} step;

static void run_step(void *argument) {
    const step *s = argument;
    rs_team_run(s->team, s->task, s->argument, s->count);
}

void rs_team_run(rs_team *team, rs_task_fn task, void *argument, size_t count) {
    if (team->pool == NULL || count <= 1) {
        for (size_t i = 0; i < count; i++) task(argument, 0, i);
        return;
    }
    if (atomic_load_explicit(&team->closed, memory_order_relaxed)) {
        rs_team_section(team, run_step, &(step){team, task, argument, count});
        return;
    }
    team->task = task;
    team->argument = argument;
    team->step++;
    atomic_store_explicit(&team->unfinished, (uint32_t)count, memory_order_relaxed);
    for (uint32_t t = 0; t < team->threads; t++) {
        const uint64_t begin = count * t / team->threads, end = count * (t + 1) / team->threads;
        atomic_store_explicit(&team->shares[t].word, pack(team->step, begin, end), memory_order_release);
    }
    while (work(team, 0)) {
    }
    uint32_t looks = 0;
    while (atomic_load_explicit(&team->unfinished, memory_order_acquire) > 0) wait_a_little(&looks);
}
