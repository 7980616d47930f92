// The functions of the driver that multires_cuda loads have the parameters that CUDA's header declares.

#include <cuda.h>
#include <type_traits>

#include "driver.h"

namespace {

// Handles are void*, enumerations are int, and addresses are equal.
template <typename Ours, typename Theirs>
constexpr bool fits() {
  if (std::is_pointer_v<Ours> != std::is_pointer_v<Theirs>) return false;
  if (std::is_pointer_v<Ours>) return true;
  return sizeof(Ours) == sizeof(Theirs) && std::is_floating_point_v<Ours> == std::is_floating_point_v<Theirs>;
}

template <typename... Ours, typename... Theirs>
constexpr bool fit(int (*)(Ours...), CUresult (*)(Theirs...)) {
  if constexpr (sizeof...(Ours) == sizeof...(Theirs))
    return (fits<Ours, Theirs>() && ...);
  else
    return false;
}

using multires::cuda::Driver;

// The header names some functions by macros, which have the version of the interface.
#define MULTIRES_COMPARE(name, ...) \
  static_assert(fit(decltype(Driver::name){}, static_cast<decltype(&::name)>(nullptr)), #name);
MULTIRES_CUDA_FUNCTIONS(MULTIRES_COMPARE)

static_assert(!fit(static_cast<int (*)(int)>(nullptr), static_cast<CUresult (*)(void*)>(nullptr)));

}  // namespace

int main() { return 0; }
