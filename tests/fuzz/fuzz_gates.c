/* Fuzz target: loads the input as gates of a tiny model and, where that succeeds, reads more than the budget.
 */
#include <stdlib.h>
#include <string.h>

#include "rasure/rasure.h"
#include "tests/fuzz/fuzz.h"

/* Loaded once: what is tried is the gates. From the folder of the tests, where the fuzzers run. */
static rs_model *base(void) {
    static rs_model *model;
    if (model == NULL && rs_model_load("golden/data/tiny-qwen3.gguf", NULL, &model, NULL) != RS_OK) abort();
    return model;
}

static void run(const rs_gates *gates, rs_policy policy) {
    const rs_context_params params = {
        .n_ctx = 64,
        .n_batch = 8,
        .policy = {.policy = policy, .sinks = 1, .window = 2, .budget = 6, .floor = 2, .gates = gates}};
    size_t bytes;
    rs_context *context;
    rs_gates_info info;
    if (rs_gates_get_info(gates, &info) != RS_OK) abort();
    const bool refused = info.by_head && policy == RS_POLICY_GATES;
    if (rs_context_size(base(), &params, &bytes, NULL) != (refused ? RS_MISMATCH : RS_OK)) abort();
    if (refused) return;
    void *memory = aligned_alloc(64, bytes);
    if (memory == NULL) return;
    if (rs_context_init(memory, bytes, base(), &params, &context, NULL) != RS_OK) abort();
    int32_t tokens[60];
    for (int32_t i = 0; i < 60; i++) tokens[i] = i * 7 % 200;
    if (rs_decode(context, tokens, 60) != RS_OK) abort();
    rs_context_wipe(context);
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* Exactly sized and aligned, so that a read past the end is seen. */
    void *copy = aligned_alloc(8, (size + 7) / 8 * 8 + 8);
    if (copy == NULL) return 0;
    if (size > 0) memcpy(copy, data, size);
    rs_gates *gates;
    rs_error error = {RS_OK, ""};
    if (rs_gates_load_memory(base(), copy, size, &gates, &error) == RS_OK) {
        run(gates, RS_POLICY_GATES);
        run(gates, RS_POLICY_HEAD_GATES);
        rs_gates_free(gates);
    } else if (error.message[0] == '\0' || gates != NULL) {
        abort(); /* a refusal without a sentence, or half a result */
    }
    free(copy);
    return 0;
}
