#include "spans.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

static void reserve(cli_spans *spans, size_t count) {
    if (count <= spans->capacity) return;
    spans->capacity = count * 2 + 16;
    spans->all = cli_reallocate(spans->all, spans->capacity, sizeof *spans->all);
}

void cli_spans_add(cli_spans *spans, bool is_turn, rs_role role, size_t begin, size_t end) {
    reserve(spans, spans->count + 1);
    spans->all[spans->count++] = (cli_span){++spans->last_number, is_turn, role, begin, end};
}

void cli_spans_remove_token(cli_spans *spans, size_t index) {
    size_t kept = 0;
    for (size_t i = 0; i < spans->count; i++) {
        cli_span s = spans->all[i];
        if (s.begin > index) s.begin--;
        if (s.end > index) s.end--;
        if (s.begin < s.end) spans->all[kept++] = s;
    }
    spans->count = kept;
}

void cli_spans_resize(cli_spans *spans, const cli_span *changed, size_t n_tokens) {
    const size_t end = changed->end, begin = changed->begin;
    for (size_t i = 0; i < spans->count; i++) {
        cli_span *s = &spans->all[i];
        if (s->begin >= end) s->begin = s->begin - end + begin + n_tokens;
        if (s->end >= end) s->end = s->end - end + begin + n_tokens;
    }
}

cli_span *cli_spans_find(const cli_spans *spans, const char *number) {
    uint64_t wanted;
    if (!cli_parse_u64(number, &wanted)) return NULL;
    for (size_t i = 0; i < spans->count; i++)
        if (spans->all[i].number == wanted) return &spans->all[i];
    return NULL;
}

size_t cli_marked_spans(const bool *marked, const int32_t *positions, size_t count, rs_span *spans) {
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const int32_t position = positions != NULL ? positions[i] : (int32_t)i;
        if (!marked[i]) continue;
        if (i == 0 || !marked[i - 1]) spans[n++].begin = position;
        spans[n - 1].end = position + 1;
    }
    return n;
}

void cli_spans_copy(cli_spans *to, const cli_spans *from) {
    reserve(to, from->count);
    if (from->count > 0) memcpy(to->all, from->all, from->count * sizeof *to->all);
    to->count = from->count;
    to->last_number = from->last_number;
}

void cli_spans_clear(cli_spans *spans) {
    spans->count = 0;
    spans->last_number = 0;
}

void cli_spans_free(cli_spans *spans) {
    free(spans->all);
    *spans = (cli_spans){0};
}
