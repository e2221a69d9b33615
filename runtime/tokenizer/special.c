/* Special tokens: a sorted list, narrowed byte by byte. */
#include "runtime/tokenizer/special.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/status.h"

static int compare(const void *a, const void *b) {
    const rs_special *x = a, *y = b;
    const int order = memcmp(x->text, y->text, x->bytes < y->bytes ? x->bytes : y->bytes);
    if (order != 0) return order;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return x->token < y->token ? -1 : 1;
}

static bool is_special(const rs_vocab *vocab, uint32_t token) {
    return rs_vocab_text(vocab, token).bytes > 0 &&
           (vocab->kind[token] == RS_TOKEN_USER_DEFINED || rs_vocab_is_control(vocab, token));
}

/* Drops all but the first of equal texts, so that a match is one step whatever the file repeats. */
static size_t keep_first(rs_special *sorted, size_t n) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        const bool again = kept > 0 && sorted[kept - 1].bytes == sorted[i].bytes &&
                           memcmp(sorted[kept - 1].text, sorted[i].text, sorted[i].bytes) == 0;
        if (!again) sorted[kept++] = sorted[i];
    }
    return kept;
}

rs_status rs_specials_open(const rs_vocab *vocab, rs_specials *specials, rs_error *error) {
    *specials = (rs_specials){0};
    size_t n = 0;
    for (uint32_t i = 0; i < vocab->n_tokens; i++) n += is_special(vocab, i);
    rs_special *sorted = malloc((n + 1) * sizeof *sorted);
    if (sorted == NULL) return rs_fail(error, RS_NO_MEMORY, "no memory for %zu special tokens", n);
    n = 0;
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        if (!is_special(vocab, i)) continue;
        const rs_string text = rs_vocab_text(vocab, i);
        if (text.bytes > RS_MAX_SPECIAL_BYTES) {
            free(sorted);
            return rs_fail(error, RS_UNSUPPORTED,
                           "tokenizer.ggml.tokens: special token %u has %zu bytes, more than %d", i,
                           text.bytes, RS_MAX_SPECIAL_BYTES);
        }
        sorted[n++] =
            (rs_special){text.data, (uint32_t)text.bytes, (int32_t)i, rs_vocab_is_control(vocab, i)};
    }
    qsort(sorted, n, sizeof *sorted, compare);
    n = keep_first(sorted, n);

    specials->sorted = sorted;
    for (size_t i = 0; i < n; i++) specials->first[(unsigned char)sorted[i].text[0] + 1]++;
    for (size_t c = 0; c < 256; c++) specials->first[c + 1] += specials->first[c];
    return RS_OK;
}

void rs_specials_close(rs_specials *specials) {
    free(specials->sorted);
    *specials = (rs_specials){0};
}

/* The first in [low, high) whose byte at `depth` is `c` or more. */
static size_t lower_bound(const rs_special *sorted, size_t low, size_t high, size_t depth, unsigned c) {
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if ((unsigned char)sorted[middle].text[depth] < c) low = middle + 1;
        else high = middle;
    }
    return low;
}

int32_t rs_specials_match(const rs_specials *specials, const char *text, size_t bytes, bool control,
                          size_t *matched) {
    if (bytes == 0) return -1;
    const rs_special *sorted = specials->sorted;
    size_t low = specials->first[(unsigned char)text[0]], high = specials->first[(unsigned char)text[0] + 1];
    int32_t token = -1;
    for (size_t depth = 1; low < high; depth++) {
        /* All of [low, high) begin with the `depth` bytes seen so far; one that is no longer comes first. */
        if (sorted[low].bytes == depth) {
            if (control || !sorted[low].control) {
                token = sorted[low].token;
                *matched = depth;
            }
            low++;
        }
        if (depth == bytes) break;
        const unsigned c = (unsigned char)text[depth];
        low = lower_bound(sorted, low, high, depth, c);
        high = lower_bound(sorted, low, high, depth, c + 1);
    }
    return token;
}
