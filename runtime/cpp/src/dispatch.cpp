#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace multires {

const Kernels& best_kernels() {
#if defined(MULTIRES_X86)
  const char* wanted = std::getenv("MULTIRES_ISA");
  const bool any = wanted == nullptr;
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  if (avx512 && (any || std::strcmp(wanted, "avx512") == 0)) return kAvx512Kernels;
  if (avx2 && (any || std::strcmp(wanted, "avx2") == 0)) return kAvx2Kernels;
#endif
#if defined(MULTIRES_NEON)
  return kNeonKernels;
#else
  return kBaselineKernels;
#endif
}

}  // namespace multires
