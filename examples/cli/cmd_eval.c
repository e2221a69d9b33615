/* rasure eval: reads cases and lets the job run that they are for. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "eval.h"
#include "method.h"
#include "terminal.h"

/* Runs with the file of single outcomes under a name of its own, which it loses only when it is whole. */
static cli_exit run_into(cli_eval *job, cli_exit (*run_job)(const cli_eval *job), const char *per_case) {
    cli_text partial = {0};
    cli_text_add(&partial, per_case, strlen(per_case));
    cli_text_add(&partial, ".partial", 8);
    job->per_case = fopen(partial.data, "wb");
    cli_exit code =
        job->per_case != NULL ? CLI_OK : cli_fail(CLI_USAGE, "%s: %s", partial.data, strerror(errno));
    if (code == CLI_OK) {
        code = run_job(job);
        const bool written = ferror(job->per_case) == 0, closed = fclose(job->per_case) == 0;
        if (code == CLI_OK && (!written || !closed || rename(partial.data, per_case) != 0))
            code = cli_fail(CLI_FAILED, "%s: %s", per_case, strerror(errno));
        if (code != CLI_OK) remove(partial.data);
    }
    cli_text_free(&partial);
    return code;
}

static cli_exit run(const cli_command *command, int argc, char **argv) {
    cli_engine engine = {0};
    cli_lines lines = {0};
    cli_eval job = {
        .engine = &engine, .lines = &lines, .methods = "none,exact,drop,shift,repair:15%", .max_tokens = 16};
    const char *per_case = NULL;
    cli_list erasers = {0};
    uint32_t limit = 0;
    const cli_option options[] = {
        {0, "methods", "LIST", "with commas (default none,exact,drop,shift,repair:15%): none,\n" CLI_METHODS,
         .string = &job.methods},
        {0, "eraser", "PATH", "an adapter for steer, bridge and learned; may be given twice",
         .list = &erasers},
        {0, "one-by-one", NULL, "erase a case's spans in calls of their own, not in one; exact in one",
         .flag = &job.one_by_one},
        {0, "limit", "N", "only the first N cases (default: all)", .u32 = &limit, .min = 1, .max = 1e9},
        {0, "max-tokens", "N", "longest answer, 1 to 256 (default 16)", .u32 = &job.max_tokens, .min = 1,
         .max = 256},
        {0, "samples", "N", "draw N answers a case and method too, at temperature 1 (default 0)",
         .u32 = &job.n_samples, .max = 1000},
        {0, "seed", "N", "of the first drawn answer; the others count on (default 0)", .u64 = &job.seed},
        {0, "per-case", "PATH", "write one JSON object a case and method, or question, to this file",
         .string = &per_case},
        {0, "save", "FOLDER", "write the context that each erase leaves to FOLDER/LINE.METHOD.context",
         .string = &job.save},
        {0, "json", NULL, "JSON objects instead of the table", .flag = &job.json},
    };
    cli_setup setup;
    cli_exit code;
    int first;
    if (!cli_parse(command, options, sizeof options / sizeof options[0], &setup, argc, argv, &first, &code))
        return code;
    if (first == argc) return cli_fail(CLI_USAGE, "eval: which file? see \"rasure eval --help\"");
    if (first + 1 < argc) return cli_unexpected(command, argv[first + 1]);

    code = cli_eval_check_methods(job.methods);
    if (code == CLI_OK) code = cli_lines_load(&lines, argv[first], limit);
    if (code == CLI_OK) code = cli_open_model(&engine, &setup);
    if (code == CLI_OK) code = cli_open_erasers(&engine, &erasers);
    if (code == CLI_OK) {
        cli_exit (*const run_job)(const cli_eval *) = cli_eval_is_keep(&lines)   ? cli_eval_keep
                                                      : cli_eval_is_echo(&lines) ? cli_eval_echo
                                                                                 : cli_eval_erase;
        code = per_case != NULL ? run_into(&job, run_job, per_case) : run_job(&job);
    }
    cli_lines_free(&lines);
    cli_close(&engine);
    return code;
}

const cli_command cli_command_eval = {
    "eval",
    "what erase methods, and policies of the KV cache, do to answers",
    "[options] FILE.jsonl",
    "Every line of the file is a case, all for one of three jobs.\n\n"
    "What erase methods do to answers:\n"
    "  {\"id\", \"prefix\", \"span\", \"suffix\", \"question\", \"cue\", \"answers\": [...], \"leaks\": "
    "[...],\n"
    "   \"target\", \"leak_target\"}\n"
    "For each method the model reads prefix, span and suffix, the span is erased, and the question is "
    "answered\n"
    "greedily. The pieces are tokenized one by one; the prefix begins with the rendered head of the chat\n"
    "template, the question ends where the answer begins; \"cue\" (optional) is the beginning of the "
    "answer.\n"
    "\"pieces\": [kept, erased, kept, ...] in place of prefix, span and suffix erases several spans; "
    "\"markers\":\n"
    "true takes the template's markers in all of them. \"replacement\" (optional) is read "
    "where the\n"
    "span stood. \"target\" and \"leak_target\" (optional) follow the cue; \"rivals\": [...] are what "
    "might\n"
    "stand in place of \"leak_target\".\n\n"
    "  match        share of answers that begin with one of \"answers\" (lower case, no punctuation or "
    "articles)\n"
    "  leak         share of answers that contain one of \"leaks\"\n"
    "  KL to exact  mean KL(exact || method) in nats of the next-token distributions along the exact answer\n"
    "  on text      the same along \"target\"\n"
    "  log P        log-probability of \"leak_target\", minus that after an exact erase\n"
    "  agree        share of answers that are the same text as after an exact erase\n"
    "In --per-case, besides: the rank of \"leak_target\"'s first token, its place among \"rivals\" by\n"
    "log-probability, and the share of drawn answers that contain one of \"leaks\".\n"
    "\n"
    "An exact erase, or replacement, is always run too, as the reference.\n\n"
    "What the cache still knows that --policy keeps:\n"
    "  {\"id\", \"task\", \"pieces\": [...], \"questions\": [{\"question\", \"cue\", \"answers\": [...], "
    "\"evidence\": [...]}, ...]}\n"
    "  {\"id\", \"task\", \"text\"}\n"
    "The pieces are read, then the questions are asked one after the other, each behind the answers before "
    "it.\n"
    "With --patched the first question is read in one with the context.\n"
    "\"evidence\" (optional) numbers the pieces, from 0, that a question is about. A text is read from its "
    "first\n"
    "token.\n\n"
    "  match        as above, by task\n"
    "  log P        mean log-probability of the first of \"answers\" behind the question\n"
    "  NLL          mean negative log-likelihood of a token of the texts, in nats\n"
    "  footprint    entries held over time, of those that a full cache holds\n"
    "  cache        bytes of pages, tables and what the policy needs\n\n"
    "Which later pieces of a text depend on one (rs_find_echoes), so that they can be erased too:\n"
    "  {\"id\", \"pieces\": [...], \"depends_on\": N, \"dependent\": [N, ...]}\n"
    "Pieces are numbered from 0. \"dependent\" (optional) names those behind that are known to.\n\n"
    "  first        share of cases in which the piece that loses most likelihood is one of those\n"
    "  order        pairs of one of those and another that are ranked right, mean over cases\n"
    "In --per-case: the nats that every piece loses.",
    run,
};
