/* Opening a model and a context, reading with progress, token buffers, the chat prompt. */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

#include "budget.h"
#include "terminal.h"

/* Requests that are wrong in themselves are the user's; everything else failed on the way. */
static cli_exit exit_code(rs_status status) {
    return status == RS_INVALID_ARGUMENT || status == RS_OUT_OF_RANGE ? CLI_USAGE : CLI_FAILED;
}

cli_exit cli_call_failed(const rs_error *error) {
    return cli_fail(exit_code(error->status), "%s", error->message);
}

cli_exit cli_context_failed(const cli_engine *engine, rs_status status) {
    const char *hint = status == RS_NO_SPACE ? " (--ctx makes it larger)" : "";
    return cli_fail(exit_code(status), "%s%s", rs_context_message(engine->context), hint);
}

bool cli_write_part(void *user, const void *data, size_t bytes) {
    return fwrite(data, 1, bytes, user) == bytes;
}

cli_exit cli_open_model(cli_engine *engine, const cli_setup *setup) {
    *engine = (cli_engine){.setup = setup};
    rs_model_params params = rs_model_default_params();
    params.threads = setup->threads;
    params.linear = setup->linear;
    params.isa = setup->isa;

    rs_error error;
    const double started = cli_now_ms();
    rs_status status = rs_model_load(setup->model, &params, &engine->model, &error);
    engine->load_ms = cli_now_ms() - started;
    if (status == RS_OK) {
        rs_model_get_info(engine->model, &engine->info);
        return CLI_OK;
    }
    /* A file that was named and is not a model that this build can run is wrong input. */
    const bool file_is_wrong = status == RS_IO || status == RS_BAD_FILE || status == RS_UNSUPPORTED;
    const bool lacks_default = setup->model_is_default && status == RS_IO;
    const bool names_file = strncmp(error.message, setup->model, strlen(setup->model)) == 0;
    return cli_fail(file_is_wrong && !lacks_default ? CLI_USAGE : exit_code(status), "%s%s%s%s",
                    file_is_wrong && !names_file ? setup->model : "",
                    file_is_wrong && !names_file ? ": " : "", error.message,
                    lacks_default ? "; scripts/setup.sh fetches the default model, -m PATH names another"
                                  : "");
}

cli_exit cli_open_erasers(cli_engine *engine, const cli_list *paths) {
    for (size_t i = 0; i < paths->count; i++) {
        rs_error error;
        const rs_status status = rs_adapter_load(engine->model, paths->items[i], &engine->erasers[i], &error);
        if (status == RS_IO) return cli_fail(CLI_USAGE, "%s", error.message);
        if (status != RS_OK) return cli_fail(CLI_USAGE, "%s: %s", paths->items[i], error.message);
        engine->n_erasers++;
    }
    return CLI_OK;
}

static cli_exit make_context(const cli_engine *engine, const rs_context_params *params, rs_context **context,
                             void **memory) {
    rs_error error;
    size_t bytes;
    const rs_status status = rs_context_size(engine->model, params, &bytes, &error);
    if (status == RS_NO_SPACE)
        return cli_fail(CLI_USAGE, "%s", error.message); /* of the budget that was asked for */
    if (status != RS_OK) return cli_call_failed(&error);
    *memory = aligned_alloc(64, bytes);
    if (*memory == NULL)
        return cli_fail(CLI_FAILED, "no memory for a context of %u tokens: %zu bytes", params->n_ctx, bytes);
    if (rs_context_init(*memory, bytes, engine->model, params, context, &error) != RS_OK)
        return cli_call_failed(&error);
    return CLI_OK;
}

/* Reads which heads keep everything, once. */
static cli_exit open_heads(cli_engine *engine) {
    const cli_setup *setup = engine->setup;
    rs_error error;
    if (setup->heads == NULL || engine->full_heads != NULL) return CLI_OK;
    const size_t n = (size_t)engine->info.n_layers * engine->info.n_kv_heads;
    engine->full_heads = cli_allocate(n, sizeof *engine->full_heads);
    const rs_status status = rs_heads_load(engine->model, setup->heads, setup->local_share,
                                           engine->full_heads, &engine->heads, &error);
    if (status == RS_OK) return CLI_OK;
    return cli_fail(CLI_USAGE, "%s%s%s", status == RS_IO ? "" : setup->heads, status == RS_IO ? "" : ": ",
                    error.message);
}

static cli_exit open_gates(cli_engine *engine) {
    const char *path = engine->setup->gates;
    rs_error error;
    if (path == NULL || engine->gates != NULL) return CLI_OK;
    const rs_status status = rs_gates_load(engine->model, path, &engine->gates, &error);
    if (status == RS_OK) return CLI_OK;
    return cli_fail(CLI_USAGE, "%s%s%s", status == RS_IO ? "" : path, status == RS_IO ? "" : ": ",
                    error.message);
}

static cli_exit context_params(const cli_engine *engine, uint32_t n_ctx, rs_context_params *filled) {
    rs_context_params params = {.n_ctx = n_ctx,
                                .n_batch = engine->setup->batch,
                                .policy = engine->setup->policy,
                                .refine = engine->refine,
                                .undo_bytes = engine->undo_bytes};
    rs_policy_params *policy = &params.policy;
    policy->full_heads = engine->full_heads;
    policy->gates = engine->gates;
    if (policy->sinks == CLI_UNSET) policy->sinks = engine->heads.window > 0 ? engine->heads.sinks : 64;
    if (policy->window == CLI_UNSET) policy->window = engine->heads.window > 0 ? engine->heads.window : 256;
    *filled = params;
    return cli_set_budget(engine, engine->setup->budget, filled);
}

cli_exit cli_open_context(cli_engine *engine, uint32_t n_ctx) {
    const uint32_t least = n_ctx > 16 ? n_ctx : 16;
    rs_context_params params;
    cli_exit code = open_heads(engine);
    if (code == CLI_OK) code = open_gates(engine);
    if (code == CLI_OK)
        code = context_params(engine, engine->setup->ctx > 0 ? engine->setup->ctx : least, &params);
    return code == CLI_OK ? make_context(engine, &params, &engine->context, &engine->memory) : code;
}

cli_exit cli_open_twin(const cli_engine *engine, rs_context **context, void **memory) {
    rs_context_info info;
    rs_context_get_info(engine->context, &info);
    rs_context_params params;
    const cli_exit code = context_params(engine, info.n_ctx, &params);
    return code == CLI_OK ? make_context(engine, &params, context, memory) : code;
}

const char *cli_linear_name(rs_linear linear) {
    return linear == RS_LINEAR_NATIVE ? "native" : linear == RS_LINEAR_XNNPACK ? "xnnpack" : "auto";
}

void cli_close(cli_engine *engine) {
    if (engine->context != NULL) rs_context_wipe(engine->context);
    free(engine->memory);
    free(engine->full_heads);
    rs_gates_free(engine->gates);
    cli_tokens_free(&engine->filler);
    for (size_t i = 0; i < engine->n_erasers; i++) rs_adapter_free(engine->erasers[i]);
    rs_model_free(engine->model);
    *engine = (cli_engine){0};
}

static bool on_progress(void *user, uint32_t done, uint32_t total) {
    cli_progress_update(user, done, total);
    return true;
}

cli_exit cli_read(cli_engine *engine, const int32_t *ids, size_t count) {
    if (count == 0) return CLI_OK;
    cli_progress progress;
    cli_progress_begin(&progress, "reading", "tokens");
    rs_context_set_progress(engine->context, on_progress, &progress);
    const rs_status status = rs_decode(engine->context, ids, count);
    rs_context_set_progress(engine->context, NULL, NULL);
    cli_progress_end(&progress);
    return status == RS_OK ? CLI_OK : cli_context_failed(engine, status);
}

cli_exit cli_refine(cli_engine *engine, uint32_t *n_tokens) {
    cli_progress progress;
    rs_context_info info;
    rs_context_get_info(engine->context, &info);
    *n_tokens = info.n_cheap;
    cli_progress_begin(&progress, "refining", "tokens");
    rs_context_set_progress(engine->context, on_progress, &progress);
    const rs_status status = rs_refine(engine->context, 0, 0, NULL);
    rs_context_set_progress(engine->context, NULL, NULL);
    cli_progress_end(&progress);
    return status == RS_OK ? CLI_OK : cli_context_failed(engine, status);
}

cli_exit cli_view_open(const cli_engine *engine, cli_view *view) {
    rs_context_info info;
    rs_context_get_info(engine->context, &info);
    *view = (cli_view){cli_allocate(info.n_tokens, sizeof *view->ids),
                       cli_allocate(info.n_tokens, sizeof *view->ids), 0};
    if (info.n_tokens == 0) return CLI_OK;
    size_t count;
    const rs_status status = rs_context_tokens(engine->context, 0, info.next_position, view->ids,
                                               view->positions, info.n_tokens, &count);
    if (status != RS_OK) return cli_context_failed(engine, status);
    for (size_t i = 0; i < count; i++) {
        if (view->ids[i] == RS_TOKEN_GONE) continue;
        view->ids[view->count] = view->ids[i];
        view->positions[view->count++] = view->positions[i];
    }
    return CLI_OK;
}

void cli_view_close(cli_view *view) {
    free(view->ids);
    free(view->positions);
}

cli_exit cli_reread_last(cli_engine *engine) {
    rs_context_info info;
    rs_context_get_info(engine->context, &info);
    if (info.n_tokens == 0) return cli_fail(CLI_USAGE, "the erase left nothing of the prompt");

    int32_t *ids = cli_allocate(info.n_tokens, sizeof *ids),
            *positions = cli_allocate(info.n_tokens, sizeof *ids);
    size_t count;
    rs_status status =
        rs_context_tokens(engine->context, 0, info.next_position, ids, positions, info.n_tokens, &count);
    if (status == RS_OK && ids[count - 1] == RS_TOKEN_GONE) {
        free(ids);
        free(positions);
        return cli_fail(CLI_USAGE, "the prompt ends with what was erased: nothing is left to go on from");
    }
    if (status == RS_OK) status = rs_truncate(engine->context, positions[count - 1]);
    if (status == RS_OK) status = rs_decode(engine->context, &ids[count - 1], 1);
    free(ids);
    free(positions);
    return status == RS_OK ? CLI_OK : cli_context_failed(engine, status);
}

/* ------------------------------------------------------------------------------------------- tokens -- */

static void reserve(cli_tokens *tokens, size_t more) {
    if (tokens->count + more <= tokens->capacity) return;
    tokens->capacity =
        tokens->count + more > tokens->capacity * 2 ? tokens->count + more : tokens->capacity * 2;
    tokens->ids = cli_reallocate(tokens->ids, tokens->capacity, sizeof *tokens->ids);
}

void cli_tokens_add(cli_tokens *tokens, const int32_t *ids, size_t count) {
    reserve(tokens, count);
    if (count > 0) memcpy(tokens->ids + tokens->count, ids, count * sizeof *ids);
    tokens->count += count;
}

void cli_tokens_free(cli_tokens *tokens) {
    free(tokens->ids);
    *tokens = (cli_tokens){0};
}

cli_exit cli_add_text(const cli_engine *engine, cli_tokens *tokens, const char *text, size_t bytes,
                      uint32_t flags) {
    rs_error error;
    size_t count;
    const rs_status status = rs_tokenize(engine->model, text, bytes, flags, NULL, 0, &count, &error);
    if (status == RS_UNSUPPORTED) return cli_fail(CLI_USAGE, "%s", error.message); /* a byte of the text */
    if (status != RS_OK) return cli_call_failed(&error);
    reserve(tokens, count);
    if (rs_tokenize(engine->model, text, bytes, flags, tokens->ids + tokens->count, count, &count, &error) !=
        RS_OK)
        return cli_call_failed(&error);
    tokens->count += count;
    return CLI_OK;
}

cli_exit cli_add_part(const cli_engine *engine, cli_tokens *tokens, rs_chat_part part, rs_role role) {
    rs_error error;
    size_t count;
    const rs_status status = rs_chat_tokens(engine->model, part, role, NULL, 0, &count, &error);
    if (status == RS_UNSUPPORTED)
        return cli_fail(CLI_FAILED, "%s; \"rasure run --raw\" does without", error.message);
    if (status != RS_OK) return cli_call_failed(&error);
    reserve(tokens, count);
    if (rs_chat_tokens(engine->model, part, role, tokens->ids + tokens->count, count, &count, &error) !=
        RS_OK)
        return cli_call_failed(&error);
    tokens->count += count;
    return CLI_OK;
}

cli_exit cli_add_opening(const cli_engine *engine, cli_tokens *tokens, const char *system, cli_text *lead,
                         size_t *text_begin, size_t *text_end) {
    cli_exit code = cli_add_part(engine, tokens, RS_CHAT_BEGIN, RS_ROLE_SYSTEM);
    *text_begin = *text_end = tokens->count;
    if (system == NULL) system = engine->info.default_system;
    if (code != CLI_OK || *system == '\0') return code;

    size_t count;
    if (rs_chat_tokens(engine->model, RS_CHAT_OPEN, RS_ROLE_SYSTEM, NULL, 0, &count, NULL) ==
        RS_UNSUPPORTED) {
        cli_text_add(lead, system, strlen(system));
        cli_text_add(lead, "\n\n", 2);
        return CLI_OK;
    }
    code = cli_add_part(engine, tokens, RS_CHAT_OPEN, RS_ROLE_SYSTEM);
    *text_begin = tokens->count;
    if (code == CLI_OK) code = cli_add_text(engine, tokens, system, strlen(system), RS_TOKENIZE_CONTINUES);
    *text_end = tokens->count;
    if (code == CLI_OK) code = cli_add_part(engine, tokens, RS_CHAT_CLOSE, RS_ROLE_SYSTEM);
    return code;
}

cli_exit cli_detokenize(const cli_engine *engine, const int32_t *ids, size_t count, bool special,
                        cli_text *text) {
    rs_error error;
    size_t bytes;
    if (count == 0) return CLI_OK;
    if (rs_detokenize(engine->model, ids, count, special, NULL, 0, &bytes, &error) != RS_OK)
        return cli_call_failed(&error);
    cli_text_reserve(text, bytes);
    if (rs_detokenize(engine->model, ids, count, special, text->data + text->bytes, bytes, &bytes, &error) !=
        RS_OK)
        return cli_call_failed(&error);
    text->bytes += bytes;
    text->data[text->bytes] = '\0';
    return CLI_OK;
}

/* The smallest n such that the first n tokens stand for at least `bytes` bytes. */
static cli_exit tokens_of_bytes(const cli_engine *engine, const int32_t *ids, size_t count, size_t bytes,
                                size_t *n) {
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        size_t held = 0;
        rs_error error;
        if (middle > 0 && rs_detokenize(engine->model, ids, middle, true, NULL, 0, &held, &error) != RS_OK)
            return cli_call_failed(&error);
        if (held >= bytes) high = middle;
        else low = middle + 1;
    }
    *n = low;
    return CLI_OK;
}

cli_exit cli_cover(const cli_engine *engine, const int32_t *ids, size_t count, size_t begin, size_t end,
                   size_t *first, size_t *last) {
    cli_exit code = tokens_of_bytes(engine, ids, count, begin + 1, first);
    if (code == CLI_OK) code = tokens_of_bytes(engine, ids, count, end, last);
    if (code == CLI_OK) *first -= 1; /* it is the last of those that byte `begin` needs */
    return code;
}
