// The weights of a network in one piece, as the kernel reads them, and where each is.
#pragma once

#include <cstddef>
#include <vector>

#include "network.h"

namespace multires {
inline namespace v0 {
namespace cuda {

// Of a product; kinds.h describes the fields. All offsets are in bytes.
struct PackedMatrix {
  multires_dtype type = MULTIRES_FLOAT32;
  long long weights = 0, bias = 0, scales = 0, reciprocals = 0;
};

struct PackedLayer {
  long long filters = 0;
  PackedMatrix mixing, second;
  long long norm_scale = 0, norm_shift = 0;
};

struct PackedWeights {
  std::vector<unsigned char> content;
  long long table = 0;
  PackedMatrix encoder, head;
  std::vector<PackedLayer> layers;
};

PackedWeights pack_weights(const multires::Network& network);

}  // namespace cuda
}  // namespace v0
}  // namespace multires
