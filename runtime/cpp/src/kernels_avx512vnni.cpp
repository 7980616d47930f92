// Compiled with -mavx512vnni too.
#include "kernels_avx512.cpp"  // NOLINT(bugprone-suspicious-include)
