/* An assistant's loop: what a tool said is read, used and taken back with all that repeats it; in idle time
 * the context becomes what it would be had the tool never spoken; it is saved, and gone on with elsewhere. */
#include <rasure/rasure.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_CTX = 2048, MAX_TURNS = 64, MAX_ANSWER = 32, MAX_TOKENS = 512 };

/* A turn that loses so much of its likelihood without another is taken back with it. */
#define ENOUGH_NATS 8.0F

typedef struct agent {
    rs_model *model;
    void *memory;
    rs_context *context;
    rs_span turns[MAX_TURNS]; /* positions; begin == end: taken back */
    size_t n_turns;
} agent;

static void must(rs_status status, const char *message) {
    if (status == RS_OK) return;
    fprintf(stderr, "agent: %s\n", message);
    exit(1);
}

static void must_in(const agent *a, rs_status status) {
    must(status, rs_context_message(a->context));
}

/* A second cache makes idle time useful. Memory comes from wherever the app likes, aligned to 64: on Android
 * below API level 28, where there is no aligned_alloc, from posix_memalign. */
static void open_context(agent *a) {
    rs_context_params params = rs_context_default_params();
    rs_error error;
    size_t bytes;
    params.n_ctx = N_CTX;
    params.refine = true;
    must(rs_context_size(a->model, &params, &bytes, &error), error.message);
    a->memory = aligned_alloc(64, bytes);
    must(a->memory == NULL ? RS_NO_MEMORY : RS_OK, "no memory");
    must(rs_context_init(a->memory, bytes, a->model, &params, &a->context, &error), error.message);
}

static void close_context(agent *a) {
    rs_context_wipe(a->context);
    free(a->memory);
}

static int32_t position(const agent *a) {
    rs_context_info info;
    must_in(a, rs_context_get_info(a->context, &info));
    return info.next_position;
}

/* ------------------------------------------------------------------------------------------ turns -- */

static void read_text(agent *a, const char *text) {
    int32_t tokens[MAX_TOKENS];
    size_t count;
    rs_error error;
    must(rs_tokenize(a->model, text, strlen(text), RS_TOKENIZE_CONTINUES, tokens, MAX_TOKENS, &count, &error),
         error.message);
    must_in(a, rs_decode(a->context, tokens, count));
}

/* The template's own tokens: text that is tokenized by itself can never be one of them. */
static void read_part(agent *a, rs_chat_part part, rs_role role) {
    int32_t tokens[MAX_TOKENS];
    size_t count;
    rs_error error;
    must(rs_chat_tokens(a->model, part, role, tokens, MAX_TOKENS, &count, &error), error.message);
    if (count > 0) must_in(a, rs_decode(a->context, tokens, count));
}

static size_t note_turn(agent *a, int32_t begin) {
    must(a->n_turns == MAX_TURNS ? RS_NO_SPACE : RS_OK, "too many turns");
    a->turns[a->n_turns] = (rs_span){begin, position(a)};
    return a->n_turns++;
}

static size_t hear(agent *a, rs_role role, const char *text) {
    const int32_t begin = position(a);
    read_part(a, RS_CHAT_OPEN, role);
    read_text(a, text);
    read_part(a, RS_CHAT_CLOSE, role);
    return note_turn(a, begin);
}

static size_t ask(agent *a, const char *question) {
    puts(question);
    return hear(a, RS_ROLE_USER, question);
}

static bool print(void *user, const char *text, size_t bytes) {
    return fwrite(text, 1, bytes, user) == bytes;
}

static size_t answer(agent *a) {
    rs_generate_params params = rs_generate_default_params();
    const int32_t begin = position(a);
    params.max_tokens = MAX_ANSWER;
    params.on_text = print;
    params.user = stdout;
    read_part(a, RS_CHAT_OPEN, RS_ROLE_ASSISTANT);
    fputs("  ", stdout);
    must_in(a, rs_generate(a->context, &params, NULL));
    putchar('\n');
    read_part(a, RS_CHAT_CLOSE, RS_ROLE_ASSISTANT);
    return note_turn(a, begin);
}

/* --------------------------------------------------------------------------------------- forgetting -- */

/* Marks the turns behind the first marked one that are much likelier because of those that are marked.
 * Returns how many more are. */
static size_t mark_echoes(const agent *a, size_t first, bool *marked) {
    rs_span spans[MAX_TURNS];
    rs_echo echoes[MAX_TURNS];
    size_t n_spans = 0, n = 0, more = 0;
    for (size_t t = first; t < a->n_turns; t++) {
        if (marked[t]) spans[n_spans++] = a->turns[t];
        else if (a->turns[t].begin < a->turns[t].end) echoes[n++].span = a->turns[t];
    }
    if (n == 0) return 0;
    must_in(a, rs_find_echoes(a->context, spans, n_spans, echoes, n));
    for (size_t t = first; t < a->n_turns; t++) {
        if (marked[t] || a->turns[t].begin == a->turns[t].end) continue;
        for (size_t e = 0; e < n && echoes[e].nats >= ENOUGH_NATS; e++) {
            if (echoes[e].span.begin != a->turns[t].begin) continue;
            marked[t] = true;
            more++;
        }
    }
    return more;
}

/* Takes a turn back with all that repeats it, which would give it away as well: what repeats a repetition
 * shows once that is among the spans. All go in one call, so that what is encoded again sees none of them,
 * and the turns that are left move up. An app that has a person at hand lets the person choose. */
static void forget(agent *a, size_t turn) {
    const rs_erase_params params = {.method = RS_ERASE_PROGRESSIVE};
    bool marked[MAX_TURNS] = {false};
    rs_span spans[MAX_TURNS];
    rs_erase_report report;
    marked[turn] = true;
    while (mark_echoes(a, turn, marked) > 0) continue;

    size_t n = 0;
    int32_t gone = 0;
    for (size_t t = turn; t < a->n_turns; t++)
        if (marked[t]) spans[n++] = a->turns[t];
    must_in(a, rs_erase(a->context, spans, n, &params, &report));
    for (size_t t = turn; t < a->n_turns; t++) {
        const int32_t length = a->turns[t].end - a->turns[t].begin;
        a->turns[t].begin -= gone;
        if (marked[t]) gone += length;
        a->turns[t].end -= gone;
    }
    printf("(%zu turns of %u tokens forgotten, %u tokens encoded again, %.1f ms)\n", n, report.n_erased,
           report.n_recomputed, report.ms);
}

/* To be called while nobody asks anything, for some ten milliseconds at a time: what takes longer keeps
 * whoever asks meanwhile waiting, what is shorter reads no more than the fewest tokens that are worth a pass.
 */
static bool idle(agent *a) {
    uint32_t left;
    must_in(a, rs_refine(a->context, 0, 20, &left));
    return left > 0;
}

/* ------------------------------------------------------------------------------------------- saving -- */

static bool write_part(void *user, const void *data, size_t bytes) {
    return fwrite(data, 1, bytes, user) == bytes;
}

/* Nothing that was forgotten is in the file. */
static void save(const agent *a, FILE *file) {
    must_in(a, rs_context_save(a->context, write_part, file));
    must(fflush(file) == 0 ? RS_OK : RS_IO, "the file cannot be written");
}

static void load(agent *a, FILE *file) {
    const long bytes = ftell(file);
    void *data = bytes > 0 ? malloc((size_t)bytes) : NULL;
    rewind(file);
    must(data != NULL && fread(data, (size_t)bytes, 1, file) == 1 ? RS_OK : RS_IO, "the file cannot be read");
    must_in(a, rs_context_load(a->context, data, (size_t)bytes));
    free(data);
}

/* --------------------------------------------------------------------------------------------- main -- */

int main(int argc, char **argv) {
    agent a = {0};
    rs_error error;
    must(rs_model_load(argc > 1 ? argv[1] : "model.gguf", NULL, &a.model, &error), error.message);
    open_context(&a);
    read_part(&a, RS_CHAT_BEGIN, RS_ROLE_SYSTEM);
    hear(&a, RS_ROLE_SYSTEM, "You are the assistant of an office. You answer in one short sentence.");
    must_in(&a, rs_context_set_head(a.context, position(&a))); /* nothing below it is erased by mistake */

    ask(&a, "What do I have to do at ten, and what is the code of the door?");
    const size_t tool =
        hear(&a, RS_ROLE_USER, "<tool_response>10:00 dentist. The code of the door is 9922.</tool_response>");
    answer(&a);
    ask(&a, "What is a haiku?");
    answer(&a);

    puts("(the tool's answer is taken back)");
    forget(&a, tool);
    const size_t asked = ask(&a, "What is the code of the door?");
    answer(&a);
    puts("(and so is the question)");
    forget(&a, asked);

    unsigned steps = 1;
    while (idle(&a)) steps++;
    printf("(exact after %u steps of idle time; saved, and gone on with in another context)\n", steps);
    FILE *file = tmpfile();
    must(file != NULL ? RS_OK : RS_IO, "no temporary file");
    save(&a, file);
    close_context(&a);
    open_context(&a);
    load(&a, file);
    fclose(file);
    ask(&a, "What is the capital of France?");
    answer(&a);

    close_context(&a);
    rs_model_free(a.model);
    return 0;
}
