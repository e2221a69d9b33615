/* rasure info: what a model is, and what every byte of a context is for. */
#include <stdio.h>

#include "engine.h"
#include "json.h"
#include "policy.h"
#include "terminal.h"

enum { MAX_ITEMS = 64 };

typedef struct facts {
    rs_model_info model;
    rs_context_info context;
    rs_memory_item items[MAX_ITEMS];
    size_t n_items;
} facts;

static void print_text(const char *path, const cli_engine *engine, const facts *f) {
    const rs_model_info *m = &f->model;
    printf("%smodel%s            %s\n", cli_style_of(stdout, CLI_BOLD), cli_style_of(stdout, CLI_PLAIN),
           *m->name != '\0' ? m->name : "(unnamed)");
    printf("file             %s, %.1f MB\n", path, (double)m->file_bytes / 1e6);
    printf("architecture     %s, %.1f million parameters\n", m->architecture, (double)m->n_params / 1e6);
    printf("layers           %u of width %u, feed-forward %u\n", m->n_layers, m->n_embd, m->n_ff);
    printf("heads            %u query, %u key/value, of %u\n", m->n_heads, m->n_kv_heads, m->head_dim);
    printf("vocabulary       %u tokens; BOS %d, end %d\n", m->n_vocab, m->bos, m->eos);
    printf("trained context  %u tokens", m->n_ctx_train);
    if (m->sliding_window > 0) printf(", sliding layers see %u", m->sliding_window);
    printf("\nchat format      %s\n", m->chat_format_name);
    printf("runs on          %s, %s linear layers, %u thread%s", rs_isa_name(m->isa),
           cli_linear_name(m->linear), m->threads, m->threads == 1 ? "" : "s");
    if (m->packed_bytes > 0) printf(", %.1f MB of packed weights", (double)m->packed_bytes / 1e6);

    const rs_context_info *c = &f->context;
    printf("\n\n%scontext%s          %u tokens, read in chunks of %u: %zu bytes\n\n",
           cli_style_of(stdout, CLI_BOLD), cli_style_of(stdout, CLI_PLAIN), c->n_ctx, c->n_batch,
           c->arena_bytes);
    size_t sum = 0;
    for (size_t i = 0; i < f->n_items; i++) {
        sum += f->items[i].bytes;
        printf("  %-36s %14zu  %5.1f %%\n", f->items[i].name, f->items[i].bytes,
               100.0 * (double)f->items[i].bytes / (double)c->arena_bytes);
    }
    printf("  %-36s %14zu  %5.1f %%\n", "sum", sum, 100.0 * (double)sum / (double)c->arena_bytes);
    putchar('\n');
    cli_print_policy(stdout, engine);
}

static void print_json(const char *path, const cli_engine *engine, const facts *f) {
    const rs_model_info *m = &f->model;
    json_t *model = json_object();
    cli_json_set_text(model, "path", path);
    cli_json_set_text(model, "name", m->name);
    cli_json_set_text(model, "architecture", m->architecture);
    cli_json_set_int(model, "file_bytes", m->file_bytes);
    cli_json_set_int(model, "packed_bytes", m->packed_bytes);
    cli_json_set_int(model, "n_params", m->n_params);
    cli_json_set_int(model, "n_layers", m->n_layers);
    cli_json_set_int(model, "n_embd", m->n_embd);
    cli_json_set_int(model, "n_ff", m->n_ff);
    cli_json_set_int(model, "n_heads", m->n_heads);
    cli_json_set_int(model, "n_kv_heads", m->n_kv_heads);
    cli_json_set_int(model, "head_dim", m->head_dim);
    cli_json_set_int(model, "n_vocab", m->n_vocab);
    cli_json_set_int(model, "n_ctx_train", m->n_ctx_train);
    cli_json_set_int(model, "sliding_window", m->sliding_window);
    json_object_set_new(model, "bos", json_integer(m->bos));
    json_object_set_new(model, "eos", json_integer(m->eos));
    cli_json_set_text(model, "chat_format", m->chat_format_name);
    cli_json_set_text(model, "isa", rs_isa_name(m->isa));
    cli_json_set_text(model, "linear", cli_linear_name(m->linear));
    cli_json_set_int(model, "threads", m->threads);

    json_t *items = json_array();
    for (size_t i = 0; i < f->n_items; i++) {
        json_t *item = json_object();
        cli_json_set_text(item, "name", f->items[i].name);
        cli_json_set_int(item, "bytes", f->items[i].bytes);
        json_array_append_new(items, item);
    }
    json_t *context = json_object();
    cli_json_set_int(context, "n_ctx", f->context.n_ctx);
    cli_json_set_int(context, "n_batch", f->context.n_batch);
    cli_json_set_int(context, "arena_bytes", f->context.arena_bytes);
    cli_json_set_int(context, "kv_capacity", f->context.kv_capacity);
    json_object_set_new(context, "policy", cli_policy_json(engine));
    json_object_set_new(context, "memory", items);

    json_t *root = json_object();
    json_object_set_new(root, "model", model);
    json_object_set_new(root, "context", context);
    cli_json_print(stdout, root, 2);
}

static cli_exit run(const cli_command *command, int argc, char **argv) {
    bool json = false;
    const cli_option options[] = {{0, "json", NULL, "one JSON object", .flag = &json}};
    cli_setup setup;
    cli_exit code;
    int first;
    if (!cli_parse(command, options, 1, &setup, argc, argv, &first, &code)) return code;
    if (first < argc) return cli_unexpected(command, argv[first]);

    cli_engine engine;
    facts f = {0};
    code = cli_open_model(&engine, &setup);
    if (code == CLI_OK) code = cli_open_context(&engine, rs_context_default_params().n_ctx);
    if (code == CLI_OK) {
        f.model = engine.info;
        rs_status status = rs_context_get_info(engine.context, &f.context);
        if (status == RS_OK) status = rs_context_memory(engine.context, f.items, MAX_ITEMS, &f.n_items);
        if (status != RS_OK) code = cli_context_failed(&engine, status);
    }
    if (code == CLI_OK) (json ? print_json : print_text)(setup.model, &engine, &f);
    cli_close(&engine);
    return code;
}

const cli_command cli_command_info = {
    "info",
    "facts of a model, and what every byte of a context is for",
    "[options]",
    "Prints what the model is and how it runs here, and a table of everything that a context of --ctx "
    "tokens\n"
    "holds in its one block of memory. The items add up to the last byte.",
    run,
};
