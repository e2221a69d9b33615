/*
 * Times every kernel of every table that this CPU can run: medians over rounds in which all take turns, so
 * that a slow moment of the machine touches each alike. Operands stay in cache.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "ports/port.h"
#include "tests/kernels/tables.h"

enum {
    N_MAX = 1536,
    ROWS_MAX = 128,
    DECODE_ROWS = 64, /* weight rows, four panels of them */
    GROUPS_MAX = N_MAX / 16,
    HEAD_DIM = 64,
    ATTEND_ROWS = 24,
    ENTRIES = RS_ATTEND_PAGES * RS_PAGE_ENTRIES,
    ROUNDS_MAX = 101,
    CASES_MAX = 96,
};

/* Operands of all cases. */
typedef struct operands {
    uint8_t *blocks; /* DECODE_ROWS rows of the widest type */
    rs_panel panel;  /* unpack's output */
    rs_panel weights[RS_PANEL_KINDS];
    rs_acts acts, new_acts;
    float *x, *y, *out;   /* ROWS_MAX rows of N_MAX; y is not negative */
    float *cosine, *sine; /* of one angle: what is rotated again and again keeps its length */
    rs_turn turn;         /* of one angle */
    int8_t *q, *new_q;    /* ATTEND_ROWS heads */
    rs_page_view pages[RS_ATTEND_PAGES];
} operands;

typedef struct bench_case bench_case;
struct bench_case {
    const char *name, *weights, *unit; /* weights: their type or kind of panel; "" where there are none */
    size_t n, rows;
    void (*run)(const rs_kernels *kernels, const operands *o, const bench_case *c);
    size_t work; /* multiplications or elements a run */
    rs_type type;
    rs_panel_kind kind;
};

static void run_unpack(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->unpack[c->type](o->blocks, rs_row_bytes(c->type, c->n), RS_PANEL_ROWS, c->n, &o->panel);
}

static void run_dequantize(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->dequantize[c->type](o->blocks, o->out, c->n);
}

/* As a decode step may use them: panels of weights are unpacked and meet one activation row each. */
static void run_decode(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    const size_t row_bytes = rs_row_bytes(c->type, c->n);
    for (size_t r = 0; r < DECODE_ROWS; r += RS_PANEL_ROWS) {
        kernels->unpack[c->type](o->blocks + r * row_bytes, row_bytes, RS_PANEL_ROWS, c->n, &o->panel);
        kernels->multiply[c->kind](&o->panel, &o->acts, 1, c->n, o->out + r, RS_PANEL_ROWS, RS_PANEL_ROWS);
    }
}

/* The same without panels. */
static void run_multiply_blocks(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    const size_t row_bytes = rs_row_bytes(c->type, c->n);
    for (size_t r = 0; r < DECODE_ROWS; r += RS_PANEL_ROWS)
        kernels->multiply_blocks[c->type](o->blocks + r * row_bytes, row_bytes, c->n, &o->acts, o->out + r);
}

static void run_multiply(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->multiply[c->kind](&o->weights[c->kind], &o->acts, c->rows, c->n, o->out, RS_PANEL_ROWS,
                               RS_PANEL_ROWS);
}

static void run_dot_f32(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->dot_f32(o->y, o->x, c->rows, c->n, o->out, 1);
}

static void run_quantize_acts(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    rs_acts acts = o->new_acts;
    kernels->quantize_acts(o->x, &acts, c->rows, c->n);
}

static void run_rms_norm(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->rms_norm(o->x, o->y, 1e-5f, c->n, o->out);
}

static void run_rope(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->rope(o->out, o->cosine, o->sine, c->n, 0);
}

static void run_rotate_keys(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->rotate_keys(o->pages, 0xffff, o->cosine, o->sine, c->n, c->n, 0, 0);
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

static void run_largest(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    o->out[0] = (float)kernels->largest(o->x, c->n);
}

static void run_quantize_head(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    o->out[0] = kernels->quantize_head(o->x, o->new_q, c->n);
}

static void run_attend_keys(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->attend_keys(o->q, o->y, c->rows, o->pages, RS_ATTEND_PAGES, HEAD_DIM, o->out, ENTRIES);
}

/* There and back, as behind a second erase. */
static void run_turn_keys(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->turn_keys(o->pages, 0xffff, &o->turn, &o->turn, c->n, c->n, 0);
}

static void run_softmax_step(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    float max = 1, sum = 0;
    memcpy(o->out, o->x, c->n * sizeof *o->out);
    kernels->softmax_step(o->out, c->n, &max, &sum);
}

/* Factors below 1, so that accumulations stay finite. */
static void run_attend_values(const rs_kernels *kernels, const operands *o, const bench_case *c) {
    kernels->attend_values(o->y, ENTRIES, o->y, c->rows, o->pages, RS_ATTEND_PAGES, HEAD_DIM, o->out);
}

/* Types in the widths of SmolLM2-135M; the k-quants take a multiple of 256. */
static size_t list_types(bench_case *cases) {
    size_t count = 0;
    for (rs_type type = RS_TYPE_F16; type < RS_TYPE_COUNT; type = (rs_type)(type + 1)) {
        bench_case c = {.weights = rs_types[type].name, .unit = "Gelem/s", .rows = 1, .type = type};
        c.n = rs_types[type].block_elems == 256 ? 1536 : 576;
        c.work = c.n;
        if (!rs_type_is_quantized(type)) {
            c.name = "dequantize";
            c.run = run_dequantize;
            cases[count++] = c;
            continue;
        }
        c.name = "unpack";
        c.rows = RS_PANEL_ROWS;
        c.run = run_unpack;
        c.work = RS_PANEL_ROWS * c.n;
        cases[count++] = c;
        c.name = "unpack + multiply";
        c.unit = "GMAC/s";
        c.rows = 1;
        c.kind = rs_panel_kind_of(type);
        c.run = run_decode;
        c.work = DECODE_ROWS * c.n;
        cases[count++] = c;
        c.name = "multiply_blocks";
        c.run = run_multiply_blocks;
        cases[count++] = c;
    }
    return count;
}

static size_t list_multiply(bench_case *cases) {
    static const size_t row_counts[] = {1, 4, 8, 16, 128}, widths[] = {576, 1536};
    size_t count = 0;
    for (size_t kind = 0; kind < RS_PANEL_KINDS; kind++) {
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            for (size_t r = 0; r < sizeof row_counts / sizeof *row_counts; r++) {
                cases[count++] = (bench_case){
                    .name = "multiply",
                    .weights = rs_panel_kind_name((rs_panel_kind)kind),
                    .unit = "GMAC/s",
                    .n = widths[w],
                    .rows = row_counts[r],
                    .run = run_multiply,
                    .work = RS_PANEL_ROWS * row_counts[r] * widths[w],
                    .kind = (rs_panel_kind)kind,
                };
            }
        }
    }
    return count;
}

static size_t list_others(bench_case *cases) {
    static const struct {
        const char *name, *unit;
        size_t n, rows;
        void (*run)(const rs_kernels *kernels, const operands *o, const bench_case *c);
        size_t work;
    } others[] = {
        {"dot_f32", "GMAC/s", 576, 1, run_dot_f32, 576},
        {"dot_f32", "GMAC/s", 576, 128, run_dot_f32, 128 * 576},
        {"quantize_acts", "Gelem/s", 576, 16, run_quantize_acts, 16 * 576},
        {"rms_norm", "Gelem/s", 576, 1, run_rms_norm, 576},
        {"rope", "Gelem/s", HEAD_DIM, 1, run_rope, HEAD_DIM},
        {"rotate_keys", "Gelem/s", HEAD_DIM, 1, run_rotate_keys, RS_PAGE_ENTRIES * HEAD_DIM},
        {"turn_keys", "Gelem/s", HEAD_DIM, 1, run_turn_keys, RS_PAGE_ENTRIES * HEAD_DIM},
        {"swiglu", "Gelem/s", 1536, 1, run_swiglu, 1536},
        {"geglu", "Gelem/s", 1536, 1, run_geglu, 1536},
        {"add", "Gelem/s", 576, 1, run_add, 576},
        {"largest", "Gelem/s", 49152, 1, run_largest, 49152},
        {"quantize_head", "Gelem/s", HEAD_DIM, 1, run_quantize_head, HEAD_DIM},
        {"attend_keys", "GMAC/s", HEAD_DIM, 3, run_attend_keys, 3 * ENTRIES * HEAD_DIM},
        {"attend_keys", "GMAC/s", HEAD_DIM, 24, run_attend_keys, 24 * ENTRIES * HEAD_DIM},
        {"softmax_step", "Gelem/s", ENTRIES, 1, run_softmax_step, ENTRIES},
        {"attend_values", "GMAC/s", HEAD_DIM, 3, run_attend_values, 3 * ENTRIES * HEAD_DIM},
        {"attend_values", "GMAC/s", HEAD_DIM, 24, run_attend_values, 24 * ENTRIES * HEAD_DIM},
    };
    const size_t count = sizeof others / sizeof *others;
    for (size_t i = 0; i < count; i++) {
        cases[i] = (bench_case){.name = others[i].name,
                                .weights = "",
                                .unit = others[i].unit,
                                .n = others[i].n,
                                .rows = others[i].rows,
                                .run = others[i].run,
                                .work = others[i].work};
    }
    return count;
}

static size_t list_cases(bench_case *cases) {
    size_t count = list_types(cases);
    count += list_multiply(cases + count);
    return count + list_others(cases + count);
}

/* Ordinary numbers: bytes from a linear congruence, floats within 1. */
static operands make_operands(void) {
    static uint8_t blocks[DECODE_ROWS * N_MAX * 2];
    static _Alignas(64) int8_t panel_q[1 + RS_PANEL_KINDS][RS_PANEL_ROWS * N_MAX];
    static _Alignas(64) float panel_scale[2][RS_PANEL_ROWS * GROUPS_MAX];
    static _Alignas(64) float panel_min[2][RS_PANEL_ROWS * GROUPS_MAX];
    static int8_t acts_q[2][ROWS_MAX * N_MAX], q[2][ATTEND_ROWS * HEAD_DIM];
    static float acts_scale[2][ROWS_MAX * N_MAX / RS_ACT_BLOCK], acts_sum[2][ROWS_MAX * N_MAX / RS_ACT_BLOCK];
    static float acts_half_sum[2][ROWS_MAX * N_MAX / 16];
    static float cosine[HEAD_DIM / 2], sine[HEAD_DIM / 2];
    static int16_t turn_tangent[HEAD_DIM / 2], turn_sine[HEAD_DIM / 2];
    static uint8_t turn_quarters[HEAD_DIM / 2];
    static float x[ROWS_MAX * N_MAX], y[ROWS_MAX * N_MAX], out[ROWS_MAX * N_MAX];
    static int8_t k[RS_ATTEND_PAGES * RS_PAGE_ENTRIES * HEAD_DIM],
        v[RS_ATTEND_PAGES * RS_PAGE_ENTRIES * HEAD_DIM];
    static const int largest[RS_PANEL_KINDS] = {15, 31, 63, 127};
    operands o = {
        .blocks = blocks,
        .panel = {.q = panel_q[RS_PANEL_KINDS], .scale = panel_scale[1], .min = panel_min[1]},
        .acts = {acts_q[0], acts_scale[0], acts_sum[0], acts_half_sum[0]},
        .new_acts = {acts_q[1], acts_scale[1], acts_sum[1], acts_half_sum[1]},
        .x = x,
        .y = y,
        .out = out,
        .cosine = cosine,
        .sine = sine,
        .turn = {turn_tangent, turn_sine, turn_quarters},
        .q = q[0],
        .new_q = q[1],
    };
    for (size_t i = 0; i < HEAD_DIM / 2; i++) {
        cosine[i] = 0.8f;
        sine[i] = 0.6f;
        rs_turn_of_angle(&o.turn, i, (double)i);
    }
    uint32_t seed = 1;
    for (size_t i = 0; i < ROWS_MAX * N_MAX; i++) {
        seed = seed * 1664525u + 1013904223u;
        acts_q[0][i] = (int8_t)((int)(seed >> 24) % 128);
        x[i] = (float)(seed >> 8) * 0x1p-23f - 1.0f;
        y[i] = (float)(seed >> 12) * 0x1p-20f;
    }
    /* 0x2e as the high byte of a half is about 0.1. */
    memset(blocks, 0x2e, sizeof blocks);
    memcpy(q[0], acts_q[0], sizeof q[0]);
    memcpy(k, acts_q[0], sizeof k);
    memcpy(v, acts_q[0], sizeof v);
    memcpy(panel_scale[0], y, sizeof panel_scale[0]);
    memcpy(panel_min[0], x, sizeof panel_min[0]);
    memcpy(acts_scale[0], y, sizeof acts_scale[0]);
    memcpy(acts_sum[0], x, sizeof acts_sum[0]);
    memcpy(acts_half_sum[0], x, sizeof acts_half_sum[0]);
    for (size_t kind = 0; kind < RS_PANEL_KINDS; kind++) {
        for (size_t i = 0; i < RS_PANEL_ROWS * N_MAX; i++)
            panel_q[kind][i] = (int8_t)(acts_q[0][i] & largest[kind]);
        o.weights[kind] = (rs_panel){.q = panel_q[kind], .scale = panel_scale[0], .min = panel_min[0]};
    }
    for (size_t p = 0; p < RS_ATTEND_PAGES; p++) {
        const size_t at = p * RS_PAGE_ENTRIES;
        o.pages[p] = (rs_page_view){
            .k = k + at * HEAD_DIM, .v = v + at * HEAD_DIM, .k_scale = y + at, .v_scale = y + at};
    }
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

/* Levels may do without a kernel. */
static int has_case(const rs_kernels *kernels, const bench_case *c) {
    return c->run != run_multiply_blocks || kernels->multiply_blocks[c->type] != NULL;
}

typedef struct result {
    const bench_case *c;
    const rs_kernels *kernels;
    size_t runs;
    double speed[ROUNDS_MAX]; /* in the case's unit */
} result;

static void print_result(result *r, size_t rounds, int json, int first) {
    qsort(r->speed, rounds, sizeof *r->speed, ascending);
    const double low = r->speed[rounds / 10], median = r->speed[rounds / 2],
                 high = r->speed[rounds - 1 - rounds / 10];
    const bench_case *c = r->c;
    const char *isa = rs_isa_name(r->kernels->isa);
    if (json) {
        printf("%s\n  {\"kernel\": \"%s\", \"type\": \"%s\", \"n\": %zu, \"rows\": %zu, \"isa\": \"%s\", "
               "\"unit\": \"%s\", \"median\": %.3f, \"p10\": %.3f, \"p90\": %.3f}",
               first ? "" : ",", c->name, c->weights, c->n, c->rows, isa, c->unit, median, low, high);
    } else {
        printf("%-18s %-5s %5zu %5zu  %-10s %9.2f %9.2f %9.2f  %s\n", c->name, c->weights, c->n, c->rows, isa,
               median, low, high, c->unit);
    }
}

static void print_help(void) {
    printf("Usage: kernels [--json] [--rounds N] [--isa NAME]\n"
           "\n"
           "Times every kernel of every instruction set level that this CPU has, on one thread, operands in "
           "cache.\n"
           "For each: the median over the rounds, and the 10th and 90th percentile.\n"
           "\n"
           "  --json      a JSON array instead of a table\n"
           "  --rounds N  1 to %d, by default 21\n"
           "  --isa NAME  this level only: ref, avx2, ...\n"
           "  --help      this text\n",
           ROUNDS_MAX);
}

typedef struct options {
    int json, help;
    size_t rounds;
    const char *isa; /* NULL: all */
} options;

/* Returns 0, or -1 for arguments that are not understood. */
static int parse(int argc, char **argv, options *o) {
    *o = (options){.rounds = 21};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--help") == 0) {
            o->help = 1;
        } else if (strcmp(argv[i], "--json") == 0) {
            o->json = 1;
        } else if (strcmp(argv[i], "--isa") == 0 && value != NULL) {
            o->isa = value;
            i++;
        } else if (strcmp(argv[i], "--rounds") == 0 && value != NULL) {
            char *end;
            const long rounds = strtol(value, &end, 10);
            if (*end != '\0' || rounds < 1 || rounds > ROUNDS_MAX) return -1;
            o->rounds = (size_t)rounds;
            i++;
        } else {
            return -1;
        }
    }
    return 0;
}

/* The tables to time; 0 when the level asked for is none that there is here, after saying so. */
static size_t choose_tables(const char *isa_name, const rs_kernels *tables[RS_ALL_LEVELS]) {
    rs_isa isa;
    rs_error error;
    if (isa_name == NULL) return rs_tables_of_cpu(tables);
    if (rs_isa_from_name(isa_name, &isa) != RS_OK) {
        fprintf(stderr, "kernels: there is no instruction set level \"%s\"\n", isa_name);
        return 0;
    }
    if (rs_kernels_select(isa, &tables[0], &error) == RS_OK) return 1;
    fprintf(stderr, "kernels: %s\n", error.message);
    return 0;
}

static void time_all(result *results, size_t count, const operands *o, size_t rounds) {
    for (size_t i = 0; i < count; i++) results[i].runs = calibrate(results[i].kernels, o, results[i].c);
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < count; i++) {
            const double ns = time_runs(results[i].kernels, o, results[i].c, results[i].runs);
            results[i].speed[round] = (double)results[i].c->work * (double)results[i].runs / ns;
        }
    }
}

int main(int argc, char **argv) {
    static bench_case cases[CASES_MAX];
    static result results[CASES_MAX * RS_ALL_LEVELS];
    const rs_kernels *tables[RS_ALL_LEVELS];
    options options;
    if (parse(argc, argv, &options) != 0) {
        fprintf(stderr, "kernels: bad argument; see --help\n");
        return 2;
    }
    if (options.help) {
        print_help();
        return 0;
    }
    const size_t n_tables = choose_tables(options.isa, tables), n_cases = list_cases(cases);
    if (n_tables == 0) return 2;
    size_t count = 0;
    for (size_t i = 0; i < n_cases * n_tables; i++) {
        const bench_case *c = &cases[i / n_tables];
        if (has_case(tables[i % n_tables], c))
            results[count++] = (result){.c = c, .kernels = tables[i % n_tables]};
    }
    const operands o = make_operands();
    time_all(results, count, &o, options.rounds);
    if (options.json) {
        printf("[");
    } else {
        printf("%-18s %-5s %5s %5s  %-10s %9s %9s %9s\n", "kernel", "type", "n", "rows", "isa", "median",
               "p10", "p90");
    }
    for (size_t i = 0; i < count; i++) print_result(&results[i], options.rounds, options.json, i == 0);
    if (options.json) printf("\n]\n");
    return 0;
}
