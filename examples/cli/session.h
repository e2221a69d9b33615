/* Conversations in files: a line of JSON that says what the spans are, and the context behind it. */
#ifndef RASURE_EXAMPLES_SESSION_H
#define RASURE_EXAMPLES_SESSION_H

#include "engine.h"
#include "spans.h"

typedef struct cli_session {
    cli_spans spans;
    cli_text lead;    /* to go in front of the user's first turn */
    bool answer_open; /* the last answer's turn has not been closed in the cache */
} cli_session;

/* Writes a file beside `path`, readable by its owner alone, and puts it in its place when all is in it. */
cli_exit cli_session_save(const cli_engine *engine, const cli_session *session, const char *path);

/* Both, or neither; both are left empty when a file's spans are not those of its context. */
cli_exit cli_session_load(const cli_engine *engine, cli_session *session, const char *path);

void cli_session_free(cli_session *session);

#endif
