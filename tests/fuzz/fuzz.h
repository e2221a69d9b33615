/* The entry point of a fuzz target, as libFuzzer and replay.c call it. */
#ifndef RASURE_TESTS_FUZZ_FUZZ_H
#define RASURE_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* One input; returns 0. A fault is a crash, an abort or a sanitizer's report. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
