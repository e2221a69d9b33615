/*
 * rasure demo: the first thing a new user sees. The model reads a page of notes in which one sentence is
 * wrong, answers from it, has that sentence erased from its KV cache in each of the ways there are, and
 * answers again. Every figure comes from the run, and so does the verdict on every answer.
 */
#include <stdio.h>
#include <string.h>

#include "engine.h"
#include "json.h"
#include "method.h"
#include "terminal.h"

static const char instruction[] = "Read the following text and answer the question.\n\n";

static const char text_before[] =
    "Notes for the visit to the river station, second week of May.\n\n"
    "The station stands on the east bank, an hour by bus from the nearest town. It was built in 1962 to "
    "watch "
    "the water level, and the old brass gauge is still read twice a day, although a small radio has done the "
    "same work since the spring of 2009. The house has four rooms, a kitchen with a gas stove and a workshop "
    "that smells of oil. The path from the bus stop is steep and turns to mud after rain, so boots are a "
    "good "
    "idea.\n\n"
    "The team is small. Anton Weiss repairs the boats and keeps the workshop in order. Maria Keller counts "
    "the "
    "birds; she has done so for eleven years and knows every reed bed by name. Maria Keller lives in Vienna. "
    "Tom "
    "Brandt, the youngest, looks after the computers and cooks on Fridays. They share one car, an old green "
    "van with a loud heater.\n\n"
    "On Monday we take samples at the upper bridge, where the water is fast and cold. On Tuesday we row to "
    "the "
    "islands and look for nests. The herons came early this year, and two pairs of storks have built on the "
    "chimney of the old mill. Nobody should walk on the sandbank before the tenth of June, because the terns "
    "breed there. Please write every count into the blue book at once, with the hour and the weather, and "
    "not "
    "from memory in the evening.\n\n"
    "Some addresses for later, copied from the old list.";
static const char text_wrong[] = " Maria Keller lives in Lisbon.";
static const char text_after[] =
    " The grocer in the village is open until noon and sells bread, batteries and maps. The doctor comes on "
    "Wednesdays. The ferry runs from six in the morning to nine in the evening, and the ferryman likes to be "
    "paid in coins.\n\n"
    "In the last night there will be a fire on the beach if the wind allows it. Bring warm clothes, a lamp "
    "and "
    "something to read. The generator stops at ten. If the radio is silent for more than an hour, call the "
    "harbour office and ask for the engineer.";
static const char question[] = "In which city does Maria Keller live?";
static const char right_word[] = "Vienna", wrong_word[] = "Lisbon";

enum { MAX_ANSWER = 24, COLUMNS = 100 };

typedef struct way {
    const char *method; /* as --method takes it */
    const char *promise;
} way;

enum { N_WAYS = 6, LEARNED = 3 };
static const way ways[N_WAYS] = {
    {"drop",
     "The sentence's rows are gone from the cache; later tokens still carry what they absorbed from it."},
    {"shift", "As drop, and later tokens move up to close the gap: what other runtimes do."},
    {"repair:16", "As drop, and the tokens right after the gap are read again without the sentence."},
    [LEARNED] = {"bridge+shift",
                 "As shift, and the tokens right after the gap are read again through a trained eraser."},
    {"adaptive", "As shift, and those tokens are read again, and all that repeat what was erased."},
    {"exact", "All that comes after is read again: as if the sentence had never been there."},
};

/* The way that begins cheaply and ends exactly. */
static const char progressive[] = "progressive";

/* What came of one question. */
typedef struct result {
    cli_text answer;
    const char *verdict; /* "right", "wrong" or "neither" */
    double read_ms;      /* for the text */
    double answer_ms;
    rs_erase_report erased;
} result;

typedef struct demo {
    cli_engine engine;
    cli_list erasers; /* without one the learned way is left out */
    cli_tokens text;  /* the template's head, the instruction, the notes */
    rs_span span;     /* the wrong sentence in it */
    cli_tokens ask;   /* the question, up to where the answer begins */
    result before, after[N_WAYS];
    result cheap, refined; /* of the progressive way: before and after refining */
    double refine_ms;
    uint32_t n_refined;
    bool json;
} demo;

/* An answer is right when it has the one word and not the other. */
static const char *verdict(const cli_text *answer) {
    const bool right = cli_find(answer->data, answer->bytes, right_word, strlen(right_word)) != NULL;
    const bool wrong = cli_find(answer->data, answer->bytes, wrong_word, strlen(wrong_word)) != NULL;
    return wrong ? "wrong" : right ? "right" : "neither";
}

static cli_exit build(demo *d) {
    cli_engine *engine = &d->engine;
    cli_text lead = {0};
    size_t system_begin, system_end;
    cli_exit code = cli_add_opening(engine, &d->text, NULL, &lead, &system_begin, &system_end);
    if (code == CLI_OK) code = cli_add_part(engine, &d->text, RS_CHAT_OPEN, RS_ROLE_USER);
    cli_text_add(&lead, instruction, strlen(instruction));
    cli_text_add(&lead, text_before, strlen(text_before));
    if (code == CLI_OK) code = cli_add_text(engine, &d->text, lead.data, lead.bytes, RS_TOKENIZE_CONTINUES);
    d->span.begin = (int32_t)d->text.count;
    if (code == CLI_OK)
        code = cli_add_text(engine, &d->text, text_wrong, strlen(text_wrong), RS_TOKENIZE_CONTINUES);
    d->span.end = (int32_t)d->text.count;
    if (code == CLI_OK)
        code = cli_add_text(engine, &d->text, text_after, strlen(text_after), RS_TOKENIZE_CONTINUES);

    lead.bytes = 0;
    cli_text_add(&lead, "\n\nQuestion: ", 12);
    cli_text_add(&lead, question, strlen(question));
    if (code == CLI_OK) code = cli_add_text(engine, &d->ask, lead.data, lead.bytes, RS_TOKENIZE_CONTINUES);
    if (code == CLI_OK) code = cli_add_part(engine, &d->ask, RS_CHAT_CLOSE, RS_ROLE_USER);
    if (code == CLI_OK) code = cli_add_part(engine, &d->ask, RS_CHAT_OPEN, RS_ROLE_ASSISTANT);
    cli_text_free(&lead);
    return code;
}

static bool collect(void *user, const char *text, size_t bytes) {
    cli_text_add(user, text, bytes);
    return true;
}

static bool is_there(const demo *d, size_t i) {
    return i != LEARNED || d->erasers.count > 0;
}

static cli_exit erase(demo *d, const char *name, rs_erase_report *report) {
    cli_method method;
    cli_exit code = cli_parse_method(name, strlen(name), &method);
    if (code == CLI_OK) code = cli_bind_method(&d->engine, &method);
    if (code != CLI_OK) return code;
    const rs_status status = rs_erase(d->engine.context, &d->span, 1, &method.params, report);
    return status == RS_OK ? CLI_OK : cli_context_failed(&d->engine, status);
}

static cli_exit ask(demo *d, result *r) {
    const double asked = cli_now_ms();
    const cli_exit code = cli_read(&d->engine, d->ask.ids, d->ask.count);
    if (code != CLI_OK) return code;
    rs_generate_params params = rs_generate_default_params();
    params.max_tokens = MAX_ANSWER;
    params.on_text = collect;
    params.user = &r->answer;
    const rs_status status = rs_generate(d->engine.context, &params, NULL);
    if (status != RS_OK) return cli_context_failed(&d->engine, status);
    r->answer_ms = cli_now_ms() - asked;
    r->verdict = verdict(&r->answer);
    return CLI_OK;
}

/* Reads the notes into an empty cache, erases (if `method` is not NULL), asks. */
static cli_exit try_way(demo *d, const char *method, result *r) {
    rs_context_reset(d->engine.context);
    const double started = cli_now_ms();
    cli_exit code = cli_read(&d->engine, d->text.ids, d->text.count);
    r->read_ms = cli_now_ms() - started;
    if (code == CLI_OK && method != NULL) code = erase(d, method, &r->erased);
    return code == CLI_OK ? ask(d, r) : code;
}

/* Takes question and answer back, makes the rest exact, and asks again. */
static cli_exit refine(demo *d) {
    const rs_status status = rs_truncate(d->engine.context, d->cheap.erased.next_position);
    if (status != RS_OK) return cli_context_failed(&d->engine, status);
    const double started = cli_now_ms();
    const cli_exit code = cli_refine(&d->engine, &d->n_refined);
    d->refine_ms = cli_now_ms() - started;
    return code == CLI_OK ? ask(d, &d->refined) : code;
}

/* ------------------------------------------------------------------------------------------- output -- */

/* Prints the notes in lines, the wrong sentence in red, or in brackets where there are no colours. */
static void print_notes(void) {
    const char *red = cli_style_of(stdout, CLI_RED), *plain = cli_style_of(stdout, CLI_PLAIN);
    const struct {
        const char *text, *begin, *end;
    } pieces[3] = {
        {text_before, "", ""},
        {text_wrong, *red != '\0' ? red : "[", *red != '\0' ? plain : "]"},
        {text_after, "", ""},
    };
    size_t column = 0;
    for (size_t p = 0; p < 3; p++) {
        bool begun = false;
        for (const char *at = pieces[p].text; *at != '\0';) {
            const size_t gap = strspn(at, " \n"), word = strcspn(at + gap, " \n");
            const bool paragraph = memchr(at, '\n', gap) != NULL;
            const bool wraps = column + 1 + word > COLUMNS;
            if (column == 0 || paragraph || wraps)
                fputs(column == 0 ? "  " : paragraph ? "\n\n  " : "\n  ", stdout);
            else if (gap > 0) putchar(' ');
            column = (column == 0 || paragraph || wraps ? 2 : column + (gap > 0)) + word;
            if (!begun) fputs(pieces[p].begin, stdout);
            begun = true;
            fwrite(at + gap, 1, word, stdout);
            at += gap + word;
        }
        fputs(pieces[p].end, stdout);
    }
    puts("\n");
}

static void print_answer(const result *r) {
    const cli_style style = strcmp(r->verdict, "right") == 0 ? CLI_GREEN : CLI_RED;
    fputs("  \"", stdout);
    cli_print_excerpt(stdout, r->answer.data, r->answer.bytes, 80);
    printf("\"  %s%s%s\n", cli_style_of(stdout, style), r->verdict, cli_style_of(stdout, CLI_PLAIN));
}

static void title(const char *text) {
    printf("%s%s%s\n", cli_style_of(stdout, CLI_BOLD), text, cli_style_of(stdout, CLI_PLAIN));
}

static void show_notes(void) {
    title("1. The model reads a page of notes. One sentence in it is wrong.\n");
    print_notes();
    fflush(stdout);
}

static void show_answer_before(const demo *d) {
    const rs_model_info *info = &d->engine.info;
    printf("  %zu tokens read in %.0f ms, %.0f tok/s (%s, %s, %s linear layers, %u thread%s)\n\n",
           d->text.count, d->before.read_ms, (double)d->text.count * 1000.0 / d->before.read_ms, info->name,
           rs_isa_name(info->isa), cli_linear_name(info->linear), info->threads,
           info->threads == 1 ? "" : "s");
    printf("%s2. \"%s\"%s\n\n", cli_style_of(stdout, CLI_BOLD), question, cli_style_of(stdout, CLI_PLAIN));
    print_answer(&d->before);
    title("\n3. The wrong sentence is erased from the KV cache, and the same question is asked again.\n");
    fflush(stdout);
}

static void show_way(const way *w, const result *r) {
    printf("  %s%s%s, %.2f ms: %u tokens erased, %u recomputed, %u moved\n", cli_style_of(stdout, CLI_CYAN),
           w->method, cli_style_of(stdout, CLI_PLAIN), r->erased.ms, r->erased.n_erased,
           r->erased.n_recomputed, r->erased.n_rotated);
    print_answer(r);
    fflush(stdout);
}

static void show_progressive(const demo *d) {
    title("\n4. Cheap at once, exact while nobody waits\n");
    show_way(&(way){progressive, ""}, &d->cheap);
    printf("  then, in idle time: %u tokens read again aside in %.0f ms; now exact\n", d->n_refined,
           d->refine_ms);
    print_answer(&d->refined);
}

static void show_table(const demo *d) {
    title("\n5. What it took, and what is promised\n");
    printf("  %-12s %10s %12s  %s\n", "", "ms", "recomputed", "answer");
    printf("  %-12s %10.2f %12zu  %s\n", "reading", d->before.read_ms, d->text.count, d->before.verdict);
    for (size_t i = 0; i < N_WAYS; i++)
        if (is_there(d, i))
            printf("  %-12s %10.2f %12u  %s\n", ways[i].method, d->after[i].erased.ms,
                   d->after[i].erased.n_recomputed, d->after[i].verdict);
    putchar('\n');
    for (size_t i = 0; i < N_WAYS; i++)
        if (is_there(d, i)) printf("  %-12s %s\n", ways[i].method, ways[i].promise);
    puts("\n  Whatever the method, the sentence's tokens and their own keys and values are overwritten in "
         "memory.");
}

static json_t *result_json(const char *method, const result *r) {
    json_t *object = json_object();
    cli_json_set_text(object, "method", method);
    json_object_set_new(object, "answer", cli_json_string(r->answer.data, r->answer.bytes));
    cli_json_set_text(object, "verdict", r->verdict);
    cli_json_set_real(object, "read_ms", r->read_ms);
    cli_json_set_real(object, "erase_ms", r->erased.ms);
    cli_json_set_real(object, "answer_ms", r->answer_ms);
    cli_json_set_int(object, "n_erased", r->erased.n_erased);
    cli_json_set_int(object, "n_recomputed", r->erased.n_recomputed);
    cli_json_set_int(object, "n_rotated", r->erased.n_rotated);
    return object;
}

static void print_json(const demo *d) {
    json_t *root = json_object(), *results = json_array();
    cli_json_set_text(root, "model", d->engine.setup->model);
    cli_json_set_text(root, "isa", rs_isa_name(d->engine.info.isa));
    cli_json_set_text(root, "linear", cli_linear_name(d->engine.info.linear));
    cli_json_set_int(root, "threads", d->engine.info.threads);
    cli_json_set_int(root, "text_tokens", d->text.count);
    cli_json_set_real(root, "read_tok_s", (double)d->text.count * 1000.0 / d->before.read_ms);
    cli_json_set_text(root, "question", question);
    cli_json_set_text(root, "right", right_word);
    cli_json_set_text(root, "wrong", wrong_word);
    json_array_append_new(results, result_json("none", &d->before));
    for (size_t i = 0; i < N_WAYS; i++)
        if (is_there(d, i)) json_array_append_new(results, result_json(ways[i].method, &d->after[i]));
    json_array_append_new(results, result_json(progressive, &d->cheap));
    json_array_append_new(results, result_json("progressive, refined", &d->refined));
    cli_json_set_real(root, "refine_ms", d->refine_ms);
    cli_json_set_int(root, "n_refined", d->n_refined);
    json_object_set_new(root, "results", results);
    cli_json_print(stdout, root, 2);
}

static cli_exit show(demo *d) {
    if (!d->json) show_notes();
    cli_exit code = try_way(d, NULL, &d->before);
    if (code == CLI_OK && !d->json) show_answer_before(d);
    for (size_t i = 0; i < N_WAYS && code == CLI_OK; i++) {
        if (!is_there(d, i)) continue;
        code = try_way(d, ways[i].method, &d->after[i]);
        if (code == CLI_OK && !d->json) show_way(&ways[i], &d->after[i]);
    }
    if (code == CLI_OK) code = try_way(d, progressive, &d->cheap);
    if (code == CLI_OK) code = refine(d);
    if (code == CLI_OK && !d->json) show_progressive(d);
    if (code == CLI_OK) (d->json ? print_json : show_table)(d);
    return code;
}

static cli_exit run(const cli_command *command, int argc, char **argv) {
    demo d = {0};
    const cli_option options[] = {
        {0, "eraser", "PATH", "a bridge adapter: its way of erasing is shown too", .list = &d.erasers},
        {0, "json", NULL, "one JSON object instead of the story", .flag = &d.json},
    };
    cli_setup setup;
    cli_exit code;
    int first;
    if (!cli_parse(command, options, sizeof options / sizeof options[0], &setup, argc, argv, &first, &code))
        return code;
    if (first < argc) return cli_unexpected(command, argv[first]);

    code = cli_open_model(&d.engine, &setup);
    if (code == CLI_OK) code = cli_open_erasers(&d.engine, &d.erasers);
    if (code == CLI_OK) code = build(&d);
    d.engine.refine = true;
    if (code == CLI_OK)
        code = cli_open_context(&d.engine, (uint32_t)(d.text.count + d.ask.count) + MAX_ANSWER);
    if (code == CLI_OK) code = show(&d);
    cli_text_free(&d.before.answer);
    for (size_t i = 0; i < N_WAYS; i++) cli_text_free(&d.after[i].answer);
    cli_text_free(&d.cheap.answer);
    cli_text_free(&d.refined.answer);
    cli_tokens_free(&d.text);
    cli_tokens_free(&d.ask);
    cli_close(&d.engine);
    return code;
}

const cli_command cli_command_demo = {
    "demo",
    "see a model read, answer, forget a sentence, and answer again",
    "[options]",
    "Lets the model read a page of notes in which one sentence is wrong, asks about it, and erases that "
    "sentence\n"
    "from the KV cache in each of the ways that rasure has, each on a fresh reading of the same page. Times "
    "and\n"
    "answers come from the run; an answer is called right only if it names the right place and not the wrong "
    "one.",
    run,
};
