// Compiled as kernels_avx512.cpp is, with -mavx512vnni: sums of products of int8 in one instruction.
#define MULTIRES_KERNELS kAvx512VnniKernels
#define MULTIRES_ISA_NAME "avx512vnni"
#define MULTIRES_VECTOR 16
#define MULTIRES_COLUMNS 4
#define MULTIRES_ALONE 4
#define MULTIRES_ROWS 4
#include "kernels_impl.h"
