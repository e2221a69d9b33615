/* Failing with one sentence. */
#ifndef RASURE_RUNTIME_STATUS_H
#define RASURE_RUNTIME_STATUS_H

#include "rasure/rasure.h"

#if defined(__GNUC__)
#define RS_PRINTF(format_index, first_arg) __attribute__((format(printf, format_index, first_arg)))
#else
#define RS_PRINTF(format_index, first_arg)
#endif

/* Writes status and the formatted sentence to `error` (may be NULL) and returns `status`, so that a check
 * reads `return rs_fail(error, RS_BAD_FILE, "...")`. */
rs_status rs_fail(rs_error *error, rs_status status, const char *format, ...) RS_PRINTF(3, 4);

/* Control characters become '?': text from files and callers may end up on a terminal. */
void rs_make_printable(char *text);

/* Hands a failure on. */
#define RS_TRY(call)                                                                                         \
    do {                                                                                                     \
        const rs_status rs_try_status = (call);                                                              \
        if (rs_try_status != RS_OK) return rs_try_status;                                                    \
    } while (0)

#endif
