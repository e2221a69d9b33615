/*
 * Runs a fuzz target without a fuzzer:
 *
 *     replay FILE...                  each file as it is
 *     replay --mutate N SEED FILE...  N mutations of each, the same ones for the same seed
 *
 * Link with one fuzz_*.c. A mutation is a function of its seed: the first of a file has SEED, the next
 * SEED + 1. The lines on stderr say how far a run came; after a fault, --mutate 1 and the seeds after the
 * last line find it again.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

typedef struct input {
    uint8_t *data;
    size_t size;
} input;

static bool read_input(const char *path, input *in) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) return false;
    bool done = false;
    if (fseek(file, 0, SEEK_END) == 0) {
        const long size = ftell(file);
        rewind(file);
        in->size = size > 0 ? (size_t)size : 0;
        in->data = malloc(in->size + 1);
        done = in->data != NULL && fread(in->data, 1, in->size, file) == in->size;
        if (!done) free(in->data);
    }
    fclose(file);
    return done;
}

/* SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). */
static uint64_t next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Below n, small values as likely as large ones: half of all mutations hit the head of a file. */
static size_t pick(uint64_t *state, size_t n) {
    size_t range = n;
    for (uint64_t halvings = next(state) % 16; halvings > 0 && range > 64; halvings--) range /= 2;
    return range > 0 ? (size_t)(next(state) % range) : 0;
}

/* Changes `in` in place: one to eight of bit flip, byte, number, copied piece; now and then a truncation. */
static void mutate(input *in, uint64_t *state) {
    static const uint64_t numbers[] = {
        0,          1,          2,          3,           8,          9,          0x7f,       0xff,  0x100,
        0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 1ull << 61, 1ull << 62, 1ull << 63, ~7ull, ~0ull};
    for (uint64_t changes = 1 + next(state) % 8; changes > 0 && in->size > 0; changes--) {
        const size_t at = pick(state, in->size), left = in->size - at;
        const uint64_t number = numbers[next(state) % (sizeof numbers / sizeof numbers[0])];
        switch (next(state) % 8) {
        case 0:
        case 1: in->data[at] ^= (uint8_t)(1u << next(state) % 8); break;
        case 2: in->data[at] = (uint8_t)next(state); break;
        case 3: memcpy(in->data + at, &number, left < 4 ? left : 4); break;
        case 4: memcpy(in->data + at, &number, left < 8 ? left : 8); break;
        case 5: in->data[at] = (uint8_t)(in->data[at] + next(state) % 9 - 4); break;
        case 6: {
            const size_t from = pick(state, in->size), room = in->size - (from > at ? from : at);
            const size_t bytes = 1 + next(state) % 32;
            memmove(in->data + at, in->data + from, bytes < room ? bytes : room);
            break;
        }
        default:
            if (next(state) % 8 == 0)
                in->size = next(state) % 2 ? at : in->size - (size_t)(next(state) % (left < 64 ? left : 64));
        }
    }
}

static bool run_mutations(const char *path, const input *in, uint64_t count, uint64_t seed) {
    input copy = {malloc(in->size + 1), 0};
    if (copy.data == NULL) return false;
    for (uint64_t i = 0; i < count; i++) {
        if (i % 1000 == 0) fprintf(stderr, "%s: from seed %llu\n", path, (unsigned long long)(seed + i));
        memcpy(copy.data, in->data, in->size);
        copy.size = in->size;
        uint64_t state = seed + i;
        mutate(&copy, &state);
        LLVMFuzzerTestOneInput(copy.data, copy.size);
    }
    free(copy.data);
    return true;
}

int main(int argc, char **argv) {
    uint64_t count = 0, seed = 0;
    int first = 1;
    if (argc > 3 && strcmp(argv[1], "--mutate") == 0) {
        count = strtoull(argv[2], NULL, 10);
        seed = strtoull(argv[3], NULL, 10);
        first = 4;
    }
    if (first >= argc) {
        fprintf(stderr, "usage: %s [--mutate N SEED] FILE...\n", argv[0]);
        return 2;
    }
    for (int i = first; i < argc; i++) {
        input in;
        if (!read_input(argv[i], &in)) {
            fprintf(stderr, "%s: cannot be read\n", argv[i]);
            return 2;
        }
        bool done = true;
        if (first == 1) LLVMFuzzerTestOneInput(in.data, in.size);
        else done = run_mutations(argv[i], &in, count, seed);
        free(in.data);
        if (!done) {
            fprintf(stderr, "%s: no memory\n", argv[i]);
            return 2;
        }
    }
    return 0;
}
