/* The decode loop with its text: whole characters go out, what may become a stop string waits. */
#include <string.h>

#include "ports/port.h"
#include "runtime/context.h"
#include "runtime/sampler.h"
#include "runtime/status.h"

rs_generate_params rs_generate_default_params(void) {
    return (rs_generate_params){.sampler = rs_sampler_default_params()};
}

static rs_status check_params(rs_context *c, const rs_generate_params *p) {
    rs_error *error = &c->error;
    RS_TRY(rs_sampler_check(&p->sampler, error));
    if (p->n_stop_strings > RS_MAX_STOP_STRINGS || (p->n_stop_strings > 0 && p->stop_strings == NULL)) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "%zu stop strings were given, at most %d are taken",
                       p->n_stop_strings, RS_MAX_STOP_STRINGS);
    }
    for (size_t i = 0; i < p->n_stop_strings; i++) {
        const size_t bytes = p->stop_strings[i] != NULL ? strlen(p->stop_strings[i]) : 0;
        if (bytes == 0 || bytes > RS_MAX_STOP_BYTES) {
            return rs_fail(error, RS_INVALID_ARGUMENT, "stop string %zu has %zu bytes, must be 1 to %d", i,
                           bytes, RS_MAX_STOP_BYTES);
        }
    }
    if (p->n_stop_tokens > 0 && p->stop_tokens == NULL) {
        return rs_fail(error, RS_INVALID_ARGUMENT, "stop_tokens is NULL");
    }
    if (!c->has_logits)
        return rs_fail(error, RS_INVALID_ARGUMENT, "there are no logits: decode a token first");
    return RS_OK;
}

typedef struct writer {
    const rs_generate_params *params;
    char *text;
    size_t bytes; /* held back in text */
} writer;

static bool give(writer *w, size_t bytes) {
    const bool go_on =
        bytes == 0 || w->params->on_text == NULL || w->params->on_text(w->params->user, w->text, bytes);
    w->bytes -= bytes;
    memmove(w->text, w->text + bytes, w->bytes);
    return go_on;
}

/* Where the first stop string begins; w->bytes if there is none. */
static size_t find_stop(const writer *w) {
    size_t at = w->bytes;
    for (size_t i = 0; i < w->params->n_stop_strings; i++) {
        const char *stop = w->params->stop_strings[i];
        const size_t n = strlen(stop);
        for (size_t p = 0; p + n <= w->bytes && p < at; p++) {
            if (memcmp(w->text + p, stop, n) == 0) at = p;
        }
    }
    return at;
}

/* Bytes at the end that may be the beginning of a stop string. */
static size_t stop_prefix(const writer *w) {
    size_t longest = 0;
    for (size_t i = 0; i < w->params->n_stop_strings; i++) {
        const char *stop = w->params->stop_strings[i];
        size_t n = strlen(stop) - 1;
        if (n > w->bytes) n = w->bytes;
        while (n > longest && memcmp(w->text + w->bytes - n, stop, n) != 0) n--;
        if (n > longest) longest = n;
    }
    return longest;
}

/* Of the first `bytes`, how many end with a whole UTF-8 character (or with bytes that are none). */
static size_t whole_characters(const char *text, size_t bytes) {
    for (size_t back = 1; back <= 4 && back <= bytes; back++) {
        const unsigned char b = (unsigned char)text[bytes - back];
        if ((b & 0xc0) == 0x80) continue; /* a continuation: its lead is further back */
        const size_t length = b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : b >= 0xc0 ? 2 : 1;
        return length > back ? bytes - back : bytes;
    }
    return bytes;
}

static bool contains(const int32_t *tokens, size_t n, int32_t token) {
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] == token) return true;
    }
    return false;
}

/* Of the generated tokens, which are the last ones: the position of the one whose text byte `at` of the text
 * held back is in. */
static int32_t position_of(rs_context *c, const writer *w, size_t at, uint32_t n_tokens) {
    int32_t position = c->next_position;
    for (size_t end = w->bytes; end > at && n_tokens > 0; n_tokens--) {
        int32_t token;
        size_t bytes, count;
        position--;
        (void)rs_context_tokens(c, position, position + 1, &token, NULL, 1, &count);
        (void)rs_tokenizer_decode(c->model->tokenizer, &token, 1, false, NULL, 0, &bytes, NULL);
        end -= bytes < end ? bytes : end;
    }
    return position;
}

/* One token further. *done says whether to stop, then with report->reason. */
static rs_status step(rs_context *c, rs_sampler *sampler, writer *w, rs_generate_report *report, bool *done) {
    const rs_generate_params *p = w->params;
    int32_t token;
    *done = true;
    RS_TRY(rs_sample(c, sampler, &token));
    if (rs_tokenizer_is_end(c->model->tokenizer, token)) {
        report->reason = RS_STOP_END;
        return RS_OK;
    }
    if (contains(p->stop_tokens, p->n_stop_tokens, token)) {
        report->reason = RS_STOP_TOKEN;
        return RS_OK;
    }
    const rs_status decoded = rs_decode(c, &token, 1);
    if (decoded == RS_NO_SPACE) {
        report->reason = RS_STOP_FULL;
        return RS_OK;
    }
    RS_TRY(decoded);
    report->n_tokens++;
    report->text_end = c->next_position;
    if (p->on_token != NULL && !p->on_token(p->user, token, c->next_position - 1)) {
        report->reason = RS_STOP_CALLBACK;
        return RS_OK;
    }
    size_t bytes;
    RS_TRY(rs_tokenizer_decode(c->model->tokenizer, &token, 1, false, w->text + w->bytes,
                               c->text_capacity - w->bytes, &bytes, &c->error));
    w->bytes += bytes;
    const size_t stop = find_stop(w);
    if (stop < w->bytes) {
        report->text_end = position_of(c, w, stop, report->n_tokens);
        rs_port_secure_zero(w->text + stop, w->bytes - stop);
        w->bytes = stop;
        report->reason = RS_STOP_STRING;
        return RS_OK;
    }
    if (!give(w, whole_characters(w->text, w->bytes - stop_prefix(w)))) {
        report->reason = RS_STOP_CALLBACK;
        return RS_OK;
    }
    report->reason = RS_STOP_MAX;
    *done = p->max_tokens > 0 && report->n_tokens == p->max_tokens;
    return RS_OK;
}

rs_status rs_generate(rs_context *context, const rs_generate_params *params, rs_generate_report *report) {
    RS_TRY(rs_context_check(context));
    const rs_generate_params chosen = params != NULL ? *params : rs_generate_default_params();
    RS_TRY(check_params(context, &chosen));
    rs_sampler sampler;
    RS_TRY(rs_sampler_init(&sampler, &chosen.sampler, &context->error));
    const uint64_t start = rs_port_clock_ns();
    rs_generate_report result = {.reason = RS_STOP_MAX, .text_end = context->next_position};
    writer w = {.params = &chosen, .text = context->text};
    rs_status status = RS_OK;
    for (bool done = false; !done && status == RS_OK;) status = step(context, &sampler, &w, &result, &done);
    if (result.reason != RS_STOP_CALLBACK && !give(&w, w.bytes)) result.reason = RS_STOP_CALLBACK;
    rs_port_secure_zero(context->text, context->text_capacity);
    result.ms = (double)(rs_port_clock_ns() - start) / 1e6;
    if (report != NULL) *report = result;
    return status;
}
