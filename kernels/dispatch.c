/* The choice among the kernel tables. */
#include <cpuinfo.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/levels.h"
#include "runtime/status.h"

static rs_status missing(rs_isa isa, rs_error *error) {
    return rs_fail(error, RS_UNSUPPORTED, "this CPU does not have the instruction set level \"%s\"",
                   rs_isa_name(isa));
}

/* RS_ISA_AUTO becomes what the environment asks for, if it does; an empty name asks for nothing. */
static rs_status read_environment(rs_isa *limit, rs_error *error) {
    const char *name = getenv("RASURE_ISA");
    if (*limit != RS_ISA_AUTO || name == NULL || *name == '\0') return RS_OK;
    if (rs_isa_from_name(name, limit) == RS_OK) return RS_OK;
    return rs_fail(error, RS_INVALID_ARGUMENT,
                   "the environment's RASURE_ISA=%.32s names no instruction set level", name);
}

rs_status rs_kernels_select(rs_isa limit, const rs_kernels **kernels, rs_error *error) {
    RS_TRY(read_environment(&limit, error));
    const rs_kernels *best = &rs_ref_table;
    size_t count;
    const rs_level *levels = rs_arch_levels(&count);
    /* Where it fails, in a sandbox without /proc or /sys, what it has not found out reads as lacking, and
     * what every CPU of an architecture has (64-bit Arm's NEON) as there. */
    (void)cpuinfo_initialize();
    for (size_t i = 0; i < count && limit != RS_ISA_REF; i++) {
        if (levels[i].table->on_request && levels[i].isa != limit) continue;
        if (levels[i].present()) best = levels[i].table;
        if (levels[i].isa == limit) break;
    }
    if (limit != RS_ISA_AUTO && best->isa != limit) return missing(limit, error);
    *kernels = best;
    return RS_OK;
}

static const char *const isa_names[] = {
    [RS_ISA_AUTO] = "auto",       [RS_ISA_REF] = "ref",
    [RS_ISA_AVX2] = "avx2",       [RS_ISA_AVX512VNNI] = "avx512vnni",
    [RS_ISA_AMX] = "amx",         [RS_ISA_NEON] = "neon",
    [RS_ISA_DOTPROD] = "dotprod", [RS_ISA_I8MM] = "i8mm",
    [RS_ISA_AVXVNNI] = "avxvnni",
};

enum { N_ISAS = sizeof isa_names / sizeof *isa_names };

const char *rs_isa_name(rs_isa isa) {
    const unsigned index = (unsigned)isa;
    return index < N_ISAS ? isa_names[index] : "?";
}

rs_status rs_isa_from_name(const char *name, rs_isa *isa) {
    if (name == NULL || isa == NULL) return RS_INVALID_ARGUMENT;
    for (unsigned i = 0; i < N_ISAS; i++) {
        if (strcmp(name, isa_names[i]) == 0) {
            *isa = (rs_isa)i;
            return RS_OK;
        }
    }
    return RS_INVALID_ARGUMENT;
}
