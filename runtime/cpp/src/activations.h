// The functions before the mixing and after the head that the engine supports, and their names in the metadata.
#pragma once

namespace multires {

enum class Activation { kGelu, kGeluTanh, kRelu, kRelu6, kSilu, kIdentity };

struct ActivationName {
  Activation activation;
  const char* name;
};

constexpr ActivationName kActivations[] = {{Activation::kGelu, "gelu"}, {Activation::kGeluTanh, "gelu_tanh"},
                                           {Activation::kRelu, "relu"}, {Activation::kRelu6, "relu6"},
                                           {Activation::kSilu, "silu"}, {Activation::kIdentity, "identity"}};

enum class OutputActivation { kNone, kSigmoid, kSoftmax };

}  // namespace multires
