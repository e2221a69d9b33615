/* The AMX-INT8 kernels and what belongs to them, each under the name of its entry in rs_kernels. MUST NOT be
 * called on a CPU that lacks what avx512.h names; multiply_channels and attention only where AMX-INT8 is
 * there and the system has let the process use it. */
#ifndef RASURE_KERNELS_X86_AMX_H
#define RASURE_KERNELS_X86_AMX_H

#include "kernels/kernels.h"

rs_requantize_kernel rs_amx_requantize_u4, rs_amx_requantize_u5, rs_amx_requantize_u6, rs_amx_requantize_s8;
rs_quantize_terms_kernel rs_amx_quantize_terms;
rs_multiply_channels_kernel rs_amx_multiply_channels;
rs_attend_keys_kernel rs_amx_attend_keys;
rs_attend_values_kernel rs_amx_attend_values;

#endif
