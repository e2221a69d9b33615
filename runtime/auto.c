/*
 * Which method an erase takes when the caller says how near to exact it has to come, or how long it may take.
 * Distances are estimated from the evidence that adaptive repair goes by and from a calibration, times from
 * how fast the context has read so far.
 */
#include <math.h>

#include "runtime/edit.h"

/* 95 % of a normal distribution are below its mean and so many deviations. */
#define DEVIATIONS 1.645f
/* Echoes beyond this add nothing to what is expected. */
#define STRONGEST 2.0f

/* What a pass costs beside its tokens, in tokens: the weights are read, however few there are. */
enum { PASS_TOKENS = 16 };
/* Re-rotating a token's keys, in parts of reading it: .001 on a Xeon with AMX, .0025 on an EPYC. */
#define ROTATION 0.002

/* From quick to exact. */
enum { BY_SHIFT, BY_REPAIR, BY_ADAPTIVE, BY_EXACT, CHOICES };

typedef struct choice {
    rs_erase_params params;
    uint32_t n_far; /* tokens encoded again because of their echo */
    float kl, kl_most;
    double ms; /* 0: not known */
} choice;

rs_erase_calibration rs_erase_default_calibration(void) {
    return (rs_erase_calibration){
        .shift = {-5.407f, 0.735f, 0.099f, 1.686f},
        .repair = {-6.230f, 0.793f, 0.188f, 1.241f},
        .adaptive = {-5.542f, 0.000f, 0.005f, 0.918f},
    };
}

typedef struct choosing {
    const rs_context *c;
    const uint32_t *holes;
    size_t n_holes;
    const rs_erase_calibration *calibration;
} choosing;

static double cost_ms(const rs_context *c, uint32_t encoded, uint32_t rotated) {
    const uint32_t batch = c->params.n_batch, passes = (encoded + batch - 1) / batch;
    return c->ms_per_token * ((double)(encoded + passes * PASS_TOKENS) + ROTATION * rotated);
}

static void estimate(const choosing *g, choice *option, rs_erase_fit fit) {
    if (g->holes[0] == g->c->n_tokens) return; /* nothing follows that could have absorbed anything */
    const rs_evidence left = rs_adaptive_evidence(g->c, g->holes, g->n_holes, &option->params);
    const float strongest = left.strongest < STRONGEST ? left.strongest : STRONGEST;
    const float log_kl = fit.level + fit.by_strongest * strongest + fit.by_sum * log1pf(left.sum);
    option->n_far = left.n_far;
    option->kl = expf(log_kl);
    option->kl_most = expf(log_kl + DEVIATIONS * fit.spread);
    option->ms = cost_ms(g->c, left.n_near + left.n_far, g->c->n_tokens - g->holes[0]);
}

static bool is_quick(const rs_context *c, const choice *option, double max_ms) {
    return max_ms == 0 || (c->ms_per_token > 0 && option->ms <= max_ms);
}

/* As many echoes as there is time for; without a single one it would be REPAIR, of which the fit is the one
 * that knows of echoes that are left. */
static void fit_into(const choosing *g, choice *option, double max_ms) {
    if (is_quick(g->c, option, max_ms) || g->c->ms_per_token == 0) return;
    const double tokens = ceil((option->ms - max_ms) / g->c->ms_per_token);
    if (tokens >= option->n_far) return;
    option->params.max_echoes = option->n_far - (uint32_t)tokens;
    estimate(g, option, g->calibration->repair);
}

static void list_choices(const choosing *g, const rs_erase_params *asked, uint32_t n_exact, choice *choices) {
    static const rs_erase_method methods[CHOICES] = {RS_ERASE_SHIFT, RS_ERASE_REPAIR, RS_ERASE_ADAPTIVE,
                                                     RS_ERASE_EXACT};
    for (int i = 0; i < CHOICES; i++) {
        choices[i] = (choice){.params = *asked};
        rs_erase_params *params = &choices[i].params;
        params->method = methods[i];
        params->repair_tokens = i == BY_SHIFT ? 0 : RS_ADAPTIVE_TOKENS;
        params->echo_bound = i == BY_ADAPTIVE ? RS_ADAPTIVE_BOUND : INFINITY;
        params->max_echoes = 0;
        params->window = RS_WINDOW_ALL;
    }
    estimate(g, &choices[BY_SHIFT], g->calibration->shift);
    estimate(g, &choices[BY_REPAIR], g->calibration->repair);
    estimate(g, &choices[BY_ADAPTIVE], g->calibration->adaptive);
    choices[BY_EXACT].ms = cost_ms(g->c, n_exact, 0);
}

void rs_auto_choose(const rs_context *context, const uint32_t *holes, size_t n_holes, uint32_t n_exact,
                    rs_erase_params *params, rs_erase_report *report) {
    const rs_erase_calibration standard = rs_erase_default_calibration();
    const choosing g = {context, holes, n_holes,
                        params->calibration != NULL ? params->calibration : &standard};
    const float max_kl = params->max_kl;
    /* While nothing is known of times, the other limit counts alone, where there is one. */
    const double max_ms = context->ms_per_token > 0 || max_kl == 0 ? params->max_ms : 0;
    choice choices[CHOICES];
    list_choices(&g, params, n_exact, choices);

    int taken = BY_SHIFT;
    while (taken < BY_EXACT && (max_kl == 0 || choices[taken].kl_most > max_kl)) taken++;
    for (; taken > BY_SHIFT; taken--) {
        if (taken == BY_ADAPTIVE) fit_into(&g, &choices[taken], max_ms);
        if (is_quick(context, &choices[taken], max_ms)) break;
    }
    *params = choices[taken].params;
    report->method = params->method;
    report->expected_kl = choices[taken].kl;
    report->expected_kl_most = choices[taken].kl_most;
    report->expected_ms = choices[taken].ms;
}
