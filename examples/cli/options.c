/* Option tables: parsing by getopt_long, strict numbers, help texts, erase methods by name. */
#define _POSIX_C_SOURCE 200809L

#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "terminal.h"
#include "text.h"

enum { MAX_OPTIONS = 48, N_COMMON = 19 };

static void print_option(const cli_option *option) {
    char names[64];
    const char letter[] = {'-', option->letter, ',', ' ', '\0'};
    const int width = snprintf(names, sizeof names, "  %s--%s %s", option->letter != 0 ? letter : "    ",
                               option->name, option->value != NULL ? option->value : "");
    printf("%-30s", names);
    if (width >= 30) printf("\n%-30s", "");
    for (const char *p = option->help; *p != '\0'; p++)
        if (*p == '\n') printf("\n%-30s", "");
        else putchar(*p);
    putchar('\n');
}

static void print_help(const cli_command *command, const cli_option *options, size_t n_options,
                       const cli_option *common) {
    printf("usage: rasure %s %s\n\n%s\n\n", command->name, command->usage, command->about);
    if (n_options > 0) puts("options:");
    for (size_t i = 0; i < n_options; i++) print_option(&options[i]);
    printf("%smodel and machine:\n", n_options > 0 ? "\n" : "");
    for (size_t i = 0; i < N_COMMON; i++) print_option(&common[i]);
    puts("  -h, --help                  this text");
}

/* Puts the text of an option's argument into its target. */
static cli_exit take(const cli_command *command, const cli_option *option, const char *text) {
    uint64_t whole;
    double real;
    if (option->flag != NULL) {
        *option->flag = true;
    } else if (option->string != NULL) {
        *option->string = text;
    } else if (option->list != NULL) {
        const size_t most = sizeof option->list->items / sizeof option->list->items[0];
        if (option->list->count == most)
            return cli_fail(CLI_USAGE, "%s: --%s: at most %zu of them", command->name, option->name, most);
        option->list->items[option->list->count++] = text;
    } else if (option->u64 != NULL) {
        if (!cli_parse_u64(text, option->u64))
            return cli_fail(CLI_USAGE, "%s: --%s \"%s\": not a whole number from 0 to 2^64 - 1",
                            command->name, option->name, text);
    } else if (option->u32 != NULL) {
        if (!cli_parse_u64(text, &whole) || (double)whole < option->min || (double)whole > option->max)
            return cli_fail(CLI_USAGE, "%s: --%s \"%s\": not a whole number from %.0f to %.0f", command->name,
                            option->name, text, option->min, option->max);
        *option->u32 = (uint32_t)whole;
    } else {
        if (!cli_parse_real(text, &real) || real < option->min || real > option->max)
            return cli_fail(CLI_USAGE, "%s: --%s \"%s\": not a number from %g to %g", command->name,
                            option->name, text, option->min, option->max);
        *option->real = (float)real;
    }
    return CLI_OK;
}

/* Where scripts/setup.sh puts the default model. */
static void default_model(char *path, size_t capacity) {
    static const char file[] = "rasure/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache != NULL && *cache != '\0') snprintf(path, capacity, "%s/%s", cache, file);
    else snprintf(path, capacity, "%s/.cache/%s", home != NULL ? home : "", file);
}

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

static cli_exit bad_isa(const cli_command *command, const char *name) {
    char known[128] = "";
    size_t used = 0;
    for (int i = RS_ISA_AUTO; i <= RS_ISA_AVXVNNI; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, " %s", rs_isa_name((rs_isa)i));
    return cli_fail(CLI_USAGE, "%s: --isa \"%s\": not one of%s", command->name, name, known);
}

/* The options of a command, and which of them its command line has. */
typedef struct parsed {
    const cli_option *all[MAX_OPTIONS];
    bool given[MAX_OPTIONS];
} parsed;

static bool is_given(const parsed *line, const char *name) {
    size_t i = 0;
    while (strcmp(line->all[i]->name, name) != 0) i++;
    return line->given[i];
}

/* Of a command line that names none: what its other options are for. */
static const char *implied_policy(const parsed *line) {
    if (is_given(line, "gates")) return "gates";
    if (is_given(line, "heads")) return "heads";
    return is_given(line, "budget") || is_given(line, "window") || is_given(line, "sinks") ? "window"
                                                                                           : "full";
}

enum { BY_HEAD = 1 << RS_POLICY_HEADS | CLI_CONTROLS | CLI_OBSERVED | 1 << RS_POLICY_HEAD_GATES };

bool cli_is_policy(rs_policy policy, int kinds) {
    return (1 << policy & kinds) != 0;
}

/* What only some policies have a use for. */
static const struct {
    const char *name;
    int policies;
} uses[] = {
    {"sinks", CLI_WINDOWED | CLI_CONTROLS | CLI_GATED},
    {"window", CLI_WINDOWED | CLI_CONTROLS | CLI_GATED},
    {"rewind", CLI_WINDOWED | CLI_CONTROLS | CLI_GATED},
    {"keep", CLI_OBSERVED},
    {"observers", CLI_OBSERVED},
    {"patched", CLI_OBSERVED},
    {"decoded", CLI_OBSERVED},
    {"floor", 1 << RS_POLICY_GATES},
    {"gates", CLI_GATED},
    {"heads", BY_HEAD},
    {"local", BY_HEAD},
};

/* Refuses what would do nothing. */
static cli_exit check_uses(const cli_command *command, const parsed *line, const char *policy,
                           const cli_setup *setup) {
    const rs_policy is = setup->policy.policy;
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
        if (is_given(line, uses[i].name) && !cli_is_policy(is, uses[i].policies))
            return cli_fail(CLI_USAGE, "%s: --%s is of no use with --policy %s", command->name, uses[i].name,
                            policy);
    if (is_given(line, "local") && setup->heads == NULL)
        return cli_fail(CLI_USAGE, "%s: --local is a share of the heads in a file: --heads PATH names it",
                        command->name);
    const char *const bound = cli_is_policy(is, CLI_WINDOWED) ? "window" : "keep";
    if (setup->budget != NULL && cli_is_policy(is, CLI_WINDOWED | CLI_OBSERVED) && is_given(line, bound))
        return cli_fail(CLI_USAGE, "%s: --%s is what --budget is enough for: give one of them", command->name,
                        bound);
    return CLI_OK;
}

/* `name` NULL: none was given. */
static cli_exit choose_policy(const cli_command *command, const char *name, const parsed *line,
                              cli_setup *setup) {
    rs_policy_params *p = &setup->policy;
    if (name == NULL) name = implied_policy(line);
    int found = RS_POLICY_FULL;
    while (found <= RS_POLICY_HEAD_GATES && strcmp(name, rs_policy_name((rs_policy)found)) != 0) found++;
    if (found > RS_POLICY_HEAD_GATES)
        return cli_fail(CLI_USAGE,
                        "%s: --policy \"%s\": not one of full window heads random keynorm snapkv pyramidkv "
                        "gates head-gates",
                        command->name, name);
    p->policy = (rs_policy)found;
    if (cli_is_policy(p->policy, CLI_GATED) && setup->gates == NULL)
        return cli_fail(CLI_USAGE, "%s: --policy %s: which? --gates PATH says it", command->name, name);
    if (p->policy == RS_POLICY_HEADS && setup->heads == NULL)
        return cli_fail(CLI_USAGE, "%s: --policy heads: which? --heads PATH says it", command->name);
    return check_uses(command, line, name, setup);
}

static uint32_t default_threads(void) {
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online < 1 ? 1 : online > 8 ? 8 : (uint32_t)online;
}

bool cli_parse(const cli_command *command, const cli_option *options, size_t n_options, cli_setup *setup,
               int argc, char **argv, int *first, cli_exit *code) {
    const char *linear = "auto", *isa = "auto", *policy = NULL;
    default_model(setup->default_model, sizeof setup->default_model);
    setup->model = environment("RASURE_MODEL");
    setup->threads = default_threads();
    setup->batch = rs_context_default_params().n_batch;
    setup->ctx = 0;
    setup->policy = (rs_policy_params){.sinks = CLI_UNSET,
                                       .window = CLI_UNSET,
                                       .rewind = 64,
                                       .keep = 0.5F,
                                       .observers = 32,
                                       .decoded = 1024,
                                       .floor = 4};
    setup->heads = setup->gates = NULL;
    setup->budget = NULL;
    setup->local_share = RS_HEADS_AS_WRITTEN;
    const cli_option common[N_COMMON] = {
        {'m', "model", "PATH", "GGUF file (else $RASURE_MODEL, else the default model)",
         .string = &setup->model},
        {'t', "threads", "N", "threads, 1 to 256 (default: the processors, at most 8)",
         .u32 = &setup->threads, .min = 1, .max = 256},
        {0, "linear", "BACKEND", "auto, native or xnnpack: multiplies batches of rows (default auto)",
         .string = &linear},
        {0, "isa", "NAME",
         "instruction set to use: auto ref avx2 avxvnni avx512vnni amx neon dotprod i8mm\n"
         "(auto: $RASURE_ISA, else the best there is)",
         .string = &isa},
        {0, "ctx", "N",
         "tokens that the KV cache can hold, 16 to 1048576 (default: 2048, or what\nthe command needs)",
         .u32 = &setup->ctx, .min = 16, .max = 1048576},
        {0, "batch", "N", "tokens read at a time, 1 to 4096 (default 128)", .u32 = &setup->batch, .min = 1,
         .max = 4096},
        {0, "policy", "NAME",
         "what the KV cache keeps (default: what --gates, --heads, --budget or --window\n"
         "is for, else full): full, window (the first --sinks and the\n"
         "last --window tokens), heads (the same, but in some heads everything),\n"
         "random, keynorm (sinks, window, and of the rest up to --budget),\n"
         "snapkv, pyramidkv (the --keep share of each chunk that --observers choose),\n"
         "gates, head-gates (sinks, window, and of the rest what --gates rank highest, up\n"
         "to --budget on average of all streams, or of each)",
         .string = &policy},
        {0, "sinks", "N", "default: what the heads were trained with, else 64", .u32 = &setup->policy.sinks,
         .max = 1048576},
        {0, "window", "N", "default: the same, else 256", .u32 = &setup->policy.window, .min = 1,
         .max = 1048576},
        {0, "rewind", "N", "tokens beyond the window, to be able to go back (default 64)",
         .u32 = &setup->policy.rewind, .max = 1048576},
        {0, "budget", "N",
         "entries of a stream, with random, keynorm and gates (default 1024), or \"25%\" of what\n"
         "a full cache takes, or \"8MB\": --window, or --keep, is then what that is\nenough for",
         .string = &setup->budget},
        {0, "keep", "SHARE", "of a chunk, with snapkv and pyramidkv (default 0.5)",
         .real = &setup->policy.keep, .max = 1},
        {0, "observers", "N", "last tokens of a chunk, 1 to 1024 (default 32)",
         .u32 = &setup->policy.observers, .min = 1, .max = 1024},
        {0, "patched", NULL, "let the prompt's last tokens choose in every chunk, with snapkv and pyramidkv",
         .flag = &setup->policy.patched},
        {0, "decoded", "N", "tokens to make room for besides what is kept of chunks (default 1024)",
         .u32 = &setup->policy.decoded, .max = 1048576},
        {0, "floor", "N", "entries that every stream keeps, with gates, 0 to 1024 (default 4)",
         .u32 = &setup->policy.floor, .max = 1024},
        {0, "gates", "PATH", "retention gates: a sidecar", .string = &setup->gates},
        {0, "heads", "PATH", "which KV heads need everything: a sidecar, or a table of layers and heads",
         .string = &setup->heads},
        {0, "local", "SHARE",
         "share of the heads that do not, 0 to 1 (default: those below 0.5 in the table)",
         .real = &setup->local_share, .min = 0, .max = 1},
    };
    parsed line = {0};
    struct option longs[MAX_OPTIONS + 2] = {{0}};
    char shorts[2 * MAX_OPTIONS + 4] = ":h";
    size_t n_shorts = 2;
    const size_t n = n_options + N_COMMON;
    for (size_t i = 0; i < n; i++) {
        const cli_option *option = i < n_options ? &options[i] : &common[i - n_options];
        const bool wants_value = option->flag == NULL;
        line.all[i] = option;
        longs[i] =
            (struct option){option->name, wants_value ? required_argument : no_argument, NULL, 256 + (int)i};
        if (option->letter == 0) continue;
        shorts[n_shorts++] = option->letter;
        if (wants_value) shorts[n_shorts++] = ':';
    }
    longs[n] = (struct option){"help", no_argument, NULL, 'h'};

    *code = CLI_USAGE;
    opterr = 0;
    optind = 1;
    for (int found; (found = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (found == 'h') {
            print_help(command, options, n_options, common);
            *code = CLI_OK;
            return false;
        }
        if (found == '?' || found == ':') {
            cli_fail(CLI_USAGE, "%s: %s: %s; see \"rasure %s --help\"", command->name, argv[optind - 1],
                     found == ':' ? "a value is missing" : "no such option", command->name);
            return false;
        }
        size_t i = (size_t)(found - 256);
        if (found < 256)
            for (i = 0; line.all[i]->letter != found;) i++;
        if (take(command, line.all[i], optarg) != CLI_OK) return false;
        line.given[i] = true;
    }
    *first = optind;

    setup->model_is_default = setup->model == NULL;
    if (setup->model_is_default) setup->model = setup->default_model;
    setup->linear = strcmp(linear, "native") == 0    ? RS_LINEAR_NATIVE
                    : strcmp(linear, "xnnpack") == 0 ? RS_LINEAR_XNNPACK
                                                     : RS_LINEAR_AUTO;
    if (setup->linear == RS_LINEAR_AUTO && strcmp(linear, "auto") != 0) {
        cli_fail(CLI_USAGE, "%s: --linear \"%s\": not one of auto native xnnpack", command->name, linear);
        return false;
    }
    if (rs_isa_from_name(isa, &setup->isa) != RS_OK) {
        bad_isa(command, isa);
        return false;
    }
    *code = choose_policy(command, policy, &line, setup);
    return *code == CLI_OK;
}

cli_exit cli_unexpected(const cli_command *command, const char *argument) {
    return cli_fail(CLI_USAGE, "%s: unexpected argument \"%s\"; see \"rasure %s --help\"", command->name,
                    argument, command->name);
}
