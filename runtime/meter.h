/*
 * How much of the cache is held for how long: the KV footprint of "Cache Me If You Can" (arXiv 2506.17121,
 * section 3). Time is counted in tokens; an entry counts once for every token that is read while it is there.
 * A stream here is a unit there: one KV head of one layer.
 */
#ifndef RASURE_RUNTIME_METER_H
#define RASURE_RUNTIME_METER_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/arena.h"

/* Entries times steps. */
typedef struct rs_held {
    uint64_t one_by_one; /* as if the tokens of a chunk came one after the other: what the paper counts */
    uint64_t at_once;    /* as they come: all are there from the first step of their chunk on */
} rs_held;

typedef struct rs_meter {
    uint32_t n_streams;
    rs_held *held;         /* [n_streams] */
    uint64_t full;         /* one by one, of a stream that keeps everything */
    uint64_t peak_entries; /* most entries of all streams together */
    size_t peak_bytes;     /* most bytes in use */
} rs_meter;

void rs_meter_layout(rs_meter *meter, rs_arena *arena, uint32_t n_streams);
void rs_meter_reset(rs_meter *meter);

/* What `count` tokens that come to `past` entries hold. T(n) + n *
 * past with T(n) = n (n + 1) / 2 one by one; n * n + n * past at once. */
rs_held rs_held_by_chunk(uint64_t past, uint64_t count);

/* A stream that holds `past` entries takes a chunk of `count` tokens, and for as long `n_patch` more, which
 * the paper does not count. */
void rs_meter_stream(rs_meter *meter, uint32_t stream, uint64_t past, uint64_t count, uint64_t n_patch);

/* A stream that keeps everything, and so holds `past` entries, takes it. */
void rs_meter_chunk(rs_meter *meter, uint64_t past, uint64_t count);

/* Now there are `entries` in all streams together, in `bytes`. */
void rs_meter_peak(rs_meter *meter, uint64_t entries, size_t bytes);

/* Both have the same streams. */
void rs_meter_copy(rs_meter *to, const rs_meter *from);

/* Over all streams. */
rs_held rs_meter_total(const rs_meter *meter);

#endif
