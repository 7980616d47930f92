// What every CPU of the architecture runs: SSE2 on x86-64, NEON on aarch64.
#if defined(__aarch64__)
#define MULTIRES_ISA_NAME "neon"
#define MULTIRES_COLUMNS 4
#define MULTIRES_ALONE 8
#define MULTIRES_ROWS 4
#else
#define MULTIRES_ISA_NAME "baseline"
#define MULTIRES_COLUMNS 4
#define MULTIRES_ALONE 8
#define MULTIRES_ROWS 2
#endif
#define MULTIRES_KERNELS kBaselineKernels
#define MULTIRES_VECTOR 4
#include "kernels_impl.h"
