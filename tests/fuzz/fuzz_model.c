/* Fuzz target: loads the input as a model and, where that succeeds, tokenizes, decodes, erases and writes a
 * little. */
#include <stdlib.h>
#include <string.h>

#include "rasure/rasure.h"
#include "tests/fuzz/fuzz.h"

static void run(const rs_model *model) {
    static const char text[] = "Hello <|im_start|>the world\xff\x00\xe2\x96\x81 1234 it's";
    const rs_context_params params = {.n_ctx = 32, .n_batch = 8};
    int32_t tokens[256];
    size_t n, bytes;
    char back[4096];
    rs_error error;
    rs_context *context;
    rs_model_info info;
    rs_model_get_info(model, &info);
    if (rs_tokenize(model, text, sizeof text, RS_TOKENIZE_SPECIAL | RS_TOKENIZE_BOS, tokens, 256, &n,
                    &error) == RS_OK)
        rs_detokenize(model, tokens, n, true, back, sizeof back, &bytes, &error);
    for (int part = RS_CHAT_BEGIN; part <= RS_CHAT_CLOSE; part++)
        for (int role = 0; role < 3; role++)
            rs_chat_tokens(model, (rs_chat_part)part, (rs_role)role, tokens, 256, &n, &error);
    if (rs_context_size(model, &params, &bytes, &error) != RS_OK || bytes > 64u << 20) return;
    void *memory = aligned_alloc(64, bytes);
    if (memory == NULL) return;
    if (rs_context_init(memory, bytes, model, &params, &context, &error) == RS_OK) {
        for (int32_t i = 0; i < 20; i++) tokens[i] = (i * 7 + 3) % (int32_t)info.n_vocab;
        rs_generate_params g = rs_generate_default_params();
        g.max_tokens = 3;
        g.sampler.temperature = 0.8f;
        g.sampler.top_p = 0.9f;
        g.sampler.top_k = 20;
        rs_generate_report report;
        if (rs_decode(context, tokens, 20) == RS_OK) {
            rs_generate(context, &g, &report);
            rs_erase_params e = rs_erase_default_params();
            e.method = RS_ERASE_SHIFT;
            rs_erase(context, &(rs_span){4, 9}, 1, &e, NULL);
            rs_erase(context, &(rs_span){1, 5}, 1, NULL, NULL);
            rs_decode(context, tokens, 1);
        }
        rs_context_wipe(context);
    }
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    void *file = malloc(size > 0 ? size : 1);
    if (file == NULL) return 0;
    memcpy(file, data, size);
    rs_model_params params = rs_model_default_params();
    params.isa = RS_ISA_REF;
    rs_model *model;
    rs_error error = {RS_OK, ""};
    if (rs_model_load_memory(file, size, &params, &model, &error) == RS_OK) run(model);
    else if (model != NULL || error.message[0] == '\0') abort();
    rs_model_free(model);
    free(file);
    return 0;
}
