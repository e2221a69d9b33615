/* The port for POSIX systems (Linux, Android, macOS, the BSDs). */
#define _DEFAULT_SOURCE         /* glibc, musl: what strict C11 hides */
#define _POSIX_C_SOURCE 200809L /* strerror_r as POSIX has it */
#define _DARWIN_C_SOURCE

#include "ports/port.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__) && defined(__x86_64__) && defined(__LP64__)
#include <sys/syscall.h>
#endif

/* Mappings begin with a page. */
static size_t offset_in_page(uint64_t offset) {
    return (size_t)(offset % rs_port_page_size());
}

int rs_port_map_part(int descriptor, uint64_t offset, uint64_t bytes, rs_port_map *map) {
    struct stat info;
    if (fstat(descriptor, &info) != 0) return errno;
    if (S_ISDIR(info.st_mode)) return EISDIR;
    if (!S_ISREG(info.st_mode)) return ENOTSUP;
    const uint64_t size = (uint64_t)info.st_size;
    if (offset > size || bytes > size - offset) return EINVAL;
    if (bytes == 0) bytes = size - offset;
    if (bytes == 0) {
        *map = (rs_port_map){NULL, 0};
        return 0;
    }
    const size_t before = offset_in_page(offset);
    if (bytes > SIZE_MAX - before) return EFBIG;
    char *page =
        mmap(NULL, before + (size_t)bytes, PROT_READ, MAP_PRIVATE, descriptor, (off_t)(offset - before));
    if (page == MAP_FAILED) return errno;
    *map = (rs_port_map){page + before, (size_t)bytes};
    return 0;
}

int rs_port_map_file(const char *path, rs_port_map *map) {
    int descriptor;
    do { /* O_NONBLOCK: opening a pipe that nobody writes to would wait for ever */
        descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    } while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0) return errno;
    const int code = rs_port_map_part(descriptor, 0, 0, map);
    close(descriptor); /* a mapping outlives its descriptor */
    return code;
}

void rs_port_unmap(rs_port_map *map) {
    const uintptr_t at = (uintptr_t)map->data;
    const size_t before = offset_in_page(at);
    if (at != 0) munmap((void *)(at - before), before + map->bytes);
    *map = (rs_port_map){NULL, 0};
}

void rs_port_secure_zero(void *memory, size_t bytes) {
    if (bytes == 0) return;
    memset(memory, 0, bytes);
    __asm__ volatile("" : : "r"(memory) : "memory"); /* as if somebody read the zeros: the memset stays */
}

uint64_t rs_port_clock_ns(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void rs_port_yield(void) {
    (void)sched_yield();
}

size_t rs_port_page_size(void) {
    const long size = sysconf(_SC_PAGESIZE);
    return size > 0 ? (size_t)size : 4096;
}

uint64_t rs_port_peak_rss(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#if defined(__APPLE__)
    return (uint64_t)usage.ru_maxrss; /* bytes */
#else
    return (uint64_t)usage.ru_maxrss * 1024; /* KiB */
#endif
}

int rs_port_request_amx(void) {
#if defined(SYS_arch_prctl)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM of <asm/prctl.h> */
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 ? 0 : errno;
#else
    return ENOTSUP;
#endif
}

void rs_port_strerror(int code, char *text, size_t capacity) {
    if (capacity == 0) return;
    if (strerror_r(code, text, capacity) != 0) snprintf(text, capacity, "error %d", code);
}
