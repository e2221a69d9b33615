/* Fuzz target: loads the input as an adapter of a tiny model and, where that succeeds, erases through it. */
#include <stdlib.h>
#include <string.h>

#include "rasure/rasure.h"
#include "tests/fuzz/fuzz.h"

/* Loaded once: what is tried is the adapter. From the folder of the tests, where the fuzzers run. */
static rs_model *base(void) {
    static rs_model *model;
    if (model == NULL && rs_model_load("golden/data/tiny-qwen3.gguf", NULL, &model, NULL) != RS_OK) abort();
    return model;
}

static void run(const rs_adapter *adapter) {
    const rs_context_params params = {.n_ctx = 32, .n_batch = 8};
    const rs_erase_params erase = {.method = RS_ERASE_LEARNED, .adapter = adapter, .repair_tokens = 3};
    size_t bytes;
    rs_context *context;
    if (rs_context_size(base(), &params, &bytes, NULL) != RS_OK) abort();
    void *memory = aligned_alloc(64, bytes);
    if (memory == NULL) return;
    if (rs_context_init(memory, bytes, base(), &params, &context, NULL) != RS_OK) abort();
    int32_t tokens[24];
    for (int32_t i = 0; i < 24; i++) tokens[i] = i * 7 + 3;
    if (rs_decode(context, tokens, 24) != RS_OK) abort();
    if (rs_erase(context, &(rs_span){8, 14}, 1, &erase, NULL) != RS_OK) abort();
    rs_decode(context, tokens, 1); /* weights may be so large that the logits are no numbers */
    rs_context_wipe(context);
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* Exactly sized and aligned, so that a read past the end is seen. */
    void *copy = aligned_alloc(8, (size + 7) / 8 * 8 + 8);
    if (copy == NULL) return 0;
    if (size > 0) memcpy(copy, data, size);
    rs_adapter *adapter;
    rs_adapter_info info;
    rs_error error;
    if (rs_adapter_load_memory(base(), copy, size, &adapter, &error) == RS_OK) {
        rs_adapter_get_info(adapter, &info);
        run(adapter);
        rs_adapter_free(adapter);
    }
    free(copy);
    return 0;
}
