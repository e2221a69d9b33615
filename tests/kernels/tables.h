/* The kernel tables that this CPU can run: what the tests check and the benchmark times. */
#ifndef RASURE_TESTS_KERNELS_TABLES_H
#define RASURE_TESTS_KERNELS_TABLES_H

#include "kernels/kernels.h"

/* Every level of every architecture; the lowest of each first. */
static const rs_isa rs_all_levels[] = {
    RS_ISA_REF,                                                 /* any */
    RS_ISA_AVX2, RS_ISA_AVXVNNI, RS_ISA_AVX512VNNI, RS_ISA_AMX, /* x86 */
    RS_ISA_NEON, RS_ISA_DOTPROD, RS_ISA_I8MM,                   /* Arm */
};

enum { RS_ALL_LEVELS = sizeof rs_all_levels / sizeof *rs_all_levels };

/* Lowest first; returns how many there are. The portable table is always one. */
static inline size_t rs_tables_of_cpu(const rs_kernels *tables[RS_ALL_LEVELS]) {
    size_t count = 0;
    for (size_t i = 0; i < RS_ALL_LEVELS; i++) {
        if (rs_kernels_select(rs_all_levels[i], &tables[count], NULL) == RS_OK) count++;
    }
    return count;
}

static inline const char *rs_panel_kind_name(rs_panel_kind kind) {
    switch (kind) {
    case RS_PANEL_U4: return "u4";
    case RS_PANEL_U5: return "u5";
    case RS_PANEL_U6: return "u6";
    default: return "s8";
    }
}

#endif
