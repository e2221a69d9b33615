/* Measures: answers against what was expected, distributions, percentiles. */
#ifndef RASURE_EXAMPLES_MEASURE_H
#define RASURE_EXAMPLES_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

/* Appends `text` in lower case (ASCII), without punctuation (ASCII and U+2000 to U+206F), without the words
 * "a", "an" and "the", and with single spaces between words. */
void cli_normalise(cli_text *out, const char *text, size_t bytes);

/* Of normalised texts: whether `answer` begins with `wanted`, and whether it contains it. Neither counts in
 * the middle of an ASCII word or number: "12" is not in "123". */
bool cli_answer_begins(const cli_text *answer, const cli_text *wanted);
bool cli_answer_contains(const cli_text *answer, const cli_text *wanted);

/* The element with the largest of the logits [n], n >= 1; the first of several. */
size_t cli_most_likely(const float *logits, size_t n);

/* KL(p || q) in nats of the distributions that the logits [n] stand for. */
double cli_kl(const float *p_logits, const float *q_logits, size_t n);

/* The logarithm of the probability that the logits [n] give to element `at`. */
double cli_log_probability(const float *logits, size_t n, size_t at);

/* An element, each as often as the logits [n] say: the largest of them with Gumbel noise (Maddison et al.,
 * arXiv 1411.0030, section 2). The noise is that of a seed and a place, so that logits that are nearly the
 * same mostly lead to the same element. */
size_t cli_draw(const float *logits, size_t n, uint64_t seed, uint64_t place);

/* The value below which `share` (0 to 1) of the values lie, between neighbours linearly; NaN when n is 0.
 * Sorts the values. */
double cli_percentile(double *values, size_t n, double share);

#endif
