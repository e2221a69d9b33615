/* Sampling from logits that the test writes, and the decode loop's stops and text. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/support.h"

static int set_up(void **state) {
    *state = rs_test_load(rs_test_golden_path("tiny-qwen2.gguf"), RS_LINEAR_NATIVE, RS_ISA_AUTO, 1);
    return 0;
}

static int tear_down(void **state) {
    rs_model_free(*state);
    return 0;
}

/* A context whose logits are -20 but for the first few tokens. */
static rs_context *with_logits(const rs_model *model, const float *logits, uint32_t n) {
    rs_context *c = rs_test_context(model, 64, 8);
    const int32_t token = 1;
    rs_test_ok(c, rs_decode(c, &token, 1));
    for (uint32_t i = 0; i < model->shape.n_vocab; i++) c->logits[i] = i < n ? logits[i] : -20.0f;
    return c;
}

static const float LOGITS[] = {2.0f, 4.0f, 3.0f, 1.0f, 3.5f};

/* How often each of the first tokens is drawn in `draws`. */
static void draw(rs_context *c, rs_sampler_params params, uint32_t draws, uint32_t counts[8]) {
    rs_sampler sampler;
    memset(counts, 0, 8 * sizeof *counts);
    assert_int_equal(rs_sampler_init(&sampler, &params, NULL), RS_OK);
    for (uint32_t i = 0; i < draws; i++) {
        int32_t token;
        rs_test_ok(c, rs_sample(c, &sampler, &token));
        counts[token < 5 ? token : 7]++;
    }
}

static void test_greedy(void **state) {
    rs_context *c = with_logits(*state, LOGITS, 5);
    uint32_t counts[8];
    draw(c, rs_sampler_default_params(), 10, counts);
    assert_int_equal(counts[1], 10);
    /* A tie goes to the lower id, whatever the machine. */
    c->logits[4] = c->logits[3] = 4.0f;
    draw(c, rs_sampler_default_params(), 10, counts);
    assert_int_equal(counts[1], 10);
    rs_test_free(c);
}

/* Shares within four standard deviations of softmax(logits / temperature). */
static void test_temperature(void **state) {
    rs_context *c = with_logits(*state, LOGITS, 5);
    const uint32_t draws = 20000;
    const double temperatures[] = {0.5, 1.0, 2.0};
    for (int t = 0; t < 3; t++) {
        rs_sampler_params params = rs_sampler_default_params();
        uint32_t counts[8];
        params.temperature = (float)temperatures[t];
        params.seed = 5;
        double sum = (c->model->shape.n_vocab - 5) * exp(-20.0 / temperatures[t]);
        for (int i = 0; i < 5; i++) sum += exp((double)LOGITS[i] / temperatures[t]);
        draw(c, params, draws, counts);
        for (int i = 0; i < 5; i++) {
            const double p = exp((double)LOGITS[i] / temperatures[t]) / sum;
            assert_true(fabs(counts[i] / (double)draws - p) < 4 * sqrt(p * (1 - p) / draws));
        }
    }
    rs_test_free(c);
}

static void test_filters(void **state) {
    rs_context *c = with_logits(*state, LOGITS, 5);
    uint32_t counts[8];
    rs_sampler_params params = rs_sampler_default_params();
    params.temperature = 5.0f;
    params.top_k = 2; /* tokens 1 and 4 */
    draw(c, params, 2000, counts);
    assert_int_equal(counts[1] + counts[4], 2000);
    assert_true(counts[4] > 500);

    /* At temperature 1 the shares are .45 (1), .27 (4), .17 (2), .06 (0), .02 (3): .7 takes two, .75 three.
     */
    params = rs_sampler_default_params();
    params.temperature = 1;
    params.top_p = 0.7f;
    draw(c, params, 2000, counts);
    assert_int_equal(counts[1] + counts[4], 2000);
    params.top_p = 0.75f;
    draw(c, params, 2000, counts);
    assert_int_equal(counts[1] + counts[4] + counts[2], 2000);
    assert_true(counts[2] > 0);

    /* exp(2 - 4) = .135 stays at min_p .1, exp(1 - 4) = .05 goes. */
    params = rs_sampler_default_params();
    params.temperature = 1;
    params.min_p = 0.1f;
    draw(c, params, 4000, counts);
    assert_true(counts[0] > 0);
    assert_int_equal(counts[3] + counts[7], 0);
    rs_test_free(c);
}

typedef struct share {
    int32_t token;
    double weight; /* of the best: 1 */
} share;

static int more_likely(const void *a, const void *b) {
    const share *x = a, *y = b;
    if (x->weight != y->weight) return x->weight < y->weight ? 1 : -1;
    return x->token < y->token ? -1 : 1;
}

/* What the filters leave of a vocabulary, by sorting all of it; returns how many. */
static size_t filtered(const rs_context *c, const rs_sampler_params *p, share *shares) {
    const size_t n = c->model->shape.n_vocab;
    float best = c->logits[0];
    for (size_t i = 0; i < n; i++) best = fmaxf(best, c->logits[i]);
    for (size_t i = 0; i < n; i++)
        shares[i] = (share){(int32_t)i, exp(((double)c->logits[i] - (double)best) / (double)p->temperature)};
    qsort(shares, n, sizeof *shares, more_likely);
    size_t kept = p->top_k > 0 && p->top_k < n ? p->top_k : n;
    double sum = 0, sum_kept = 0;
    for (size_t i = 0; i < kept; i++) sum += shares[i].weight;
    for (size_t i = 0; i < kept; i++) {
        if (p->top_p < 1 && sum_kept >= (double)p->top_p * sum) kept = i;
        else sum_kept += shares[i].weight;
    }
    while (shares[kept - 1].weight < (double)p->min_p) kept--;
    return kept;
}

/* All filters together on a whole vocabulary: nothing is drawn that they take away, and the rest as often as
 * its share, within five standard deviations. */
static void test_filters_together(void **state) {
    static const struct {
        float temperature;
        uint32_t top_k;
        float top_p, min_p;
    } all[] = {
        {1, 0, 1, 0},        {0.7f, 0, 0.9f, 0},    {0.7f, 0, 1, 0.02f},       {1.5f, 20, 1, 0},
        {1.5f, 40, 0.8f, 0}, {2, 100, 0.9f, 0.05f}, {1, 100000, 0.5f, 0.001f}, {0.1f, 3, 0.99f, 0.5f},
    };
    const uint32_t draws = 4000;
    rs_context *c = with_logits(*state, LOGITS, 5);
    const size_t n_vocab = c->model->shape.n_vocab;
    for (size_t i = 0; i < n_vocab; i++) /* a bell, and some ties */
        c->logits[i] = roundf(64.0f * 6.0f * sinf((float)(i * i % 977)) * cosf((float)i)) / 64.0f;
    share *shares = malloc(n_vocab * sizeof *shares);
    uint32_t *counts = malloc(n_vocab * sizeof *counts);
    assert_true(shares != NULL && counts != NULL);
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        rs_sampler_params params = rs_sampler_default_params();
        params.temperature = all[k].temperature;
        params.top_k = all[k].top_k;
        params.top_p = all[k].top_p;
        params.min_p = all[k].min_p;
        params.seed = k;
        const size_t kept = filtered(c, &params, shares);
        rs_sampler sampler;
        assert_int_equal(rs_sampler_init(&sampler, &params, NULL), RS_OK);
        memset(counts, 0, n_vocab * sizeof *counts);
        for (uint32_t i = 0; i < draws; i++) {
            int32_t token;
            rs_test_ok(c, rs_sample(c, &sampler, &token));
            counts[token]++;
        }
        double sum = 0;
        for (size_t i = 0; i < kept; i++) sum += shares[i].weight;
        for (size_t i = 0; i < n_vocab; i++) {
            const double p = i < kept ? shares[i].weight / sum : 0;
            const double expected = p * draws;
            assert_true(fabs(counts[shares[i].token] - expected) <= 5 * sqrt(expected * (1 - p)) + (p > 0));
        }
    }
    free(shares);
    free(counts);
    rs_test_free(c);
}

static void test_penalty(void **state) {
    rs_context *c = with_logits(*state, LOGITS, 5);
    uint32_t counts[8];
    rs_sampler_params params = rs_sampler_default_params();
    params.repetition_penalty = 1.5f; /* token 1 is in the context: 4 / 1.5 < 3.5 */
    draw(c, params, 1, counts);
    assert_int_equal(counts[4], 1);
    c->logits[1] = -1.0f; /* a negative logit is made smaller, not larger */
    for (uint32_t i = 0; i < c->model->shape.n_vocab; i++) c->logits[i] = i == 1 ? -1.0f : -1.2f;
    draw(c, params, 1, counts);
    assert_int_equal(counts[1], 0);
    /* Outside the window it does not count. */
    const int32_t others[] = {6, 7};
    rs_test_ok(c, rs_decode(c, others, 2));
    for (uint32_t i = 0; i < c->model->shape.n_vocab; i++) c->logits[i] = i == 1 ? 4.0f : 3.5f;
    params.repetition_window = 2;
    draw(c, params, 1, counts);
    assert_int_equal(counts[1], 1);
    rs_test_free(c);
}

static void test_seed(void **state) {
    rs_context *c = with_logits(*state, LOGITS, 5);
    rs_sampler_params params = rs_sampler_default_params();
    int32_t first[64], again[64], other[64];
    int32_t *runs[] = {first, again, other};
    params.temperature = 2;
    for (int r = 0; r < 3; r++) {
        rs_sampler sampler;
        params.seed = r < 2 ? 9 : 10;
        assert_int_equal(rs_sampler_init(&sampler, &params, NULL), RS_OK);
        for (int i = 0; i < 64; i++) rs_test_ok(c, rs_sample(c, &sampler, &runs[r][i]));
    }
    assert_memory_equal(first, again, sizeof first);
    assert_memory_not_equal(first, other, sizeof first);
    rs_test_free(c);
}

static void test_bad_parameters(void **state) {
    (void)state;
    const rs_sampler_params bad[] = {
        {.temperature = -1, .top_p = 1, .repetition_penalty = 1},
        {.temperature = NAN, .top_p = 1, .repetition_penalty = 1},
        {.temperature = 101, .top_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 0, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 1.1f, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 1, .repetition_penalty = 0},
        {.temperature = 1, .top_p = 1, .min_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 1, .min_p = -0.1f, .repetition_penalty = 1},
        {.temperature = 1, .top_p = 1, .repetition_penalty = INFINITY},
    };
    rs_sampler sampler;
    rs_error error;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(rs_sampler_init(&sampler, &bad[i], &error), RS_INVALID_ARGUMENT);
        assert_non_null(strstr(error.message, "must be"));
    }
}

/* --------------------------------------------------------------------------------------- generation -- */

typedef struct text {
    char bytes[4096];
    size_t n;
    size_t ends[256]; /* of the pieces */
    uint32_t calls, stop_after;
} text;

static bool collect(void *user, const char *s, size_t n) {
    text *t = user;
    assert_true(n > 0 && t->n + n < sizeof t->bytes && t->calls < 256);
    memcpy(t->bytes + t->n, s, n);
    t->n += n;
    t->bytes[t->n] = '\0';
    t->ends[t->calls] = t->n;
    return ++t->calls != t->stop_after;
}

/* Length of the valid character of several bytes at `s`; 0 if there is none (overlong forms do not matter
 * here). */
static size_t long_character(const char *s, size_t left) {
    const unsigned char b = (unsigned char)s[0];
    const size_t length = b >= 0xf8 ? 0 : b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : b >= 0xc2 ? 2 : 0;
    if (length == 0 || length > left) return 0;
    for (size_t i = 1; i < length; i++) {
        if (((unsigned char)s[i] & 0xc0) != 0x80) return 0;
    }
    return length;
}

/* Counts the characters of several bytes; none may hold the end of a piece. */
static uint32_t check_characters(const text *t) {
    uint32_t seen = 0;
    for (size_t at = 0; at < t->n; at++) {
        const size_t length = long_character(t->bytes + at, t->n - at);
        seen += length > 0;
        for (uint32_t i = 0; i < t->calls; i++) assert_false(t->ends[i] > at && t->ends[i] < at + length);
    }
    return seen;
}

static rs_context *begun(const rs_model *model, uint32_t n_ctx) {
    rs_context *c = rs_test_context(model, n_ctx, 8);
    const int32_t tokens[] = {40, 50, 60, 70};
    rs_test_ok(c, rs_decode(c, tokens, 4));
    return c;
}

static rs_generate_report generate(rs_context *c, rs_generate_params params, text *t) {
    rs_generate_report report;
    *t = (text){.stop_after = t->stop_after};
    params.on_text = collect;
    params.user = t;
    params.sampler.seed = 3;
    params.sampler.temperature = 1;
    rs_test_ok(c, rs_generate(c, &params, &report));
    return report;
}

static void test_generation_stops(void **state) {
    rs_generate_params params = rs_generate_default_params();
    text all = {.n = 0}, t = {.n = 0};
    params.max_tokens = 40;
    rs_context *c = begun(*state, 64);
    rs_generate_report report = generate(c, params, &all);
    const uint32_t n_all = report.n_tokens;
    assert_true(all.n > 8);
    assert_int_equal(c->n_tokens, 4 + n_all);
    int32_t tokens[64];
    size_t count;
    rs_test_ok(c, rs_context_tokens(c, 4, c->next_position, tokens, NULL, 64, &count));
    rs_test_free(c);

    /* The same text again, cut at a stop string that runs over several tokens. */
    char stop[5];
    memcpy(stop, all.bytes + all.n / 2, 4);
    stop[4] = '\0';
    const char *stops[] = {"never to be said", stop};
    params.stop_strings = stops;
    params.n_stop_strings = 2;
    c = begun(*state, 64);
    report = generate(c, params, &t);
    assert_int_equal(report.reason, RS_STOP_STRING);
    assert_null(strstr(t.bytes, stop));
    assert_int_equal(t.n, (size_t)(strstr(all.bytes, stop) - all.bytes));
    assert_memory_equal(t.bytes, all.bytes, t.n);
    /* It begins in the token at text_end. */
    const size_t before = (size_t)report.text_end - 4;
    size_t bytes;
    (void)rs_detokenize(*state, tokens, before, false, NULL, 0, &bytes, NULL);
    assert_true(bytes <= t.n);
    (void)rs_detokenize(*state, tokens, before + 1, false, NULL, 0, &bytes, NULL);
    assert_true(bytes > t.n);
    assert_true(report.text_end < c->next_position);
    rs_test_free(c);

    params.n_stop_strings = 0;
    params.stop_tokens = &tokens[3];
    params.n_stop_tokens = 1;
    c = begun(*state, 64);
    report = generate(c, params, &t);
    assert_int_equal(report.reason, RS_STOP_TOKEN);
    assert_true(report.n_tokens <= 3);
    assert_int_equal(c->n_tokens, 4 + report.n_tokens);
    rs_test_free(c);

    params.n_stop_tokens = 0;
    t.stop_after = 2;
    c = begun(*state, 64);
    report = generate(c, params, &t);
    assert_int_equal(report.reason, RS_STOP_CALLBACK);
    assert_int_equal(report.text_end, c->next_position);
    assert_int_equal(t.calls, 2);
    rs_test_free(c);

    t.stop_after = 0;
    params.max_tokens = 0;
    c = begun(*state, 16);
    report = generate(c, params, &t);
    assert_true(report.reason == RS_STOP_FULL || report.reason == RS_STOP_END);
    assert_true(c->n_tokens <= 16);
    rs_test_free(c);
}

typedef struct heard {
    int32_t tokens[64], positions[64];
    uint32_t n, stop_after;
} heard;

static bool hear(void *user, int32_t token, int32_t position) {
    heard *h = user;
    h->tokens[h->n] = token;
    h->positions[h->n++] = position;
    return h->n != h->stop_after;
}

/* Every token is told of, with text or without, as it comes; and any can be the last. */
static void test_every_token_is_told_of(void **state) {
    for (uint32_t stop_after = 0; stop_after < 4; stop_after++) {
        heard h = {.stop_after = stop_after};
        rs_generate_params params = rs_generate_default_params();
        rs_generate_report report;
        params.sampler.temperature = 3;
        params.max_tokens = 40;
        params.on_token = hear;
        params.user = &h;
        rs_context *c = begun(*state, 64);
        rs_test_ok(c, rs_generate(c, &params, &report));
        int32_t tokens[64], positions[64];
        size_t count;
        rs_test_ok(c, rs_context_tokens(c, 4, c->next_position, tokens, positions, 64, &count));
        assert_true(count > 3 || count == stop_after);
        assert_int_equal(count, report.n_tokens);
        assert_int_equal(h.n, count);
        assert_memory_equal(h.tokens, tokens, count * sizeof *tokens);
        assert_memory_equal(h.positions, positions, count * sizeof *positions);
        if (stop_after > 0) {
            assert_int_equal(count, stop_after);
            assert_int_equal(report.reason, RS_STOP_CALLBACK);
        }
        rs_test_free(c);
    }
}

/* A policy's room for what is decoded is used up before n_ctx is: it stops there too, and says what it has.
 */
static void test_stops_where_a_policy_is_full(void **state) {
    rs_context *c = rs_test_context_of(
        *state, &(rs_context_params){
                    .n_ctx = 200,
                    .n_batch = 16,
                    .policy = {.policy = RS_POLICY_SNAPKV, .keep = 0.2F, .observers = 4, .decoded = 16}});
    rs_generate_params params = rs_generate_default_params();
    const char *const stop = "never to be said";
    int32_t tokens[120];
    text t = {.n = 0};
    rs_test_make_tokens(*state, tokens, 120);
    params.stop_strings = &stop;
    params.n_stop_strings = 1;
    rs_generate_report report = {.n_tokens = 0};
    do {
        rs_context_reset(c);
        tokens[119]++; /* until it is full before the model has ended its turn */
        rs_test_ok(c, rs_decode(c, tokens, 120));
        report = generate(c, params, &t);
    } while (report.reason == RS_STOP_END);
    assert_int_equal(report.reason, RS_STOP_FULL);
    assert_true(report.n_tokens >= 16);
    assert_int_equal(c->n_tokens, 120 + report.n_tokens);
    for (size_t i = 0; i < c->text_capacity; i++) assert_int_equal(c->text[i], 0);
    rs_test_free(c);
}

/* Tokens of a byte-level vocabulary are often parts of characters: what goes out never is. */
static void test_characters_stay_whole(void **state) {
    const rs_model *model = *state;
    rs_generate_params params = rs_generate_default_params();
    uint32_t seen = 0;
    params.max_tokens = 40;
    for (uint64_t seed = 0; seed < 40; seed++) {
        text t = {.n = 0};
        rs_context *c = begun(model, 64);
        params.sampler.temperature = 3;
        params.sampler.seed = seed;
        params.on_text = collect;
        params.user = &t;
        rs_test_ok(c, rs_generate(c, &params, NULL));
        /* All of the text, pieces put together, is what the tokens say. */
        int32_t tokens[64];
        char expected[512];
        size_t count, bytes;
        rs_test_ok(c, rs_context_tokens(c, 4, c->next_position, tokens, NULL, 64, &count));
        assert_int_equal(rs_detokenize(model, tokens, count, false, expected, sizeof expected, &bytes, NULL),
                         RS_OK);
        assert_int_equal(bytes, t.n);
        assert_memory_equal(expected, t.bytes, bytes);
        seen += check_characters(&t);
        rs_test_free(c);
    }
    assert_true(seen >= 10);
}

static void test_bad_generation(void **state) {
    rs_context *c = rs_test_context(*state, 64, 8);
    rs_generate_params params = rs_generate_default_params();
    assert_int_equal(rs_generate(c, &params, NULL), RS_INVALID_ARGUMENT); /* no logits yet */
    rs_sampler sampler;
    int32_t token;
    assert_int_equal(rs_sampler_init(&sampler, NULL, NULL), RS_OK);
    assert_int_equal(rs_sample(c, &sampler, &token), RS_INVALID_ARGUMENT);
    token = 1;
    rs_test_ok(c, rs_decode(c, &token, 1));
    const char *empty[] = {""}, *null[] = {NULL};
    params.n_stop_strings = 1;
    assert_int_equal(rs_generate(c, &params, NULL), RS_INVALID_ARGUMENT);
    params.stop_strings = empty;
    assert_int_equal(rs_generate(c, &params, NULL), RS_INVALID_ARGUMENT);
    params.stop_strings = null;
    assert_int_equal(rs_generate(c, &params, NULL), RS_INVALID_ARGUMENT);
    params.n_stop_strings = 17;
    assert_int_equal(rs_generate(c, &params, NULL), RS_INVALID_ARGUMENT);
    params = rs_generate_default_params();
    params.n_stop_tokens = 1;
    assert_int_equal(rs_generate(c, &params, NULL), RS_INVALID_ARGUMENT);
    params = rs_generate_default_params();
    params.sampler.top_p = 2;
    assert_int_equal(rs_generate(c, &params, NULL), RS_INVALID_ARGUMENT);
    assert_int_equal(c->n_tokens, 1);
    assert_non_null(rs_logits(c, NULL));
    rs_test_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),           cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_filters),          cmocka_unit_test(test_filters_together),
        cmocka_unit_test(test_penalty),          cmocka_unit_test(test_seed),
        cmocka_unit_test(test_bad_parameters),   cmocka_unit_test(test_stops_where_a_policy_is_full),
        cmocka_unit_test(test_generation_stops), cmocka_unit_test(test_characters_stay_whole),
        cmocka_unit_test(test_bad_generation),   cmocka_unit_test(test_every_token_is_told_of),
    };
    return cmocka_run_group_tests_name("sampling and generation", tests, set_up, tear_down);
}
