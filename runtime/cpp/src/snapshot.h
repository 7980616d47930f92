// A state as bytes: a header that names the network, and the parts of the state one after another.
//
//   offset  type    what
//   0       char[8] "MRSTATE" and a zero
//   8       uint32  version, 1
//   12      uint32  bytes of the header, 48
//   16      uint64  digest of the network's tensors
//   24      int32   batch
//   28      int32   window, 0 for everything so far
//   32      uint64  bytes of the parts
//   40      uint64  digest of the parts
//   48              the parts, sorted by name, each row-major
//
// Everything is little-endian, like the weights file.
#pragma once

#include <cstddef>

#include "owned_state.h"

namespace multires {

constexpr int64_t kMaxPosition = static_cast<int64_t>(1) << 62;  // out of reach of any stream; sums do not overflow

size_t snapshot_size(const OwnedState& state) noexcept;
void save_snapshot(const OwnedState& state, unsigned char* buffer) noexcept;
// The state changes only if the result is MULTIRES_OK.
multires_status load_snapshot(OwnedState& state, const unsigned char* buffer, size_t size) noexcept;

}  // namespace multires
