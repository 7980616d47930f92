#include "scratch.h"

#include <algorithm>

namespace multires {
namespace {

// The most inputs of a float16 matrix. Any matrix may be in float32 instead: if float16 cannot hold its weights, or to
// keep the error within a budget.
size_t float16_inputs(const Model& model) {
  int most = 0;
  const auto look_at = [&most](const Panels& panels) {
    if (panels.dtype == MULTIRES_FLOAT16) most = std::max(most, panels.inputs);
  };
  for (const Layer& layer : model.layers) {
    look_at(layer.mixing);
    look_at(layer.output);
  }
  look_at(model.encoder);
  look_at(model.head);
  return static_cast<size_t>(most);
}

}  // namespace

Scratch::Scratch(const Model& model) : stride(static_cast<size_t>(model.width) + kPanel) {
  for (AlignedArray<float>* buffer : {&x, &mixed, &gated}) *buffer = AlignedArray<float>(kBlockRows * stride);
  pooled = AlignedArray<float>(kBlockRows * static_cast<size_t>(model.d_head()));
  samples = AlignedArray<float>(model.encoder_taps > 1 ? kBlockRows * static_cast<size_t>(model.encoder.inputs) : 0);
  bytes = AlignedArray<uint8_t>(kBlockRows * stride);
  widened = AlignedArray<float>(float16_inputs(model) * kPanel);
  taps.resize(static_cast<size_t>(kBlockRows) * model.total_taps);
}

}  // namespace multires
