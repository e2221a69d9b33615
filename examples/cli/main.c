/* rasure, the command-line tool: finds the command and hands over. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "rasure/rasure.h"
#include "terminal.h"

static const cli_command *const commands[] = {
    &cli_command_demo, &cli_command_run,   &cli_command_chat,     &cli_command_info,
    &cli_command_eval, &cli_command_bench, &cli_command_tokenize,
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static const cli_command *find(const char *name) {
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static void print_help(FILE *stream) {
    fputs("rasure runs a language model on this machine and takes back what it has read.\n\n"
          "usage: rasure COMMAND [options]\n\n",
          stream);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(stream, "  %-10s%s\n", commands[i]->name, commands[i]->summary);
    fputs("\n\"rasure COMMAND --help\" explains one. \"rasure --version\" names the version.\n"
          "Exit codes: 0 done, 1 failed, 2 wrong command line or input.\n",
          stream);
}

static cli_exit dispatch(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (*name == '\0') {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(name, "--version") == 0) {
        printf("rasure %s\n", rs_version());
        return CLI_OK;
    }
    const cli_command *command = find(name);
    if (command == NULL)
        return cli_fail(CLI_USAGE, "\"%s\" is no command; \"rasure --help\" lists them", name);
    return command->run(command, argc - 1, argv + 1);
}

int main(int argc, char **argv) {
    const cli_exit code = dispatch(argc, argv);
    /* A result that could not be written (a full disk) is no success. */
    const bool written = fflush(stdout) == 0 && ferror(stdout) == 0;
    return (int)(code == CLI_OK && !written ? cli_fail(CLI_FAILED, "could not write the result") : code);
}
