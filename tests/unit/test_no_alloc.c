/* No call on a context allocates: malloc and its kin are replaced by versions that count while a flag is up.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/adapter_builder.h"
#include "tests/support/support.h"

#if RS_TEST_SANITIZED || !defined(__GLIBC__)
/* A sanitizer has replaced malloc already. */
int main(void) {
    puts("skipped: malloc belongs to the sanitizer, or is not glibc's");
    return 77;
}
#else

static atomic_bool armed;
static atomic_uint counted;

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *memory, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
void *memalign(size_t alignment, size_t bytes);
int posix_memalign(void **memory, size_t alignment, size_t bytes);

static void count(void) {
    if (armed) counted++;
}

void *malloc(size_t bytes) {
    count();
    return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes) {
    count();
    return __libc_calloc(n, bytes);
}

void *realloc(void *memory, size_t bytes) {
    count();
    return __libc_realloc(memory, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
    count();
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    count();
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **memory, size_t alignment, size_t bytes) {
    count();
    *memory = __libc_memalign(alignment, bytes);
    return *memory != NULL ? 0 : ENOMEM;
}

static bool ignore_logits(void *user, int32_t position, const float *logits, size_t n_vocab) {
    (void)user;
    (void)position;
    (void)logits;
    (void)n_vocab;
    return true;
}

/* A context as it is saved: of a size that the program has from the start. */
static struct {
    _Alignas(8) unsigned char data[1 << 20];
    size_t bytes;
} saved;

static bool keep(void *user, const void *data, size_t bytes) {
    (void)user;
    if (bytes > sizeof saved.data - saved.bytes) return false;
    memcpy(saved.data + saved.bytes, data, bytes);
    saved.bytes += bytes;
    return true;
}

/* Everything that a context can be asked, failures with a message included. */
static void use(rs_context *c, rs_context *twin, const rs_adapter *steer, const rs_adapter *bridge) {
    int32_t tokens[48], got[64], token;
    rs_sampler sampler;
    rs_generate_params params = rs_generate_default_params();
    const char *stops[] = {"stop here"};
    size_t n;
    for (int i = 0; i < 48; i++) tokens[i] = 5 * i;
    rs_test_ok(c, rs_decode(c, tokens, 48));
    rs_test_ok(c, rs_decode(c, tokens, 1));
    rs_test_ok(c, rs_decode_each(c, tokens, 3, ignore_logits, NULL));
    (void)rs_sampler_init(&sampler, NULL, NULL);
    sampler.params.temperature = 1;
    sampler.params.top_p = 0.9f;
    rs_test_ok(c, rs_sample(c, &sampler, &token));
    params.max_tokens = 8;
    params.stop_strings = stops;
    params.n_stop_strings = 1;
    rs_test_ok(c, rs_generate(c, &params, NULL));
    rs_test_ok(twin, rs_context_copy(twin, c));
    saved.bytes = 0;
    rs_test_ok(c, rs_context_save(c, keep, NULL));
    rs_test_ok(twin, rs_context_load(twin, saved.data, saved.bytes));
    for (int method = RS_ERASE_EXACT; method <= RS_ERASE_AUTO; method++) {
        rs_erase_params erase = rs_erase_default_params();
        erase.method = (rs_erase_method)method;
        erase.filler = tokens;
        erase.n_filler = 3;
        erase.max_kl = 0.05F;
        erase.adapter = method == RS_ERASE_STEER ? steer : bridge;
        const rs_span spans[] = {{1 + method, 2 + method}, {20 + method, 22 + method}};
        rs_test_ok(c, rs_erase(c, spans, 2, &erase, NULL));
        (void)rs_undo(c);
        rs_test_ok(c, rs_erase(c, spans, 2, &erase, NULL));
        rs_test_ok(c, rs_refine(c, 1, 0, NULL));
    }
    rs_test_ok(c, rs_refine(c, 0, 0, NULL));
    rs_echo echo = {.span = {25, 30}};
    rs_test_ok(c, rs_find_echoes(c, &(rs_span){14, 19}, 1, &echo, 1));
    (void)rs_erase(c, &(rs_span){9, 3}, 1, NULL, NULL);
    (void)rs_decode(c, tokens, 4000);
    rs_test_ok(c, rs_context_tokens(c, 0, 10, got, NULL, 64, &n));
    rs_test_ok(c, rs_truncate(c, 12));
    rs_context_reset(c);
    rs_test_ok(c, rs_decode(c, tokens, 2));
}

static void test_no_allocation(void **state) {
    const rs_linear *linear = *state;
    rs_model *model = rs_test_load(rs_test_golden_path("tiny-qwen2.gguf"), *linear, RS_ISA_AUTO, 2);
    rs_test_adapter_spec spec = {.kind = "steer", .rank = 8, .window = 8, .bridge_tokens = 4, .size = 1.0f};
    rs_adapter *steer = rs_test_adapter(model, &spec);
    spec.kind = "bridge";
    rs_adapter *bridge = rs_test_adapter(model, &spec);
    const rs_context_params params = {.n_ctx = 128, .n_batch = 16, .refine = true, .undo_bytes = 100000};
    rs_context *c = rs_test_context_of(model, &params), *twin = rs_test_context_of(model, &params);
    counted = 0;
    armed = true;
    use(c, twin, steer, bridge);
    armed = false;
    assert_int_equal(counted, 0);
    rs_test_free(c);
    rs_test_free(twin);
    rs_adapter_free(steer);
    rs_adapter_free(bridge);
    rs_model_free(model);
}

static void test_the_hook_counts(void **state) {
    (void)state;
    counted = 0;
    armed = true;
    void *volatile memory = malloc(8);
    free(memory);
    memory = aligned_alloc(64, 64);
    free(memory);
    armed = false;
    assert_int_equal(counted, 2);
}

int main(void) {
    static rs_linear native = RS_LINEAR_NATIVE;
#if RASURE_HAVE_XNNPACK
    static rs_linear xnnpack = RS_LINEAR_XNNPACK;
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_hook_counts),
        {"no allocation, native", test_no_allocation, NULL, NULL, &native},
#if RASURE_HAVE_XNNPACK
        {"no allocation, XNNPACK", test_no_allocation, NULL, NULL, &xnnpack},
#endif
    };
    return cmocka_run_group_tests_name("no allocation after init", tests, NULL, NULL);
}
#endif
