// How a thread waits for the device, by the environment variable MULTIRES_CUDA_WAIT.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>

#include "multires.hpp"

namespace multires {
inline namespace v0 {
namespace cuda {

// CU_CTX_SCHED_SPIN, _YIELD or _BLOCKING_SYNC, which CUDA's runtime has with the same values. 0 where the driver
// chooses. Throws Error for another value.
inline unsigned wait_flag() {
  constexpr std::pair<const char*, unsigned> ways[] = {{"spin", 1}, {"yield", 2}, {"block", 4}};
  const char* wait = std::getenv("MULTIRES_CUDA_WAIT");
  if (!wait || !*wait) return 0;
  const auto* way = std::find_if(std::begin(ways), std::end(ways),
                                 [&](const auto& known) { return std::strcmp(known.first, wait) == 0; });
  if (way == std::end(ways))
    throw Error(MULTIRES_DEVICE, "MULTIRES_CUDA_WAIT is '" + std::string(wait) + "', expected spin, yield, block");
  return way->second;
}

}  // namespace cuda
}  // namespace v0
}  // namespace multires
