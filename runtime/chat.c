/* Chat templates: known by the marker that opens a turn, and written out here as tokens. */
#include "runtime/chat.h"

#include <string.h>

#include "runtime/status.h"

/* Tokens of one part: two markers, and "assistant" with its line ends at one token a byte. */
enum { MAX_PART = 16 };

typedef struct format {
    const char *name;
    const char *open;        /* marker before the role; NULL: not a format that can be written */
    const char *roles[3];    /* text after it, by rs_role; NULL: the format has no such role */
    const char *opened;      /* marker after that; NULL: none */
    const char *opened_text; /* text after that */
    const char *close;       /* marker after the turn */
    const char *close_text;  /* text after that */
    bool begins_with_bos;    /* whatever the file asks for */
} format;

static const format formats[] = {
    [RS_CHAT_NONE] = {.name = "none"},
    [RS_CHAT_CHATML] = {.name = "chatml",
                        .open = "<|im_start|>",
                        .roles = {"system\n", "user\n", "assistant\n"},
                        .close = "<|im_end|>",
                        .close_text = "\n"},
    [RS_CHAT_LLAMA3] = {.name = "llama3",
                        .open = "<|start_header_id|>",
                        .roles = {"system", "user", "assistant"},
                        .opened = "<|end_header_id|>",
                        .opened_text = "\n\n",
                        .close = "<|eot_id|>",
                        .close_text = "",
                        .begins_with_bos = true},
    [RS_CHAT_GEMMA] = {.name = "gemma",
                       .open = "<start_of_turn>",
                       .roles = {NULL, "user\n", "model\n"},
                       .close = "<end_of_turn>",
                       .close_text = "\n",
                       .begins_with_bos = true},
    [RS_CHAT_UNKNOWN] = {.name = "unknown"},
};

const char *rs_chat_format_name(rs_chat_format f) {
    return (unsigned)f <= RS_CHAT_UNKNOWN ? formats[f].name : "?";
}

/* ----------------------------------------------------------------------------------------- recognising -- */

/* Moves `text` behind the first occurrence of `literal`; false if there is none. */
static bool skip_past(rs_string *text, const char *literal) {
    const size_t n = strlen(literal);
    for (rs_string at = *text; at.bytes >= n; at.data++, at.bytes--)
        if (memcmp(at.data, literal, n) == 0) {
            *text = (rs_string){at.data + n, at.bytes - n};
            return true;
        }
    return false;
}

static bool has_markers(const rs_tokenizer *tokenizer, const format *f) {
    return rs_tokenizer_special(tokenizer, f->open) >= 0 && rs_tokenizer_special(tokenizer, f->close) >= 0 &&
           (f->opened == NULL || rs_tokenizer_special(tokenizer, f->opened) >= 0);
}

/* Literal text up to `end`, as opposed to an expression, or to text with escapes to be undone. */
static bool take_plain(rs_string text, const char *end, char *plain, size_t capacity) {
    if (text.bytes > capacity + strlen(end)) text.bytes = capacity + strlen(end);
    rs_string after = text;
    if (!skip_past(&after, end)) return false;
    const size_t n = text.bytes - after.bytes - strlen(end);
    if (n == 0 || n >= capacity) return false;
    for (size_t i = 0; i < n; i++)
        if (strchr("'\"{}\\", text.data[i]) != NULL ||
            ((unsigned char)text.data[i] < ' ' && text.data[i] != '\n'))
            return false;
    memcpy(plain, text.data, n);
    plain[n] = '\0';
    return true;
}

/* The first system turn that the template itself has the text of. Its line end may be an escape. */
static void find_default_system(rs_string template, char *text, size_t capacity) {
    while (skip_past(&template, "<|im_start|>system")) {
        rs_string content = template;
        if (content.bytes >= 1 && content.data[0] == '\n')
            content = (rs_string){content.data + 1, content.bytes - 1};
        else if (content.bytes >= 2 && memcmp(content.data, "\\n", 2) == 0)
            content = (rs_string){content.data + 2, content.bytes - 2};
        else continue;
        if (take_plain(content, "<|im_end|>", text, capacity)) return;
    }
}

rs_status rs_chat_open(const rs_gguf *gguf, const rs_tokenizer *tokenizer, rs_chat *chat, rs_error *error) {
    *chat = (rs_chat){.format = RS_CHAT_NONE};
    rs_string template = {NULL, 0};
    RS_TRY(rs_gguf_string_or(gguf, "tokenizer.chat_template", &template, error));
    if (template.data == NULL) return RS_OK;

    chat->format = RS_CHAT_UNKNOWN;
    for (rs_chat_format f = RS_CHAT_CHATML; f < RS_CHAT_UNKNOWN && chat->format == RS_CHAT_UNKNOWN; f++) {
        rs_string at = template;
        if (skip_past(&at, formats[f].open) && has_markers(tokenizer, &formats[f])) chat->format = f;
    }
    if (chat->format == RS_CHAT_CHATML)
        find_default_system(template, chat->default_system, sizeof chat->default_system);
    return RS_OK;
}

/* -------------------------------------------------------------------------------------------- encoding -- */

typedef struct part {
    int32_t tokens[MAX_PART];
    size_t count;
} part;

static void add_marker(part *p, const rs_tokenizer *tokenizer, const char *marker) {
    p->tokens[p->count++] = rs_tokenizer_special(tokenizer, marker);
}

static rs_status add_text(part *p, const rs_tokenizer *tokenizer, const char *text, rs_error *error) {
    size_t count;
    RS_TRY(rs_tokenizer_encode(tokenizer, text, strlen(text), 0, p->tokens + p->count, MAX_PART - p->count,
                               &count, error));
    p->count += count;
    return RS_OK;
}

/* How to write this part of this format; `p` holds it afterwards. */
static rs_status write_part(part *p, const format *f, const rs_tokenizer *tokenizer, rs_chat_part which,
                            rs_role role, rs_error *error) {
    switch (which) {
    case RS_CHAT_BEGIN:
        if ((f->begins_with_bos || rs_tokenizer_wants_bos(tokenizer)) && rs_tokenizer_bos(tokenizer) >= 0)
            p->tokens[p->count++] = rs_tokenizer_bos(tokenizer);
        return RS_OK;
    case RS_CHAT_OPEN:
        if ((unsigned)role > RS_ROLE_ASSISTANT)
            return rs_fail(error, RS_INVALID_ARGUMENT, "chat: role %d is none of system, user and assistant",
                           (int)role);
        if (f->roles[role] == NULL)
            return rs_fail(error, RS_UNSUPPORTED,
                           "chat: the %s format has no system role; put the text first in the "
                           "user's turn",
                           f->name);
        add_marker(p, tokenizer, f->open);
        RS_TRY(add_text(p, tokenizer, f->roles[role], error));
        if (f->opened == NULL) return RS_OK;
        add_marker(p, tokenizer, f->opened);
        return add_text(p, tokenizer, f->opened_text, error);
    case RS_CHAT_CLOSE:
        add_marker(p, tokenizer, f->close);
        return add_text(p, tokenizer, f->close_text, error);
    }
    return rs_fail(error, RS_INVALID_ARGUMENT, "chat: part %d is none of begin, open and close", (int)which);
}

rs_status rs_chat_encode(const rs_chat *chat, const rs_tokenizer *tokenizer, rs_chat_part which, rs_role role,
                         int32_t *tokens, size_t capacity, size_t *count, rs_error *error) {
    if ((tokens == NULL && capacity > 0) || count == NULL)
        return rs_fail(error, RS_INVALID_ARGUMENT, "chat: a pointer is NULL");
    const format *f = &formats[chat->format];
    if (f->open == NULL)
        return rs_fail(error, RS_UNSUPPORTED, "chat: the file has %s; chatml, llama3 and gemma are known",
                       chat->format == RS_CHAT_NONE ? "no template" : "a template that is not known");
    part p = {.count = 0};
    RS_TRY(write_part(&p, f, tokenizer, which, role, error));
    *count = p.count;
    if (tokens == NULL) return RS_OK;
    if (p.count > capacity)
        return rs_fail(error, RS_NO_SPACE, "chat: %zu tokens, and there is room for %zu", p.count, capacity);
    memcpy(tokens, p.tokens, p.count * sizeof *tokens);
    return RS_OK;
}
