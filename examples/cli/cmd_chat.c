/* rasure chat: a conversation whose turns and sentences can be erased one by one. The history lives in the KV
 * cache only. */
#define _POSIX_C_SOURCE 200809L

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "answer.h"
#include "engine.h"
#include "method.h"
#include "policy.h"
#include "session.h"
#include "terminal.h"

typedef struct chat {
    cli_engine engine;
    cli_answer answer;
    const char *system;
    cli_method method; /* of an /erase that names none */
    cli_session now;
    cli_spans before; /* the last erase, for /undo */
    bool answer_was_open;
    bool done;
    uint64_t n_read, n_written;
    double read_ms, write_ms;
    rs_erase_report erased; /* n_spans 0: none yet */
} chat;

enum { MAX_SHOWN_ECHOES = 10 };

/* Set by Ctrl-C while an answer is written: the one thing that a signal handler may touch. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

static size_t cache_count(chat *c) {
    cli_view v;
    (void)cli_view_open(&c->engine, &v);
    cli_view_close(&v);
    return v.count;
}

/* ------------------------------------------------------------------------------------------- spans -- */

/* Where the sentence that begins at `begin` ends: behind a full stop and the like before white space, behind
 * a line end, or with the text. */
static size_t sentence_end(const char *text, size_t bytes, size_t begin) {
    for (size_t i = begin; i + 1 < bytes; i++) {
        if (text[i] == '\n' && text[i + 1] != '\n') return i + 1;
        if (strchr(".!?", text[i]) != NULL && strchr(" \t", text[i + 1]) != NULL) return i + 1;
    }
    return bytes;
}

/* Adds a turn that holds the tokens [begin, end) of the cache, and the sentences of its text, which is the
 * tokens [text_begin, text_end). */
static cli_exit add_turn(chat *c, rs_role role, size_t begin, size_t text_begin, size_t text_end,
                         size_t end) {
    cli_view v;
    cli_text text = {0};
    cli_exit code = cli_view_open(&c->engine, &v);
    const size_t count = text_end - text_begin;
    if (code == CLI_OK) code = cli_detokenize(&c->engine, v.ids + text_begin, count, true, &text);
    cli_spans_add(&c->now.spans, true, role, begin, end);
    for (size_t from = 0, first = 0; code == CLI_OK && from < text.bytes;) {
        const size_t to = sentence_end(text.data, text.bytes, from);
        size_t unused, last = count;
        if (to < text.bytes)
            code = cli_cover(&c->engine, v.ids + text_begin, count, from, to, &unused, &last);
        if (code == CLI_OK && last > first)
            cli_spans_add(&c->now.spans, false, role, text_begin + first, text_begin + last);
        first = last;
        from = to;
    }
    cli_text_free(&text);
    cli_view_close(&v);
    return code;
}

/* The turn that the last answer is in, if it is still there. */
static cli_span *open_turn(chat *c) {
    for (size_t i = c->now.spans.count; c->now.answer_open && i-- > 0;)
        if (c->now.spans.all[i].is_turn)
            return c->now.spans.all[i].role == RS_ROLE_ASSISTANT ? &c->now.spans.all[i] : NULL;
    return NULL;
}

/* ------------------------------------------------------------------------------------ conversation -- */

/* Reads the template's head and the system turn into an empty cache. */
static cli_exit begin(chat *c) {
    cli_tokens head = {0};
    c->now.lead.bytes = 0;
    cli_spans_clear(&c->now.spans);
    c->now.answer_open = false;
    size_t text_begin, text_end;
    cli_exit code = cli_add_opening(&c->engine, &head, c->system, &c->now.lead, &text_begin, &text_end);
    if (code == CLI_OK) code = cli_read(&c->engine, head.ids, head.count);
    if (code == CLI_OK && head.count > 0)
        code = add_turn(c, RS_ROLE_SYSTEM, 0, text_begin, text_end, head.count);
    cli_tokens_free(&head);
    return code;
}

/* Reads what the user said, in one call so that a full cache changes nothing, and answers. */
static cli_exit say(chat *c, const char *text, size_t bytes) {
    cli_tokens tokens = {0};
    cli_exit code = CLI_OK;
    cli_span *const open = open_turn(c);
    const size_t before = cache_count(c);
    if (open != NULL) code = cli_add_part(&c->engine, &tokens, RS_CHAT_CLOSE, RS_ROLE_ASSISTANT);
    const size_t closed = before + tokens.count;
    if (code == CLI_OK) code = cli_add_part(&c->engine, &tokens, RS_CHAT_OPEN, RS_ROLE_USER);
    const size_t text_begin = before + tokens.count;
    cli_text_add(&c->now.lead, text, bytes);
    if (code == CLI_OK)
        code = cli_add_text(&c->engine, &tokens, c->now.lead.data, c->now.lead.bytes, RS_TOKENIZE_CONTINUES);
    const size_t text_end = before + tokens.count;
    if (code == CLI_OK) code = cli_add_part(&c->engine, &tokens, RS_CHAT_CLOSE, RS_ROLE_USER);
    const size_t user_end = before + tokens.count;
    if (code == CLI_OK) code = cli_add_part(&c->engine, &tokens, RS_CHAT_OPEN, RS_ROLE_ASSISTANT);

    const double started = cli_now_ms();
    if (code == CLI_OK) code = cli_read(&c->engine, tokens.ids, tokens.count);
    c->now.lead.bytes -= code == CLI_OK ? c->now.lead.bytes : bytes;
    if (code == CLI_OK) {
        c->n_read += tokens.count;
        c->read_ms += cli_now_ms() - started;
        if (open != NULL) open->end = closed;
        c->now.answer_open = false;
        code = add_turn(c, RS_ROLE_USER, closed, text_begin, text_end, user_end);
    }
    rs_generate_report report = {0};
    const size_t answer_begin = before + tokens.count;
    cli_tokens_free(&tokens);
    if (code != CLI_OK) return code;

    struct sigaction stop = {.sa_handler = on_interrupt}, old;
    interrupted = 0;
    sigaction(SIGINT, &stop, &old);
    code = cli_answer_stream(&c->engine, &c->answer, &interrupted, &report);
    sigaction(SIGINT, &old, NULL);
    puts(interrupted ? " [stopped]" : "");
    c->n_written += report.n_tokens;
    c->write_ms += report.ms;
    const size_t end = cache_count(c);
    const cli_exit listed = add_turn(c, RS_ROLE_ASSISTANT, user_end, answer_begin, end, end);
    c->now.answer_open = true;
    if (report.reason == RS_STOP_FULL)
        cli_fail(CLI_FAILED, "the context is full; /erase something, or /reset");
    return code != CLI_OK ? code : listed;
}

/* ---------------------------------------------------------------------------------------- commands -- */

static void show_help(void) {
    puts("/context                  numbered spans: turns and their sentences, with positions and tokens\n"
         "/erase N[,M...] [METHOD]  erase these spans\n"
         "/erase BEGIN-END [METHOD] erase positions BEGIN to END - 1\n"
         "                          METHOD: exact, drop, shift, adaptive, ...: see \"rasure chat --help\"\n"
         "/echoes N                 which sentences depend on this span, to be erased too (with --refine)\n"
         "/replace N TEXT           say this in place of the sentence N\n"
         "/refine                   make exact what erasing has left cheap (with --refine)\n"
         "/undo                     take the last erase back, and what came after it (with --undo)\n"
         "/stats                    tokens, times, memory\n"
         "/save FILE, /load FILE    keep the conversation\n"
         "/reset                    forget everything\n"
         "/quit                     or the end of the input");
}

static cli_exit show_context(chat *c) {
    static const char *const roles[] = {"system", "user", "assistant"};
    cli_view v;
    cli_exit code = cli_view_open(&c->engine, &v);
    const char *bold = cli_style_of(stdout, CLI_BOLD), *plain = cli_style_of(stdout, CLI_PLAIN);
    for (size_t i = 0; i < c->now.spans.count && code == CLI_OK; i++) {
        const cli_span *s = &c->now.spans.all[i];
        cli_text text = {0};
        code = cli_detokenize(&c->engine, v.ids + s->begin, s->end - s->begin, false, &text);
        printf("%s%4u  %5d-%-5d %5zu tokens  ", s->is_turn ? bold : "", s->number, (int)v.positions[s->begin],
               (int)v.positions[s->end - 1] + 1, s->end - s->begin);
        if (s->is_turn) {
            printf("%s%s\n", roles[s->role], plain);
        } else {
            fputs("  ", stdout);
            cli_print_excerpt(stdout, text.data, text.bytes, 64);
            putchar('\n');
        }
        cli_text_free(&text);
    }
    cli_view_close(&v);
    return code;
}

/* Marks the tokens of "BEGIN-END" (positions) or "N,M" (spans). */
static cli_exit mark(const chat *c, const cli_view *v, const char *text, size_t bytes, bool *marked) {
    char what[256] = "";
    if (bytes < sizeof what) memcpy(what, text, bytes);
    char *dash = strchr(what, '-');
    if (dash != NULL) {
        *dash = '\0';
        uint64_t from, to;
        if (!cli_parse_u64(what, &from) || !cli_parse_u64(dash + 1, &to) || from >= to || v->count == 0 ||
            to > (uint64_t)v->positions[v->count - 1] + 1)
            return cli_fail(CLI_USAGE, "/erase: \"%.*s\" are no positions of this context; see /context",
                            (int)bytes, text);
        for (size_t i = 0; i < v->count; i++)
            marked[i] = (uint64_t)v->positions[i] >= from && (uint64_t)v->positions[i] < to;
        return CLI_OK;
    }
    char *rest = what;
    do {
        char *number = rest, *comma = strchr(rest, ',');
        rest = comma != NULL ? comma + 1 : NULL;
        if (comma != NULL) *comma = '\0';
        const cli_span *found = cli_spans_find(&c->now.spans, number);
        if (found == NULL)
            return cli_fail(CLI_USAGE, "/erase: there is no span \"%s\"; see /context", number);
        for (size_t i = found->begin; i < found->end; i++) marked[i] = true;
    } while (rest != NULL);
    return CLI_OK;
}

/* The sentence that begins at a position; it is there. */
static const cli_span *sentence_at(const chat *c, const cli_view *v, int32_t position) {
    const cli_span *s = c->now.spans.all;
    while (s->is_turn || v->positions[s->begin] != position) s++;
    return s;
}

/* The sentences behind a span, most dependent on it first. */
static cli_exit echoes(chat *c, const char *number) {
    const cli_span *of = cli_spans_find(&c->now.spans, number);
    if (of == NULL) return cli_fail(CLI_USAGE, "/echoes: there is no span \"%s\"; see /context", number);
    cli_view v;
    cli_exit code = cli_view_open(&c->engine, &v);
    rs_echo *found = cli_allocate(c->now.spans.count + 1, sizeof *found);
    size_t n = 0;
    for (size_t i = 0; i < c->now.spans.count && code == CLI_OK; i++) {
        const cli_span *s = &c->now.spans.all[i];
        if (s->is_turn || s->begin < of->end) continue;
        found[n++] = (rs_echo){.span = {v.positions[s->begin], v.positions[s->end - 1] + 1}};
    }
    if (code == CLI_OK && n == 0)
        code = cli_fail(CLI_USAGE, "/echoes: there is no sentence behind %s", number);
    if (code == CLI_OK) {
        const rs_span span = {v.positions[of->begin], v.positions[of->end - 1] + 1};
        const rs_status status = rs_find_echoes(c->engine.context, &span, 1, found, n);
        if (status != RS_OK) code = cli_context_failed(&c->engine, status);
    }
    for (size_t i = 0; i < n && i < MAX_SHOWN_ECHOES && code == CLI_OK; i++) {
        const cli_span *s = sentence_at(c, &v, found[i].span.begin);
        cli_text text = {0};
        code = cli_detokenize(&c->engine, v.ids + s->begin, s->end - s->begin, false, &text);
        printf("%4u  %7.2f nats  ", s->number, (double)found[i].nats);
        cli_print_excerpt(stdout, text.data, text.bytes, 64);
        putchar('\n');
        cli_text_free(&text);
    }
    free(found);
    cli_view_close(&v);
    return code;
}

/* To be called when something has been erased, and the list of spans does not know it yet. */
static void remember_spans(chat *c) {
    cli_spans_copy(&c->before, &c->now.spans);
    c->answer_was_open = c->now.answer_open;
}

static cli_exit erase(chat *c, const char *arguments) {
    const size_t what = strcspn(arguments, " ");
    const char *name = arguments + what + strspn(arguments + what, " ");
    cli_method method = c->method;
    if (what == 0)
        return cli_fail(CLI_USAGE, "/erase: which? \"/erase 3\", \"/erase 3,5 drop\" or \"/erase 10-20\"");
    cli_exit code = *name != '\0' ? cli_parse_method(name, strlen(name), &method) : CLI_OK;
    if (code == CLI_OK) code = cli_bind_method(&c->engine, &method);
    if (code != CLI_OK) return code;

    cli_view v;
    code = cli_view_open(&c->engine, &v);
    bool *marked = cli_allocate(v.count + 1, sizeof *marked);
    rs_span *spans = cli_allocate(v.count + 1, sizeof *spans);
    memset(marked, 0, (v.count + 1) * sizeof *marked);
    if (code == CLI_OK) code = mark(c, &v, arguments, what, marked);
    const size_t n = cli_marked_spans(marked, v.positions, v.count, spans);
    if (code == CLI_OK && n == 0) code = cli_fail(CLI_USAGE, "/erase: no tokens are left there");
    if (code == CLI_OK) {
        const rs_status status = rs_erase(c->engine.context, spans, n, &method.params, &c->erased);
        if (status != RS_OK) code = cli_context_failed(&c->engine, status);
    }
    if (code == CLI_OK) {
        remember_spans(c);
        for (size_t i = v.count; i-- > 0;)
            if (marked[i]) cli_spans_remove_token(&c->now.spans, i);
        if (open_turn(c) == NULL) c->now.answer_open = false;
        cli_print_erase(stdout, &c->erased);
    }
    free(spans);
    free(marked);
    cli_view_close(&v);
    return code;
}

/* `text` with the white space in front that the tokens [begin, end) of the cache have. */
static cli_exit in_place_of(const chat *c, const cli_view *v, const cli_span *old, const char *text,
                            cli_tokens *tokens) {
    cli_text with = {0};
    cli_exit code = cli_detokenize(&c->engine, v->ids + old->begin, old->end - old->begin, false, &with);
    size_t space = 0;
    while (space < with.bytes && strchr(" \n\t", with.data[space]) != NULL) space++;
    with.bytes = space;
    cli_text_add(&with, text, strlen(text));
    if (code == CLI_OK) code = cli_add_text(&c->engine, tokens, with.data, with.bytes, RS_TOKENIZE_CONTINUES);
    cli_text_free(&with);
    return code;
}

static cli_exit replace(chat *c, const char *arguments) {
    const size_t what = strcspn(arguments, " ");
    const char *text = arguments + what + strspn(arguments + what, " ");
    char number[24] = "";
    if (what < sizeof number) memcpy(number, arguments, what);
    if (*text == '\0') return cli_fail(CLI_USAGE, "/replace: what by what? \"/replace 3 The sky is green.\"");
    cli_span *old = cli_spans_find(&c->now.spans, number);
    if (old == NULL || old->is_turn)
        return cli_fail(CLI_USAGE, "/replace: there is no sentence \"%s\"; see /context", number);

    cli_view v;
    cli_tokens tokens = {0};
    cli_method method = c->method;
    if (method.params.method == RS_ERASE_PROGRESSIVE)
        method.params.method = RS_ERASE_ADAPTIVE; /* what it begins with */
    cli_exit code = cli_bind_method(&c->engine, &method);
    const cli_exit viewed = cli_view_open(&c->engine, &v);
    if (code == CLI_OK) code = viewed;
    if (code == CLI_OK) code = in_place_of(c, &v, old, text, &tokens);
    if (code == CLI_OK) {
        const rs_span where = {v.positions[old->begin], v.positions[old->end - 1] + 1};
        const rs_status status =
            rs_replace(c->engine.context, where, tokens.ids, tokens.count, &method.params, &c->erased);
        if (status != RS_OK) code = cli_context_failed(&c->engine, status);
    }
    if (code == CLI_OK) {
        remember_spans(c);
        cli_spans_resize(&c->now.spans, old, tokens.count);
        cli_print_erase(stdout, &c->erased);
    }
    cli_tokens_free(&tokens);
    cli_view_close(&v);
    return code;
}

static cli_exit undo(chat *c) {
    const rs_status status = rs_undo(c->engine.context);
    if (status != RS_OK) return cli_context_failed(&c->engine, status);
    cli_spans_copy(&c->now.spans, &c->before);
    c->now.answer_open = c->answer_was_open;
    c->erased.n_spans = 0;
    puts("undone   the last erase, and what came after it");
    return CLI_OK;
}

static cli_exit save(chat *c, const char *path) {
    if (*path == '\0') return cli_fail(CLI_USAGE, "/save: where? \"/save talk.rasure\"");
    const cli_exit code = cli_session_save(&c->engine, &c->now, path);
    if (code == CLI_OK) printf("saved    %zu tokens\n", cache_count(c));
    return code;
}

static cli_exit load(chat *c, const char *path) {
    if (*path == '\0') return cli_fail(CLI_USAGE, "/load: which file? \"/load talk.rasure\"");
    const cli_exit code = cli_session_load(&c->engine, &c->now, path);
    c->erased.n_spans = 0;
    if (code == CLI_OK) printf("loaded   %zu tokens; /context lists them\n", cache_count(c));
    return code;
}

static cli_exit refine(chat *c) {
    uint32_t n_tokens;
    const double started = cli_now_ms();
    const cli_exit code = cli_refine(&c->engine, &n_tokens);
    if (code == CLI_OK && n_tokens > 0)
        printf("refined  %u tokens in %.0f ms; exact now\n", n_tokens, cli_now_ms() - started);
    if (code == CLI_OK && n_tokens == 0) puts("refined  nothing: all is exact");
    return code;
}

/* Until there is something to read, which may have to wait for so long, or all is exact. A failure is left
 * for /refine to say. */
enum { IDLE_MS = 20 };

static void refine_while_idle(const chat *c) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    uint32_t left = 1;
    while (left > 0 && poll(&input, 1, 0) == 0)
        if (rs_refine(c->engine.context, 0, IDLE_MS, &left) != RS_OK) return;
}

static void show_stats(const chat *c) {
    rs_context_info info;
    rs_context_get_info(c->engine.context, &info);
    printf("context  %u of %u tokens, next position %d\n", info.n_tokens, info.n_ctx,
           (int)info.next_position);
    if (info.n_cheap > 0) printf("cheap    the last %u tokens, since something was erased\n", info.n_cheap);
    printf("memory   %.1f MB in all, %.1f of %.1f MB of KV pages in use\n", (double)info.arena_bytes / 1e6,
           (double)info.kv_bytes / 1e6, (double)info.kv_capacity / 1e6);
    printf("read     %llu tokens in %.0f ms\n", (unsigned long long)c->n_read, c->read_ms);
    printf("wrote    %llu tokens in %.0f ms\n", (unsigned long long)c->n_written, c->write_ms);
    cli_print_policy(stdout, &c->engine);
    cli_print_footprint(stdout, c->engine.context);
    if (c->erased.n_spans > 0) cli_print_erase(stdout, &c->erased);
}

/* One line that begins with '/'. What is wrong with a command is said, and the conversation goes on. */
static cli_exit command_line(chat *c, const char *line) {
    const size_t length = strcspn(line, " ");
    const char *arguments = line + length + strspn(line + length, " ");
    char name[16] = "";
    if (length < sizeof name) memcpy(name, line, length);

    if (strcmp(name, "/help") == 0) show_help();
    else if (strcmp(name, "/context") == 0) return show_context(c);
    else if (strcmp(name, "/erase") == 0) return erase(c, arguments);
    else if (strcmp(name, "/echoes") == 0) return echoes(c, arguments);
    else if (strcmp(name, "/refine") == 0) return refine(c);
    else if (strcmp(name, "/replace") == 0) return replace(c, arguments);
    else if (strcmp(name, "/undo") == 0) return undo(c);
    else if (strcmp(name, "/stats") == 0) show_stats(c);
    else if (strcmp(name, "/save") == 0) return save(c, arguments);
    else if (strcmp(name, "/load") == 0) return load(c, arguments);
    else if (strcmp(name, "/reset") == 0) {
        rs_context_reset(c->engine.context);
        return begin(c);
    } else if (strcmp(name, "/quit") == 0) c->done = true;
    else
        return cli_fail(CLI_USAGE, "\"%.*s\" is no command; /help lists them",
                        (int)(length < 40 ? length : 40), line);
    return CLI_OK;
}

/* Goes on after what failed, unless the context is beyond use. Where no person can react to a failure, the
 * worst one becomes the exit code. */
static cli_exit converse(chat *c) {
    const bool person = isatty(STDIN_FILENO), prompt = person && isatty(STDOUT_FILENO);
    cli_exit worst = CLI_OK;
    char *line = NULL;
    size_t capacity = 0;
    rs_context_info info = {0};
    while (!c->done && !info.poisoned) {
        if (prompt) printf("%s>%s ", cli_style_of(stdout, CLI_CYAN), cli_style_of(stdout, CLI_PLAIN));
        fflush(stdout);
        if (person && c->engine.refine && !info.can_undo) refine_while_idle(c);
        const ssize_t got = getline(&line, &capacity, stdin);
        if (got < 0) break;
        size_t bytes = (size_t)got;
        while (bytes > 0 && strchr(" \t\r\n", line[bytes - 1]) != NULL) line[--bytes] = '\0';
        if (bytes == 0) continue;
        const cli_exit code = line[0] == '/' ? command_line(c, line) : say(c, line, bytes);
        if (code > worst && !person) worst = code;
        rs_context_get_info(c->engine.context, &info);
    }
    free(line);
    if (prompt && !c->done) putchar('\n');
    return info.poisoned ? CLI_FAILED : worst;
}

static cli_exit run(const cli_command *command, int argc, char **argv) {
    enum { N_OWN = 5 };
    chat c = {0};
    const char *method = "exact";
    cli_list erasers = {0};
    bool refines = false;
    uint32_t undo_mb = 0;
    const cli_option own[N_OWN] = {
        {0, "system", "TEXT", "system text (default: what the model's own template says; \"\": none)",
         .string = &c.system},
        {0, "method", "METHOD",
         "how /erase erases when it names no method (default exact):\n" CLI_METHODS "\n"
         "progressive     adaptive at once, and exact while you type (--refine)",
         .string = &method},
        {0, "eraser", "PATH", "an adapter for steer, bridge and learned; may be given twice",
         .list = &erasers},
        {0, "refine", NULL,
         "spare pages, so that what erasing leaves cheap becomes exact while you type;\n"
         "with --undo only by /refine, which makes it final",
         .flag = &refines},
        {0, "undo", "MB", "room to take the last erase back; until the next, what is erased is there still",
         .u32 = &undo_mb, .max = 65536},
    };
    cli_option options[N_OWN + CLI_N_ANSWER_OPTIONS];
    memcpy(options, own, sizeof own);
    cli_answer_options(&c.answer, options + N_OWN);

    cli_setup setup;
    cli_exit code;
    int first;
    if (!cli_parse(command, options, N_OWN + CLI_N_ANSWER_OPTIONS, &setup, argc, argv, &first, &code))
        return code;
    if (first < argc) return cli_unexpected(command, argv[first]);
    code = cli_parse_method(method, strlen(method), &c.method);
    if (code == CLI_OK) code = cli_answer_check(&c.answer);

    if (code == CLI_OK) code = cli_open_model(&c.engine, &setup);
    if (code == CLI_OK) code = cli_open_erasers(&c.engine, &erasers);
    c.engine.refine = refines;
    c.engine.undo_bytes = (size_t)undo_mb << 20;
    if (code == CLI_OK) code = cli_open_context(&c.engine, rs_context_default_params().n_ctx);
    if (code == CLI_OK) code = begin(&c);
    if (code == CLI_OK && isatty(STDIN_FILENO))
        fprintf(stderr, "%s; /help lists the commands\n", c.engine.info.name);
    if (code == CLI_OK) code = converse(&c);
    cli_session_free(&c.now);
    cli_spans_free(&c.before);
    cli_close(&c.engine);
    return code;
}

const cli_command cli_command_chat = {
    "chat",
    "a conversation in which anything can be erased",
    "[options]",
    "Reads lines from stdin and answers each; works at a terminal and in a pipe. The conversation lives in "
    "the\n"
    "KV cache alone. /context lists what is in it, /erase takes parts of it back, /help lists the rest.\n"
    "Ctrl-C stops an answer.",
    run,
};
