#include "scratch.h"

namespace multires {

Scratch::Scratch(const Model& model) : stride(static_cast<size_t>(model.width) + kPanel) {
  for (AlignedArray<float>* buffer : {&x, &mixed, &gated}) *buffer = AlignedArray<float>(kBlockRows * stride);
  pooled = AlignedArray<float>(kBlockRows * static_cast<size_t>(model.d_head()));
  samples = AlignedArray<float>(model.encoder_taps > 1 ? kBlockRows * static_cast<size_t>(model.encoder.inputs) : 0);
  bytes = AlignedArray<uint8_t>(kBlockRows * stride);
  const bool widens = model.layers.front().mixing.dtype == MULTIRES_FLOAT16;
  widened = AlignedArray<float>(widens ? static_cast<size_t>(model.info.d_model) * kPanel : 0);
  taps.resize(static_cast<size_t>(kBlockRows) * model.total_taps);
}

}  // namespace multires
