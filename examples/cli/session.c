#define _POSIX_C_SOURCE 200809L

#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "terminal.h"

/* The context begins at a multiple of this, and so is aligned as rs_context_load wants it. */
enum { ALIGN = 8, VERSION = 1 };

/* ------------------------------------------------------------------------------------------ saving -- */

static json_t *spans_to_json(const cli_spans *spans) {
    json_t *all = json_array();
    for (size_t i = 0; i < spans->count; i++) {
        const cli_span *s = &spans->all[i];
        json_array_append_new(all, json_pack("{s:I,s:b,s:i,s:I,s:I}", "number", (json_int_t)s->number, "turn",
                                             (int)s->is_turn, "role", (int)s->role, "begin",
                                             (json_int_t)s->begin, "end", (json_int_t)s->end));
    }
    return all;
}

/* One line, filled up with blanks to a multiple of ALIGN. */
static cli_exit head_line(const cli_session *session, cli_text *line) {
    json_t *head =
        json_pack("{s:i,s:o,s:I,s:s%,s:b}", "rasure_chat", VERSION, "spans", spans_to_json(&session->spans),
                  "last_number", (json_int_t)session->spans.last_number, "lead",
                  session->lead.bytes > 0 ? session->lead.data : "", session->lead.bytes, "answer_open",
                  (int)session->answer_open);
    char *text = head != NULL ? json_dumps(head, JSON_COMPACT) : NULL;
    json_decref(head);
    if (text == NULL) return cli_fail(CLI_FAILED, "/save: the system text is not UTF-8");
    cli_text_add(line, text, strlen(text));
    free(text);
    while ((line->bytes + 1) % ALIGN != 0) cli_text_add(line, " ", 1);
    cli_text_add(line, "\n", 1);
    return CLI_OK;
}

static bool write_all(const cli_engine *engine, const cli_text *line, FILE *file) {
    return cli_write_part(file, line->data, line->bytes) &&
           rs_context_save(engine->context, cli_write_part, file) == RS_OK && fflush(file) == 0 &&
           fsync(fileno(file)) == 0;
}

/* Its owner alone may read what was said. */
static FILE *create(const char *path) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
    FILE *file = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (file == NULL && fd >= 0) close(fd);
    return file;
}

static cli_exit write_file(const cli_engine *engine, const cli_text *line, const char *beside,
                           const char *path) {
    FILE *file = create(beside);
    bool written = file != NULL && write_all(engine, line, file);
    int error = errno;
    if (file != NULL && fclose(file) != 0 && written) {
        written = false;
        error = errno;
    }
    if (written && rename(beside, path) == 0) return CLI_OK;
    if (written) error = errno;
    if (file != NULL) unlink(beside);
    return cli_fail(CLI_FAILED, "/save: %s: %s", path, strerror(error));
}

cli_exit cli_session_save(const cli_engine *engine, const cli_session *session, const char *path) {
    cli_text line = {0}, beside = {0};
    cli_text_add(&beside, path, strlen(path));
    cli_text_add(&beside, ".part", 5);
    cli_exit code = head_line(session, &line);
    if (code == CLI_OK) code = write_file(engine, &line, beside.data, path);
    cli_text_free(&line);
    cli_text_free(&beside);
    return code;
}

/* ----------------------------------------------------------------------------------------- loading -- */

static bool span_from_json(json_t *json, cli_spans *spans) {
    json_int_t number, begin, end;
    int is_turn, role;
    if (json_unpack(json, "{s:I,s:b,s:i,s:I,s:I}", "number", &number, "turn", &is_turn, "role", &role,
                    "begin", &begin, "end", &end) != 0)
        return false;
    if (number <= 0 || number > UINT32_MAX || role < RS_ROLE_SYSTEM || role > RS_ROLE_ASSISTANT ||
        begin < 0 || begin >= end || (uint64_t)end > SIZE_MAX)
        return false;
    cli_spans_add(spans, is_turn != 0, (rs_role)role, (size_t)begin, (size_t)end);
    spans->all[spans->count - 1].number = (unsigned)number;
    return true;
}

static bool session_from_json(json_t *head, cli_session *session) {
    json_t *spans;
    json_int_t last_number;
    const char *lead;
    size_t lead_bytes;
    int version, answer_open;
    if (json_unpack(head, "{s:i,s:o,s:I,s:s%,s:b}", "rasure_chat", &version, "spans", &spans, "last_number",
                    &last_number, "lead", &lead, &lead_bytes, "answer_open", &answer_open) != 0 ||
        version != VERSION || last_number < 0 || last_number > UINT32_MAX || !json_is_array(spans))
        return false;
    for (size_t i = 0; i < json_array_size(spans); i++)
        if (!span_from_json(json_array_get(spans, i), &session->spans)) return false;
    session->spans.last_number = (unsigned)last_number;
    cli_text_add(&session->lead, lead, lead_bytes);
    session->answer_open = answer_open != 0;
    return true;
}

/* Whether the context has the tokens that the spans are about. */
static bool belongs(const cli_engine *engine, const cli_spans *spans) {
    cli_view view;
    bool all = cli_view_open(engine, &view) == CLI_OK;
    for (size_t i = 0; i < spans->count; i++) all = all && spans->all[i].end <= view.count;
    cli_view_close(&view);
    return all;
}

static cli_exit load(const cli_engine *engine, const char *path, const cli_text *file, cli_session *session,
                     cli_session *loaded) {
    const char *line_end = memchr(file->data, '\n', file->bytes);
    const size_t line = line_end != NULL ? (size_t)(line_end - file->data) + 1 : 0;
    json_t *head = json_loadb(file->data, line, 0, NULL);
    const bool is_session = line % ALIGN == 0 && head != NULL && session_from_json(head, loaded);
    json_decref(head);
    if (!is_session) return cli_fail(CLI_USAGE, "/load: %s is no conversation that /save wrote", path);
    const rs_status status = rs_context_load(engine->context, file->data + line, file->bytes - line);
    if (status != RS_OK) return cli_context_failed(engine, status);
    if (belongs(engine, &loaded->spans)) return CLI_OK;
    rs_context_reset(engine->context);
    cli_session_free(session);
    return cli_fail(CLI_USAGE, "/load: %s: its spans are not those of its tokens; /reset begins anew", path);
}

cli_exit cli_session_load(const cli_engine *engine, cli_session *session, const char *path) {
    cli_text file = {0};
    cli_session loaded = {0};
    cli_exit code = cli_text_read(&file, path);
    if (code == CLI_OK) code = load(engine, path, &file, session, &loaded);
    if (code == CLI_OK) {
        cli_session_free(session);
        *session = loaded;
    } else {
        cli_session_free(&loaded);
    }
    cli_text_free(&file);
    return code;
}

void cli_session_free(cli_session *session) {
    cli_spans_free(&session->spans);
    cli_text_free(&session->lead);
    *session = (cli_session){0};
}
