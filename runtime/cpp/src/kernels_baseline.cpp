// What every CPU of the architecture runs: SSE2 on x86-64, whatever there is elsewhere.
#define MULTIRES_KERNELS kBaselineKernels
#define MULTIRES_ISA_NAME "baseline"
#define MULTIRES_VECTOR 4
#define MULTIRES_COLUMNS 4
#define MULTIRES_ALONE 8
#define MULTIRES_ROWS 2
#include "kernels_impl.h"
