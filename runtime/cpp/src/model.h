// The constant part of a network: weights in the layout that the kernels read.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "aligned.h"
#include "multires.h"
#include "norms.h"
#include "weights_file.h"

namespace multires {

constexpr int kLane = 16;       // channels are padded to a multiple of this many floats
constexpr int kPanel = 64;      // outputs that a matrix product forms at a time
constexpr int kHalf = kPanel / 2;
constexpr int kGroup = 4;       // int8 inputs whose products are summed by one instruction

inline int padded(int channels) { return (channels + kLane - 1) / kLane * kLane; }

// A matrix cut into panels of kPanel outputs, the last one narrower; within a panel, the weights of one
// input lie together, and those of kGroup inputs in int8, which are multiplied at once.
struct Panels {
  DType dtype = DType::kFloat32;
  int inputs = 0, count = 0;
  int last = 0;  // outputs of the last panel, a multiple of kLane
  // Of each panel: (inputs, width(panel)) float32 or float16; (inputs / kGroup, width(panel), kGroup) int8,
  // the inputs rounded up to whole groups.
  AlignedArray<unsigned char> weights;
  AlignedArray<float> bias;  // (count, kPanel)
  // int8 only: y = scales * (weights @ q) + bias, q = round(x * levels_per_unit); see export/linear.py.
  AlignedArray<float> levels_per_unit;  // (inputs): 1 / input_scales
  AlignedArray<float> scales;           // (count, kPanel): weight_scales
  AlignedArray<int32_t> offsets;        // (count, kPanel): what weights @ 128 is too much for an unsigned q + 128

  int rows() const { return dtype == DType::kInt8 ? (inputs + kGroup - 1) / kGroup * kGroup : inputs; }
  int width(int panel) const { return panel + 1 < count ? kPanel : last; }
  template <typename T>
  const T* panel(int panel) const {
    return reinterpret_cast<const T*>(weights.data()) + static_cast<size_t>(panel) * rows() * kPanel;
  }
};

struct Layer {
  // Rows of `width` channels in the order of use: the low-pass filter by delay, which makes the a_j that
  // are pushed; then the multiresolution sum's weight of the layer's input, and of each scale's taps by
  // delay from 1 on, with the parts that the a_j have in it substituted. Where queues are int8, these are
  // weights of levels, and behind each scale's come two rows more: what a level of its queue is worth, and 1
  // over that.
  AlignedArray<float> filters;
  // In front of GLU: the first half of each panel has values, the second the gates that belong to them.
  Panels mixing;
  Panels output;  // behind GLU; autoregressive models only (count 0 otherwise)
  Norm norm = Norm::kLayer;
  float epsilon = 0;
  AlignedArray<float> scale, shift;
};

struct Kernels;  // kernels.h

struct Model {
  multires_info info{};
  DType queues = DType::kFloat32;  // what streams keep their past in
  int width = 0;       // padded d_model
  AlignedArray<float> table;  // token models: (n_tokens, width)
  Panels encoder;             // others
  std::vector<Layer> layers;
  Panels head;
  // Of each scale: delays that are read (0 included; at least those of the low-pass filter), ring slots.
  std::vector<int> taps;
  std::vector<int64_t> slots;
  int total_taps = 0;
  const Kernels* kernels = nullptr;
  std::map<std::string, std::string> metadata;
  uint64_t fingerprint = 0;  // of the tensors

  int64_t stream_values() const;  // floats that the queues and the window of one stream take

  // These throw LoadError or std::bad_alloc.
  static Model* load(const std::string& path);
  static Model* load(const void* data, size_t size);

 private:
  static Model* read(const WeightsFile& file);
};

}  // namespace multires
