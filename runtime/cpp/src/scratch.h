// The memory that computing a block of rows needs; unused between calls. A thread has its own.
#pragma once

#include <vector>

#include "model.h"

namespace multires {

constexpr int kBlockRows = 32;  // rows (a row is one step of one stream) that share a pass over the weights

// For products of matrices: quantized rows, with the stride of the inputs, and a panel of float16 weights in float32.
struct ProductScratch {
  uint8_t* bytes;
  float* widened;
};

struct Scratch {
  explicit Scratch(const Model& model);

  ProductScratch products() { return {bytes.data(), widened.data()}; }

  size_t stride;  // floats between two rows of x, mixed and gated

  AlignedArray<float> x, mixed, gated;
  AlignedArray<float> pooled;
  AlignedArray<float> samples;       // for each row, encoder_taps * d_input inputs of the encoder
  AlignedArray<uint8_t> bytes;       // see ProductScratch
  AlignedArray<float> widened;
  std::vector<unsigned char*> taps;  // for each row, total_taps addresses in the rings
};

}  // namespace multires
