/* What several tests need: models by path, contexts in their own memory, golden files. A failure here fails
 * the test. */
#ifndef RASURE_TESTS_SUPPORT_SUPPORT_H
#define RASURE_TESTS_SUPPORT_SUPPORT_H

#include "ports/port.h"
#include "runtime/context.h"

/* Tests that take minutes under a sanitizer do a part of their work there. */
#if defined(__SANITIZE_ADDRESS__)
#define RS_TEST_SANITIZED 1
#else
#define RS_TEST_SANITIZED 0
#endif

/* The default model: RASURE_MODEL, else where scripts/setup.sh puts it. */
const char *rs_test_default_model(void);

/* A file of tests/golden/data. The name is valid until the next call. */
const char *rs_test_golden_path(const char *name);

rs_model *rs_test_load(const char *path, rs_linear linear, rs_isa isa, uint32_t threads);

/* A group's set-up and tear-down: *state is a tiny model, with two threads. */
int rs_test_set_up_tiny(void **state);
int rs_test_tear_down(void **state);

/* Tokens of its vocabulary, not in order. */
void rs_test_make_tokens(const rs_model *model, int32_t *tokens, uint32_t count);

/* A context in memory of its own; rs_test_free gives both back. */
rs_context *rs_test_context(const rs_model *model, uint32_t n_ctx, uint32_t n_batch);
rs_context *rs_test_context_of(const rs_model *model, const rs_context_params *params);
void rs_test_free(rs_context *context);

/* A context of SNAPKV for n_ctx tokens that has read about as many. The first *first came one by one, are all
 * kept, and leave no room for a chunk; the others came in short calls, of which little is kept, and do not
 * fit in as one. */
rs_context *rs_test_crowded(const rs_model *model, bool refine, const int32_t *tokens, uint32_t n_ctx,
                            uint32_t *first);

/* Fails the running test with the context's sentence unless `status` is RS_OK. */
void rs_test_ok(const rs_context *context, rs_status status);

/* Whether a stream has an entry at `position`. */
bool rs_test_holds(const rs_context *context, uint32_t stream, int32_t position);

/* The key and value [head_dim] of the entry at `position` of a stream, which must be there. */
void rs_test_row(const rs_context *context, uint32_t stream, int32_t position, float *key, float *value);

/* Token lists, positions and every row of both caches are equal to the bit, and there are no other rows;
 * without a policy that evicts, every token has its row. */
void rs_test_same_cache(const rs_context *a, const rs_context *b);

/* A golden file, opened. */
typedef struct rs_golden {
    rs_port_map map;
    rs_gguf *gguf;
} rs_golden;

rs_golden rs_golden_open(const char *name);
void rs_golden_close(rs_golden *golden);
/* The int32 array `<prefix><name>` as malloc'ed memory. */
int32_t *rs_golden_ints(const rs_golden *golden, const char *key, size_t *count);
/* A tensor as floats in malloc'ed memory; *columns is ne[0]. */
float *rs_golden_floats(const rs_golden *golden, const char *name, size_t *rows, size_t *columns);

#endif
