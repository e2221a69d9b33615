/* From logits to a token. Everything happens in the context's candidate table; the generator is xoshiro256**.
 */
#include "runtime/sampler.h"

#include <math.h>

#include "runtime/context.h"
#include "runtime/status.h"

rs_sampler_params rs_sampler_default_params(void) {
    return (rs_sampler_params){.temperature = 0, .top_p = 1, .repetition_penalty = 1};
}

/* Comparisons are written so that NaN fails them. */
rs_status rs_sampler_check(const rs_sampler_params *p, rs_error *error) {
    if (!(p->temperature >= 0 && p->temperature <= 100)) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "temperature is %g, must be 0 to 100",
                       (double)p->temperature);
    }
    if (!(p->top_p > 0 && p->top_p <= 1)) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "top_p is %g, must be above 0 and at most 1",
                       (double)p->top_p);
    }
    if (!(p->min_p >= 0 && p->min_p < 1)) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "min_p is %g, must be at least 0 and below 1",
                       (double)p->min_p);
    }
    if (!(p->repetition_penalty > 0 && p->repetition_penalty <= 100)) {
        return rs_fail(error, RS_INVALID_ARGUMENT,
                       "repetition_penalty is %g, must be above 0 and at most 100",
                       (double)p->repetition_penalty);
    }
    return RS_OK;
}

/* splitmix64 spreads a seed over the state (Vigna, prng.di.unimi.it). */
static uint64_t split_mix(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t x, int by) {
    return (x << by) | (x >> (64 - by));
}

/* xoshiro256** (Blackman & Vigna, arXiv 1805.01407); uniform in [0, 1) from its upper 53 bits. */
static double uniform(uint64_t s[4]) {
    const uint64_t result = rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return (double)(result >> 11) * 0x1p-53;
}

rs_status rs_sampler_init(rs_sampler *sampler, const rs_sampler_params *params, rs_error *error) {
    if (sampler == NULL) return rs_fail(error, RS_INVALID_ARGUMENT, "sampler is NULL");
    const rs_sampler_params chosen = params != NULL ? *params : rs_sampler_default_params();
    RS_TRY(rs_sampler_check(&chosen, error));
    sampler->params = chosen;
    uint64_t seed = chosen.seed;
    for (int i = 0; i < 4; i++) sampler->state[i] = split_mix(&seed);
    return RS_OK;
}

/* Penalises every token in the window once, however often it stands there: from the context's own logit each
 * time. */
static void penalize(const rs_context *c, const rs_sampler_params *p, rs_candidate *candidates) {
    if (p->repetition_penalty == 1) return;
    uint32_t first = 0;
    if (p->repetition_window > 0 && p->repetition_window < c->n_tokens)
        first = c->n_tokens - p->repetition_window;
    for (uint32_t i = first; i < c->n_tokens; i++) {
        const int32_t token = c->tokens[i];
        if (token == RS_TOKEN_GONE) continue;
        const float logit = c->logits[token];
        candidates[token].logit = logit > 0 ? logit / p->repetition_penalty : logit * p->repetition_penalty;
    }
}

static bool better(const rs_candidate *a, const rs_candidate *b) {
    return a->logit > b->logit || (a->logit == b->logit && a->token < b->token);
}

static void swap(rs_candidate *a, rs_candidate *b) {
    const rs_candidate was = *a;
    *a = *b;
    *b = was;
}

/* Restores the heap below `root`: the best candidate on top. */
static void sift_down(rs_candidate *heap, size_t n, size_t root) {
    for (;;) {
        size_t best = root;
        for (size_t child = 2 * root + 1; child <= 2 * root + 2 && child < n; child++) {
            if (better(&heap[child], &heap[best])) best = child;
        }
        if (best == root) return;
        swap(&heap[root], &heap[best]);
        root = best;
    }
}

static void make_heap(rs_candidate *all, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sift_down(all, n, i);
}

/* Takes the best of a heap of n out, to its end. */
static void pop(rs_candidate *heap, size_t n) {
    swap(&heap[0], &heap[n - 1]);
    sift_down(heap, n - 1, 0);
}

static const rs_candidate *best_of(const rs_candidate *candidates, size_t n) {
    const rs_candidate *best = candidates;
    for (size_t i = 1; i < n; i++) {
        if (better(&candidates[i], best)) best = &candidates[i];
    }
    return best;
}

/* How likely a candidate is, the best one being 1. */
static double weight(const rs_sampler_params *p, const rs_candidate *candidate, float best) {
    return exp(((double)candidate->logit - (double)best) / (double)p->temperature);
}

/* The sum of the weights that are at least `least`. */
static double mass(const rs_sampler_params *p, const rs_candidate *candidates, size_t n, float best,
                   double least) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const double w = weight(p, &candidates[i], best);
        if (w >= least) sum += w;
    }
    return sum;
}

/* Brings what top-k and top-p leave to the end of the table, the best one last, and counts it. Sorts no more
 * than that: a whole vocabulary takes as long to sort as a small model takes for a token. */
static size_t keep(const rs_sampler_params *p, rs_candidate *all, size_t n, float best) {
    const size_t most = p->top_k > 0 && p->top_k < n ? p->top_k : n;
    if (most == n && p->top_p == 1) return n;
    make_heap(all, n);
    size_t popped = 0;
    while (most < n && popped < most) pop(all, n - popped++);
    if (p->top_p == 1) return most;
    const double goal = (double)p->top_p * mass(p, all + (n - most), most, best, 0);
    double sum = 0;
    size_t kept = 0;
    for (; kept < most && sum < goal; kept++) {
        if (kept == popped) pop(all, n - popped++);
        sum += weight(p, &all[n - 1 - kept], best);
    }
    return kept;
}

/* Draws one of n candidates whose weight is at least min_p. */
static int32_t draw(rs_sampler *sampler, const rs_candidate *candidates, size_t n, float best) {
    const rs_sampler_params *p = &sampler->params;
    const double least = (double)p->min_p;
    double left = uniform(sampler->state) * mass(p, candidates, n, best, least);
    int32_t token = candidates[n - 1].token;
    for (size_t i = n; i-- > 0 && left >= 0;) {
        const double w = weight(p, &candidates[i], best);
        if (w < least) continue;
        token = candidates[i].token;
        left -= w;
    }
    return token;
}

rs_status rs_sample(rs_context *context, rs_sampler *sampler, int32_t *token) {
    RS_TRY(rs_context_check(context));
    if (sampler == NULL || token == NULL) {
        return rs_fail(&context->error, RS_INVALID_ARGUMENT, "sampler or token is NULL");
    }
    if (!context->has_logits) {
        return rs_fail(&context->error, RS_INVALID_ARGUMENT, "there are no logits: decode a token first");
    }
    const rs_sampler_params *p = &sampler->params;
    const size_t n_vocab = context->model->shape.n_vocab;
    rs_candidate *candidates = context->candidates;
    if (p->temperature == 0 && p->repetition_penalty == 1) {
        *token = (int32_t)context->model->kernels->largest(context->logits, n_vocab);
        return RS_OK;
    }
    for (size_t i = 0; i < n_vocab; i++) candidates[i] = (rs_candidate){context->logits[i], (int32_t)i};
    penalize(context, p, candidates);
    const rs_candidate *best = best_of(candidates, n_vocab);
    if (p->temperature == 0) {
        *token = best->token;
        return RS_OK;
    }
    const float best_logit = best->logit;
    const size_t kept = keep(p, candidates, n_vocab, best_logit);
    *token = draw(sampler, candidates + (n_vocab - kept), kept, best_logit);
    return RS_OK;
}
