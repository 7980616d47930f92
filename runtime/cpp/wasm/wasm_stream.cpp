#include "wasm_stream.h"

#include <new>

#include "exports.h"
#include "kernels.h"
#include "one_network.h"
#include "state.h"

namespace multires {

multires_state* new_stream(const Network& network, int32_t window) {
  if (window == MULTIRES_DEFAULT_WINDOW) window = network.info.window;
  Counter counter;
  const multires_state counted(network, 1, window, kBlockRows, counter);
  // Allocations are aligned to 16 bytes, as an arena must be.
  const uint64_t bytes = (sizeof(multires_state) + kPiece - 1) / kPiece * kPiece;
  if (counter.bytes() > SIZE_MAX - bytes) return nullptr;
  void* const memory = std::malloc(static_cast<size_t>(bytes + counter.bytes()));
  if (!memory) return nullptr;
  Arena arena(static_cast<unsigned char*>(memory) + bytes);
  return new (memory) multires_state(network, 1, window, kBlockRows, arena);
}

}  // namespace multires

MULTIRES_EXPORT(stream_new) multires_state* stream_new(int32_t window) {
  return multires::new_stream(multires::kNetwork, window);
}
MULTIRES_EXPORT(stream_free) void stream_free(multires_state* state) { std::free(state); }

// x (steps, d_input) to y (steps, d_output).
MULTIRES_EXPORT(stream_run)
multires_status stream_run(multires_state* state, const float* x, int32_t steps, float* y) {
  return multires_run(state, x, steps, y);
}
// As stream_run, one step at a time.
MULTIRES_EXPORT(stream_steps)
multires_status stream_steps(multires_state* state, const float* x, int32_t steps, float* y) {
  const multires_info& info = multires::kNetwork.info;
  multires_status status = MULTIRES_OK;
  for (int32_t t = 0; t < steps && status == MULTIRES_OK; ++t)
    status =
        multires_step(state, x + static_cast<size_t>(t) * info.d_input, y + static_cast<size_t>(t) * info.d_output);
  return status;
}
