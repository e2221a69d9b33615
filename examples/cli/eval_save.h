/* Contexts as erases leave them, in files: for those who look for what is left. */
#ifndef RASURE_EXAMPLES_EVAL_SAVE_H
#define RASURE_EXAMPLES_EVAL_SAVE_H

#include "engine.h"

/* Writes what rs_context_save says of the engine's context to FOLDER/LINE.METHOD.context. */
cli_exit cli_eval_save(const cli_engine *engine, const char *folder, size_t line, const char *method);

#endif
