// Compiled with -mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mf16c; called only where the CPU has it.
#define MULTIRES_KERNELS kAvx512Kernels
#define MULTIRES_ISA_NAME "avx512"
#define MULTIRES_VECTOR 16
#define MULTIRES_COLUMNS 4
#define MULTIRES_ALONE 4
#define MULTIRES_ROWS 4
#include "kernels_impl.h"
