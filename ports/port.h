/*
 * What rasure needs of an operating system. One file per system implements all of it (posix.c, ...).
 * Every function but the ones that cannot fail returns 0 or a positive errno-like code, for
 * rs_port_strerror.
 */
#ifndef RASURE_PORTS_PORT_H
#define RASURE_PORTS_PORT_H

#include <stddef.h>
#include <stdint.h>

typedef struct rs_port_map {
    const void *data; /* NULL when empty */
    size_t bytes;
} rs_port_map;

/* Maps a regular file read-only. An empty file maps to {NULL, 0}. *map is untouched on failure. */
int rs_port_map_file(const char *path, rs_port_map *map);

/* The same of `bytes` bytes from `offset` on (0: up to the end) of a regular file that is open for reading,
 * and may be closed afterwards. EINVAL: it does not have them. */
int rs_port_map_part(int descriptor, uint64_t offset, uint64_t bytes, rs_port_map *map);

/* `map` came from one of these and is unmapped once. {NULL, 0} is fine. */
void rs_port_unmap(rs_port_map *map);

/* Overwrites with zeros in a way that the compiler may not drop. */
void rs_port_secure_zero(void *memory, size_t bytes);

/* Monotonic, in nanoseconds, from an arbitrary start. */
uint64_t rs_port_clock_ns(void);

/* Lets other threads run on this core, if any want to. */
void rs_port_yield(void);

/* Power of two. */
size_t rs_port_page_size(void);

/* Peak resident set of the process in bytes; 0 where the system does not tell. */
uint64_t rs_port_peak_rss(void);

/* Asks the system to let this process use AMX tile registers, which it may refuse (and does where there are
 * none). MUST be called before tiles are used, before other threads start. Once granted, Linux holds
 * alternate signal stacks to a size that tiles fit in. */
int rs_port_request_amx(void);

/* Text for a code returned above, into `text`; always terminated. */
void rs_port_strerror(int code, char *text, size_t capacity);

#endif
