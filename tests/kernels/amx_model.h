/*
 * The tile registers of AMX-INT8 in software, after Intel's Software Developer's Manual, volume 2, one
 * function an instruction; and a handler that puts them in the place of the instructions themselves on a CPU
 * that has none. What a CPU would refuse is a fault here: it is noted and the instruction does nothing.
 *
 * State belongs to the thread, as in a CPU.
 */
#ifndef RASURE_TESTS_KERNELS_AMX_MODEL_H
#define RASURE_TESTS_KERNELS_AMX_MODEL_H

#include <stdbool.h>
#include <stddef.h>

typedef enum amx_instruction {
    AMX_LDTILECFG,
    AMX_TILERELEASE,
    AMX_TILEZERO,
    AMX_TILELOADD,
    AMX_TILESTORED,
    AMX_TDPBSSD,
    AMX_INSTRUCTIONS,
} amx_instruction;

/* As a thread begins: no configuration, no fault, nothing counted. */
void amx_model_reset(void);

/* The first fault since the reset, or NULL. */
const char *amx_model_fault(void);

/* How often an instruction was carried out since the reset. */
size_t amx_model_count(amx_instruction instruction);

/* Whether tiles are in use: what a thread leaves to its system to save. */
bool amx_model_in_use(void);

void amx_ldtilecfg(const void *config); /* 64 bytes */
void amx_tilerelease(void);
void amx_tilezero(unsigned tile);
void amx_tileloadd(unsigned tile, const void *base, ptrdiff_t stride);
void amx_tilestored(unsigned tile, void *base, ptrdiff_t stride);
void amx_tdpbssd(unsigned sum, unsigned a, unsigned b);

/* From here on, AMX instructions of this process that the CPU or the system refuses (SIGILL) are carried out
 * by the model; all other illegal ones end the process as before. False where there is no way to do so. */
bool amx_model_install(void);

#endif
