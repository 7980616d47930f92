// Compiled with -march=armv8.2-a+dotprod; called only where the CPU has it.
#define MULTIRES_DOT_PRODUCTS
#include "kernels_neon.cpp"  // NOLINT(bugprone-suspicious-include)
