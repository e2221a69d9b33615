/* Command-line options from one table, which is also their help text. */
#ifndef RASURE_EXAMPLES_OPTIONS_H
#define RASURE_EXAMPLES_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli.h"
#include "rasure/rasure.h"

/* Values of an option that may be given more than once. */
enum { CLI_LIST_MAX = 16 };
typedef struct cli_list {
    const char *items[CLI_LIST_MAX];
    size_t count;
} cli_list;

/* One option. Exactly one of the targets is not NULL; it holds the default before parsing. */
typedef struct cli_option {
    char letter; /* 0: none */
    const char *name;
    const char *value; /* what the help calls its argument; NULL for a flag */
    const char *help;  /* lines after the first are indented to match */
    bool *flag;
    const char **string;
    cli_list *list;
    uint32_t *u32;
    uint64_t *u64;
    float *real;
    double min, max; /* the numbers that u32 and real accept, inclusive */
} cli_option;

/* A number that was not given. */
#define CLI_UNSET UINT32_MAX

/* Kinds of policies, as sets of 1 << rs_policy. */
enum {
    CLI_WINDOWED = 1 << RS_POLICY_WINDOW | 1 << RS_POLICY_HEADS,     /* a budget of bytes is the window's */
    CLI_CONTROLS = 1 << RS_POLICY_RANDOM | 1 << RS_POLICY_KEYNORM,   /* a budget in entries */
    CLI_GATED = 1 << RS_POLICY_GATES | 1 << RS_POLICY_HEAD_GATES,    /* likewise */
    CLI_OBSERVED = 1 << RS_POLICY_SNAPKV | 1 << RS_POLICY_PYRAMIDKV, /* a share of chunks */
};

bool cli_is_policy(rs_policy policy, int kinds);

/* What every command that opens a model accepts. */
typedef struct cli_setup {
    const char *model;     /* a path; never NULL after parsing */
    bool model_is_default; /* neither -m nor RASURE_MODEL named it */
    char default_model[1024];
    uint32_t threads;
    rs_linear linear;
    rs_isa isa;
    uint32_t ctx; /* 0: not given */
    uint32_t batch;
    rs_policy_params policy; /* without full_heads and budgets; sinks and window may be CLI_UNSET */
    const char *budget;      /* entries, a share or bytes; NULL: not given */
    const char *heads;       /* the file that says which; NULL: not given */
    float local_share;
    const char *gates; /* the file; NULL: not given */
} cli_setup;

/*
 * Parses the command's own options and the common ones. True: go on, with the arguments that are no options
 * in argv[*first] to argv[argc - 1]. False: the command ends with *code, because --help was asked for or
 * because something was wrong, which has been said.
 */
bool cli_parse(const cli_command *command, const cli_option *options, size_t n_options, cli_setup *setup,
               int argc, char **argv, int *first, cli_exit *code);

/* Says that the command takes no arguments such as `argument`. */
cli_exit cli_unexpected(const cli_command *command, const char *argument);

#endif
