/*
 * Times every kernel of every table that this CPU can run: medians over rounds in which all take turns, so
 * that a slow moment of the machine touches each alike. Operands stay in cache.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "ports/port.h"

enum {
    N_MAX = 2048,
    ROWS_MAX = 128,
    DECODE_ROWS = 64,
    HEAD_DIM = 64,
    ROUNDS_MAX = 101,
    CASES_MAX = 64,
    TABLES_MAX = 8
};

/* Operands of all cases. */
typedef struct operands {
    uint8_t *blocks; /* DECODE_ROWS rows of the widest type */
    rs_row row;
    rs_acts acts;
    float *x, *y, *out; /* ROWS_MAX rows of N_MAX */
    int8_t *q;          /* ROWS_MAX heads */
    rs_page_view page;
} operands;

typedef struct bench_case bench_case;
struct bench_case {
    const char *name, *unit;
    rs_type type;
    size_t n, rows;
    void (*run)(const rs_kernels *kernels, const operands *o, const bench_case *c);
    size_t work; /* multiplications or elements a run */
};

static void run_unpack(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    rs_row row = o->row;
    kernels->unpack[c->type](o->blocks, &row, c->n);
}

static void run_dequantize(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->dequantize[c->type](o->blocks, o->out, c->n);
}

/* As a decode step uses them: each weight row is unpacked and meets one activation row. */
static void run_decode(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    rs_row row = o->row;
    for (size_t r = 0; r < DECODE_ROWS; r++) {
        kernels->unpack[c->type](o->blocks + r * rs_row_bytes(c->type, c->n), &row, c->n);
        kernels->dot_acts(&row, &o->acts, 1, c->n, o->out + r, 1);
    }
}

static void run_dot_acts(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->dot_acts(&o->row, &o->acts, c->rows, c->n, o->out, 1);
}

static void run_dot_f32(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->dot_f32(o->y, o->x, c->rows, c->n, o->out, 1);
}

static void run_quantize_acts(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    rs_acts acts = o->acts;
    kernels->quantize_acts(o->x, &acts, c->rows, c->n);
}

static void run_rms_norm(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->rms_norm(o->x, o->y, 1e-5f, c->n, o->out);
}

static void run_rope(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->rope(o->out, o->y, o->y, c->n, 0);
}

static void run_swiglu(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    memcpy(o->out, o->x, c->n * sizeof *o->out);
    kernels->swiglu(o->out, o->y, c->n);
}

static void run_geglu(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    memcpy(o->out, o->x, c->n * sizeof *o->out);
    kernels->geglu(o->out, o->y, c->n);
}

static void run_add(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->add(o->out, o->y, c->n);
}

static void run_quantize_head(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    o->out[0] = kernels->quantize_head(o->x, o->q, c->n);
}

static void run_attend_keys(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->attend_keys(o->q, o->y, c->rows, &o->page, HEAD_DIM, o->out, RS_PAGE_ENTRIES);
}

static void run_softmax_step(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    float max = 1, sum = 0;
    memcpy(o->out, o->x, c->n * sizeof *o->out);
    kernels->softmax_step(o->out, c->n, &max, &sum);
}

static void run_attend_values(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->attend_values(o->x, RS_PAGE_ENTRIES, c->rows, &o->page, HEAD_DIM, o->out);
}

/* Widths of SmolLM2-135M; the k-quants take a multiple of 256. */
static size_t list_cases(bench_case *cases) {
    size_t count = 0;
    for (rs_type type = RS_TYPE_F16; type < RS_TYPE_COUNT; type = (rs_type)(type + 1)) {
        const size_t n = rs_types[type].block_elems == 256 ? 1536 : 576;
        if (rs_type_is_quantized(type)) {
            cases[count++] = (bench_case){"unpack", "Gelem/s", type, n, 1, run_unpack, n};
            cases[count++] =
                (bench_case){"unpack + dot_acts", "GMAC/s", type, n, 1, run_decode, n * DECODE_ROWS};
        } else {
            cases[count++] = (bench_case){"dequantize", "Gelem/s", type, n, 1, run_dequantize, n};
        }
    }
    static const size_t row_counts[] = {1, 2, 3, 4, 16, 128};
    for (size_t i = 0; i < sizeof row_counts / sizeof *row_counts; i++) {
        const size_t rows = row_counts[i];
        cases[count++] = (bench_case){"dot_acts", "GMAC/s", RS_TYPE_F32, 576, rows, run_dot_acts, rows * 576};
    }
    static const bench_case others[] = {
        {"dot_acts", "GMAC/s", RS_TYPE_F32, 1536, 128, run_dot_acts, 1536 * 128},
        {"dot_f32", "GMAC/s", RS_TYPE_F32, 576, 1, run_dot_f32, 576},
        {"dot_f32", "GMAC/s", RS_TYPE_F32, 576, 128, run_dot_f32, 576 * 128},
        {"quantize_acts", "Gelem/s", RS_TYPE_F32, 576, 16, run_quantize_acts, 576 * 16},
        {"rms_norm", "Gelem/s", RS_TYPE_F32, 576, 1, run_rms_norm, 576},
        {"rope", "Gelem/s", RS_TYPE_F32, HEAD_DIM, 1, run_rope, HEAD_DIM},
        {"swiglu", "Gelem/s", RS_TYPE_F32, 1536, 1, run_swiglu, 1536},
        {"geglu", "Gelem/s", RS_TYPE_F32, 1536, 1, run_geglu, 1536},
        {"add", "Gelem/s", RS_TYPE_F32, 576, 1, run_add, 576},
        {"quantize_head", "Gelem/s", RS_TYPE_F32, HEAD_DIM, 1, run_quantize_head, HEAD_DIM},
        {"attend_keys", "GMAC/s", RS_TYPE_F32, HEAD_DIM, 1, run_attend_keys, 16 * HEAD_DIM},
        {"attend_keys", "GMAC/s", RS_TYPE_F32, HEAD_DIM, 3, run_attend_keys, 3 * 16 * HEAD_DIM},
        {"attend_keys", "GMAC/s", RS_TYPE_F32, HEAD_DIM, 48, run_attend_keys, 48 * 16 * HEAD_DIM},
        {"softmax_step", "Gelem/s", RS_TYPE_F32, 128, 1, run_softmax_step, 128},
        {"attend_values", "GMAC/s", RS_TYPE_F32, HEAD_DIM, 1, run_attend_values, 16 * HEAD_DIM},
        {"attend_values", "GMAC/s", RS_TYPE_F32, HEAD_DIM, 3, run_attend_values, 3 * 16 * HEAD_DIM},
        {"attend_values", "GMAC/s", RS_TYPE_F32, HEAD_DIM, 48, run_attend_values, 48 * 16 * HEAD_DIM},
    };
    memcpy(cases + count, others, sizeof others);
    return count + sizeof others / sizeof *others;
}

static operands make_operands(void) {
    static uint8_t blocks[DECODE_ROWS * N_MAX * 2];
    static int8_t row_q[N_MAX], acts_q[ROWS_MAX * N_MAX], q[ROWS_MAX * HEAD_DIM];
    static int8_t k[RS_PAGE_ENTRIES * HEAD_DIM], v[RS_PAGE_ENTRIES * HEAD_DIM];
    static float row_scale[N_MAX / RS_ROW_GROUP], row_min[N_MAX / RS_ROW_GROUP];
    static float acts_scale[ROWS_MAX * N_MAX / RS_ACT_BLOCK], acts_sum[ROWS_MAX * N_MAX / RS_ROW_GROUP];
    static float x[ROWS_MAX * N_MAX], y[ROWS_MAX * N_MAX], out[ROWS_MAX * N_MAX];
    static float k_scale[RS_PAGE_ENTRIES], v_scale[RS_PAGE_ENTRIES];
    const operands o = {
        .blocks = blocks,
        .row = {row_q, row_scale, row_min, 1},
        .acts = {acts_q, acts_scale, acts_sum},
        .x = x,
        .y = y,
        .out = out,
        .q = q,
        .page = {k, v, k_scale, v_scale},
    };
    /* Ordinary numbers: bytes from a linear congruence, floats within 1. */
    uint32_t seed = 1;
    for (size_t i = 0; i < ROWS_MAX * N_MAX; i++) {
        seed = seed * 1664525u + 1013904223u;
        o.acts.q[i] = (int8_t)((int)(seed >> 24) % 128);
        o.x[i] = (float)(seed >> 8) * 0x1p-23f - 1.0f;
        o.y[i] = (float)(seed >> 12) * 0x1p-20f;
    }
    /* 0x2e as the high byte of a half is about 0.1. */
    memset(o.blocks, 0x2e, DECODE_ROWS * N_MAX * 2);
    memcpy(o.row.q, o.acts.q, N_MAX);
    memcpy(o.q, o.acts.q, ROWS_MAX * HEAD_DIM);
    memcpy(o.page.k, o.acts.q, RS_PAGE_ENTRIES * HEAD_DIM);
    memcpy(o.page.v, o.acts.q, RS_PAGE_ENTRIES * HEAD_DIM);
    for (size_t i = 0; i < N_MAX / RS_ROW_GROUP; i++) o.row.scale[i] = o.row.min[i] = o.y[i];
    for (size_t i = 0; i < ROWS_MAX * N_MAX / RS_ACT_BLOCK; i++) o.acts.scale[i] = o.y[i];
    for (size_t i = 0; i < ROWS_MAX * N_MAX / RS_ROW_GROUP; i++) o.acts.sum[i] = o.x[i];
    for (size_t i = 0; i < RS_PAGE_ENTRIES; i++) o.page.k_scale[i] = o.page.v_scale[i] = o.y[i];
    return o;
}

static double time_runs(const rs_kernels *kernels, const operands *o, const bench_case *c, size_t runs) {
    const uint64_t begin = rs_port_clock_ns();
    for (size_t i = 0; i < runs; i++) c->run(kernels, o, c);
    return (double)(rs_port_clock_ns() - begin);
}

/* Enough runs for a quarter of a millisecond, so that the clock's grain is lost in it. */
static size_t calibrate(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    size_t runs = 1;
    while (time_runs(kernels, o, c, runs) < 250e3) runs *= 2;
    return runs;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct result {
    size_t runs;
    double speed[ROUNDS_MAX];
} result;

static void print_result(const bench_case *c, const rs_kernels *kernels, result *r, size_t rounds, int json,
                         int first) {
    qsort(r->speed, rounds, sizeof *r->speed, ascending);
    const double low = r->speed[rounds / 10], median = r->speed[rounds / 2],
                 high = r->speed[rounds - 1 - rounds / 10];
    const char *type = c->type == RS_TYPE_F32 ? "" : rs_types[c->type].name;
    if (json) {
        printf("%s\n  {\"kernel\": \"%s\", \"type\": \"%s\", \"n\": %zu, \"rows\": %zu, \"isa\": \"%s\", "
               "\"unit\": \"%s\", "
               "\"median\": %.3f, \"p10\": %.3f, \"p90\": %.3f}",
               first ? "" : ",", c->name, type, c->n, c->rows, rs_isa_name(kernels->isa), c->unit, median,
               low, high);
    } else {
        printf("%-18s %-5s %5zu %5zu  %-6s %9.2f %9.2f %9.2f  %s\n", c->name, type, c->n, c->rows,
               rs_isa_name(kernels->isa), median, low, high, c->unit);
    }
}

static void print_help(void) {
    printf("Usage: kernels [--json] [--rounds N]\n"
           "\n"
           "Times every kernel of every instruction set level that this CPU has, on one thread, operands in "
           "cache.\n"
           "For each: the median over the rounds, and the 10th and 90th percentile.\n"
           "\n"
           "  --json      a JSON array instead of a table\n"
           "  --rounds N  1 to %d, by default 21\n"
           "  --help      this text\n",
           ROUNDS_MAX);
}

int main(int argc, char **argv) {
    int json = 0;
    size_t rounds = 21;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            print_help();
            return 0;
        }
        if (strcmp(argv[i], "--json") == 0) {
            json = 1;
            continue;
        }
        const long value = strcmp(argv[i], "--rounds") == 0 && i + 1 < argc ? strtol(argv[++i], NULL, 10) : 0;
        if (value < 1 || value > ROUNDS_MAX) {
            fprintf(stderr, "kernels: bad argument; see --help\n");
            return 2;
        }
        rounds = (size_t)value;
    }

    const rs_kernels *tables[TABLES_MAX];
    size_t n_tables = 0;
    for (rs_isa isa = RS_ISA_REF; isa <= RS_ISA_I8MM; isa = (rs_isa)(isa + 1)) {
        const rs_kernels *kernels;
        if (rs_kernels_select(isa, &kernels, NULL) == RS_OK && kernels->isa == isa)
            tables[n_tables++] = kernels;
    }
    static bench_case cases[CASES_MAX];
    const size_t n_cases = list_cases(cases);
    const operands o = make_operands();
    static result results[CASES_MAX * TABLES_MAX];
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < n_cases * n_tables; i++) {
            const bench_case *c = &cases[i / n_tables];
            const rs_kernels *kernels = tables[i % n_tables];
            if (round == 0) results[i].runs = calibrate(kernels, &o, c);
            const double ns = time_runs(kernels, &o, c, results[i].runs);
            results[i].speed[round] = (double)c->work * (double)results[i].runs / ns;
        }
    }
    if (json) {
        printf("[");
    } else {
        printf("%-18s %-5s %5s %5s  %-6s %9s %9s %9s\n", "kernel", "type", "n", "rows", "isa", "median",
               "p10", "p90");
    }
    for (size_t i = 0; i < n_cases * n_tables; i++) {
        print_result(&cases[i / n_tables], tables[i % n_tables], &results[i], rounds, json, i == 0);
    }
    if (json) printf("\n]\n");
    return 0;
}
