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
void rs_adaptive_weigh(rs_context *context) {
    const rs_context *c = context;
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
    uint32_t next; /* index of the next token */
    size_t hole;   /* the last one that lies at or before it */
    /* Of the token at hand: */
    uint32_t index;
    float echo;
    bool is_near; /* taken because of where it stands */
} sweep;

static sweep sweep_from(const rs_context *c, const uint32_t *holes, size_t n_holes,
                        const rs_erase_params *params) {
    return (sweep){.c = c,
                   .holes = holes,
                   .n_holes = n_holes,
                   .near = params->repair_tokens,
                   .bound = params->echo_bound,
                   .next = holes[0]};
}

/* On to the next token that is still known; false at the end. */
static bool step(sweep *s) {
    while (s->next < s->c->n_tokens) {
        const uint32_t i = s->next++;
        while (s->hole + 1 < s->n_holes && s->holes[s->hole + 1] <= i) s->hole++;
        s->echo *= DECAY;
        if (s->c->tokens[i] == RS_TOKEN_GONE) continue;
        s->echo += s->c->logits[s->c->tokens[i]];
        s->index = i;
        s->is_near = i - s->holes[s->hole] < s->near;
        return true;
    }
    return false;
}

static bool is_far_echo(const sweep *s) {
    return !s->is_near && s->echo >= s->bound;
}

/* The next token to encode again, n_tokens if there is none. */
static uint32_t next_of(sweep *s) {
    while (step(s))
        if (s->is_near || is_far_echo(s)) return s->index;
    return s->c->n_tokens;
}

static uint32_t count_far(sweep s) {
    uint32_t count = 0;
    while (step(&s)) count += is_far_echo(&s);
    return count;
}

/* Raises the bound until no more than `most` echoes reach it: an echo of weights 1 / n is less than
 * 1 / (1 - DECAY). */
static void limit(sweep *s, uint32_t most) {
    if (most == 0 || count_far(*s) <= most) return;
    float low = s->bound, high = 1 / (1 - DECAY);
    for (int i = 0; i < BISECTIONS; i++) {
        const float middle = (low + high) / 2;
        s->bound = middle;
        if (count_far(*s) > most) low = middle;
        else high = middle;
    }
    s->bound = high;
}

rs_evidence rs_adaptive_evidence(const rs_context *context, const uint32_t *holes, size_t n_holes,
                                 const rs_erase_params *params) {
    sweep s = sweep_from(context, holes, n_holes, params);
    limit(&s, params->max_echoes);
    rs_evidence evidence = {0};
    while (step(&s)) {
        if (s.is_near) {
            evidence.n_near++;
        } else if (is_far_echo(&s)) {
            evidence.n_far++;
        } else {
            evidence.strongest = s.echo > evidence.strongest ? s.echo : evidence.strongest;
            evidence.sum += s.echo;
        }
    }
    return evidence;
}

/* ------------------------------------------------------------------------------------------- encoding -- */

rs_status rs_adaptive_encode(rs_context *context, const uint32_t *holes, size_t n_holes,
                             const rs_erase_params *params, uint32_t *done) {
    rs_context *c = context;
    sweep s = sweep_from(c, holes, n_holes, params);
    limit(&s, params->max_echoes);
    int32_t *tokens = c->scratch.tokens, *positions = c->scratch.positions;
    const uint32_t total = c->n_tokens - holes[0];
    for (uint32_t next = next_of(&s); next < c->n_tokens;) {
        uint32_t count = 0;
        for (; next < c->n_tokens && count < c->params.n_batch; next = next_of(&s)) {
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
