/* The port's primitives against their contracts, and statuses with their messages. */
#define _DEFAULT_SOURCE /* mkdtemp, mkfifo */
#define _POSIX_C_SOURCE 200809L

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ports/port.h"
#include "runtime/status.h"

static char folder[] = "/tmp/rasure_port_XXXXXX";

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    return rmdir(folder);
}

static const char *in_folder(const char *name, char path[128]) {
    snprintf(path, 128, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *path, const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void test_map_file(void **state) {
    (void)state;
    char path[128], content[10000];
    for (size_t i = 0; i < sizeof content; i++) content[i] = (char)(i * 7);
    write_file(in_folder("file", path), content, sizeof content);
    rs_port_map map = {NULL, 1};
    assert_int_equal(rs_port_map_file(path, &map), 0);
    assert_int_equal(remove(path), 0); /* the mapping stays */
    assert_int_equal(map.bytes, sizeof content);
    assert_int_equal((uintptr_t)map.data % rs_port_page_size(), 0);
    assert_memory_equal(map.data, content, sizeof content);
    rs_port_unmap(&map);
    assert_null(map.data);
    assert_int_equal(map.bytes, 0);
    rs_port_unmap(&map);
}

static void test_map_part(void **state) {
    (void)state;
    char path[128];
    const size_t page = rs_port_page_size(), bytes = 3 * page;
    char *content = malloc(bytes);
    assert_non_null(content);
    for (size_t i = 0; i < bytes; i++) content[i] = (char)(i * 7 + i / 251);
    write_file(in_folder("parts", path), content, bytes);
    const int descriptor = open(path, O_RDONLY);
    assert_true(descriptor >= 0);
    assert_int_equal(remove(path), 0);
    const struct {
        size_t offset, bytes;
    } parts[] = {{0, bytes}, {4, 0}, {page, page}, {page + 12, 2 * page - 12}, {bytes - 1, 1}, {1, page}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        rs_port_map map;
        assert_int_equal(rs_port_map_part(descriptor, parts[i].offset, parts[i].bytes, &map), 0);
        assert_int_equal(map.bytes, parts[i].bytes > 0 ? parts[i].bytes : bytes - parts[i].offset);
        assert_memory_equal(map.data, content + parts[i].offset, map.bytes);
        rs_port_unmap(&map);
        assert_null(map.data);
    }
    rs_port_map map = {content, 7};
    assert_int_equal(rs_port_map_part(descriptor, bytes, 0, &map), 0);
    assert_null(map.data);
    map = (rs_port_map){content, 7};
    assert_int_equal(rs_port_map_part(descriptor, bytes + 1, 0, &map), EINVAL);
    assert_int_equal(rs_port_map_part(descriptor, page, 2 * page + 1, &map), EINVAL);
    assert_int_equal(rs_port_map_part(descriptor, 8, UINT64_MAX, &map), EINVAL);
    close(descriptor);
    assert_int_equal(rs_port_map_part(descriptor, 0, 0, &map), EBADF);
    assert_true(map.data == content && map.bytes == 7); /* untouched */
    free(content);
}

static void test_map_empty_file(void **state) {
    (void)state;
    char path[128];
    write_file(in_folder("empty", path), "", 0);
    rs_port_map map = {&map, 1};
    assert_int_equal(rs_port_map_file(path, &map), 0);
    assert_int_equal(remove(path), 0);
    assert_null(map.data);
    assert_int_equal(map.bytes, 0);
    rs_port_unmap(&map);
}

static void assert_not_mapped(const char *path, int expected) {
    char anchor;
    rs_port_map map = {&anchor, 77};
    assert_int_equal(rs_port_map_file(path, &map), expected);
    assert_ptr_equal(map.data, &anchor); /* untouched */
    assert_int_equal(map.bytes, 77);
}

static void test_map_refuses(void **state) {
    (void)state;
    char path[128];
    assert_not_mapped(in_folder("missing", path), ENOENT);
    assert_not_mapped(folder, EISDIR);
    assert_not_mapped("/dev/null", ENOTSUP);
    assert_not_mapped("", ENOENT);
    assert_int_equal(mkfifo(in_folder("pipe", path), 0600), 0);
    assert_not_mapped(path, ENOTSUP); /* and does not wait for a writer */
    assert_int_equal(remove(path), 0);
}

static void test_secure_zero(void **state) {
    (void)state;
    unsigned char block[64];
    memset(block, 0xa5, sizeof block);
    rs_port_secure_zero(block + 1, 62);
    assert_int_equal(block[0], 0xa5);
    assert_int_equal(block[63], 0xa5);
    for (size_t i = 1; i < 63; i++) assert_int_equal(block[i], 0);
    rs_port_secure_zero(block, 0);
    assert_int_equal(block[0], 0xa5);
    rs_port_secure_zero(NULL, 0);
}

static void test_clock(void **state) {
    (void)state;
    const uint64_t begin = rs_port_clock_ns();
    const struct timespec pause = {0, 20 * 1000 * 1000};
    assert_int_equal(nanosleep(&pause, NULL), 0);
    const uint64_t passed = rs_port_clock_ns() - begin;
    assert_true(passed >= 20u * 1000 * 1000);
    assert_true(passed < UINT64_C(60) * 1000 * 1000 * 1000);
}

static void test_page_size(void **state) {
    (void)state;
    const size_t size = rs_port_page_size();
    assert_true(size >= 4096);
    assert_int_equal(size & (size - 1), 0);
}

static void test_peak_rss(void **state) {
    (void)state;
    const size_t bytes = (size_t)64 << 20;
    const uint64_t before = rs_port_peak_rss();
    assert_true(before > 64 * 1024);
    char *block = malloc(bytes);
    assert_non_null(block);
    memset(block, 1, bytes);
    rs_port_secure_zero(block, bytes);
    free(block);
    const uint64_t after = rs_port_peak_rss();
    assert_true(after >= bytes); /* bytes, not KiB */
    assert_true(after >= before);
    assert_true(after < (uint64_t)1 << 40);
}

static void test_strerror(void **state) {
    (void)state;
    char text[64];
    memset(text, 'x', sizeof text);
    rs_port_strerror(ENOENT, text, sizeof text);
    assert_string_equal(text, strerror(ENOENT));
    memset(text, 'x', sizeof text);
    rs_port_strerror(123456, text, sizeof text);
    assert_non_null(memchr(text, '\0', sizeof text));
    assert_non_null(strstr(text, "123456"));
    memset(text, 'x', sizeof text);
    rs_port_strerror(ENOENT, text, 4);
    assert_non_null(memchr(text, '\0', 4));
    assert_int_equal(text[4], 'x');
    rs_port_strerror(ENOENT, text, 0);
    assert_int_equal(text[4], 'x');
}

static void test_fail(void **state) {
    (void)state;
    rs_error error = {RS_OK, ""};
    assert_int_equal(rs_fail(&error, RS_BAD_FILE, "%s: %d", "place", 7), RS_BAD_FILE);
    assert_int_equal(error.status, RS_BAD_FILE);
    assert_string_equal(error.message, "place: 7");
    assert_int_equal(rs_fail(NULL, RS_IO, "%s", "nobody reads this"), RS_IO);
    assert_int_equal(rs_fail(&error, RS_IO, "%s", "\x1b[2J\r\n\t\x7f caf\xc3\xa9"), RS_IO);
    assert_string_equal(error.message, "?[2J???? caf\xc3\xa9");
    char longer[1000];
    memset(longer, 'y', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(rs_fail(&error, RS_IO, "%s", longer), RS_IO);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
}

static void test_status_names(void **state) {
    (void)state;
    assert_string_equal(rs_status_name(RS_OK), "RS_OK");
    assert_string_equal(rs_status_name(RS_OUT_OF_RANGE), "RS_OUT_OF_RANGE");
    assert_string_equal(rs_status_name(RS_POISONED), "RS_POISONED");
    assert_string_equal(rs_status_name((rs_status)(RS_POISONED + 1)), "RS_?");
    assert_string_equal(rs_status_name((rs_status)-1), "RS_?");
    for (unsigned i = RS_OK; i <= RS_POISONED; i++)
        assert_string_not_equal(rs_status_name((rs_status)i), "RS_?");
    assert_string_equal(rs_version(), "0.1.0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_file),       cmocka_unit_test(test_map_part),
        cmocka_unit_test(test_map_empty_file), cmocka_unit_test(test_map_refuses),
        cmocka_unit_test(test_secure_zero),    cmocka_unit_test(test_clock),
        cmocka_unit_test(test_page_size),      cmocka_unit_test(test_peak_rss),
        cmocka_unit_test(test_strerror),       cmocka_unit_test(test_fail),
        cmocka_unit_test(test_status_names),
    };
    return cmocka_run_group_tests_name("port", tests, make_folder, remove_folder);
}
