/*
 * A team of threads that work through the steps of one pass. Waking a pool for each of the hundred and fifty
 * steps of a token would cost more than some of the steps: a section wakes it once, and within it a step is a
 * few stores that the others look out for.
 *
 * Each thread has a share of a step's tasks, neighbours all, and takes them from the front; who is done takes
 * from the back of another's. No step waits for a thread that has no task in hand: a helper that the system
 * does not schedule costs its share of the work and no more. Only the pool itself, at the end of a section,
 * waits until it has seen all its threads.
 */
#ifndef RASURE_RUNTIME_TEAM_H
#define RASURE_RUNTIME_TEAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/arena.h"

struct pthreadpool;

/* `thread` is below the number of threads and no other running task has it. */
typedef void (*rs_task_fn)(void *argument, size_t thread, size_t index);

/* The share of one thread that nobody has taken yet: the step's number and the tasks [begin, end) in one
 * word, so that a task of a step that is over cannot be taken. On a cache line of its own. */
typedef struct rs_team_share {
    _Alignas(64) _Atomic uint64_t word;
} rs_team_share;

enum { RS_TEAM_MAX_TASKS = (1 << 22) - 1 };

typedef struct rs_team {
    struct pthreadpool *pool; /* NULL: the caller's thread alone */
    uint32_t threads;
    rs_team_share *shares; /* [threads] */

    /* The section: who came, and whether it is over. */
    void (*body)(void *argument);
    void *body_argument;
    atomic_uint arrived;
    atomic_bool closed;

    /* The step at hand; written while nobody has a task of it. */
    rs_task_fn task;
    void *argument;
    uint32_t step;
    atomic_uint unfinished;
} rs_team;

void rs_team_layout(rs_team *team, rs_arena *arena, uint32_t threads);

/* After rs_team_layout has placed the shares. */
void rs_team_init(rs_team *team, struct pthreadpool *pool);

/* Runs body(argument) on one thread while the others of the pool help with every rs_team_run that it calls.
 * When it returns, the others have left and sleep. `body` MUST NOT use the pool otherwise. */
void rs_team_section(rs_team *team, void (*body)(void *argument), void *argument);

/* Runs task(argument, thread, index) for every index < count (at most RS_TEAM_MAX_TASKS), in any order, and
 * returns when all are done. Outside a section it opens one of its own. */
void rs_team_run(rs_team *team, rs_task_fn task, void *argument, size_t count);

#endif
