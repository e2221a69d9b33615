/*
 * Runs every kernel of every table but the portable one, each once, between calls of count_begin and
 * count_end, for bench/instructions.sh: an emulator's log shows what was executed between them. On x86, where
 * the levels beyond AVX2 have no emulator, --step lets the CPU trap after each instruction and counts those.
 */
#define _GNU_SOURCE /* sigaction */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "tests/kernels/tables.h"

enum {
    N = 768, /* of a row of weights; what every type's block divides */
    ROWS = 16,
    HEAD_DIM = 64,
    HEADS = 3,
    ENTRIES = RS_ATTEND_PAGES * RS_PAGE_ENTRIES,
};

typedef struct operands {
    uint8_t *blocks;
    rs_panel panel;
    rs_acts acts;
    rs_two_terms terms;
    rs_channel_panel channels;
    float *x, *y, *out; /* ROWS rows of N between 0 and 1 */
    rs_turn turn;
    int8_t *q;
    rs_page_view pages[RS_ATTEND_PAGES];
} operands;

typedef struct count_case count_case;
struct count_case {
    const char *kernel, *unit;
    size_t work;
    void (*run)(const rs_kernels *k, const operands *o, const count_case *c);
    unsigned index; /* rs_type or rs_panel_kind */
    size_t rows;
};

static volatile size_t counted;

/* What lies between these two is counted. An emulator's log names them. */
#if defined(__x86_64__)
static volatile sig_atomic_t stepping;

static void trap(int number) {
    (void)number;
    counted++;
}

__attribute__((noinline)) static void count_begin(void) {
    if (stepping) __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
}

__attribute__((noinline)) static void count_end(void) {
    if (stepping) __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
}

static int step(void) {
    stepping = 1;
    return sigaction(SIGTRAP, &(struct sigaction){.sa_handler = trap}, NULL);
}
#else
/* The comments keep the compiler from making one function of two. */
__attribute__((noinline)) static void count_begin(void) {
    __asm__ volatile("/* begin */" ::: "memory");
}

__attribute__((noinline)) static void count_end(void) {
    __asm__ volatile("/* end */" ::: "memory");
}

static int step(void) {
    return -1;
}
#endif

static void run_nothing(const rs_kernels *k, const operands *o, const count_case *c) {
    (void)k, (void)o, (void)c;
}

static void run_dequantize(const rs_kernels *k, const operands *o, const count_case *c) {
    k->dequantize[c->index](o->blocks, o->out, N);
}

static void run_unpack(const rs_kernels *k, const operands *o, const count_case *c) {
    k->unpack[c->index](o->blocks, rs_row_bytes((rs_type)c->index, N), RS_PANEL_ROWS, N, &o->panel);
}

static void run_multiply_blocks(const rs_kernels *k, const operands *o, const count_case *c) {
    k->multiply_blocks[c->index](o->blocks, rs_row_bytes((rs_type)c->index, N), N, &o->acts, o->out);
}

static void run_multiply(const rs_kernels *k, const operands *o, const count_case *c) {
    k->multiply[c->index](&o->panel, &o->acts, c->rows, N, o->out, RS_PANEL_ROWS, RS_PANEL_ROWS);
}

static void run_requantize(const rs_kernels *k, const operands *o, const count_case *c) {
    k->requantize[c->index](&o->panel, N, &o->channels);
}

static void run_quantize_terms(const rs_kernels *k, const operands *o, const count_case *c) {
    k->quantize_terms(o->x, &o->terms, c->rows, N);
}

static void run_multiply_channels(const rs_kernels *k, const operands *o, const count_case *c) {
    k->multiply_channels(&o->channels, &o->terms, c->rows, N, o->out, RS_PANEL_ROWS, RS_PANEL_ROWS);
}

static void run_quantize_acts(const rs_kernels *k, const operands *o, const count_case *c) {
    rs_acts acts = o->acts;
    k->quantize_acts(o->x, &acts, c->rows, N);
}

static void run_dot_f32(const rs_kernels *k, const operands *o, const count_case *c) {
    k->dot_f32(o->y, o->x, c->rows, N, o->out, 1);
}

static void run_rms_norm(const rs_kernels *k, const operands *o, const count_case *c) {
    (void)c;
    k->rms_norm(o->x, o->y, 1e-5f, N, o->out);
}

static void run_rope(const rs_kernels *k, const operands *o, const count_case *c) {
    (void)c;
    k->rope(o->out, o->x, o->y, HEAD_DIM, 0);
}

static void run_rotate_keys(const rs_kernels *k, const operands *o, const count_case *c) {
    (void)c;
    k->rotate_keys(o->pages, 0xffff, o->x, o->y, HEAD_DIM, HEAD_DIM, 0, 0);
}

static void run_turn_keys(const rs_kernels *k, const operands *o, const count_case *c) {
    (void)c;
    k->turn_keys(o->pages, 0xffff, &o->turn, &o->turn, HEAD_DIM, HEAD_DIM, 0);
}

static void run_swiglu(const rs_kernels *k, const operands *o, const count_case *c) {
    (void)c;
    k->swiglu(o->out, o->y, N);
}

static void run_geglu(const rs_kernels *k, const operands *o, const count_case *c) {
    (void)c;
    k->geglu(o->out, o->y, N);
}

static void run_add(const rs_kernels *k, const operands *o, const count_case *c) {
    (void)c;
    k->add(o->out, o->y, N);
}

static void run_largest(const rs_kernels *k, const operands *o, const count_case *c) {
    (void)c;
    o->out[0] = (float)k->largest(o->x, N);
}

static void run_quantize_head(const rs_kernels *k, const operands *o, const count_case *c) {
    (void)c;
    o->out[0] = k->quantize_head(o->x, o->q, HEAD_DIM);
}

static void run_attend_keys(const rs_kernels *k, const operands *o, const count_case *c) {
    k->attend_keys(o->q, o->y, c->rows, o->pages, RS_ATTEND_PAGES, HEAD_DIM, o->out, ENTRIES);
}

static void run_softmax_step(const rs_kernels *k, const operands *o, const count_case *c) {
    (void)c;
    float max = 1, sum = 0;
    k->softmax_step(o->out, ENTRIES, &max, &sum);
}

static void run_attend_values(const rs_kernels *k, const operands *o, const count_case *c) {
    k->attend_values(o->y, ENTRIES, o->y, c->rows, o->pages, RS_ATTEND_PAGES, HEAD_DIM, o->out);
}

static const char *const types[RS_TYPE_COUNT] = {
    [RS_TYPE_F16] = "F16",   [RS_TYPE_BF16] = "BF16", [RS_TYPE_Q4_0] = "Q4_0", [RS_TYPE_Q4_1] = "Q4_1",
    [RS_TYPE_Q5_0] = "Q5_0", [RS_TYPE_Q5_1] = "Q5_1", [RS_TYPE_Q8_0] = "Q8_0", [RS_TYPE_Q4_K] = "Q4_K",
    [RS_TYPE_Q5_K] = "Q5_K", [RS_TYPE_Q6_K] = "Q6_K",
};

enum { PANEL = RS_PANEL_ROWS * N, ATTEND = HEADS * ENTRIES * HEAD_DIM };

/* `index` of those that come in several kinds is filled in later. */
static const count_case by_type[] = {
    {"dequantize", "elements", N, run_dequantize, 0, 1},
    {"unpack", "elements", PANEL, run_unpack, 0, 1},
    {"multiply_blocks", "products", PANEL, run_multiply_blocks, 0, 1},
};
static const count_case by_kind[] = {
    {"multiply, 1 row", "products", PANEL, run_multiply, 0, 1},
    {"multiply, 16 rows", "products", ROWS *PANEL, run_multiply, 0, ROWS},
    {"requantize", "elements", PANEL, run_requantize, 0, 1},
};
static const count_case others[] = {
    {"quantize_terms", "elements", ROWS *N, run_quantize_terms, 0, ROWS},
    {"multiply_channels, 16 rows", "products", ROWS *PANEL, run_multiply_channels, 0, ROWS},
    {"quantize_acts", "elements", N, run_quantize_acts, 0, 1},
    {"dot_f32", "products", N, run_dot_f32, 0, 1},
    {"rms_norm", "elements", N, run_rms_norm, 0, 1},
    {"rope", "elements", HEAD_DIM, run_rope, 0, 1},
    {"rotate_keys", "elements", RS_PAGE_ENTRIES *HEAD_DIM, run_rotate_keys, 0, 1},
    {"turn_keys", "elements", RS_PAGE_ENTRIES *HEAD_DIM, run_turn_keys, 0, 1},
    {"swiglu", "elements", N, run_swiglu, 0, 1},
    {"geglu", "elements", N, run_geglu, 0, 1},
    {"add", "elements", N, run_add, 0, 1},
    {"largest", "elements", N, run_largest, 0, 1},
    {"quantize_head", "elements", HEAD_DIM, run_quantize_head, 0, 1},
    {"attend_keys, 3 heads", "products", ATTEND, run_attend_keys, 0, HEADS},
    {"softmax_step", "elements", ENTRIES, run_softmax_step, 0, 1},
    {"attend_values, 3 heads", "products", ATTEND, run_attend_values, 0, HEADS},
};
static const count_case nothing = {"nothing", "", 0, run_nothing, 0, 0};

static operands make_operands(void) {
    static _Alignas(64) int8_t panel_q[PANEL], terms[2][ROWS * N], channels[PANEL],
        pages[2][ENTRIES * HEAD_DIM];
    static _Alignas(64) float panel_scale[PANEL / 16], panel_min[PANEL / 16], floats[3][ROWS * N];
    static _Alignas(64) float channel_scale[RS_PANEL_ROWS], term_scale[ROWS];
    static uint8_t blocks[4 * PANEL];
    static int8_t q[ROWS * N], head[HEADS * HEAD_DIM];
    static float acts[3][ROWS * N / 16];
    static int16_t turn_tangent[HEAD_DIM / 2], turn_sine[HEAD_DIM / 2];
    static uint8_t turn_quarters[HEAD_DIM / 2];
    operands o = {
        .blocks = blocks,
        .panel = {.q = panel_q, .scale = panel_scale, .min = panel_min},
        .acts = {q, acts[0], acts[1], acts[2]},
        .terms = {terms[0], terms[1], term_scale},
        .channels = {channels, channel_scale},
        .x = floats[0],
        .y = floats[1],
        .out = floats[2],
        .turn = {turn_tangent, turn_sine, turn_quarters},
        .q = head,
    };
    for (size_t i = 0; i < HEAD_DIM / 2; i++) rs_turn_of_angle(&o.turn, i, (double)i);
    memset(blocks, 0x2e, sizeof blocks); /* as the high byte of a half, about 0.1 */
    memset(panel_q, 5, sizeof panel_q);
    for (size_t i = 0; i < N; i++) {
        floats[0][i] = (float)i / N;
        floats[1][i] = (float)(N - i) / N;
    }
    for (size_t i = 0; i < PANEL / 16; i++) panel_scale[i] = panel_min[i] = 0.5f;
    for (size_t p = 0; p < RS_ATTEND_PAGES; p++) {
        o.pages[p] = (rs_page_view){.k = pages[0] + p * RS_PAGE_ENTRIES * HEAD_DIM,
                                    .v = pages[1] + p * RS_PAGE_ENTRIES * HEAD_DIM,
                                    .k_scale = floats[0] + p * RS_PAGE_ENTRIES,
                                    .v_scale = floats[1] + p * RS_PAGE_ENTRIES};
    }
    return o;
}

/* Levels may do without a kernel. */
static bool has_case(const rs_kernels *k, const count_case *c) {
    if (c->run == run_dequantize) return k->dequantize[c->index] != NULL;
    if (c->run == run_unpack) return k->unpack[c->index] != NULL;
    if (c->run == run_multiply_blocks) return k->multiply_blocks[c->index] != NULL;
    if (c->run == run_requantize) return k->requantize[c->index] != NULL;
    if (c->run == run_quantize_terms) return k->quantize_terms != NULL;
    if (c->run == run_multiply_channels) return k->multiply_channels != NULL;
    return true;
}

/* One line a case: level, kernel, what of, work, its unit and, when stepping, the count. */
static void run_case(const rs_kernels *k, const operands *o, const count_case *c, const char *what,
                     int list) {
    if (!has_case(k, c)) return;
    counted = 0;
    if (!list) {
        memcpy(o->out, o->x, ROWS * N * sizeof *o->out);
        count_begin();
        c->run(k, o, c);
        count_end();
    }
    if (list || counted > 0)
        printf("%s\t%s\t%s\t%zu\t%s\t%zu\n", rs_isa_name(k->isa), c->kernel, what, c->work, c->unit, counted);
}

static void run_table(const rs_kernels *k, const operands *o, int list) {
    run_case(k, o, &nothing, "", list);
    for (size_t i = 0; i < sizeof by_type / sizeof *by_type; i++) {
        for (unsigned type = 0; type < RS_TYPE_COUNT; type++) {
            if (types[type] == NULL) continue;
            count_case c = by_type[i];
            c.index = type;
            if (rs_type_is_quantized((rs_type)type) == (c.run != run_dequantize))
                run_case(k, o, &c, types[type], list);
        }
    }
    for (size_t i = 0; i < sizeof by_kind / sizeof *by_kind; i++) {
        for (unsigned kind = 0; kind < RS_PANEL_KINDS; kind++) {
            count_case c = by_kind[i];
            c.index = kind;
            run_case(k, o, &c, rs_panel_kind_name((rs_panel_kind)kind), list);
        }
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) run_case(k, o, &others[i], "", list);
}

int main(int argc, char **argv) {
    const rs_kernels *tables[RS_ALL_LEVELS];
    const int list = argc == 2 && strcmp(argv[1], "--list") == 0;
    const int steps = argc == 2 && strcmp(argv[1], "--step") == 0;
    if (argc > 1 + (list || steps) || (steps && step() != 0)) {
        fputs("Usage: count_kernels [--list | --step]\n"
              "\n"
              "Runs every kernel once, for bench/instructions.sh to count its instructions.\n"
              "\n"
              "  --list  print which it would run, in this order, instead\n"
              "  --step  count here, on x86\n",
              stderr);
        return 2;
    }
    const operands o = make_operands();
    const size_t count = rs_tables_of_cpu(tables);
    for (size_t i = 0; i < count; i++) {
        if (tables[i]->isa != RS_ISA_REF) run_table(tables[i], &o, list);
    }
    return 0;
}
