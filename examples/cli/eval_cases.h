/* Cases of erasing, all checked before the first is run. */
#ifndef RASURE_EXAMPLES_EVAL_CASES_H
#define RASURE_EXAMPLES_EVAL_CASES_H

#include "engine.h"
#include "eval_lines.h"

typedef struct cli_case {
    json_t *json; /* the line's */
    const char *path;
    size_t line;                   /* in the file, from 1 */
    const json_t *answers, *leaks; /* arrays of strings */
    cli_tokens context;            /* all pieces */
    rs_span *spans;                /* of the erased pieces in `context` */
    size_t n_spans;
    cli_tokens replacement; /* read where the only span stood; empty: it is erased */
    cli_tokens question;    /* and the cue behind it */
    cli_tokens target;      /* how a clean context goes on, where that is known */
    cli_tokens leak;        /* the erased value as it would go on, where there is one */
    cli_tokens *rivals;     /* other values as they would */
    size_t n_rivals;
} cli_case;

typedef struct cli_cases {
    cli_case *items;
    size_t count;
    size_t longest;        /* tokens of context, question and target, leak or rival, at most */
    size_t longest_target; /* tokens of a target, at most */
} cli_cases;

/* Checks the lines and tokenizes their pieces one by one. The lines must live as long. To be freed in any
 * case. */
cli_exit cli_cases_make(cli_cases *cases, const cli_engine *engine, const cli_lines *lines);
void cli_cases_free(cli_cases *cases);

/* Whether two cases erase, or replace, the same in the same context. */
bool cli_same_erase(const cli_case *a, const cli_case *b);

/* Whether a number is that of one of n pieces, and not below `least`. */
bool cli_is_piece(const json_t *json, size_t least, size_t n);

/* Appends an array of strings, one by one; where each lies becomes spans [size of the array]. The template's
 * markers are in the first one only, unless `markers`. */
cli_exit cli_add_pieces(const cli_engine *engine, cli_tokens *tokens, const json_t *pieces, bool markers,
                        rs_span *spans);

/* Appends what a string becomes; NULL is nothing. */
cli_exit cli_add_piece(const cli_engine *engine, cli_tokens *tokens, const json_t *piece, uint32_t flags);

#endif
