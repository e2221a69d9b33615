#include "tests/support/echoes.h"

#include <math.h>
#include <stdlib.h>

enum { WORDS = 60 };

void rs_test_make_text(int32_t *tokens, uint32_t count, unsigned seed) {
    srand(seed);
    for (uint32_t i = 0; i < count; i++) tokens[i] = 3 + (rand() % WORDS) * (rand() % WORDS) / WORDS;
}

static bool in_spans(const rs_span *spans, size_t n_spans, int32_t position) {
    for (size_t s = 0; s < n_spans; s++)
        if (position >= spans[s].begin && position < spans[s].end) return true;
    return false;
}

/* Of a span, or of the eight tokens in front of one. */
static bool is_of_words(const rs_span *spans, size_t n_spans, int32_t position) {
    for (size_t s = 0; s < n_spans; s++)
        if (position >= spans[s].begin - 8 && position < spans[s].end) return true;
    return false;
}

rs_test_echoes rs_test_find_echoes(const int32_t *tokens, int32_t count, const rs_span *spans, size_t n_spans,
                                   uint32_t near) {
    rs_test_echoes e = {0};
    double weight[RS_TEST_ECHOES_MAX];
    int32_t left[RS_TEST_ECHOES_MAX], positions[RS_TEST_ECHOES_MAX];
    for (int32_t i = 0; i < count; i++) {
        if (in_spans(spans, n_spans, i)) continue;
        e.first += i < spans[0].begin;
        left[e.n] = tokens[i];
        positions[e.n++] = i;
    }
    for (uint32_t i = 0; i < e.n; i++) {
        uint32_t times = 0;
        bool erased = false;
        for (uint32_t k = 0; k < e.n; k++) times += left[k] == left[i];
        for (int32_t k = 0; k < count; k++)
            erased = erased || (is_of_words(spans, n_spans, k) && tokens[k] == left[i]);
        weight[i] = erased && positions[i] >= spans[0].end ? 1.0 / times : 0;
    }
    for (uint32_t i = 0; i < e.n; i++) {
        for (uint32_t k = 0; k <= i; k++) e.echo[i] += weight[k] * pow(0.8, i - k);
        for (size_t s = 0; s < n_spans; s++) {
            uint32_t hole = 0;
            while (hole < e.n && positions[hole] < spans[s].end) hole++;
            e.near[i] = e.near[i] || (i >= hole && i < hole + near);
        }
    }
    return e;
}
