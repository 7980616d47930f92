// A stream of a network, in memory of its own.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>

#include "network.h"

namespace multires {

// Pools over the last `window` steps: 0 for everything so far, MULTIRES_DEFAULT_WINDOW for the window of the weights.
// Null without memory. std::free frees it.
multires_state* new_stream(const Network& network, int32_t window);

struct FreeStream {
  void operator()(multires_state* state) const { std::free(state); }
};
using NetworkStream = std::unique_ptr<multires_state, FreeStream>;

}  // namespace multires
