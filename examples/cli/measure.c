/* Measures: answers against what was expected, distributions, percentiles. */
#include "measure.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Length of the punctuation at `text`, 0 for none. */
static size_t punctuation(const char *text, size_t bytes) {
    if ((unsigned char)text[0] < 0x80) return ispunct((unsigned char)text[0]) ? 1 : 0;
    const bool general = bytes >= 3 && memcmp(text, "\xe2\x80", 2) == 0;
    const bool general_too = bytes >= 3 && memcmp(text, "\xe2\x81", 2) == 0 && (unsigned char)text[2] < 0xb0;
    return general || general_too ? 3 : 0;
}

static bool is_article(const char *word, size_t bytes) {
    return (bytes == 1 && *word == 'a') || (bytes == 2 && memcmp(word, "an", 2) == 0) ||
           (bytes == 3 && memcmp(word, "the", 3) == 0);
}

void cli_normalise(cli_text *out, const char *text, size_t bytes) {
    const size_t start = out->bytes;
    size_t word = out->bytes; /* where the current word begins in `out` */
    cli_text_reserve(out, bytes + 1);
    for (size_t i = 0; i <= bytes; i++) {
        const char c = i < bytes ? text[i] : ' ';
        const size_t skipped = i < bytes ? punctuation(text + i, bytes - i) : 0;
        if (skipped > 0) {
            i += skipped - 1;
        } else if (isspace((unsigned char)c)) {
            if (is_article(out->data + word, out->bytes - word)) out->bytes = word;
            if (out->bytes > word) cli_text_add(out, " ", 1);
            word = out->bytes;
        } else {
            const char lower = (char)tolower((unsigned char)c);
            cli_text_add(out, &lower, 1);
        }
    }
    if (out->bytes > start) out->bytes--; /* the space behind the last word */
    out->data[out->bytes] = '\0';
}

static bool is_word(char c) {
    return isalnum((unsigned char)c) != 0;
}

/* Whether `wanted` is at `at` in `answer`, and not in the middle of a word. */
static bool is_at(const cli_text *answer, const cli_text *wanted, size_t at) {
    const size_t end = at + wanted->bytes;
    if (wanted->bytes == 0 || end > answer->bytes ||
        memcmp(answer->data + at, wanted->data, wanted->bytes) != 0)
        return false;
    const bool begins_inside = at > 0 && is_word(answer->data[at - 1]) && is_word(wanted->data[0]);
    const bool ends_inside =
        end < answer->bytes && is_word(answer->data[end]) && is_word(answer->data[end - 1]);
    return !begins_inside && !ends_inside;
}

bool cli_answer_begins(const cli_text *answer, const cli_text *wanted) {
    return is_at(answer, wanted, 0);
}

bool cli_answer_contains(const cli_text *answer, const cli_text *wanted) {
    for (size_t at = 0; at < answer->bytes; at++)
        if (is_at(answer, wanted, at)) return true;
    return false;
}

size_t cli_most_likely(const float *logits, size_t n) {
    size_t most = 0;
    for (size_t i = 1; i < n; i++) most = logits[i] > logits[most] ? i : most;
    return most;
}

double cli_log_probability(const float *logits, size_t n, size_t at) {
    const float most = logits[cli_most_likely(logits, n)];
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)expf(logits[i] - most);
    return (double)(logits[at] - most) - log(sum);
}

/* With p = e^a / A, q = e^b / B: sum of p (log p - log q) = (sum of e^a (a - b)) / A - log A + log B. */
double cli_kl(const float *p_logits, const float *q_logits, size_t n) {
    const float p_most = p_logits[cli_most_likely(p_logits, n)],
                q_most = q_logits[cli_most_likely(q_logits, n)];
    double p_sum = 0.0, q_sum = 0.0, weighted = 0.0;
    for (size_t i = 0; i < n; i++) {
        const float a = p_logits[i] - p_most, b = q_logits[i] - q_most;
        const double p = (double)expf(a);
        p_sum += p;
        q_sum += (double)expf(b);
        weighted += p * (double)(a - b);
    }
    return weighted / p_sum - log(p_sum) + log(q_sum);
}

/* The finaliser of splitmix64 (Vigna, prng.di.unimi.it). */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double gumbel(uint64_t state) {
    const double u = ((double)(mix(state) >> 11) + 0.5) * 0x1p-53;
    return -log(-log(u));
}

size_t cli_draw(const float *logits, size_t n, uint64_t seed, uint64_t place) {
    const uint64_t golden = UINT64_C(0x9e3779b97f4a7c15);
    uint64_t state = mix(mix(seed + golden) + place);
    size_t drawn = 0;
    double most = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        const double noisy = (double)logits[i] + gumbel(state += golden);
        if (noisy <= most) continue;
        most = noisy;
        drawn = i;
    }
    return drawn;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double cli_percentile(double *values, size_t n, double share) {
    if (n == 0) return NAN;
    qsort(values, n, sizeof *values, ascending);
    const double at = share * (double)(n - 1);
    const size_t below = (size_t)at;
    const size_t above = below + 1 < n ? below + 1 : below;
    return values[below] + (at - (double)below) * (values[above] - values[below]);
}
