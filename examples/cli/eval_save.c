#include "eval_save.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "terminal.h"
#include "text.h"

cli_exit cli_eval_save(const cli_engine *engine, const char *folder, size_t line, const char *method) {
    char number[32];
    cli_text path = {0};
    snprintf(number, sizeof number, "/%zu.", line);
    cli_text_add(&path, folder, strlen(folder));
    cli_text_add(&path, number, strlen(number));
    cli_text_add(&path, method, strlen(method));
    cli_text_add(&path, ".context", sizeof ".context" - 1);
    FILE *file = fopen(path.data, "wb");
    bool written = file != NULL && rs_context_save(engine->context, cli_write_part, file) == RS_OK;
    if (file != NULL) written = fclose(file) == 0 && written;
    const cli_exit code = written ? CLI_OK : cli_fail(CLI_FAILED, "%s: %s", path.data, strerror(errno));
    cli_text_free(&path);
    return code;
}
