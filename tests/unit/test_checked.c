/* Checked arithmetic at and around its limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/checked.h"

static void test_add(void **state) {
    (void)state;
    size_t sum = 0;
    assert_true(rs_add_size(2, 3, &sum));
    assert_int_equal(sum, 5);
    assert_true(rs_add_size(SIZE_MAX, 0, &sum));
    assert_true(sum == SIZE_MAX);
    assert_true(rs_add_size(SIZE_MAX / 2, SIZE_MAX / 2 + 1, &sum));
    assert_true(sum == SIZE_MAX);
    assert_false(rs_add_size(SIZE_MAX, 1, &sum));
    assert_false(rs_add_size(SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 1, &sum));
    assert_false(rs_add_size(SIZE_MAX, SIZE_MAX, &sum));
}

static void test_mul(void **state) {
    (void)state;
    const size_t half = (size_t)1 << (sizeof(size_t) * 4);
    size_t product = 1;
    assert_true(rs_mul_size(6, 7, &product));
    assert_int_equal(product, 42);
    assert_true(rs_mul_size(0, SIZE_MAX, &product));
    assert_int_equal(product, 0);
    assert_true(rs_mul_size(1, SIZE_MAX, &product));
    assert_true(product == SIZE_MAX);
    assert_true(rs_mul_size(half - 1, half + 1, &product));
    assert_true(product == SIZE_MAX);
    assert_false(rs_mul_size(half, half, &product)); /* wraps to 0 */
    assert_false(rs_mul_size(SIZE_MAX / 2 + 1, 2, &product));
    assert_false(rs_mul_size(SIZE_MAX, SIZE_MAX, &product));
}

static void test_narrow(void **state) {
    (void)state;
    size_t size = 1;
    assert_true(rs_u64_to_size(0, &size));
    assert_int_equal(size, 0);
    assert_true(rs_u64_to_size(UINT32_MAX, &size));
    assert_true(size == UINT32_MAX);
    assert_true(rs_u64_to_size((uint64_t)SIZE_MAX, &size));
    assert_true(size == SIZE_MAX);
#if SIZE_MAX < UINT64_MAX
    assert_false(rs_u64_to_size((uint64_t)SIZE_MAX + 1, &size));
    assert_false(rs_u64_to_size(UINT64_MAX, &size));
#endif
}

static void test_round_up(void **state) {
    (void)state;
    size_t rounded = 1;
    for (size_t unit = 1; unit != 0; unit *= 2) {
        assert_true(rs_round_up_size(0, unit, &rounded));
        assert_int_equal(rounded, 0);
        assert_true(rs_round_up_size(1, unit, &rounded));
        assert_true(rounded == unit);
        assert_true(rs_round_up_size(unit, unit, &rounded));
        assert_true(rounded == unit);
        assert_true(rs_round_up_size(SIZE_MAX - (unit - 1), unit, &rounded));
        assert_true(rounded == SIZE_MAX - (unit - 1)); /* the largest multiple */
        if (unit > 1) assert_false(rs_round_up_size(SIZE_MAX - (unit - 2), unit, &rounded));
        if (unit > 1) assert_false(rs_round_up_size(SIZE_MAX, unit, &rounded));
    }
    assert_true(rs_round_up_size(65, 64, &rounded));
    assert_int_equal(rounded, 128);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_mul),
        cmocka_unit_test(test_narrow),
        cmocka_unit_test(test_round_up),
    };
    return cmocka_run_group_tests_name("checked", tests, NULL, NULL);
}
