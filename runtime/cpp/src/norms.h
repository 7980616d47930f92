// The norms that the engine supports, and the names of their tensors in a layer.
#pragma once

namespace multires {

enum class Norm { kLayer, kAffine };

struct NormTensors {
  Norm norm;
  const char *scale, *shift;
};

constexpr NormTensors kNorms[] = {{Norm::kLayer, ".norm.scale", ".norm.bias"},
                                  {Norm::kAffine, ".residual.scale", ".residual.shift"}};

}  // namespace multires
