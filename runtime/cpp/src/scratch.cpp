#include "scratch.h"

#include <algorithm>

#include "kernels.h"

namespace multires {
namespace {

// The most inputs of a float16 matrix that is converted for several rows. Any matrix may be in float32 instead: if
// float16 cannot hold its weights, or to keep the error within a budget.
uint64_t widened_inputs(const Network& network, int rows) {
  int most = 0;
  network.for_each_matrix([&](const Panels& panels) {
    if (panels.dtype == MULTIRES_FLOAT16 && rows >= kRowsToWiden) most = std::max(most, panels.inputs);
  });
  return static_cast<uint64_t>(most);
}

// Whether inputs of matrices are quantized.
bool quantizes(const Network& network) {
  bool any = false;
  network.for_each_matrix([&](const Panels& panels) { any |= panels.dtype == MULTIRES_INT8; });
  return any;
}

}  // namespace

Scratch::Scratch(const Network& network, int rows_, Storage& storage)
    : rows(rows_), stride(static_cast<size_t>(network.width) + kPanel) {
  const uint64_t count = static_cast<uint64_t>(rows);
  for (View<float>* buffer : {&x, &mixed, &gated}) *buffer = storage.array<float>({count, stride});
  pooled = storage.array<float>({count, static_cast<uint64_t>(network.d_head())});
  samples = storage.array<float>({network.encoder_taps > 1 ? count : 0, static_cast<uint64_t>(network.encoder.inputs)});
  bytes = storage.array<uint8_t>({quantizes(network) ? count : 0, stride});
  widened = storage.array<float>({widened_inputs(network, rows), kPanel});
  taps = storage.array<unsigned char*>({count, static_cast<uint64_t>(network.total_taps)});
}

}  // namespace multires
