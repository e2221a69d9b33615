/* Blocks as gguf-py writes them, against the floats that it reads back from them, in every table: to the bit
 * from dequantize, and the same number from scale * q + min of a panel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"
#include "tests/kernels/tables.h"
#include "tests/support/support.h"

enum { N_MAX = 512, GROUPS_MAX = N_MAX / 16 };

static void fail_value(const char *how, const rs_kernels *k, rs_type type, size_t row, size_t i, float got,
                       float want) {
    fail_msg("%s %s of %s, row %zu, element %zu: %.9g, expected %.9g", how, rs_types[type].name,
             rs_isa_name(k->isa), row, i, (double)got, (double)want);
}

static void check_dequantize(const rs_kernels *k, rs_type type, const uint8_t *blocks, size_t rows, size_t n,
                             const float *want) {
    float values[N_MAX];
    for (size_t r = 0; r < rows; r++, want += n) {
        k->dequantize[type](blocks + r * rs_row_bytes(type, n), values, n);
        for (size_t i = 0; i < n; i++) {
            if (memcmp(&values[i], &want[i], sizeof values[i]) != 0)
                fail_value("dequantize", k, type, r, i, values[i], want[i]);
        }
    }
}

/* In double the sum is exact, so that gguf-py's rounding is all there is. */
static void check_panel(const rs_kernels *k, rs_type type, const uint8_t *blocks, size_t first, size_t rows,
                        size_t n, const float *want) {
    _Alignas(64) int8_t q[N_MAX * RS_PANEL_ROWS];
    _Alignas(64) float scale[GROUPS_MAX * RS_PANEL_ROWS], min[GROUPS_MAX * RS_PANEL_ROWS];
    const rs_panel_kind kind = rs_panel_kind_of(type);
    const rs_panel panel = {.q = q, .scale = scale, .min = kind == RS_PANEL_S8 ? NULL : min};
    const size_t row_bytes = rs_row_bytes(type, n);
    k->unpack[type](blocks + first * row_bytes, row_bytes, rows, n, &panel);
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < n; i++) {
            const size_t at = i / rs_panel_group(kind) * RS_PANEL_ROWS + r;
            const double base = kind == RS_PANEL_S8 ? 0.0 : (double)min[at];
            const double value = (double)scale[at] * q[(i / 4 * RS_PANEL_ROWS + r) * 4 + i % 4] + base;
            if ((float)value != want[(first + r) * n + i])
                fail_value("unpack", k, type, first + r, i, (float)value, want[(first + r) * n + i]);
        }
    }
}

/* Whole panels, then what is left; and every row alone. */
static void check_unpack(const rs_kernels *k, rs_type type, const uint8_t *blocks, size_t rows, size_t n,
                         const float *want) {
    for (size_t r = 0; r < rows; r += RS_PANEL_ROWS) {
        const size_t count = rows - r < RS_PANEL_ROWS ? rows - r : RS_PANEL_ROWS;
        check_panel(k, type, blocks, r, count, n, want);
    }
    for (size_t r = 0; r < rows; r++) check_panel(k, type, blocks, r, 1, n, want);
}

static void every_type_decodes_as_gguf_py_does(void **state) {
    (void)state;
    const rs_kernels *tables[RS_ALL_LEVELS];
    const size_t count = rs_tables_of_cpu(tables);
    rs_golden golden = rs_golden_open("dequant.gguf");
    assert_true(count > 0);
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
        for (size_t t = 0; t < count; t++) {
            check_dequantize(tables[t], type, blocks->data, rows, n, want);
            if (rs_type_is_quantized(type)) check_unpack(tables[t], type, blocks->data, rows, n, want);
        }
        free(want);
    }
    rs_golden_close(&golden);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_type_decodes_as_gguf_py_does)};
    return cmocka_run_group_tests_name("unpack_golden", tests, NULL, NULL);
}
