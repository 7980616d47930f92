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
// What the CPU has and the system saves, by the instructions themselves: the libraries of some compilers answer
// __builtin_cpu_supports with no.
struct Features {
  bool avx2 = false, avx512 = false, avx512vnni = false;
};

bool all_of(unsigned value, unsigned bits) { return (value & bits) == bits; }

Features features() {
  constexpr unsigned kFma = 1u << 12, kOsXsave = 1u << 27, kAvx = 1u << 28, kF16c = 1u << 29;  // leaf 1, ecx
  constexpr unsigned kAvx2 = 1u << 5;                                                           // leaf 7, ebx
  constexpr unsigned kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31;             // leaf 7, ebx
  constexpr unsigned kVnni = 1u << 11;                                                          // leaf 7, ecx
  constexpr unsigned kYmm = 0x6, kZmm = 0xe6;                                                   // XCR0
  unsigned a, b, c, d, saved, high;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !all_of(c, kFma | kOsXsave | kAvx | kF16c)) return {};
  __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if (!all_of(saved, kYmm) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return {};
  Features found;
  found.avx2 = all_of(b, kAvx2);
  found.avx512 = found.avx2 && all_of(saved, kZmm) && all_of(b, kF | kDq | kBw | kVl);
  found.avx512vnni = found.avx512 && all_of(c, kVnni);
  return found;
}
#elif defined(MULTIRES_ARM64)
bool has_dot_products() {
#if defined(__linux__)
  constexpr unsigned long kDotProducts = 1ul << 20;  // HWCAP_ASIMDDP, which older headers lack
  return getauxval(AT_HWCAP) & kDotProducts;
#elif defined(__APPLE__)
  return true;  // every Mac with this processor has them
#else
  return false;
#endif
}
#endif

}  // namespace

const Kernels& best_kernels() {
#if defined(MULTIRES_X86)
  const Features has = features();
  return first_of({{kAvx512VnniKernels, has.avx512vnni}, {kAvx512Kernels, has.avx512}, {kAvx2Kernels, has.avx2}});
#elif defined(MULTIRES_ARM64)
  return first_of({{kNeonDotKernels, has_dot_products()}});
#else
  return kBaselineKernels;
#endif
}

}  // namespace multires
