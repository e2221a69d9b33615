/*
 * Token ids of a few thousand texts against those of Hugging Face tokenizers and of sentencepiece
 * (tests/golden/README.md). The SPM part needs a file with Gemma 3's vocabulary, named by RASURE_GEMMA;
 * without it, it is reported as skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/tokenizer/internal.h"
#include "tests/support/support.h"

enum { MAX_COLUMNS = 4 };

/* A file of goldens, and a place in it. */
typedef struct golden_text {
    rs_port_map map;
    const char *at, *end;
    size_t line;
} golden_text;

/* The text and the expected tokens of one line. */
typedef struct example {
    char *text;
    size_t bytes;
    int32_t *tokens[MAX_COLUMNS];
    size_t counts[MAX_COLUMNS];
} example;

static unsigned hex(char c) {
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10);
}

/* Every field is at least as long as what it becomes. */
static void *room(const char *begin, const char *end, size_t each) {
    void *memory = calloc((size_t)(end - begin) + 1, each);
    assert_non_null(memory);
    return memory;
}

static const char *field_end(const golden_text *file) {
    const char *at = file->at;
    while (at < file->end && *at != '\t' && *at != '\n') at++;
    return at;
}

static void take_field_end(golden_text *file, const char *end, bool last) {
    if (end == file->end || *end != (last ? '\n' : '\t'))
        fail_msg("line %zu has another number of columns", file->line);
    file->at = end + 1;
}

static bool next_example(golden_text *file, size_t columns, example *e) {
    if (file->at == file->end) return false;
    file->line++;
    const char *end = field_end(file);
    *e = (example){.text = room(file->at, end, 1)};
    for (const char *at = file->at; at + 1 < end; at += 2)
        e->text[e->bytes++] = (char)(hex(at[0]) << 4 | hex(at[1]));
    take_field_end(file, end, false);
    for (size_t c = 0; c < columns; c++) {
        end = field_end(file);
        e->tokens[c] = room(file->at, end, sizeof(int32_t));
        for (const char *at = file->at; at < end; at++) {
            char *after;
            e->tokens[c][e->counts[c]++] = (int32_t)strtol(at, &after, 10);
            at = after;
        }
        take_field_end(file, end, c + 1 == columns);
    }
    return true;
}

static void free_example(example *e) {
    free(e->text);
    for (size_t c = 0; c < MAX_COLUMNS; c++) free(e->tokens[c]);
}

static bool gives_back(const rs_tokenizer *t, const int32_t *tokens, size_t count, const example *e) {
    char *text = malloc(e->bytes + 1);
    assert_non_null(text);
    size_t bytes;
    const rs_status status = rs_tokenizer_decode(t, tokens, count, true, text, e->bytes, &bytes, NULL);
    const bool same = status == RS_OK && bytes == e->bytes && memcmp(text, e->text, bytes) == 0;
    free(text);
    return same;
}

/* Returns whether the expected tokens give back the text. Where they do not, ours do, or the text is refused.
 */
static bool check_example(const rs_tokenizer *t, const example *e, size_t column, const char *name,
                          size_t line) {
    rs_error error;
    size_t count = 0;
    int32_t *tokens = malloc((e->bytes + 1) * sizeof *tokens);
    assert_non_null(tokens);
    const rs_status status =
        rs_tokenizer_encode(t, e->text, e->bytes, 0, tokens, e->bytes + 1, &count, &error);
    const bool lossless = gives_back(t, e->tokens[column], e->counts[column], e);
    if (status != RS_OK && (lossless || status != RS_UNSUPPORTED))
        fail_msg("%s, line %zu: %s", name, line, error.message);
    if (status == RS_OK && !gives_back(t, tokens, count, e))
        fail_msg("%s, line %zu: not given back", name, line);
    if (lossless &&
        (count != e->counts[column] || memcmp(tokens, e->tokens[column], count * sizeof *tokens) != 0))
        fail_msg("%s, line %zu: other tokens", name, line);
    free(tokens);
    return lossless;
}

/* Opens the model's tokenizer once for each pre-tokenizer (NULL: the file's own) and checks all lines of
 * `file_name`. */
static void check_file(const char *model, const char *file_name, const char *const *pres, size_t columns) {
    rs_port_map map;
    rs_gguf *gguf;
    rs_gguf_array vocabulary;
    rs_error error;
    rs_tokenizer *tokenizers[MAX_COLUMNS];
    if (rs_port_map_file(model, &map) != 0) fail_msg("%s cannot be read", model);
    if (rs_gguf_open(map.data, map.bytes, &gguf, &error) != RS_OK ||
        rs_gguf_get_array(gguf, "tokenizer.ggml.tokens", RS_GGUF_STRING, &vocabulary, &error) != RS_OK)
        fail_msg("%s", error.message);
    for (size_t c = 0; c < columns; c++)
        if (rs_tokenizer_open_as(gguf, vocabulary.count, pres[c], &tokenizers[c], &error) != RS_OK)
            fail_msg("%s", error.message);
    rs_gguf_close(gguf);
    rs_port_unmap(&map);

    golden_text file = {.line = 0};
    const char *path = rs_test_golden_path(file_name);
    if (rs_port_map_file(path, &file.map) != 0) fail_msg("%s cannot be read", path);
    file.at = file.map.data;
    file.end = file.at + file.map.bytes;
    size_t lossy = 0;
    for (example e; next_example(&file, columns, &e); free_example(&e))
        for (size_t c = 0; c < columns; c++)
            lossy += !check_example(tokenizers[c], &e, c, file_name, file.line);
    assert_true(file.line > 1000);
    assert_true(lossy <= file.line * columns / 50);
    rs_port_unmap(&file.map);
    for (size_t c = 0; c < columns; c++) rs_tokenizer_close(tokenizers[c]);
}

static const char *const pres[MAX_COLUMNS] = {"smollm", "gpt-2", "qwen2", "llama-bpe"};

/* SmolLM2's vocabulary. */
static void bpe(void **state) {
    (void)state;
    check_file(rs_test_default_model(), "tokenizer_bpe.tsv", pres, MAX_COLUMNS);
}

/* A vocabulary in which every wrong split shows. */
static void pre_tokenizers(void **state) {
    (void)state;
    char model[1024];
    strncpy(model, rs_test_golden_path("tokenizer_pre.gguf"), sizeof model - 1);
    model[sizeof model - 1] = '\0';
    check_file(model, "tokenizer_pre.tsv", pres, MAX_COLUMNS);
}

static void spm(void **state) {
    (void)state;
    const char *model = getenv("RASURE_GEMMA");
    if (model == NULL) skip();
    check_file(model, "tokenizer_spm.tsv", &(const char *){NULL}, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bpe),
        cmocka_unit_test(pre_tokenizers),
        cmocka_unit_test(spm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
