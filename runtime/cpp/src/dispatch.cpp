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
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  const struct {
    const Kernels& kernels;
    bool supported;
  } choices[] = {{kAvx512VnniKernels, avx512 && __builtin_cpu_supports("avx512vnni")},
                 {kAvx512Kernels, avx512},
                 {kAvx2Kernels, avx2}};
  const char* wanted = std::getenv("MULTIRES_ISA");
  for (const auto& [kernels, supported] : choices)
    if (supported && (!wanted || std::strcmp(wanted, kernels.isa) == 0)) return kernels;
#endif
  return kBaselineKernels;
}

}  // namespace multires
