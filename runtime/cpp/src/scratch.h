// The memory that computing a block of rows needs; unused between calls. A thread has its own.
#pragma once

#include "network.h"
#include "storage.h"

namespace multires {

// For products of matrices: quantized rows, with the stride of the inputs, and a panel of float16 weights in float32.
struct ProductScratch {
  uint8_t* bytes;
  float* widened;
};

struct Scratch {
  Scratch() = default;
  Scratch(const Network& network, int rows, Storage& storage);

  ProductScratch products() const { return {bytes.data(), widened.data()}; }

  int rows = 0;       // of a block; a row is one step of one stream
  size_t stride = 0;  // floats between two rows of x, mixed and gated

  View<float> x, mixed, gated;
  View<float> pooled;
  View<float> samples;        // for each row, encoder_taps * d_input inputs of the encoder
  View<uint8_t> bytes;        // see ProductScratch
  View<float> widened;
  View<unsigned char*> taps;  // for each row, total_taps addresses in the rings
};

}  // namespace multires
