/* rasure run: one prompt, one answer, and if asked a part of the prompt erased in between. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "answer.h"
#include "engine.h"
#include "method.h"
#include "policy.h"
#include "spans.h"
#include "terminal.h"

typedef struct job {
    bool raw, special, stats;
    const char *prompt, *file, *system, *method_name;
    cli_list erase_texts;
    cli_method method;
    cli_answer answer;
    cli_text text;     /* the prompt */
    cli_tokens body;   /* tokens up to the end of the prompt's text */
    cli_tokens tail;   /* what the template puts behind it */
    size_t text_begin; /* where in `body` the text's own tokens begin */
    rs_span *spans;    /* of `body`, to be erased */
    size_t n_spans;
    cli_list erasers;
} job;

/* Turns the prompt into tokens: as it is, or as the user's turn of a chat. */
static cli_exit build(const cli_engine *engine, job *j) {
    const uint32_t special = j->special ? RS_TOKENIZE_SPECIAL : 0U;
    if (j->raw) {
        const cli_exit code = cli_add_text(engine, &j->body, "", 0, RS_TOKENIZE_BOS);
        j->text_begin = j->body.count;
        return code == CLI_OK ? cli_add_text(engine, &j->body, j->text.data, j->text.bytes, special) : code;
    }
    cli_text lead = {0};
    size_t system_begin, system_end;
    cli_exit code = cli_add_opening(engine, &j->body, j->system, &lead, &system_begin, &system_end);
    if (code == CLI_OK) code = cli_add_part(engine, &j->body, RS_CHAT_OPEN, RS_ROLE_USER);
    if (code == CLI_OK && lead.bytes > 0)
        code = cli_add_text(engine, &j->body, lead.data, lead.bytes, RS_TOKENIZE_CONTINUES);
    j->text_begin = j->body.count;
    if (code == CLI_OK)
        code = cli_add_text(engine, &j->body, j->text.data, j->text.bytes, special | RS_TOKENIZE_CONTINUES);
    if (code == CLI_OK) code = cli_add_part(engine, &j->tail, RS_CHAT_CLOSE, RS_ROLE_USER);
    if (code == CLI_OK) code = cli_add_part(engine, &j->tail, RS_CHAT_OPEN, RS_ROLE_ASSISTANT);
    cli_text_free(&lead);
    return code;
}

/* Marks the tokens of the body that hold the text, wherever the prompt has it. */
static cli_exit mark(const cli_engine *engine, const job *j, const char *text, bool *marked) {
    const size_t bytes = strlen(text);
    const char *found = cli_find(j->text.data, j->text.bytes, text, bytes);
    if (found == NULL) return cli_fail(CLI_USAGE, "--erase-text: the prompt has no \"%.60s\"", text);
    while (found != NULL) {
        const size_t begin = (size_t)(found - j->text.data), end = begin + bytes;
        size_t first, last;
        const cli_exit code = cli_cover(engine, j->body.ids + j->text_begin, j->body.count - j->text_begin,
                                        begin, end, &first, &last);
        if (code != CLI_OK) return code;
        for (size_t i = first; i < last; i++) marked[j->text_begin + i] = true;
        found = cli_find(j->text.data + end, j->text.bytes - end, text, bytes);
    }
    return CLI_OK;
}

/* The spans of the texts to erase. The cache will be fresh, so that a token's index is its position. */
static cli_exit find_spans(const cli_engine *engine, job *j) {
    const size_t n_tokens = j->body.count;
    bool *marked = cli_allocate(n_tokens, sizeof *marked);
    cli_exit code = CLI_OK;
    memset(marked, 0, n_tokens * sizeof *marked);
    for (size_t i = 0; i < j->erase_texts.count && code == CLI_OK; i++)
        code = mark(engine, j, j->erase_texts.items[i], marked);
    j->spans = cli_allocate(n_tokens, sizeof *j->spans);
    j->n_spans = cli_marked_spans(marked, NULL, n_tokens, j->spans);
    free(marked);
    return code;
}

static cli_exit erase(cli_engine *engine, const job *j, rs_erase_report *report) {
    const rs_status status = rs_erase(engine->context, j->spans, j->n_spans, &j->method.params, report);
    return status == RS_OK ? CLI_OK : cli_context_failed(engine, status);
}

static cli_exit answer(cli_engine *engine, job *j) {
    const bool erases = j->n_spans > 0;
    const double started = cli_now_ms();
    rs_erase_report erased = {0};
    if (!erases) cli_tokens_add(&j->body, j->tail.ids, j->tail.count);
    cli_exit code = cli_read(engine, j->body.ids, j->body.count);
    if (code == CLI_OK && erases) code = erase(engine, j, &erased);
    if (code == CLI_OK && erases)
        code = j->tail.count > 0 ? cli_read(engine, j->tail.ids, j->tail.count) : cli_reread_last(engine);
    const double read_ms = cli_now_ms() - started - erased.ms;
    rs_generate_report report = {0};
    if (code == CLI_OK) code = cli_answer_stream(engine, &j->answer, NULL, &report);
    if (code != CLI_OK) return code;
    putchar('\n');
    fflush(stdout);
    if (j->stats) {
        cli_print_rate("read", j->body.count + (erases ? j->tail.count : 0), read_ms);
        if (erases) cli_print_erase(stderr, &erased);
        cli_print_rate("wrote", report.n_tokens, report.ms);
        cli_print_policy(stderr, engine);
        cli_print_footprint(stderr, engine->context);
    }
    return CLI_OK;
}

static cli_exit read_prompt(job *j) {
    if (j->prompt != NULL) {
        cli_text_add(&j->text, j->prompt, strlen(j->prompt));
    } else {
        if (j->file == NULL && isatty(STDIN_FILENO)) fputs("reading the prompt; Ctrl-D ends it\n", stderr);
        const cli_exit code = cli_text_read(&j->text, j->file);
        if (code != CLI_OK) return code;
    }
    return j->text.bytes > 0 ? CLI_OK : cli_fail(CLI_USAGE, "run: the prompt is empty");
}

/* Tokens of the default context, or more where the prompt needs them, and as much of the answer as that
 * holds. */
static uint32_t room(const job *j) {
    const uint32_t usual = rs_context_default_params().n_ctx, most = j->answer.params.max_tokens;
    const size_t needed = j->body.count + j->tail.count + (most > 0 && most < usual ? most : usual);
    return needed <= usual ? usual : needed < UINT32_MAX ? (uint32_t)needed : UINT32_MAX;
}

static cli_exit run(const cli_command *command, int argc, char **argv) {
    enum { N_OWN = 9 };
    job j = {0};
    const cli_option own[N_OWN] = {
        {'p', "prompt", "TEXT", "the prompt", .string = &j.prompt},
        {'f', "file", "PATH", "the prompt from a file (else from stdin)", .string = &j.file},
        {0, "system", "TEXT", "system text (default: what the model's own template says; \"\": none)",
         .string = &j.system},
        {0, "raw", NULL, "continue the prompt as it is, without a chat template", .flag = &j.raw},
        {0, "special", NULL, "\"<|im_end|>\" in the prompt becomes that token", .flag = &j.special},
        {0, "erase-text", "TEXT",
         "before answering, erase the tokens that hold this text, wherever the prompt has it;\nup to 16 of "
         "them",
         .list = &j.erase_texts},
        {0, "method", "METHOD", "how (default exact, with an eraser learned):\n" CLI_METHODS,
         .string = &j.method_name},
        {0, "eraser", "PATH", "an adapter for steer, bridge and learned", .list = &j.erasers},
        {0, "stats", NULL, "tokens, times, rates and the KV footprint on stderr", .flag = &j.stats},
    };
    cli_option options[N_OWN + CLI_N_ANSWER_OPTIONS];
    memcpy(options, own, sizeof own);
    cli_answer_options(&j.answer, options + N_OWN);

    cli_setup setup;
    cli_exit code;
    int first;
    if (!cli_parse(command, options, N_OWN + CLI_N_ANSWER_OPTIONS, &setup, argc, argv, &first, &code))
        return code;
    if (first < argc) return cli_unexpected(command, argv[first]);
    if (j.prompt != NULL && j.file != NULL)
        return cli_fail(CLI_USAGE, "run: --prompt and --file: one of them");
    if (j.raw && j.system != NULL)
        return cli_fail(CLI_USAGE, "run: --system needs the chat template that --raw leaves out");
    const bool erases = j.erase_texts.count > 0;
    if (j.method_name != NULL && !erases) return cli_fail(CLI_USAGE, "run: --method without --erase-text");
    if (j.erasers.count > 0 && !erases) return cli_fail(CLI_USAGE, "run: --eraser without --erase-text");
    for (size_t i = 0; i < j.erase_texts.count; i++)
        if (*j.erase_texts.items[i] == '\0') return cli_fail(CLI_USAGE, "run: --erase-text is empty");
    const char *method = j.method_name != NULL ? j.method_name : j.erasers.count > 0 ? "learned" : "exact";
    code = cli_parse_method(method, strlen(method), &j.method);
    if (code == CLI_OK && j.method.params.method == RS_ERASE_PROGRESSIVE)
        code = cli_fail(CLI_USAGE, "run: progressive becomes exact in idle time: \"rasure chat --refine\"");
    if (code == CLI_OK && j.erasers.count > 0 && !cli_takes_eraser(&j.method))
        code = cli_fail(CLI_USAGE, "run: --eraser is of no use with --method %s", method);
    if (code == CLI_OK) code = cli_answer_check(&j.answer);
    if (code == CLI_OK) code = read_prompt(&j);

    cli_engine engine = {0};
    if (code == CLI_OK) code = cli_open_model(&engine, &setup);
    if (code == CLI_OK) code = cli_open_erasers(&engine, &j.erasers);
    if (code == CLI_OK) code = cli_bind_method(&engine, &j.method);
    if (code == CLI_OK) code = build(&engine, &j);
    if (code == CLI_OK && erases) code = find_spans(&engine, &j);
    if (code == CLI_OK) code = cli_open_context(&engine, room(&j));
    if (code == CLI_OK) code = answer(&engine, &j);
    free(j.spans);
    cli_text_free(&j.text);
    cli_tokens_free(&j.body);
    cli_tokens_free(&j.tail);
    cli_close(&engine);
    return code;
}

const cli_command cli_command_run = {
    "run",
    "answer one prompt",
    "[options]",
    "Answers the prompt (-p, -f or stdin) and streams the answer to stdout. The prompt is the user's turn "
    "of\n"
    "the model's chat template unless --raw is given. With --erase-text the prompt is read as a whole, "
    "that\n"
    "text is taken back out of the KV cache, and the answer comes from what is left:\n\n"
    "  rasure run -p 'Ann lives in Rome. Ann lives in Oslo. Where does Ann live?' \\\n"
    "      --erase-text ' Ann lives in Oslo.' --method drop --stats",
    run,
};
