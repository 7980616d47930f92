// The norms that the engine supports, their places in a block, and the names of their tensors in a layer.
#pragma once

namespace multires {

enum class Norm { kLayer, kRms, kAffine };

// With x the input of a block and f(x) its change, its output is norm(x + f(x)), x + f(norm(x)), or norm(x) + f(x).
enum class Place { kAfter, kBefore, kResidual };

struct NormTensors {
  Norm norm;
  Place place;  // unless the metadata have another
  const char *scale, *shift;  // no shift: null
};

constexpr NormTensors kNorms[] = {{Norm::kLayer, Place::kAfter, ".norm.scale", ".norm.bias"},
                                  {Norm::kRms, Place::kAfter, ".rms.scale", nullptr},
                                  {Norm::kAffine, Place::kAfter, ".affine.scale", ".affine.shift"},
                                  {Norm::kAffine, Place::kResidual, ".residual.scale", ".residual.shift"}};

}  // namespace multires
