/*
 * Every file of the manifest that make_malformed.py wrote: its status, and a message that names the place.
 * Files that load are also run, as their weights may be hostile. The folder is the first argument, or
 * RS_MALFORMED_DIR. Each file lies in a block of exactly its size, so that a sanitizer sees a read past its
 * end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rasure/rasure.h"

enum { MAX_ROWS = 1000 };

/* A line of the manifest. */
typedef struct row {
    char line[512];
    const char *file, *status, *part;
    const char *folder;
} row;

static void *read_file(const row *r, size_t *bytes) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", r->folder, r->file);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *bytes = (size_t)ftell(file);
    rewind(file);
    void *data = malloc(*bytes);
    assert_true(data != NULL || *bytes == 0);
    assert_int_equal(fread(data, 1, *bytes, file), *bytes);
    fclose(file);
    return data;
}

static void assert_names_the_place(const char *message, const row *r) {
    assert_true(message[0] != '\0');
    if (strstr(message, r->part) == NULL) fail_msg("\"%s\" is not in \"%s\"", r->part, message);
    for (const char *c = message; *c != '\0'; c++) assert_true((unsigned char)*c >= ' ' && *c != 0x7f);
}

/* Reads some tokens, writes some, takes some back. */
static void use(rs_context *context, const row *r, const rs_model_info *info) {
    int32_t tokens[40];
    for (int32_t i = 0; i < 40; i++) tokens[i] = (i * 7 + 3) % (int32_t)info->n_vocab;
    const rs_status status = rs_decode(context, tokens, 40);
    if (r->part[0] != '\0') {
        assert_int_not_equal(status, RS_OK);
        assert_names_the_place(rs_context_message(context), r);
        return;
    }
    assert_int_equal(status, RS_OK);
    rs_generate_params params = rs_generate_default_params();
    params.max_tokens = 8;
    rs_generate_report report;
    assert_int_equal(rs_generate(context, &params, &report), RS_OK);
    assert_int_equal(rs_erase(context, &(rs_span){4, 20}, 1, NULL, NULL), RS_OK);
    assert_int_equal(rs_decode(context, tokens, 1), RS_OK);
}

static void run(const rs_model *model, const row *r) {
    const rs_context_params params = {.n_ctx = 64, .n_batch = 16};
    rs_error error;
    rs_model_info info;
    size_t bytes;
    rs_context *context;
    assert_int_equal(rs_model_get_info(model, &info), RS_OK);
    assert_int_equal(rs_context_size(model, &params, &bytes, &error), RS_OK);
    void *memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    assert_int_equal(rs_context_init(memory, bytes, model, &params, &context, &error), RS_OK);
    use(context, r, &info);
    rs_context_wipe(context);
    free(memory);
}

static void test_row(void **state) {
    const row *r = *state;
    rs_model_params portable = rs_model_default_params();
    portable.isa = RS_ISA_REF;
    size_t bytes;
    void *data = read_file(r, &bytes);
    rs_error error = {RS_OK, ""};
    rs_model *model = data; /* must be overwritten in any case */
    const rs_status status = rs_model_load_memory(data, bytes, NULL, &model, &error);
    if (strcmp(rs_status_name(status), r->status) != 0)
        fail_msg("%s, not %s: \"%s\"", rs_status_name(status), r->status, error.message);
    if (status == RS_OK) {
        run(model, r);
        rs_model_free(model);
        assert_int_equal(rs_model_load_memory(data, bytes, &portable, &model, &error), RS_OK);
        run(model, r);
        rs_model_free(model);
    } else {
        assert_null(model);
        assert_int_equal(error.status, status);
        assert_names_the_place(error.message, r);
        assert_int_equal(rs_model_load_memory(data, bytes, NULL, &model, NULL), status);
    }
    free(data);
}

/* Cuts a line into its three fields; false for anything else. */
static bool parse(row *r, const char *folder) {
    r->line[strcspn(r->line, "\n")] = '\0';
    char *status = strchr(r->line, '\t');
    if (status == NULL) return false;
    *status++ = '\0';
    char *part = strchr(status, '\t');
    if (part == NULL) return false;
    *part++ = '\0';
    r->file = r->line;
    r->status = status;
    r->part = part;
    r->folder = folder;
    return true;
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : getenv("RS_MALFORMED_DIR");
    if (folder == NULL) {
        fprintf(stderr, "usage: %s FOLDER (that make_malformed.py wrote)\n", argv[0]);
        return 2;
    }
    static row rows[MAX_ROWS];
    static struct CMUnitTest tests[MAX_ROWS];
    char path[1024];
    snprintf(path, sizeof path, "%s/manifest.tsv", folder);
    FILE *manifest = fopen(path, "r");
    size_t n = 0;
    if (manifest != NULL) {
        for (; n < MAX_ROWS && fgets(rows[n].line, sizeof rows[n].line, manifest) != NULL; n++) {
            if (!parse(&rows[n], folder)) {
                fprintf(stderr, "%s: line %zu is not three fields\n", path, n + 1);
                return 2;
            }
            tests[n] = (struct CMUnitTest){rows[n].file, test_row, NULL, NULL, &rows[n]};
        }
        fclose(manifest);
    }
    if (n < 80 || n == MAX_ROWS) {
        fprintf(stderr, "%s: %zu rows, not 80 to %d\n", path, n, MAX_ROWS - 1);
        return 2;
    }
    return _cmocka_run_group_tests("malformed", tests, n, NULL, NULL);
}
