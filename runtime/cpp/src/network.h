// The constant part of a network, as the kernels read it: weights in their layout, in memory that another object owns.
// A plain value: a microcontroller has it in flash, written by network_source.cpp.
#pragma once

#include <algorithm>
#include <cstdint>

#include "activations.h"
#include "multires.h"
#include "norms.h"
#include "pooling.h"
#include "values.h"
#include "view.h"

namespace multires {

constexpr int kLane = 16;       // channels are padded to a multiple of this many floats
constexpr int kPanel = 64;      // outputs that a matrix product forms at a time
constexpr int kHalf = kPanel / 2;

inline int padded(int channels) { return (channels + kLane - 1) / kLane * kLane; }

// A matrix cut into panels of kPanel outputs; the last panel may be narrower. Within a panel, the weights of one
// input are contiguous; in int8, those of a group of inputs, whose products one instruction sums.
struct Panels {
  multires_dtype dtype = MULTIRES_FLOAT32;
  int inputs = 0, count = 0;
  int last = 0;   // outputs of the last panel, a multiple of kLane
  int group = 1;  // inputs of a group, see kGroup in kernels_impl.h; 1 if the weights are floats
  // For each panel: (inputs / group, width(panel), group), with the inputs rounded up to whole groups.
  View<const unsigned char> weights;
  View<const float> bias;  // (outputs), padded to the widths of the panels
  // int8 only: y = scales * (weights @ q) + bias, q = round(x * reciprocal_scales); see export/linear.py.
  View<const float> reciprocal_scales;  // (inputs): 1 / input_scales
  View<const float> scales;             // as bias: weight_scales
  View<const int32_t> offsets;          // as bias: -weights @ 128, for instructions that take q + 128

  int rows() const { return (inputs + group - 1) / group * group; }
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
  View<const float> filters;
  // With GLU the first half of each panel has values, the second half their gates.
  Panels mixing;
  Panels output;  // the second convolution; count 0 without it
  Norm norm = Norm::kLayer;
  Place place = Place::kAfter;
  int groups = 1;  // of channels that are normalized together
  float epsilon = 0;
  View<const float> scale, shift;
};

struct Kernels;  // kernels.h

struct Network {
  multires_info info{};
  multires_dtype queues = MULTIRES_FLOAT32;  // the type of the values in the queues
  Activation activation = Activation::kGelu;
  bool gated = true;    // whether the mixing is GLU
  bool untied = false;  // whether each scale has its own low-pass filter
  int width = 0;        // padded d_model
  View<const float> table;  // token models: (n_tokens, width)
  Panels encoder;           // all other models: of encoder_taps * d_input inputs, by delay
  int encoder_taps = 1;
  View<const Layer> layers;
  View<const Pooling> poolings;
  Panels head;  // of d_head() inputs
  OutputActivation output_activation = OutputActivation::kNone;
  // For each scale: the number of delays that are read (with 0, and at least those of the low-pass filter), and the
  // slots of its ring.
  View<const int> taps;
  View<const int64_t> slots;
  int total_taps = 0;
  const Kernels* kernels = nullptr;

  // The number of values that the head reads.
  int d_head() const { return info.d_model * std::max(1, static_cast<int>(poolings.size())); }
  int lowpass_rows() const { return info.kernel_size * (untied ? info.depth : 1); }
  // Calls function(panels) for each matrix.
  template <typename Function>
  void for_each_matrix(Function function) const {
    function(encoder);
    for (const Layer& layer : layers) {
      function(layer.mixing);
      function(layer.output);
    }
    function(head);
  }
};

}  // namespace multires
