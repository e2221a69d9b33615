/* Sums of entries held over the tokens read. */
#include "runtime/meter.h"

#include <string.h>

void rs_meter_layout(rs_meter *meter, rs_arena *arena, uint32_t n_streams) {
    meter->n_streams = n_streams;
    meter->held = rs_arena_take(arena, "context", n_streams, sizeof *meter->held);
}

void rs_meter_reset(rs_meter *meter) {
    memset(meter->held, 0, meter->n_streams * sizeof *meter->held);
    meter->full = meter->peak_entries = 0;
    meter->peak_bytes = 0;
}

rs_held rs_held_by_chunk(uint64_t past, uint64_t count) {
    return (rs_held){
        .one_by_one = count * (count + 1) / 2 + count * past,
        .at_once = count * count + count * past,
    };
}

void rs_meter_stream(rs_meter *meter, uint32_t stream, uint64_t past, uint64_t count, uint64_t n_patch) {
    meter->held[stream].one_by_one += rs_held_by_chunk(past, count).one_by_one;
    meter->held[stream].at_once += rs_held_by_chunk(past, count + n_patch).at_once;
}

void rs_meter_chunk(rs_meter *meter, uint64_t past, uint64_t count) {
    meter->full += rs_held_by_chunk(past, count).one_by_one;
}

void rs_meter_peak(rs_meter *meter, uint64_t entries, size_t bytes) {
    if (entries > meter->peak_entries) meter->peak_entries = entries;
    if (bytes > meter->peak_bytes) meter->peak_bytes = bytes;
}

void rs_meter_copy(rs_meter *to, const rs_meter *from) {
    memcpy(to->held, from->held, from->n_streams * sizeof *to->held);
    to->full = from->full;
    to->peak_entries = from->peak_entries;
    to->peak_bytes = from->peak_bytes;
}

rs_held rs_meter_total(const rs_meter *meter) {
    rs_held total = {0, 0};
    for (uint32_t s = 0; s < meter->n_streams; s++) {
        total.one_by_one += meter->held[s].one_by_one;
        total.at_once += meter->held[s].at_once;
    }
    return total;
}
