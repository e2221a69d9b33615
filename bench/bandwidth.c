/*
 * How fast 1 to N threads read memory: the limit of decoding, which reads every weight once per token. Each
 * thread sums its own part of one buffer that is much larger than the caches; a pass is timed from before its
 * threads start until the last has ended, which costs less than a thousandth of it.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ports/port.h"

enum { THREADS_MAX = 256, PASSES_MAX = 101, LANES = 32 };

typedef struct part {
    pthread_t thread;
    uint64_t *words;
    size_t n;
    uint64_t sum;
} part;

/* Also what places the memory near the thread that reads it later. */
static void *fill_part(void *user) {
    part *p = user;
    for (size_t i = 0; i < p->n; i++) p->words[i] = i * 0x9e3779b97f4a7c15u;
    return NULL;
}

/* Independent sums, so that neither the additions nor their order hold the loads back. */
static void *sum_part(void *user) {
    part *p = user;
    uint64_t sums[LANES] = {0};
    for (size_t i = 0; i + LANES <= p->n; i += LANES)
        for (size_t j = 0; j < LANES; j++) sums[j] += p->words[i + j];
    p->sum = 0;
    for (size_t j = 0; j < LANES; j++) p->sum += sums[j];
    return NULL;
}

/* Runs `work` on every part, the last one on this thread; 0 or what pthread_create said. */
static int run_parts(part *parts, size_t n, void *(*work)(void *)) {
    size_t started = 0;
    int code = 0;
    while (started + 1 < n && code == 0) {
        code = pthread_create(&parts[started].thread, NULL, work, &parts[started]);
        if (code == 0) started++;
    }
    if (code == 0) work(&parts[n - 1]);
    for (size_t i = 0; i < started; i++) pthread_join(parts[i].thread, NULL);
    return code;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Gigabytes per second of each pass, ascending. */
static int measure(uint64_t *words, size_t n_words, size_t threads, size_t passes, double *speed) {
    static part parts[THREADS_MAX];
    const size_t share = n_words / threads / LANES * LANES;
    for (size_t i = 0; i < threads; i++) parts[i] = (part){.words = words + i * share, .n = share};
    int code = run_parts(parts, threads, fill_part);
    uint64_t sum = 0;
    for (size_t pass = 0; pass < passes && code == 0; pass++) {
        const uint64_t begin = rs_port_clock_ns();
        code = run_parts(parts, threads, sum_part);
        const uint64_t ns = rs_port_clock_ns() - begin;
        speed[pass] = (double)(share * threads * sizeof *words) / (double)ns;
        for (size_t i = 0; i < threads; i++) sum += parts[i].sum;
    }
    /* Nothing can be left out of a sum that is looked at. */
    if (code == 0 && sum == 0) fprintf(stderr, "bandwidth: the sum is zero\n");
    qsort(speed, passes, sizeof *speed, ascending);
    return code;
}

static void print_help(void) {
    printf(
        "Usage: bandwidth [--json] [--threads N] [--mb N] [--passes N]\n"
        "\n"
        "Measures how fast 1 to N threads read memory, in GB/s (1e9 bytes per second): the median over the "
        "passes,\n"
        "the slowest and the fastest.\n"
        "\n"
        "  --json       a JSON array instead of a table\n"
        "  --threads N  1 to %d, by default 2\n"
        "  --mb N       size of the buffer in MiB, 1 to 65536, by default 512; below 256 it may fit a cache\n"
        "  --passes N   1 to %d, by default 9\n"
        "  --help       this text\n",
        THREADS_MAX, PASSES_MAX);
}

int main(int argc, char **argv) {
    struct {
        const char *name;
        long most, value;
    } numbers[] = {{"--threads", THREADS_MAX, 2}, {"--mb", 65536, 512}, {"--passes", PASSES_MAX, 9}};
    int json = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            print_help();
            return 0;
        }
        if (strcmp(argv[i], "--json") == 0) {
            json = 1;
            continue;
        }
        size_t n = 0;
        while (n < 3 && strcmp(argv[i], numbers[n].name) != 0) n++;
        char *end = NULL;
        const long value = n < 3 && i + 1 < argc ? strtol(argv[++i], &end, 10) : 0;
        if (value < 1 || value > numbers[n].most || *end != '\0') {
            fprintf(stderr, "bandwidth: bad argument; see --help\n");
            return 2;
        }
        numbers[n].value = value;
    }

    const size_t threads_most = (size_t)numbers[0].value, passes = (size_t)numbers[2].value;
    const size_t bytes = (size_t)numbers[1].value << 20;
    uint64_t *words = malloc(bytes);
    if (words == NULL) {
        fprintf(stderr, "bandwidth: no memory for %zu bytes\n", bytes);
        return 1;
    }
    if (!json) printf("%7s %9s %9s %9s  GB/s\n", "threads", "median", "slowest", "fastest");
    for (size_t threads = 1; threads <= threads_most; threads++) {
        double speed[PASSES_MAX];
        const int code = measure(words, bytes / sizeof *words, threads, passes, speed);
        if (code != 0) {
            fprintf(stderr, "bandwidth: no thread: %s\n", strerror(code));
            free(words);
            return 1;
        }
        if (json) {
            printf("%s\n  {\"threads\": %zu, \"bytes\": %zu, \"passes\": %zu, \"median\": %.3f, "
                   "\"slowest\": %.3f, \"fastest\": %.3f}%s",
                   threads == 1 ? "[" : ",", threads, bytes, passes, speed[passes / 2], speed[0],
                   speed[passes - 1], threads == threads_most ? "\n]\n" : "");
        } else {
            printf("%7zu %9.2f %9.2f %9.2f\n", threads, speed[passes / 2], speed[0], speed[passes - 1]);
        }
    }
    free(words);
    return 0;
}
