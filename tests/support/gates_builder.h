/* Retention gates made in memory for a model, with random weights, for tests. */
#ifndef RASURE_TESTS_SUPPORT_GATES_BUILDER_H
#define RASURE_TESTS_SUPPORT_GATES_BUILDER_H

#include "runtime/policy/gates.h"
#include "tests/support/gguf_builder.h"

typedef struct rs_test_gates_spec {
    const char *form, *scope; /* of the file; or what is to be refused */
    uint32_t width, features; /* of a token; features not with "untied" and "constant" */
    float bias;               /* of z, of the first (layer, head) */
    float bias_step;          /* and so much more for each further one, where each has its own */
    float size;               /* of the weights */
    uint64_t seed;
    uint64_t flip_fingerprint; /* XORed to the right one */
    const char *left_out;      /* a tensor that is missing; NULL: none */
    const char *extra;         /* a tensor that does not belong; NULL: none */
    const char *bad;           /* a float tensor whose last number is none; NULL: none */
} rs_test_gates_spec;

/* The file; free with gguf_builder_free. */
gguf_builder *rs_test_gates_file(const rs_model *model, const rs_test_gates_spec *spec);

/* The same, loaded; fails the test when it does not load. */
rs_gates *rs_test_gates(const rs_model *model, const rs_test_gates_spec *spec);

#endif
