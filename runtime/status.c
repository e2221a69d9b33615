/* Statuses, their names and the sentence that goes with a failure. */
#include "runtime/status.h"

#include <stdarg.h>
#include <stdio.h>

void rs_make_printable(char *text) {
    for (char *c = text; *c != '\0'; c++)
        if ((*c > 0 && *c < ' ') || *c == 0x7f) *c = '?';
}

rs_status rs_fail(rs_error *error, rs_status status, const char *format, ...) {
    if (error == NULL) return status;
    error->status = status;
    va_list args;
    va_start(args, format);
    const int written = vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
    if (written < 0) error->message[0] = '\0';
    rs_make_printable(error->message);
    return status;
}

const char *rs_status_name(rs_status status) {
    switch (status) {
    case RS_OK: return "RS_OK";
    case RS_INVALID_ARGUMENT: return "RS_INVALID_ARGUMENT";
    case RS_OUT_OF_RANGE: return "RS_OUT_OF_RANGE";
    case RS_UNSUPPORTED: return "RS_UNSUPPORTED";
    case RS_NO_MEMORY: return "RS_NO_MEMORY";
    case RS_NO_SPACE: return "RS_NO_SPACE";
    case RS_IO: return "RS_IO";
    case RS_BAD_FILE: return "RS_BAD_FILE";
    case RS_MISMATCH: return "RS_MISMATCH";
    case RS_STOPPED: return "RS_STOPPED";
    case RS_POISONED: return "RS_POISONED";
    }
    return "RS_?";
}

const char *rs_version(void) {
    return "0.1.0";
}
