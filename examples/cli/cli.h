/*
 * The rasure tool: what its commands share. Every command is a `cli_command` in a file of its own; results go
 * to stdout, everything else to stderr. Functions that can fail print one sentence and return an exit code.
 */
#ifndef RASURE_EXAMPLES_CLI_H
#define RASURE_EXAMPLES_CLI_H

typedef enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1, /* the command was right, and something failed all the same */
    CLI_USAGE = 2,  /* a wrong option, number, range, token id, or a file that is not what it should be */
} cli_exit;

typedef struct cli_command cli_command;
struct cli_command {
    const char *name;
    const char *summary; /* for the list of commands */
    const char *usage;   /* what follows "rasure NAME" */
    const char *about;   /* the text of its --help, before the options */
    cli_exit (*run)(const cli_command *command, int argc, char **argv);
};

extern const cli_command cli_command_info;
extern const cli_command cli_command_run;
extern const cli_command cli_command_chat;
extern const cli_command cli_command_bench;
extern const cli_command cli_command_tokenize;
extern const cli_command cli_command_demo;
extern const cli_command cli_command_eval;

#endif
