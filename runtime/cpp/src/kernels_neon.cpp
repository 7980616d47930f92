// aarch64, where every CPU has NEON: 32 registers of 4 floats, of which 4 rows by 4 vectors are 16 sums.
#define MULTIRES_KERNELS kNeonKernels
#define MULTIRES_ISA_NAME "neon"
#define MULTIRES_VECTOR 4
#define MULTIRES_COLUMNS 4
#define MULTIRES_ALONE 8
#define MULTIRES_ROWS 4
#include "kernels_impl.h"
