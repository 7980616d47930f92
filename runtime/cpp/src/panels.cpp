#include "panels.h"

#include <cmath>
#include <cstring>

namespace multires {
namespace {

// With more inputs, a sum of int8 products may overflow 32 bits.
constexpr int kMaxInt8Inputs = 1 << 17;
static_assert(static_cast<int64_t>(kMaxInt8Inputs) * 128 * 127 <= INT32_MAX, "sums of products are exact");

// Reads a matrix into `count` panels, of which the last has `last` outputs. place_of(panels, row) is where output
// `row` of the matrix goes, counted over all panels.
template <typename Place>
Panels read(const WeightsFile& file, Layout layout, const std::string& name, int inputs, int outputs,
            multires_dtype precision, int count, int last, Place place_of) {
  const Tensor& weight = file.tensor(name + ".weight", {outputs, inputs}, precision);
  const Tensor& bias = file.tensor(name + ".bias", {outputs});
  const bool quantized = weight.dtype == MULTIRES_INT8;
  const size_t each = size_of(weight.dtype);
  const size_t places = static_cast<size_t>(count - 1) * kPanel + last;
  Panels panels;
  panels.dtype = weight.dtype;
  panels.inputs = inputs;
  panels.count = count;
  panels.last = last;
  panels.group = quantized ? layout.group : 1;
  Memory& memory = layout.memory;
  const View<unsigned char> weights = memory.array<unsigned char>({places, static_cast<uint64_t>(panels.rows()), each});
  const View<float> biases = memory.array<float>({places}), scales = memory.array<float>({quantized ? places : 0}),
                    reciprocals = memory.array<float>({quantized ? static_cast<uint64_t>(padded(inputs)) : 0});
  const View<int32_t> offsets = memory.array<int32_t>({quantized ? places : 0});
  panels.weights = read_only(weights);
  panels.bias = read_only(biases);
  panels.scales = read_only(scales);
  panels.reciprocal_scales = read_only(reciprocals);
  panels.offsets = read_only(offsets);
  const float* weight_scales = nullptr;
  if (quantized) {
    if (inputs > kMaxInt8Inputs) throw LoadError(MULTIRES_UNSUPPORTED, name + " has more than 2^17 inputs in int8");
    weight_scales = file.tensor(name + ".weight_scales", {outputs}).floats();
    const float* input_scales = file.tensor(name + ".input_scales", {inputs}).floats();
    for (int i = 0; i < inputs; ++i) {
      reciprocals[i] = 1.0f / input_scales[i];
      if (!(input_scales[i] > 0 && std::isfinite(reciprocals[i])))
        throw LoadError(MULTIRES_MALFORMED, name + ".input_scales has a value that is not above 0, or too small");
    }
  }
  for (int row = 0; row < outputs; ++row) {
    const int output = place_of(panels, row);
    const unsigned char* from =
        static_cast<const unsigned char*>(weight.data) + static_cast<size_t>(row) * inputs * each;
    for (int i = 0; i < inputs; ++i)
      std::memcpy(weights.data() + weight_index(panels, output, i) * each, from + i * each, each);
    biases[output] = bias.floats()[row];
    if (!quantized) continue;
    if (!(weight_scales[row] > 0))
      throw LoadError(MULTIRES_MALFORMED, name + ".weight_scales has a value that is not above 0");
    scales[output] = weight_scales[row];
    // Modulo 2^32, like the sums of products: an overflow in between cancels.
    uint32_t sum = 0;
    for (int i = 0; i < inputs; ++i) sum += static_cast<uint32_t>(static_cast<int8_t>(from[i]));
    offsets[output] = static_cast<int32_t>(0u - 128u * sum);
  }
  return panels;
}

}  // namespace

Panels read_panels(const WeightsFile& file, Layout layout, const std::string& name, int inputs, int outputs,
                   multires_dtype precision) {
  const int count = (outputs + kPanel - 1) / kPanel, last = padded(outputs - (count - 1) * kPanel);
  return read(file, layout, name, inputs, outputs, precision, count, last, [](const Panels&, int row) { return row; });
}

Panels read_glu_panels(const WeightsFile& file, Layout layout, const std::string& name, int channels,
                       multires_dtype precision) {
  const int count = (channels + kHalf - 1) / kHalf, last = 2 * padded(channels - (count - 1) * kHalf);
  return read(file, layout, name, channels, 2 * channels, precision, count, last,
              [=](const Panels& panels, int row) { return glu_place(panels, row, channels); });
}

}  // namespace multires
