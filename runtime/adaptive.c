/*
 * Adaptive repair. What a suffix absorbed from a span sits in two places: behind the hole, where tokens lean
 * on their neighbours, and wherever the suffix uses the span's words again, for attention finds by content
 * (induction heads, arXiv 2209.11895). The first few tokens behind a hole and those echoes are encoded again;
 * nothing else of the suffix is touched. Evidence is in token ids alone, so that finding costs a sweep over
 * the list.
 */
#include <string.h>

#include "runtime/edit.h"
#include "runtime/status.h"

/* What a token's echo leaves to the next: attention reads what follows a repeated word, too. */
#define DECAY 0.8f

enum {
    WORDS_BEFORE = 8, /* in front of a span: attention reads what stood behind a word that comes again */
    BISECTIONS = 24,
};

/* ----------------------------------------------------------------------------------- the span's words -- */

void rs_adaptive_begin(rs_context *context) {
    memset(context->logits, 0, context->model->shape.n_vocab * sizeof *context->logits);
    context->has_logits = false;
}

void rs_adaptive_note(rs_context *context, const int32_t *tokens, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (tokens[i] != RS_TOKEN_GONE) context->logits[tokens[i]] = 1.0f;
}

void rs_adaptive_note_span(rs_context *context, uint32_t first, uint32_t end) {
    const uint32_t before = first < WORDS_BEFORE ? first : WORDS_BEFORE;
    rs_adaptive_note(context, context->tokens + first - before, end - first + before);
}

/* A word counts the less the more often it is in what remains: weight[id] becomes 1 / its count there, 0 for
 * those that were not noted. */
static void weigh(rs_context *c) {
    float *weight = c->logits;
    for (uint32_t i = 0; i < c->n_tokens; i++)
        if (c->tokens[i] != RS_TOKEN_GONE && weight[c->tokens[i]] > 0) weight[c->tokens[i]] += 1.0f;
    for (uint32_t id = 0; id < c->model->shape.n_vocab; id++)
        weight[id] = weight[id] > 1 ? 1 / (weight[id] - 1) : 0;
}

/* ------------------------------------------------------------------------------------------- choosing -- */

/* A sweep over the list from the first hole on. */
typedef struct sweep {
    const rs_context *c;
    const uint32_t *holes; /* list indices, ascending */
    size_t n_holes;
    uint32_t near; /* tokens behind each hole that are taken anyhow */
    float bound;
    uint32_t index; /* of the next token */
    size_t hole;    /* the last one that lies at or before it */
    float echo;     /* what the words before it leave */
} sweep;

static sweep sweep_from(const rs_context *c, const uint32_t *holes, size_t n_holes, uint32_t near,
                        float bound) {
    return (sweep){
        .c = c, .holes = holes, .n_holes = n_holes, .near = near, .bound = bound, .index = holes[0]};
}

/* The next token to encode again, n_tokens if there is none. *is_near: it is so because of where it stands.
 */
static uint32_t next_of(sweep *s, bool *is_near) {
    while (s->index < s->c->n_tokens) {
        const uint32_t i = s->index++;
        while (s->hole + 1 < s->n_holes && s->holes[s->hole + 1] <= i) s->hole++;
        const int32_t token = s->c->tokens[i];
        s->echo *= DECAY;
        if (token == RS_TOKEN_GONE) continue;
        s->echo += s->c->logits[token];
        *is_near = i - s->holes[s->hole] < s->near;
        if (*is_near || s->echo >= s->bound) return i;
    }
    return s->c->n_tokens;
}

static uint32_t count_far(sweep s) {
    uint32_t count = 0;
    bool is_near;
    while (next_of(&s, &is_near) < s.c->n_tokens) count += !is_near;
    return count;
}

/* Raises the bound until no more than `most` echoes reach it: an echo of weights 1 / n is less than
 * 1 / (1 - DECAY). */
static void limit(sweep *s, uint32_t most) {
    if (count_far(*s) <= most) return;
    float low = s->bound, high = 1 / (1 - DECAY);
    for (int i = 0; i < BISECTIONS; i++) {
        const float middle = (low + high) / 2;
        s->bound = middle;
        if (count_far(*s) > most) low = middle;
        else high = middle;
    }
    s->bound = high;
}

/* ------------------------------------------------------------------------------------------- encoding -- */

rs_status rs_adaptive_encode(rs_context *context, const uint32_t *holes, size_t n_holes,
                             const rs_erase_params *params, uint32_t *done) {
    rs_context *c = context;
    weigh(c);
    sweep s = sweep_from(c, holes, n_holes, params->repair_tokens, params->echo_bound);
    if (params->max_echoes > 0) limit(&s, params->max_echoes);
    int32_t *tokens = c->scratch.tokens, *positions = c->scratch.positions;
    const uint32_t total = c->n_tokens - holes[0];
    bool is_near;
    for (uint32_t next = next_of(&s, &is_near); next < c->n_tokens;) {
        uint32_t count = 0;
        for (; next < c->n_tokens && count < c->params.n_batch; next = next_of(&s, &is_near)) {
            tokens[count] = c->tokens[next];
            positions[count++] = c->positions[next];
        }
        RS_TRY(rs_edit_pass(c, (rs_pass){.tokens = tokens,
                                         .positions = positions,
                                         .count = count,
                                         .visible = rs_visible_all(),
                                         .kv_only = true}));
        *done += count;
        (void)rs_context_report(c, next - holes[0], total);
    }
    return RS_OK;
}
