/* Chat templates: which are recognised, what they put around a turn, and the system text that they hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/chat.h"
#include "tests/support/gguf_builder.h"

/* SmolLM2's and, in part, Qwen 2.5's: the latter escapes its line ends and comes to the text in its third
 * try. */
static const char smollm2_template[] =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
    "'<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
static const char qwen2_template[] =
    "{%- if tools %}\n{{- '<|im_start|>system\\n' }}\n{%- if messages[0]['role'] == 'system' %}\n"
    "{{- messages[0]['content'] }}\n{%- else %}\n{{- 'You are Qwen.' }}\n{%- endif %}\n"
    "{{- \"\\n\\n# Tools\" }}{{- \"</tools><|im_end|>\\n\" }}\n{%- else %}\n"
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n{%- else %}\n"
    "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful "
    "assistant.<|im_end|>\\n' }}";

static const char *const marker_texts[] = {"<|im_start|>",      "<|im_end|>", "<|start_header_id|>",
                                           "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>",
                                           "<end_of_turn>"};

enum { BOS = 256, IM_START, IM_END, START_HEADER, END_HEADER, EOT, START_TURN, END_TURN, N_TOKENS };

/* An SPM vocabulary of bytes, in which token b is byte b, a BOS and the markers. */
typedef struct fixture {
    rs_tokenizer *tokenizer;
    rs_chat chat;
} fixture;

typedef struct options {
    const char *template; /* NULL: none */
    const char *missing;  /* a marker that the vocabulary has not */
    bool wants_bos, no_bos;
} options;

static fixture open_chat(options o) {
    static char text[N_TOKENS][24];
    rs_string tokens[N_TOKENS];
    int32_t kinds[N_TOKENS];
    float scores[N_TOKENS] = {0};
    for (unsigned i = 0; i < N_TOKENS; i++) {
        if (i < 256) (void)snprintf(text[i], sizeof text[i], "<0x%02X>", i);
        else (void)snprintf(text[i], sizeof text[i], "%s", i == BOS ? "<s>" : marker_texts[i - IM_START]);
        if (o.missing != NULL && strcmp(text[i], o.missing) == 0) text[i][0] = '[';
        tokens[i] = (rs_string){text[i], strlen(text[i])};
        kinds[i] = i < 256 ? 6 : 3;
    }
    gguf_builder *builder = gguf_builder_new();
    gguf_add_string(builder, "tokenizer.ggml.model", "llama");
    gguf_add_strings(builder, "tokenizer.ggml.tokens", tokens, N_TOKENS);
    gguf_add_i32s(builder, "tokenizer.ggml.token_type", kinds, N_TOKENS);
    gguf_add_f32s(builder, "tokenizer.ggml.scores", scores, N_TOKENS);
    gguf_add_bool(builder, "tokenizer.ggml.add_space_prefix", false);
    gguf_add_bool(builder, "tokenizer.ggml.add_bos_token", o.wants_bos);
    if (!o.no_bos) gguf_add_u32(builder, "tokenizer.ggml.bos_token_id", BOS);
    if (o.template != NULL) gguf_add_string(builder, "tokenizer.chat_template", o.template);

    fixture f = {0};
    size_t bytes;
    rs_gguf *gguf;
    rs_error error;
    const void *data = gguf_build(builder, &bytes);
    if (rs_gguf_open(data, bytes, &gguf, &error) != RS_OK ||
        rs_tokenizer_open(gguf, N_TOKENS, &f.tokenizer, &error) != RS_OK ||
        rs_chat_open(gguf, f.tokenizer, &f.chat, &error) != RS_OK)
        fail_msg("%s", error.message);
    rs_gguf_close(gguf);
    gguf_builder_free(builder);
    return f;
}

static void close_chat(fixture f) {
    rs_tokenizer_close(f.tokenizer);
}

/* The tokens of a part must be those of this text with its markers. */
static void check_part(const fixture *f, rs_chat_part part, rs_role role, const char *text) {
    int32_t tokens[64], expected[64];
    size_t count, n;
    rs_error error;
    assert_int_equal(
        rs_tokenizer_encode(f->tokenizer, text, strlen(text), RS_TOKENIZE_SPECIAL, expected, 64, &n, &error),
        RS_OK);
    if (rs_chat_encode(&f->chat, f->tokenizer, part, role, tokens, 64, &count, &error) != RS_OK)
        fail_msg("%s", error.message);
    assert_int_equal(count, n);
    assert_memory_equal(tokens, expected, n * sizeof *tokens);
}

static rs_status encode(const fixture *f, rs_chat_part part, rs_role role, rs_error *error) {
    size_t count;
    return rs_chat_encode(&f->chat, f->tokenizer, part, role, NULL, 0, &count, error);
}

static void chatml(void **state) {
    (void)state;
    fixture f = open_chat((options){.template = smollm2_template});
    assert_int_equal(f.chat.format, RS_CHAT_CHATML);
    assert_string_equal(f.chat.default_system,
                        "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
    check_part(&f, RS_CHAT_BEGIN, RS_ROLE_USER, "");
    check_part(&f, RS_CHAT_OPEN, RS_ROLE_SYSTEM, "<|im_start|>system\n");
    check_part(&f, RS_CHAT_OPEN, RS_ROLE_USER, "<|im_start|>user\n");
    check_part(&f, RS_CHAT_OPEN, RS_ROLE_ASSISTANT, "<|im_start|>assistant\n");
    check_part(&f, RS_CHAT_CLOSE, RS_ROLE_USER, "<|im_end|>\n");
    close_chat(f);

    f = open_chat((options){.template = qwen2_template, .wants_bos = true});
    assert_int_equal(f.chat.format, RS_CHAT_CHATML);
    assert_string_equal(f.chat.default_system,
                        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.");
    check_part(&f, RS_CHAT_BEGIN, RS_ROLE_USER, "<s>");
    close_chat(f);
}

static void llama3(void **state) {
    (void)state;
    fixture f = open_chat((options){.template = "{{ bos_token }}<|start_header_id|>"});
    assert_int_equal(f.chat.format, RS_CHAT_LLAMA3);
    assert_string_equal(f.chat.default_system, "");
    check_part(&f, RS_CHAT_BEGIN, RS_ROLE_USER, "<s>");
    check_part(&f, RS_CHAT_OPEN, RS_ROLE_SYSTEM, "<|start_header_id|>system<|end_header_id|>\n\n");
    check_part(&f, RS_CHAT_OPEN, RS_ROLE_USER, "<|start_header_id|>user<|end_header_id|>\n\n");
    check_part(&f, RS_CHAT_OPEN, RS_ROLE_ASSISTANT, "<|start_header_id|>assistant<|end_header_id|>\n\n");
    check_part(&f, RS_CHAT_CLOSE, RS_ROLE_ASSISTANT, "<|eot_id|>");
    close_chat(f);

    f = open_chat((options){.template = "<|start_header_id|>", .no_bos = true});
    check_part(&f, RS_CHAT_BEGIN, RS_ROLE_USER, "");
    close_chat(f);
}

static void gemma(void **state) {
    (void)state;
    rs_error error;
    fixture f = open_chat((options){.template = "{{ '<start_of_turn>' + role + '\\n' }}"});
    assert_int_equal(f.chat.format, RS_CHAT_GEMMA);
    check_part(&f, RS_CHAT_BEGIN, RS_ROLE_USER, "<s>");
    check_part(&f, RS_CHAT_OPEN, RS_ROLE_USER, "<start_of_turn>user\n");
    check_part(&f, RS_CHAT_OPEN, RS_ROLE_ASSISTANT, "<start_of_turn>model\n");
    check_part(&f, RS_CHAT_CLOSE, RS_ROLE_USER, "<end_of_turn>\n");
    assert_int_equal(encode(&f, RS_CHAT_OPEN, RS_ROLE_SYSTEM, &error), RS_UNSUPPORTED);
    assert_non_null(strstr(error.message, "gemma"));
    close_chat(f);
}

static void never_guessed(void **state) {
    (void)state;
    static const struct {
        options options;
        rs_chat_format format;
    } cases[] = {
        {{.template = NULL}, RS_CHAT_NONE},
        {{.template = ""}, RS_CHAT_UNKNOWN},
        {{.template = "[INST] {{ content }} [/INST]"}, RS_CHAT_UNKNOWN},
        {{.template = "<|im_start|"}, RS_CHAT_UNKNOWN},
        {{.template = smollm2_template, .missing = "<|im_start|>"}, RS_CHAT_UNKNOWN},
        {{.template = smollm2_template, .missing = "<|im_end|>"}, RS_CHAT_UNKNOWN},
        {{.template = "<|start_header_id|>", .missing = "<|end_header_id|>"}, RS_CHAT_UNKNOWN},
        {{.template = "<start_of_turn>", .missing = "<end_of_turn>"}, RS_CHAT_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f = open_chat(cases[i].options);
        assert_int_equal(f.chat.format, cases[i].format);
        assert_string_equal(f.chat.default_system, "");
        for (int part = RS_CHAT_BEGIN; part <= RS_CHAT_CLOSE; part++) {
            rs_error error;
            assert_int_equal(encode(&f, (rs_chat_part)part, RS_ROLE_USER, &error), RS_UNSUPPORTED);
            assert_non_null(strstr(error.message, "chatml, llama3 and gemma"));
        }
        close_chat(f);
    }
}

static void default_system_is_plain_text(void **state) {
    (void)state;
    char longest[600] = "<|im_start|>system\n", text[512];
    memset(text, 'x', 511);
    text[511] = '\0';
    strcat(strcat(longest, text), "<|im_end|>");
    const struct {
        const char *template, *expected;
    } cases[] = {
        {"<|im_start|>system\nTwo\nlines.<|im_end|>", "Two\nlines."},
        {"<|im_start|>system\n<|im_end|><|im_start|>system\nSecond<|im_end|>", "Second"},
        {"<|im_start|>system\nIt's<|im_end|>", ""},
        {"<|im_start|>system\nSay \"no\"<|im_end|>", ""},
        {"<|im_start|>system\n{{ text }}<|im_end|>", ""},
        {"<|im_start|>system\nAn\\nescape<|im_end|>", ""},
        {"<|im_start|>system\nA\ttab<|im_end|>", ""},
        {"<|im_start|>system\nNo end", ""},
        {"<|im_start|>system", ""},
        {"<|im_start|>system\\", ""},
        {"<|im_start|>system text<|im_end|>", ""},
        {longest, text},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fixture f = open_chat((options){.template = cases[i].template});
        assert_int_equal(f.chat.format, RS_CHAT_CHATML);
        assert_string_equal(f.chat.default_system, cases[i].expected);
        close_chat(f);
    }
    strcpy(strstr(longest, "<|im_end|>"), "x<|im_end|>"); /* one more than there is room for */
    fixture f = open_chat((options){.template = longest});
    assert_string_equal(f.chat.default_system, "");
    close_chat(f);
}

static void counts_and_arguments(void **state) {
    (void)state;
    fixture f = open_chat((options){.template = smollm2_template});
    int32_t tokens[8] = {-7, -7, -7, -7, -7, -7, -7, -7};
    size_t count = 99;
    rs_error error;
#define ENCODE(tokens, capacity, count)                                                                      \
    rs_chat_encode(&f.chat, f.tokenizer, RS_CHAT_OPEN, RS_ROLE_USER, tokens, capacity, count, &error)
    assert_int_equal(ENCODE(NULL, 0, &count), RS_OK);
    assert_int_equal(count, 6);
    assert_int_equal(ENCODE(tokens, 5, &count), RS_NO_SPACE);
    assert_int_equal(count, 6);
    assert_int_equal(tokens[0], -7);
    assert_int_equal(ENCODE(tokens, 6, &count), RS_OK);
    assert_int_equal(tokens[0], IM_START);
    assert_int_equal(tokens[5], '\n');
    assert_int_equal(tokens[6], -7);
    assert_int_equal(ENCODE(NULL, 1, &count), RS_INVALID_ARGUMENT);
    assert_int_equal(ENCODE(tokens, 8, NULL), RS_INVALID_ARGUMENT);
#undef ENCODE
    assert_int_equal(encode(&f, (rs_chat_part)3, RS_ROLE_USER, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(encode(&f, RS_CHAT_OPEN, (rs_role)3, &error), RS_INVALID_ARGUMENT);
    assert_int_equal(encode(&f, RS_CHAT_BEGIN, (rs_role)3, &error), RS_OK); /* role ignored */
    close_chat(f);
}

static void names(void **state) {
    (void)state;
    assert_string_equal(rs_chat_format_name(RS_CHAT_NONE), "none");
    assert_string_equal(rs_chat_format_name(RS_CHAT_CHATML), "chatml");
    assert_string_equal(rs_chat_format_name(RS_CHAT_LLAMA3), "llama3");
    assert_string_equal(rs_chat_format_name(RS_CHAT_GEMMA), "gemma");
    assert_string_equal(rs_chat_format_name(RS_CHAT_UNKNOWN), "unknown");
    assert_string_equal(rs_chat_format_name((rs_chat_format)5), "?");
}

static void wrong_type(void **state) {
    (void)state;
    fixture f = open_chat((options){.template = NULL});
    gguf_builder *builder = gguf_builder_new();
    gguf_add_u32(builder, "tokenizer.chat_template", 1);
    size_t bytes;
    rs_gguf *gguf;
    rs_error error;
    const void *data = gguf_build(builder, &bytes);
    assert_int_equal(rs_gguf_open(data, bytes, &gguf, &error), RS_OK);
    assert_int_equal(rs_chat_open(gguf, f.tokenizer, &f.chat, &error), RS_BAD_FILE);
    assert_non_null(strstr(error.message, "tokenizer.chat_template"));
    rs_gguf_close(gguf);
    gguf_builder_free(builder);
    close_chat(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chatml),
        cmocka_unit_test(llama3),
        cmocka_unit_test(gemma),
        cmocka_unit_test(never_guessed),
        cmocka_unit_test(default_system_is_plain_text),
        cmocka_unit_test(counts_and_arguments),
        cmocka_unit_test(names),
        cmocka_unit_test(wrong_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
