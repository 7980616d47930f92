// Compiled with -mavx512vnni too.
#include "kernels_avx512.cpp"
