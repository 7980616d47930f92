// The memory that the system still has. It is asked before large allocations: a system that promises more memory than
// it has ends a process when the memory is used.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace multires {

// A sum of products of sizes, each of them 1 or more. After an overflow it is UINT64_MAX.
class Bytes {
 public:
  void add(std::initializer_list<uint64_t> factors) noexcept;
  uint64_t total() const noexcept { return total_; }

 private:
  uint64_t total_ = 0;
};

// Throws LoadError (MULTIRES_MEMORY) for more bytes than can be addressed, or are available. `what` names their use.
void check_memory(uint64_t bytes, const char* what);

}  // namespace multires
