/* The measures of `rasure eval`: normalised answers, what counts as a match or a leak, KL, percentiles. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "examples/cli/measure.h"

static cli_text normal(const char *text) {
    cli_text out = {0};
    cli_normalise(&out, text, strlen(text));
    return out;
}

static void assert_normal(const char *text, const char *wanted) {
    cli_text out = normal(text);
    assert_string_equal(out.data, wanted);
    assert_int_equal(out.bytes, strlen(wanted));
    cli_text_free(&out);
}

static void test_normalise(void **state) {
    (void)state;
    assert_normal("", "");
    assert_normal(" \n\t", "");
    assert_normal(" The  Hague. ", "hague");
    assert_normal("An apple, a pear and the theatre!", "apple pear and theatre");
    assert_normal("the", "");
    assert_normal("U.S.A.", "usa");
    assert_normal("Austria-Hungary", "austriahungary");
    assert_normal("\xe2\x80\x9c"
                  "Oslo"
                  "\xe2\x80\x9d \xe2\x80\x93 yes",
                  "oslo yes");
    assert_normal("Z\xc3\xbcrich", "z\xc3\xbcrich");
    assert_normal("\xe2\x81\xb4", "\xe2\x81\xb4"); /* a superscript four is no punctuation */
}

static void assert_holds(const char *answer, const char *wanted, bool begins, bool contains) {
    cli_text a = normal(answer), w = normal(wanted);
    assert_int_equal(cli_answer_begins(&a, &w), begins);
    assert_int_equal(cli_answer_contains(&a, &w), contains);
    cli_text_free(&a);
    cli_text_free(&w);
}

static void test_match(void **state) {
    (void)state;
    assert_holds(" Lisbon.", "Lisbon", true, true);
    assert_holds("the Lisbon area", "lisbon", true, true);
    assert_holds("in Lisbon", "Lisbon", false, true);
    assert_holds("123 or 45", "12", false, false);
    assert_holds("123 or 45", "23", false, false);
    assert_holds("123 or 45", "45", false, true);
    assert_holds("New York City", "new york", true, true);
    assert_holds("New", "New York", false, false);
    assert_holds("", "Lisbon", false, false);
    assert_holds("Lisbon", "the", false, false); /* nothing is left of it */
    assert_holds("\xe6\x9d\xb1\xe4\xba\xac\xe3\x81\xa7\xe3\x81\x99", "\xe6\x9d\xb1\xe4\xba\xac", true, true);
}

static void test_most_likely(void **state) {
    (void)state;
    const float logits[4] = {-3.0F, 2.0F, -INFINITY, 2.0F};
    assert_int_equal(cli_most_likely(logits, 4), 1);
    assert_int_equal(cli_most_likely(logits, 1), 0);
    assert_int_equal(cli_most_likely(logits + 2, 2), 1);
}

static void test_kl(void **state) {
    (void)state;
    const float p[3] = {logf(0.5F), logf(0.25F), logf(0.25F)};
    const float q[3] = {logf(0.25F) + 7.0F, logf(0.5F) + 7.0F, logf(0.25F) + 7.0F};
    assert_true(fabs(cli_kl(p, q, 3) - 0.25 * log(2.0)) <= 1e-6);
    assert_true(cli_kl(p, p, 3) == 0.0);
    const float far_apart[2] = {1e4F, -1e4F}, even[2] = {0.0F, 0.0F};
    assert_true(fabs(cli_kl(far_apart, even, 2) - log(2.0)) <= 1e-6);
}

static void test_percentile(void **state) {
    (void)state;
    double values[4] = {4.0, 1.0, 3.0, 2.0};
    assert_true(fabs(cli_percentile(values, 4, 0.0) - 1.0) <= 0.0);
    assert_true(fabs(cli_percentile(values, 4, 0.5) - 2.5) <= 0.0);
    assert_true(fabs(cli_percentile(values, 4, 1.0) - 4.0) <= 0.0);
    assert_true(fabs(cli_percentile(values, 1, 0.95) - 1.0) <= 0.0);
    assert_true(isnan(cli_percentile(values, 0, 0.5)));
}

static void test_numbers(void **state) {
    (void)state;
    uint64_t whole;
    double real;
    assert_true(cli_parse_u64("18446744073709551615", &whole) && whole == UINT64_MAX);
    assert_true(cli_parse_u64("007", &whole) && whole == 7);
    static const char *const no_whole[] = {"", "-1", "+1", " 1", "1 ", "1.0", "0x1", "18446744073709551616"};
    for (size_t i = 0; i < sizeof no_whole / sizeof no_whole[0]; i++)
        assert_false(cli_parse_u64(no_whole[i], &whole));
    assert_true(cli_parse_real("2.5e-1", &real) && real == 0.25);
    assert_true(cli_parse_real(".5", &real) && real == 0.5);
    static const char *const no_real[] = {"", "-1", "1,5", "inf", "nan", "0x1p3", "1e999", "1 ", " 1", "e1"};
    for (size_t i = 0; i < sizeof no_real / sizeof no_real[0]; i++)
        assert_false(cli_parse_real(no_real[i], &real));
}

static void test_utf8(void **state) {
    (void)state;
    assert_true(cli_is_utf8("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82", 10));
    static const char *const broken[] = {"\x80",
                                         "\xc0\x80",
                                         "\xc3",
                                         "\xe0\x80\x80",
                                         "\xed\xa0\x80",
                                         "\xf5\x80\x80\x80",
                                         "\xf0\x8f\xbf\xbf",
                                         "\xf4\x90\x80\x80"};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        assert_false(cli_is_utf8(broken[i], strlen(broken[i])));
        assert_int_equal(cli_utf8_length(broken[i], strlen(broken[i])), 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normalise),   cmocka_unit_test(test_match),
        cmocka_unit_test(test_most_likely), cmocka_unit_test(test_kl),
        cmocka_unit_test(test_percentile),  cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
