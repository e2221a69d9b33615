/* Guarded buffers by mmap and mprotect. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "tests/kernels/guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATTERN = 0xa5 };

guard guard_alloc(size_t bytes, guard_side side) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t usable = (bytes + page - 1) / page * page;
    guard buffer = {.bytes = bytes, .side = side, .map_bytes = usable + page};
    buffer.map = mmap(NULL, buffer.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(buffer.map, MAP_FAILED);
    unsigned char *first = side == GUARD_AFTER ? buffer.map : buffer.map + page;
    unsigned char *data = side == GUARD_AFTER ? first + (usable - bytes) : first;
    memset(first, PATTERN, usable);
    memset(data, 0, bytes);
    assert_int_equal(mprotect(side == GUARD_AFTER ? buffer.map + usable : buffer.map, page, PROT_NONE), 0);
    buffer.data = data;
    return buffer;
}

void guard_free(guard *buffer) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t slack = buffer->map_bytes - page - buffer->bytes;
    const unsigned char *pattern =
        buffer->side == GUARD_AFTER ? buffer->map : (unsigned char *)buffer->data + buffer->bytes;
    for (size_t i = 0; i < slack; i++) {
        if (pattern[i] != PATTERN) fail_msg("a kernel wrote outside its buffer of %zu bytes", buffer->bytes);
    }
    assert_int_equal(munmap(buffer->map, buffer->map_bytes), 0);
    memset(buffer, 0, sizeof *buffer);
}
