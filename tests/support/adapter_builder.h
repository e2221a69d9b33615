/* Adapters made in memory for a model, with random weights, for tests. */
#ifndef RASURE_TESTS_SUPPORT_ADAPTER_BUILDER_H
#define RASURE_TESTS_SUPPORT_ADAPTER_BUILDER_H

#include "runtime/adapter.h"
#include "tests/support/gguf_builder.h"

typedef struct rs_test_adapter_spec {
    const char *kind; /* "steer", "bridge" or what is to be refused */
    uint32_t rank, window, sinks, bridge_tokens;
    float size; /* of B's weights; 0: the adapter changes nothing */
    uint64_t seed;
    uint64_t flip_fingerprint; /* XORed to the right one */
    uint32_t extra_rank;       /* what the last tensor has too much */
    const char *left_out;      /* a tensor that is missing; NULL: none */
    const char *extra;         /* a tensor that does not belong; NULL: none */
    float bad_weight;          /* in place of the very last weight, unless 0 */
} rs_test_adapter_spec;

/* The file; free with gguf_builder_free. */
gguf_builder *rs_test_adapter_file(const rs_model *model, const rs_test_adapter_spec *spec);

/* The same, loaded; fails the test when it does not load. */
rs_adapter *rs_test_adapter(const rs_model *model, const rs_test_adapter_spec *spec);

/* The weights [rank][n_in] (part 'a') or [n_out][rank] ('b') that the file holds for a module, malloc'ed. */
float *rs_test_adapter_weights(const rs_model *model, const rs_test_adapter_spec *spec, uint32_t layer,
                               rs_lora_module module, char part);

#endif
