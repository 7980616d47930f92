#include <cstdlib>
#include <cstring>

#include "kernels.h"

#if defined(MULTIRES_X86)
#include <cpuid.h>
#endif

namespace multires {

#if defined(MULTIRES_X86)
// In older compilers, __builtin_cpu_supports does not know this name.
static bool has_f16c() {
  unsigned a, b, c = 0, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

const Kernels& best_kernels() {
#if defined(MULTIRES_X86)
  const char* wanted = std::getenv("MULTIRES_ISA");
  const bool any = wanted == nullptr;
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  if (vnni && (any || std::strcmp(wanted, "avx512vnni") == 0)) return kAvx512VnniKernels;
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
