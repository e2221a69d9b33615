/*
 * Which later parts of a context depend on some spans: those that are less likely without them. The suffix is
 * read twice into the second cache, with the spans and without, and each part's log-likelihoods are compared:
 * their difference is the pointwise mutual information of part and spans, given the rest.
 */
#include <inttypes.h>
#include <math.h>

#include "runtime/chunk.h"
#include "runtime/draft.h"
#include "runtime/edit.h"
#include "runtime/forward.h"
#include "runtime/status.h"

enum { MAX_ECHOES = 1 << 16 };

typedef struct search {
    rs_context *c;
    const rs_span *spans;
    size_t n_spans;
    rs_echo *echoes;
    size_t n;
    uint32_t first, end; /* of the list: what is read */
    bool without;        /* the spans; else with them */
    uint32_t done;       /* tokens of both readings */
} search;

static bool has(rs_span span, int32_t position) {
    return position >= span.begin && position < span.end;
}

static bool in_spans(const search *s, uint32_t index) {
    for (size_t i = 0; i < s->n_spans; i++)
        if (has(s->spans[i], s->c->positions[index])) return true;
    return false;
}

/* -------------------------------------------------------------------------------------- likelihood -- */

static double log_probability(const float *logits, uint32_t n_vocab, int32_t token) {
    float top = logits[0];
    for (uint32_t i = 1; i < n_vocab; i++) top = logits[i] > top ? logits[i] : top;
    double sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++) sum += (double)expf(logits[i] - top);
    return (double)(logits[token] - top) - log(sum);
}

/* Whether a token of the list, which is not the first that is read, is of a candidate and compared: what
 * stands directly behind a span is not, for one of the readings does not see what is in front. */
static bool is_compared(const search *s, uint32_t index) {
    if (in_spans(s, index) || in_spans(s, index - 1)) return false;
    for (size_t i = 0; i < s->n; i++)
        if (has(s->echoes[i].span, s->c->positions[index])) return true;
    return false;
}

/* What a token's likelihood adds to the parts that it is of. */
static void note(const search *s, uint32_t index, const float *logits) {
    const rs_context *c = s->c;
    const int32_t position = c->positions[index];
    const double log_p = log_probability(logits, c->model->shape.n_vocab, c->tokens[index]);
    for (size_t i = 0; i < s->n; i++)
        if (has(s->echoes[i].span, position)) s->echoes[i].nats += (float)(s->without ? -log_p : log_p);
}

/* The likelihoods of the tokens behind those of the pass, [first, first + count), that lie below `end`. */
static rs_status note_all(const search *s, uint32_t first, uint32_t count, uint32_t end) {
    rs_context *c = s->c;
    const uint32_t at_once = rs_forward_logits_rows(c), n_vocab = c->model->shape.n_vocab;
    for (uint32_t i = 0; i < count; i += at_once) {
        const uint32_t left = count - i, rows = left < at_once ? left : at_once;
        const float *logits = NULL;
        for (uint32_t r = 0; r < rows; r++) {
            const uint32_t index = first + i + r + 1;
            if (index >= end || !is_compared(s, index)) continue;
            if (logits == NULL) RS_TRY(rs_forward_logits(c, i, rows, &logits));
            note(s, index, logits + (size_t)r * n_vocab);
        }
    }
    return RS_OK;
}

/* ----------------------------------------------------------------------------------------- reading -- */

static bool is_read(const search *s, uint32_t index) {
    return s->c->tokens[index] != RS_TOKEN_GONE && !(s->without && in_spans(s, index));
}

/* Tokens of the list that follow each other. */
static rs_status read_run(search *s, uint32_t first, uint32_t end) {
    rs_context *c = s->c;
    for (uint32_t at = first; at < end;) {
        const uint32_t left = end - at, count = left < c->params.n_batch ? left : c->params.n_batch;
        RS_TRY(rs_chunk_read(c, &(rs_chunk){.first = at, .count = count, .again = true, .hidden = true}));
        RS_TRY(note_all(s, at, count, end));
        at += count;
        s->done += count;
        rs_draft_exchange(c); /* whoever is told may look at the context */
        const bool go_on = rs_context_report(c, s->done, 2 * (s->end - s->first));
        rs_draft_exchange(c);
        if (!go_on) return rs_fail(&c->error, RS_STOPPED, "stopped by the progress callback");
    }
    return RS_OK;
}

static rs_status read_once(search *s) {
    for (uint32_t at = s->first; at < s->end;) {
        uint32_t end = at;
        while (end < s->end && is_read(s, end)) end++;
        RS_TRY(read_run(s, at, end));
        for (at = end; at < s->end && !is_read(s, at); at++) s->done++;
    }
    return RS_OK;
}

static rs_status read_both(search *s) {
    rs_context *c = s->c;
    rs_draft_empty(c);
    rs_draft_begin(c, s->first);
    rs_draft_exchange(c);
    rs_status status = read_once(s);
    if (status == RS_OK) {
        rs_kv_remove(&c->kv, &c->team, c->positions[s->first], INT32_MAX);
        s->without = true;
        status = read_once(s);
    }
    rs_draft_exchange(c);
    rs_draft_empty(c);
    rs_context_clear_scratch(c);
    return status;
}

static bool comes_first(rs_echo a, rs_echo b) {
    if (a.nats != b.nats) return a.nats > b.nats;
    return a.span.begin != b.span.begin ? a.span.begin < b.span.begin : a.span.end < b.span.end;
}

/* The largest first; of equal ones, the first in the text. A Shell sort, for qsort may allocate. */
static void sort(rs_echo *echoes, size_t n) {
    for (size_t gap = n / 2; gap > 0; gap = gap == 2 ? 1 : gap * 5 / 11) {
        for (size_t i = gap; i < n; i++) {
            const rs_echo echo = echoes[i];
            size_t at = i;
            for (; at >= gap && comes_first(echo, echoes[at - gap]); at -= gap) echoes[at] = echoes[at - gap];
            echoes[at] = echo;
        }
    }
}

static rs_status check(rs_context *c, const rs_span *spans, size_t n_spans, const rs_echo *echoes, size_t n) {
    RS_TRY(rs_context_check(c));
    if (!c->params.refine) {
        return rs_fail(&c->error, RS_UNSUPPORTED,
                       "the context has no spare pages to read in: it was not made to refine");
    }
    if (c->params.policy.policy != RS_POLICY_FULL)
        return rs_fail(&c->error, RS_UNSUPPORTED, "echoes are found in a full cache only");
    RS_TRY(rs_edit_check_spans(c, spans, n_spans, true));
    if (echoes == NULL || n == 0 || n > MAX_ECHOES)
        return rs_fail(&c->error, RS_INVALID_ARGUMENT, "there are no candidates, or more than %d",
                       MAX_ECHOES);
    for (size_t i = 0; i < n; i++) {
        const rs_span span = echoes[i].span;
        if (span.begin >= span.end || span.begin < spans[0].end || span.end > c->next_position) {
            return rs_fail(&c->error, RS_OUT_OF_RANGE,
                           "candidate %zu is [%" PRId32 ", %" PRId32 "), must lie behind %" PRId32
                           " and end at %" PRId32 " at most",
                           i, span.begin, span.end, spans[0].end, c->next_position);
        }
    }
    return RS_OK;
}

rs_status rs_find_echoes(rs_context *context, const rs_span *spans, size_t n_spans, rs_echo *echoes,
                         size_t n) {
    rs_context *c = context;
    RS_TRY(check(c, spans, n_spans, echoes, n));
    int32_t end = 0;
    for (size_t i = 0; i < n; i++) end = echoes[i].span.end > end ? echoes[i].span.end : end;
    search s = {.c = c,
                .spans = spans,
                .n_spans = n_spans,
                .echoes = echoes,
                .n = n,
                .first = rs_context_index(c, spans[0].begin),
                .end = rs_context_index(c, end)};
    for (size_t i = 0; i < n; i++) echoes[i].nats = 0;
    RS_TRY(read_both(&s));
    sort(echoes, n);
    return RS_OK;
}
