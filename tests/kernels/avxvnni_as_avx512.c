/* The AVX-VNNI kernels on a CPU that has AVX-512 in its place: the same instruction, encoded otherwise. Their
 * sources are compiled so for this program, and cpuinfo is told that the CPU has what they are named after.
 */
#include <cpuinfo.h>
#include <stdlib.h>

enum { SKIPPED = 77 };

__attribute__((constructor)) static void pretend(void) {
    if (!cpuinfo_initialize() || !cpuinfo_has_x86_avx512vl() || !cpuinfo_has_x86_avx512vnni()) exit(SKIPPED);
    cpuinfo_isa.avxvnni = true;
}
