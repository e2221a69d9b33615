/* Fuzz target: the input says which words of a saved context are others, eight bytes each: where, and what.
 * The checksum is made right, the context loaded and, where that succeeds, gone on with. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/support/state_builder.h"

enum { N_CTX = 48, N_TOKENS = 32 };

typedef struct setting {
    rs_model *model;
    rs_context *context;
    int32_t tokens[N_TOKENS];
    rs_test_state state;
} setting;

static void must(rs_status status) {
    if (status != RS_OK) abort();
}

static rs_context *make(const rs_model *model, rs_policy policy) {
    const rs_context_params params = {
        .n_ctx = N_CTX,
        .n_batch = 8,
        .policy = {.policy = policy, .sinks = 2, .window = 6, .rewind = 2, .budget = 12},
        .refine = true,
    };
    size_t bytes;
    rs_context *context;
    must(rs_context_size(model, &params, &bytes, NULL));
    void *memory = aligned_alloc(64, bytes);
    if (memory == NULL) abort();
    must(rs_context_init(memory, bytes, model, &params, &context, NULL));
    return context;
}

/* From the folder of the tests, where the fuzzers run. Made once: what is tried is the file. */
static setting *of(rs_policy policy) {
    static setting all[RS_POLICY_KEYNORM + 1];
    setting *s = &all[policy];
    if (s->context != NULL) return s;
    must(rs_model_load("golden/data/tiny-qwen3.gguf", NULL, &s->model, NULL));
    s->context = make(s->model, policy);
    for (int32_t i = 0; i < N_TOKENS; i++) s->tokens[i] = i * 7 + 3;
    must(rs_decode(s->context, s->tokens, N_TOKENS));
    const rs_erase_params drop = {.method = RS_ERASE_DROP};
    must(rs_erase(s->context, &(rs_span){27, 29}, 1, &drop, NULL));
    must(rs_decode(s->context, s->tokens, 2));
    s->state = rs_test_save(s->context);
    return s;
}

/* None of this may fail but for numbers that are none. */
static void go_on(setting *s) {
    rs_context *c = s->context;
    rs_context_info info;
    uint32_t left;
    must(rs_context_get_info(c, &info));
    rs_decode(c, s->tokens, 3);
    rs_decode(c, s->tokens, N_TOKENS);
    if (rs_context_get_info(c, &info) == RS_OK && info.next_position > 8)
        rs_erase(c, &(rs_span){info.next_position / 2, info.next_position - 1}, 1, NULL, NULL);
    rs_refine(c, 0, 0, &left);
    rs_truncate(c, info.next_position / 4);
    rs_decode(c, s->tokens, 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const rs_policy policies[] = {RS_POLICY_FULL, RS_POLICY_WINDOW, RS_POLICY_KEYNORM};
    for (size_t p = 0; p < sizeof policies / sizeof *policies; p++) {
        setting *s = of(policies[p]);
        rs_test_state changed = rs_test_state_copy(&s->state);
        for (size_t i = 0; i + 8 <= size && i < 64; i += 8) {
            uint32_t where, what;
            memcpy(&where, data + i, 4);
            memcpy(&what, data + i + 4, 4);
            memcpy(changed.data + where % (changed.bytes / 4) * 4, &what, 4);
        }
        rs_test_state_seal(&changed);
        if (rs_context_load(s->context, changed.data, changed.bytes) == RS_OK) go_on(s);
        free(changed.data);
    }
    return 0;
}
