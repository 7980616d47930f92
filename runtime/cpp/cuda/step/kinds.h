// The words in which network.h describes a network. network.h has its constants: plan.cpp writes it for one network,
// so that the compiler knows every size.
#pragma once

enum class Activation { kGelu, kGeluTanh, kRelu, kRelu6, kSilu, kIdentity };
enum class Norm { kLayer, kRms, kAffine };
// With x the input of a block and f(x) its change, its output is norm(x + f(x)), x + f(norm(x)), or norm(x) + f(x).
enum class Place { kAfter, kBefore, kResidual };
enum class Pooling { kMean, kMax, kLast };
enum class OutputActivation { kNone, kSigmoid, kSoftmax };
enum class Type { kFloat32, kFloat16, kInt8 };

// Of a product. Offsets are in bytes from the start of the weights.
struct Matrix {
  Type type;
  // (inputs, padded outputs) float32 or float16; (inputs / 4, padded outputs, 4) int8, with the inputs rounded up.
  long long weights;
  long long bias;                 // (outputs)
  long long scales, reciprocals;  // int8 only: (outputs) of the weights; (inputs), 1 / scales of the inputs
};

struct Layer {
  long long filters;  // (kFilterRows, kModel), in the order that filters.h describes
  Matrix mixing, second;
  long long norm_scale, norm_shift;  // (kModel)
};

// Of the tree. A ring has `slots` rows, and `taps` delays are read, with delay 0. `row` is the first row of the scale's
// weights in the filters.
struct Scale {
  int slots, taps, row;
};
