/* Chat templates: recognised from the file's metadata, never executed. */
#ifndef RASURE_RUNTIME_CHAT_H
#define RASURE_RUNTIME_CHAT_H

#include "runtime/tokenizer/tokenizer.h"

typedef struct rs_chat {
    rs_chat_format format;
    char default_system[512]; /* text that the template puts first by itself; "" if none */
} rs_chat;

/* Recognises the template in `tokenizer.chat_template`. A template that is not known is RS_CHAT_UNKNOWN, not
 * a failure. */
rs_status rs_chat_open(const rs_gguf *gguf, const rs_tokenizer *tokenizer, rs_chat *chat, rs_error *error);
const char *rs_chat_format_name(rs_chat_format format);

/* Contract of rs_chat_tokens in rasure.h. */
rs_status rs_chat_encode(const rs_chat *chat, const rs_tokenizer *tokenizer, rs_chat_part part, rs_role role,
                         int32_t *tokens, size_t capacity, size_t *count, rs_error *error);

#endif
