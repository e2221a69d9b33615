/* A model with one context, token buffers, and the chat prompt: what the commands do with the library. */
#ifndef RASURE_EXAMPLES_ENGINE_H
#define RASURE_EXAMPLES_ENGINE_H

#include "cli.h"
#include "options.h"
#include "rasure/rasure.h"
#include "text.h"

/* {0} is empty. */
typedef struct cli_tokens {
    int32_t *ids;
    size_t count, capacity;
} cli_tokens;

typedef struct cli_engine {
    const cli_setup *setup;
    rs_model *model;
    rs_model_info info;
    double load_ms;
    rs_adapter *erasers[CLI_LIST_MAX];
    size_t n_erasers;
    bool *full_heads; /* of the policy; NULL where it has none */
    rs_heads_info heads;
    rs_gates *gates;     /* of the policy; NULL where it has none */
    cli_tokens filler;   /* of "refill"; empty until a method wants it */
    bool refine;         /* contexts are to have spare pages; set before they are opened */
    size_t undo_bytes;   /* and this area; likewise */
    rs_context *context; /* NULL until cli_open_context */
    void *memory;
} cli_engine;

/* On failure the engine is closed again. */
cli_exit cli_open_model(cli_engine *engine, const cli_setup *setup);

/* Loads the adapters of these paths. */
cli_exit cli_open_erasers(cli_engine *engine, const cli_list *paths);

/* Gives the engine a context of --ctx tokens, or of `n_ctx` where --ctx was not given. */
cli_exit cli_open_context(cli_engine *engine, uint32_t n_ctx);

/* Another context like the engine's own; to be wiped before *memory is freed. */
cli_exit cli_open_twin(const cli_engine *engine, rs_context **context, void **memory);

/* "native", "xnnpack" or "auto". */
const char *cli_linear_name(rs_linear linear);

/* Wipes the context; fine on a zeroed engine. */
void cli_close(cli_engine *engine);

/* Exit code of a failed call on the context, whose sentence is printed. */
cli_exit cli_context_failed(const cli_engine *engine, rs_status status);

/* For rs_context_save into a FILE, `user`. */
bool cli_write_part(void *user, const void *data, size_t bytes);

/* The same for a call that wrote to an rs_error. */
cli_exit cli_call_failed(const rs_error *error);

/* rs_decode with progress on stderr; no tokens is fine. */
cli_exit cli_read(cli_engine *engine, const int32_t *ids, size_t count);

/* rs_refine to the end, with progress on stderr. *n_tokens: how many were read again. */
cli_exit cli_refine(cli_engine *engine, uint32_t *n_tokens);

/* What is still known of the cache's tokens: not the entries of steered ones. */
typedef struct cli_view {
    int32_t *ids, *positions;
    size_t count;
} cli_view;

cli_exit cli_view_open(const cli_engine *engine, cli_view *view);
void cli_view_close(cli_view *view);

/* Makes logits after an erase that nothing was read after: reads the last token again. */
cli_exit cli_reread_last(cli_engine *engine);

/* ------------------------------------------------------------------------------------------- tokens -- */

void cli_tokens_add(cli_tokens *tokens, const int32_t *ids, size_t count);
void cli_tokens_free(cli_tokens *tokens);

/* Appends what `text` becomes; `flags` as for rs_tokenize. */
cli_exit cli_add_text(const cli_engine *engine, cli_tokens *tokens, const char *text, size_t bytes,
                      uint32_t flags);

/* Appends a part of the chat template. */
cli_exit cli_add_part(const cli_engine *engine, cli_tokens *tokens, rs_chat_part part, rs_role role);

/*
 * Appends what comes before the first turn of the user: the template's head and the system turn. `system`
 * NULL: the text that the model's own template puts there. Formats without a system turn want this text first
 * in the user's turn instead: it is then appended to `lead`, which is otherwise left as it is. The tokens
 * [*text_begin, *text_end) are those of the text alone.
 */
cli_exit cli_add_opening(const cli_engine *engine, cli_tokens *tokens, const char *system, cli_text *lead,
                         size_t *text_begin, size_t *text_end);

/* Appends the bytes of the tokens. */
cli_exit cli_detokenize(const cli_engine *engine, const int32_t *ids, size_t count, bool special,
                        cli_text *text);

/* Which of the tokens hold bytes [begin, end), begin < end, of the text that they stand for: [*first, *last).
 */
cli_exit cli_cover(const cli_engine *engine, const int32_t *ids, size_t count, size_t begin, size_t end,
                   size_t *first, size_t *last);

#endif
