#include <cstdlib>
#include <cstring>

#include "kernels.h"

#if defined(MULTIRES_X86)
#include <cpuid.h>
#elif defined(MULTIRES_ARM64) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace multires {
namespace {

struct Choice {
  const Kernels& kernels;
  bool supported;
};

// The first supported kernels, or those of this name; the baseline without them.
template <size_t count>
const Kernels& first_of(const Choice (&choices)[count]) {
  const char* wanted = std::getenv("MULTIRES_ISA");
  for (const Choice& choice : choices)
    if (choice.supported && (!wanted || std::strcmp(wanted, choice.kernels.isa) == 0)) return choice.kernels;
  return kBaselineKernels;
}

#if defined(MULTIRES_X86)
// In older compilers, __builtin_cpu_supports does not know this name.
bool has_f16c() {
  unsigned a, b, c = 0, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#elif defined(MULTIRES_ARM64)
bool has_dot_products() {
#if defined(__linux__)
  constexpr unsigned long kDotProducts = 1ul << 20;  // HWCAP_ASIMDDP, which older headers lack
  return getauxval(AT_HWCAP) & kDotProducts;
#else
  return false;
#endif
}
#endif

}  // namespace

const Kernels& best_kernels() {
#if defined(MULTIRES_X86)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  return first_of({{kAvx512VnniKernels, avx512 && __builtin_cpu_supports("avx512vnni")},
                   {kAvx512Kernels, avx512},
                   {kAvx2Kernels, avx2}});
#elif defined(MULTIRES_ARM64)
  return first_of({{kNeonDotKernels, has_dot_products()}});
#else
  return kBaselineKernels;
#endif
}

}  // namespace multires
