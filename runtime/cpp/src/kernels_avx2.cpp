// Compiled with -mavx2 -mfma -mf16c; called only where the CPU has it.
#define MULTIRES_KERNELS kAvx2Kernels
#define MULTIRES_ISA_NAME "avx2"
#define MULTIRES_VECTOR 8
#define MULTIRES_COLUMNS 4
#define MULTIRES_ALONE 8
#define MULTIRES_ROWS 3
#include "kernels_impl.h"
