/* What adaptive repair goes by, written out from its definition in rasure.h. */
#ifndef RASURE_TESTS_SUPPORT_ECHOES_H
#define RASURE_TESTS_SUPPORT_ECHOES_H

#include <rasure/rasure.h>

enum { RS_TEST_ECHOES_MAX = 512 };

/* Tokens of few words, so that some come again and again and some once. */
void rs_test_make_text(int32_t *tokens, uint32_t count, unsigned seed);

/* Of the tokens that are left, in order. */
typedef struct rs_test_echoes {
    uint32_t n;
    uint32_t first; /* behind the first span */
    double echo[RS_TEST_ECHOES_MAX];
    bool near[RS_TEST_ECHOES_MAX];
} rs_test_echoes;

/* The tokens stand at positions 0 to count - 1. */
rs_test_echoes rs_test_find_echoes(const int32_t *tokens, int32_t count, const rs_span *spans, size_t n_spans,
                                   uint32_t near);

#endif
