// Memory of a host: the arrays of a model or a state, and what the system still has. The system is asked before large
// allocations: one that promises more memory than it has ends a process when the memory is used.
#pragma once

#include <cstdint>
#include <vector>

#include "aligned.h"
#include "storage.h"

namespace multires {

class Memory final : public Storage {
 public:
  Memory() = default;

 private:
  void* take(uint64_t bytes) override;  // throws std::bad_alloc
  std::vector<AlignedArray<unsigned char>> arrays_;
};

// Throws LoadError (MULTIRES_MEMORY) for more bytes than can be addressed, or are available. `what` names their use.
void check_memory(uint64_t bytes, const char* what);

}  // namespace multires
