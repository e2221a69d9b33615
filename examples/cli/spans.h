/*
 * What a person sees of a conversation as numbered spans: turns, and sentences of turns. They are kept as
 * indices into the cache's tokens, not as positions: indices move in the same way whatever an erase does to
 * positions, which are asked from the cache when they are shown or erased.
 */
#ifndef RASURE_EXAMPLES_SPANS_H
#define RASURE_EXAMPLES_SPANS_H

#include <stdbool.h>
#include <stddef.h>

#include "rasure/rasure.h"

typedef struct cli_span {
    unsigned number; /* stays the same as long as the span lives */
    bool is_turn;
    rs_role role;
    size_t begin, end; /* indices of tokens in the cache */
} cli_span;

/* In the order of their tokens, a turn in front of its sentences; {0} is empty. */
typedef struct cli_spans {
    cli_span *all;
    size_t count, capacity;
    unsigned last_number;
} cli_spans;

/* With the next number. */
void cli_spans_add(cli_spans *spans, bool is_turn, rs_role role, size_t begin, size_t end);

/* Takes one token of the cache out. Spans that are left empty are gone. */
void cli_spans_remove_token(cli_spans *spans, size_t index);

/* `changed`, one of them, has another number of tokens; what is behind it moves. */
void cli_spans_resize(cli_spans *spans, const cli_span *changed, size_t n_tokens);

/* NULL: there is none of the number that the text is. */
cli_span *cli_spans_find(const cli_spans *spans, const char *number);

/* The runs of marked ones among `count` tokens, at `positions` (NULL: a token's index is its position); there
 * is room for as many. Returns how many there are. */
size_t cli_marked_spans(const bool *marked, const int32_t *positions, size_t count, rs_span *spans);

void cli_spans_copy(cli_spans *to, const cli_spans *from);
void cli_spans_clear(cli_spans *spans);
void cli_spans_free(cli_spans *spans);

#endif
