/* Blocks as gguf-py writes them, against the floats that it reads back from them: to the bit, in every table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "tests/support/support.h"

enum { N_MAX = 512 };

static void check_value(const char *how, const rs_kernels *k, rs_type type, size_t row, size_t i, float got,
                        float want) {
    if (memcmp(&got, &want, sizeof got) == 0) return;
    fail_msg("%s %s of %s, row %zu, element %zu: %.9g, expected %.9g", how, rs_types[type].name,
             rs_isa_name(k->isa), row, i, (double)got, (double)want);
}

static void check_row(const rs_kernels *k, rs_type type, const uint8_t *blocks, size_t row, size_t n,
                      const float *want) {
    float values[N_MAX], scale[N_MAX / RS_ROW_GROUP], min[N_MAX / RS_ROW_GROUP];
    int8_t q[N_MAX];
    k->dequantize[type](blocks, values, n);
    for (size_t i = 0; i < n; i++) check_value("dequantize", k, type, row, i, values[i], want[i]);
    if (!rs_type_is_quantized(type)) return;

    rs_row unpacked = {.q = q, .scale = scale, .min = min};
    k->unpack[type](blocks, &unpacked, n);
    for (size_t i = 0; i < n; i++) {
        const float product = scale[i / RS_ROW_GROUP] * (float)q[i];
        const float value = unpacked.has_min ? product + min[i / RS_ROW_GROUP] : product;
        check_value("unpack", k, type, row, i, value, want[i]);
    }
}

static void every_type_decodes_as_gguf_py_does(void **state) {
    (void)state;
    rs_golden golden = rs_golden_open("dequant.gguf");
    for (rs_type type = RS_TYPE_F16; type < RS_TYPE_COUNT; type = (rs_type)(type + 1)) {
        char name[16];
        size_t rows, n;
        (void)snprintf(name, sizeof name, "f.%s", rs_types[type].name);
        float *want = rs_golden_floats(&golden, name, &rows, &n);
        name[0] = 'q';
        const rs_tensor *blocks = rs_gguf_find_tensor(golden.gguf, name);
        if (blocks == NULL) fail_msg("no tensor %s", name);
        assert_int_equal(blocks->type, type);
        assert_true(blocks->ne[0] == n && blocks->ne[1] == rows && rows > 0 && n <= N_MAX);
        for (rs_isa isa = RS_ISA_REF; isa <= RS_ISA_I8MM; isa = (rs_isa)(isa + 1)) {
            const rs_kernels *k;
            if (rs_kernels_select(isa, &k, NULL) != RS_OK || k->isa != isa) continue;
            for (size_t r = 0; r < rows; r++) {
                check_row(k, type, (const uint8_t *)blocks->data + r * rs_row_bytes(type, n), r, n,
                          want + r * n);
            }
        }
        free(want);
    }
    rs_golden_close(&golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_type_decodes_as_gguf_py_does)};
    return cmocka_run_group_tests_name("unpack_golden", tests, NULL, NULL);
}
