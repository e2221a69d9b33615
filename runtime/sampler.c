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

/* Restores the heap below `root`: the worst candidate on top. */
static void sift_down(rs_candidate *heap, size_t n, size_t root) {
    for (;;) {
        size_t worst = root;
        for (size_t child = 2 * root + 1; child <= 2 * root + 2 && child < n; child++) {
            if (better(&heap[worst], &heap[child])) worst = child;
        }
        if (worst == root) return;
        const rs_candidate swap = heap[root];
        heap[root] = heap[worst];
        heap[worst] = swap;
        root = worst;
    }
}

/* Brings the k best to the front, best first; order is total, so the result does not depend on the method.
 * Heap sort: no memory. */
static void sort_best(rs_candidate *all, size_t n, size_t k) {
    for (size_t i = k / 2; i-- > 0;) sift_down(all, k, i);
    for (size_t i = k; i < n; i++) {
        if (!better(&all[i], &all[0])) continue;
        const rs_candidate swap = all[0];
        all[0] = all[i];
        all[i] = swap;
        sift_down(all, k, 0);
    }
    for (size_t end = k; end-- > 1;) {
        const rs_candidate swap = all[0];
        all[0] = all[end];
        all[end] = swap;
        sift_down(all, end, 0);
    }
}

static int32_t best_of(const rs_candidate *candidates, size_t n) {
    size_t at = 0;
    for (size_t i = 1; i < n; i++) {
        if (better(&candidates[i], &candidates[at])) at = i;
    }
    return candidates[at].token;
}

/* Sum of exp((logit - best) / temperature) over the first n, best first. */
static double mass(const rs_candidate *candidates, size_t n, double temperature) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp(((double)candidates[i].logit - (double)candidates[0].logit) / temperature);
    return sum;
}

/* How many of the n sorted candidates top-p and then min-p leave. */
static size_t keep(const rs_sampler_params *p, const rs_candidate *sorted, size_t n) {
    const double temperature = (double)p->temperature, top = (double)sorted[0].logit;
    size_t kept = n;
    if (p->top_p < 1) {
        const double goal = (double)p->top_p * mass(sorted, n, temperature);
        double sum = 0;
        for (kept = 0; kept < n && sum < goal; kept++)
            sum += exp(((double)sorted[kept].logit - top) / temperature);
    }
    if (p->min_p > 0) {
        while (kept > 1 && exp(((double)sorted[kept - 1].logit - top) / temperature) < (double)p->min_p)
            kept--;
    }
    return kept;
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
    if (p->temperature == 0) {
        *token = best_of(candidates, n_vocab);
        return RS_OK;
    }
    size_t n = p->top_k > 0 && p->top_k < n_vocab ? p->top_k : n_vocab;
    sort_best(candidates, n_vocab, n);
    n = keep(p, candidates, n);
    double left = uniform(sampler->state) * mass(candidates, n, (double)p->temperature);
    size_t drawn = 0;
    for (; drawn + 1 < n; drawn++) {
        left -= exp(((double)candidates[drawn].logit - (double)candidates[0].logit) / (double)p->temperature);
        if (left < 0) break;
    }
    *token = candidates[drawn].token;
    return RS_OK;
}
