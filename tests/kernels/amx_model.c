/* Tiles in software, and the decoder for those instructions that GCC and clang make of amx_tile.h. */
#define _GNU_SOURCE /* REG_RIP */
#include "tests/kernels/amx_model.h"

#include <signal.h>
#include <stdint.h>
#include <string.h>
#if defined(__linux__) && defined(__x86_64__)
#include <ucontext.h>
#endif

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64, CONFIG_BYTES = 64 };

typedef struct shape {
    unsigned rows, row_bytes; /* both 0: a tile that may not be used */
} shape;

typedef struct model {
    bool configured;
    shape shape[TILES];
    int8_t data[TILES][ROWS][ROW_BYTES];
    size_t count[AMX_INSTRUCTIONS];
    const char *fault;
} model;

static _Thread_local model m;

void amx_model_reset(void) {
    memset(&m, 0, sizeof m);
}

const char *amx_model_fault(void) {
    return m.fault;
}

size_t amx_model_count(amx_instruction instruction) {
    return m.count[instruction];
}

bool amx_model_in_use(void) {
    return m.configured;
}

/* True unless `refused`: then the first such sentence is kept. */
static bool check(bool refused, const char *fault) {
    if (refused && m.fault == NULL) m.fault = fault;
    return !refused;
}

void amx_tilerelease(void) {
    m.count[AMX_TILERELEASE]++;
    m.configured = false;
    memset(m.shape, 0, sizeof m.shape);
    memset(m.data, 0, sizeof m.data);
}

/* Palette 1: eight tiles. The second eight of the two lists are reserved. */
void amx_ldtilecfg(const void *config) {
    uint8_t byte[CONFIG_BYTES];
    shape shapes[TILES];
    memcpy(byte, config, sizeof byte);
    if (!check(byte[0] != 1, "ldtilecfg: the palette is not 1")) return;
    if (!check(byte[1] != 0, "ldtilecfg: a start row, which the model does not know")) return;
    unsigned reserved = 0;
    for (size_t i = 2; i < 16; i++) reserved |= byte[i];
    for (size_t i = 16 + 2 * TILES; i < 48; i++) reserved |= byte[i];
    for (size_t i = 48 + TILES; i < 64; i++) reserved |= byte[i];
    if (!check(reserved != 0, "ldtilecfg: a reserved byte is not 0")) return;
    for (size_t t = 0; t < TILES; t++) {
        const shape s = {byte[48 + t], byte[16 + 2 * t] | (unsigned)byte[17 + 2 * t] << 8};
        if (!check(s.rows > ROWS, "ldtilecfg: more than 16 rows")) return;
        if (!check(s.row_bytes > ROW_BYTES, "ldtilecfg: rows of more than 64 bytes")) return;
        if (!check((s.rows == 0) != (s.row_bytes == 0), "ldtilecfg: rows or bytes without the other")) return;
        shapes[t] = s;
    }
    m.count[AMX_LDTILECFG]++;
    m.configured = true;
    memcpy(m.shape, shapes, sizeof shapes);
    memset(m.data, 0, sizeof m.data);
}

static bool usable(unsigned tile) {
    return check(!m.configured, "a tile is used while none are configured") &&
           check(tile >= TILES || m.shape[tile].rows == 0, "a tile without a shape is used") &&
           check(m.shape[tile].row_bytes % 4 != 0, "a tile whose rows are no multiple of 4 bytes is used");
}

void amx_tilezero(unsigned tile) {
    if (!usable(tile)) return;
    m.count[AMX_TILEZERO]++;
    memset(m.data[tile], 0, sizeof m.data[tile]);
}

void amx_tileloadd(unsigned tile, const void *base, ptrdiff_t stride) {
    if (!usable(tile)) return;
    m.count[AMX_TILELOADD]++;
    memset(m.data[tile], 0, sizeof m.data[tile]);
    for (unsigned r = 0; r < m.shape[tile].rows; r++)
        memcpy(m.data[tile][r], (const char *)base + r * stride, m.shape[tile].row_bytes);
}

void amx_tilestored(unsigned tile, void *base, ptrdiff_t stride) {
    if (!usable(tile)) return;
    m.count[AMX_TILESTORED]++;
    for (unsigned r = 0; r < m.shape[tile].rows; r++)
        memcpy((char *)base + r * stride, m.data[tile][r], m.shape[tile].row_bytes);
}

/* One lane: four products, added modulo 2^32. */
static void add_products(int8_t *sum, const int8_t *a, const int8_t *b) {
    uint32_t total;
    memcpy(&total, sum, sizeof total);
    for (int j = 0; j < 4; j++) total += (uint32_t)(a[j] * b[j]);
    memcpy(sum, &total, sizeof total);
}

void amx_tdpbssd(unsigned sum, unsigned a, unsigned b) {
    if (!check(sum == a || sum == b || a == b, "tdpbssd: a tile twice")) return;
    if (!usable(sum) || !usable(a) || !usable(b)) return;
    const shape s = m.shape[sum], s_a = m.shape[a], s_b = m.shape[b];
    if (!check(s.rows != s_a.rows || s.row_bytes != s_b.row_bytes || s_a.row_bytes != 4 * s_b.rows,
               "tdpbssd: shapes that do not fit"))
        return;
    m.count[AMX_TDPBSSD]++;
    for (unsigned r = 0; r < s.rows; r++) {
        for (unsigned k = 0; k < s_b.rows; k++) {
            for (unsigned c = 0; c < s.row_bytes; c += 4)
                add_products(&m.data[sum][r][c], &m.data[a][r][4 * k], &m.data[b][k][c]);
        }
    }
}

#if defined(__linux__) && defined(__x86_64__)

/* Registers by their number in an instruction. */
static const int registers[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

enum { NP = 0, F3 = 2, F2 = 3 }; /* the two bits that stand for a prefix */

/* An instruction of three-byte VEX form, map 0F38, W = 0, 128 bits. */
typedef struct decoded {
    unsigned opcode, prefix, reg, rm, vvvv;
    bool memory, has_index;
    uintptr_t base; /* of the memory operand, displacement included */
    uintptr_t index;
    size_t bytes;
} decoded;

/* ModRM, SIB and displacement at `at`, the instruction's byte number `used`. */
static void decode_operand(const uint8_t *at, size_t used, unsigned rex_x, unsigned rex_b,
                           const ucontext_t *context, decoded *d) {
    const greg_t *gregs = context->uc_mcontext.gregs;
    const unsigned mod = at[0] >> 6;
    unsigned base = at[0] & 7u;
    size_t length = 1;
    d->reg = at[0] >> 3 & 7u;
    d->rm = base;
    d->memory = mod != 3;
    d->bytes = used + length;
    if (!d->memory) return;
    bool has_base = true, relative = false;
    if (base == 4) {
        const unsigned index = (at[1] >> 3 & 7u) | rex_x << 3;
        d->has_index = index != 4;
        if (d->has_index) d->index = (uintptr_t)gregs[registers[index]] << (at[1] >> 6);
        base = at[1] & 7u;
        has_base = base != 5 || mod != 0;
        length++;
    } else {
        relative = base == 5 && mod == 0;
    }
    int32_t displacement = 0;
    if (mod == 1) {
        displacement = (int8_t)at[length];
        length += 1;
    } else if (mod == 2 || !has_base || relative) {
        memcpy(&displacement, at + length, sizeof displacement);
        length += sizeof displacement;
    }
    d->bytes = used + length;
    d->base = (uintptr_t)(intptr_t)displacement;
    if (relative) d->base += (uintptr_t)gregs[REG_RIP] + d->bytes;
    else if (has_base) d->base += (uintptr_t)gregs[registers[base | rex_b << 3]];
}

static bool decode(const uint8_t *code, const ucontext_t *context, decoded *d) {
    if (code[0] != 0xc4 || (code[1] & 0x1f) != 2 || (code[2] & 0x84) != 0) return false;
    *d = (decoded){.opcode = code[3], .prefix = code[2] & 3u, .vvvv = (~(unsigned)code[2] >> 3) & 15u};
    decode_operand(code + 4, 4, !(code[1] & 0x40), !(code[1] & 0x20), context, d);
    return true;
}

/* False: not one of those. */
static bool carry_out(const decoded *d) {
    const bool plain = d->opcode == 0x49 && d->reg == 0 && d->prefix == NP;
    const ptrdiff_t stride = (ptrdiff_t)d->index;
    if (plain && d->memory) {
        amx_ldtilecfg((const void *)(d->base + d->index));
    } else if (plain && d->rm == 0) {
        amx_tilerelease();
    } else if (d->opcode == 0x49 && d->prefix == F2 && !d->memory && d->rm == 0) {
        amx_tilezero(d->reg);
    } else if (d->opcode == 0x4b && d->prefix == F2 && d->memory && d->has_index) {
        amx_tileloadd(d->reg, (const void *)d->base, stride);
    } else if (d->opcode == 0x4b && d->prefix == F3 && d->memory && d->has_index) {
        amx_tilestored(d->reg, (void *)d->base, stride);
    } else if (d->opcode == 0x5e && d->prefix == F2 && !d->memory) {
        amx_tdpbssd(d->reg, d->rm, d->vvvv);
    } else {
        return false;
    }
    return true;
}

static void on_illegal(int number, siginfo_t *info, void *context) {
    ucontext_t *at = context;
    decoded d;
    (void)info;
    if (!decode((const uint8_t *)at->uc_mcontext.gregs[REG_RIP], at, &d) || !carry_out(&d)) {
        signal(number, SIG_DFL); /* and comes again */
        return;
    }
    at->uc_mcontext.gregs[REG_RIP] += (greg_t)d.bytes;
}

bool amx_model_install(void) {
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_NODEFER};
    action.sa_sigaction = on_illegal;
    return sigaction(SIGILL, &action, NULL) == 0;
}

#else

bool amx_model_install(void) {
    return false;
}

#endif
