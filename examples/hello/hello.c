/* librasure from C: read a text, answer, take one sentence of it back, answer again. */
#include <rasure/rasure.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(rs_status status, const char *message) {
    if (status == RS_OK) return;
    fprintf(stderr, "hello: %s\n", message);
    exit(1);
}

static void must_in(rs_context *context, rs_status status) {
    must(status, rs_context_message(context));
}

static bool print(void *user, const char *text, size_t bytes) {
    return fwrite(text, 1, bytes, user) == bytes;
}

int main(int argc, char **argv) {
    static const char *const pieces[3] = {
        "<|im_start|>user\nAnn lives in Oslo.", " Ann lives in Rome.",
        " Where does Ann live?<|im_end|>\n<|im_start|>assistant\nAnn lives in"};
    rs_error error;
    rs_model *model;
    must(rs_model_load(argc > 1 ? argv[1] : "model.gguf", NULL, &model, &error), error.message);

    rs_context *context;
    size_t bytes;
    must(rs_context_size(model, NULL, &bytes, &error), error.message);
    void *memory = aligned_alloc(64, bytes); /* all that the conversation will ever take */
    must(memory == NULL ? RS_NO_MEMORY : RS_OK, "no memory");
    must(rs_context_init(memory, bytes, model, NULL, &context, &error), error.message);

    int32_t tokens[256];
    size_t end[3], used = 0; /* end[i]: position behind piece i */
    for (size_t i = 0, count; i < 3; i++) {
        must(rs_tokenize(model, pieces[i], strlen(pieces[i]),
                         RS_TOKENIZE_SPECIAL | (i > 0 ? RS_TOKENIZE_CONTINUES : 0U), tokens + used,
                         256 - used, &count, &error),
             error.message);
        end[i] = used += count;
    }
    rs_generate_params answer = rs_generate_default_params();
    answer.max_tokens = 8;
    answer.on_text = print;
    answer.user = stdout;
    must_in(context, rs_decode(context, tokens, used));
    must_in(context, rs_generate(context, &answer, NULL));
    puts("  <- with all of the text");

    const rs_span span = {(int32_t)end[0], (int32_t)end[1]};
    must_in(context, rs_truncate(context, span.end)); /* the question again, and behind the erase */
    must_in(context, rs_erase(context, &span, 1, NULL, NULL));
    must_in(context, rs_decode(context, tokens + end[1], used - end[1]));
    must_in(context, rs_generate(context, &answer, NULL));
    puts("  <- without the second sentence");

    rs_context_wipe(context);
    free(memory);
    rs_model_free(model);
    return 0;
}
