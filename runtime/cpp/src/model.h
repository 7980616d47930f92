// The constant part of a network: weights in the layout that the kernels read.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "activations.h"
#include "norms.h"
#include "pooling.h"
#include "weights_file.h"

namespace multires {

constexpr int kLane = 16;       // channels are padded to a multiple of this many floats
constexpr int kPanel = 64;      // outputs that a matrix product forms at a time
constexpr int kHalf = kPanel / 2;
constexpr int kGroup = 4;       // int8 inputs whose products are summed by one instruction

inline int padded(int channels) { return (channels + kLane - 1) / kLane * kLane; }

// A matrix cut into panels of kPanel outputs; the last panel may be narrower. Within a panel, the weights of one
// input are contiguous; in int8, those of kGroup inputs, which one instruction multiplies.
struct Panels {
  multires_dtype dtype = MULTIRES_FLOAT32;
  int inputs = 0, count = 0;
  int last = 0;  // outputs of the last panel, a multiple of kLane
  // For each panel: (inputs, width(panel)) float32 or float16; (inputs / kGroup, width(panel), kGroup) int8, with
  // the inputs rounded up to whole groups.
  AlignedArray<unsigned char> weights;
  AlignedArray<float> bias;  // (count, kPanel)
  // int8 only: y = scales * (weights @ q) + bias, q = round(x * reciprocal_scales); see export/linear.py.
  AlignedArray<float> reciprocal_scales;  // (inputs): 1 / input_scales
  AlignedArray<float> scales;             // (count, kPanel): weight_scales
  AlignedArray<int32_t> offsets;          // (count, kPanel): -weights @ 128, for instructions that take q + 128

  int rows() const { return dtype == MULTIRES_INT8 ? (inputs + kGroup - 1) / kGroup * kGroup : inputs; }
  int width(int panel) const { return panel + 1 < count ? kPanel : last; }
  template <typename T>
  const T* panel(int panel) const {
    return reinterpret_cast<const T*>(weights.data()) + static_cast<size_t>(panel) * rows() * kPanel;
  }
};

struct Layer {
  // Rows of `width` channels in the order of use. First the low-pass filter by delay, which computes the a_j that
  // are pushed; of each scale, if they are untied. Then the weight of the layer's input in the multiresolution sum, and
  // for each scale the weights of its taps by delay from 1 on; the a_j(t) in the sum are substituted. For int8 queues
  // the weights of the taps include the scales, and two more rows follow for each scale: the scales of its queue, and
  // their reciprocals.
  AlignedArray<float> filters;
  // With GLU the first half of each panel has values, the second half their gates.
  Panels mixing;
  Panels output;  // the second convolution; count 0 without it
  Norm norm = Norm::kLayer;
  Place place = Place::kAfter;
  int groups = 1;  // of channels that are normalized together
  float epsilon = 0;
  AlignedArray<float> scale, shift;
};

struct Kernels;  // kernels.h

struct Model {
  multires_info info{};
  multires_dtype queues = MULTIRES_FLOAT32;  // the type of the values in the queues
  Activation activation = Activation::kGelu;
  bool gated = true;    // whether the mixing is GLU
  bool untied = false;  // whether each scale has its own low-pass filter
  int width = 0;       // padded d_model
  AlignedArray<float> table;  // token models: (n_tokens, width)
  Panels encoder;             // all other models: of encoder_taps * d_input inputs, by delay
  int encoder_taps = 1;
  std::vector<Layer> layers;
  std::vector<Pooling> poolings;
  Panels head;                // of d_head() inputs
  OutputActivation output_activation = OutputActivation::kNone;
  // For each scale: the number of delays that are read (with 0, and at least those of the low-pass filter), and the
  // slots of its ring.
  std::vector<int> taps;
  std::vector<int64_t> slots;
  int total_taps = 0;
  const Kernels* kernels = nullptr;
  std::map<std::string, std::string> metadata;
  uint64_t fingerprint = 0;  // of the tensors

  // The number of values that the head reads.
  int d_head() const { return info.d_model * std::max(1, static_cast<int>(poolings.size())); }
  int lowpass_rows() const { return info.kernel_size * (untied ? info.depth : 1); }
  int64_t stream_values() const;  // values in the queues and the window of one stream

  // These throw LoadError or std::bad_alloc.
  static std::unique_ptr<Model> load(const std::string& path);
  static std::unique_ptr<Model> load(const void* data, size_t size);
};

}  // namespace multires
