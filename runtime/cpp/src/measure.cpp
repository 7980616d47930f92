#include "measure.h"

#include <algorithm>

#include "aligned.h"
#include "kernels.h"
#include "model.h"

namespace multires {
namespace {

int64_t bytes_of(const Panels& panels) {
  if (panels.count == 0) return 0;
  const size_t outputs = static_cast<size_t>(panels.count - 1) * kPanel + static_cast<size_t>(panels.last);
  const size_t each = sizeof(float) + (panels.dtype == MULTIRES_INT8 ? sizeof(float) + sizeof(int32_t) : 0);
  return static_cast<int64_t>(panels.weights.size() + outputs * each);
}

int64_t bytes_of(View<const float> array) { return static_cast<int64_t>(array.size() * sizeof(float)); }

size_t whole_units(size_t count, size_t unit) { return std::max<size_t>(1, (count + unit - 1) / unit) * unit; }

volatile float g_sink;  // keeps results that nobody wants from being optimised away

}  // namespace

multires_cost cost_of(const Model& model) {
  const multires_info& info = model.info;
  const int64_t d = info.d_model, layers = info.n_layers,
                row = layers * d * static_cast<int64_t>(size_of(model.queues));
  multires_cost cost{};
  cost.weight_bytes = bytes_of(model.head);
  cost.weight_bytes += info.n_tokens > 0 ? model.width * static_cast<int64_t>(sizeof(float)) : bytes_of(model.encoder);
  for (const Layer& layer : model.layers)
    cost.weight_bytes += bytes_of(layer.filters) + bytes_of(layer.mixing) + bytes_of(layer.output) +
                         bytes_of(layer.scale) + bytes_of(layer.shift);
  // The newest tap of each scale is what the step itself computes.
  cost.tap_bytes = (model.total_taps - info.depth) * row;
  cost.push_bytes = info.depth * row;
  if (model.encoder_taps > 1) {
    const int64_t sample = info.d_input * static_cast<int64_t>(sizeof(float));
    cost.tap_bytes += (model.encoder_taps - 1) * sample;
    cost.push_bytes += sample;
  }
  // The sum of a layer's input and taps, and the low-pass filter on every scale whose result is pushed.
  const int64_t summed = model.total_taps - info.depth + 1;
  const int64_t filters = d * (summed + static_cast<int64_t>(info.depth - 1) * info.kernel_size);
  cost.multiply_adds =
      layers * filters + d * model.encoder.inputs + static_cast<int64_t>(model.d_head()) * info.d_output;
  for (const Layer& layer : model.layers) {
    const auto count = [&](const Panels& panels, int64_t products) {
      (panels.dtype == MULTIRES_INT8 ? cost.int8_multiply_adds : cost.multiply_adds) += products;
    };
    count(layer.mixing, (model.gated ? 2 : 1) * d * d);
    if (layer.output.count) count(layer.output, d * d);
  }
  return cost;
}

size_t time_reading(size_t bytes, double* seconds, size_t repeats) {
  const Kernels& kernels = best_kernels();
  const size_t count = whole_units((bytes + sizeof(float) - 1) / sizeof(float), kReadUnit);
  const AlignedArray<float> memory(count);  // allocated as weights are, so on the same size of pages
  for (int i = 0; i < 2; ++i) g_sink = kernels.parts->read_floats(memory.data(), count);
  time_each(seconds, repeats, [&](size_t) { g_sink = kernels.parts->read_floats(memory.data(), count); });
  return count * sizeof(float);
}

size_t time_multiply_adds(size_t count, double* seconds, size_t repeats) {
  const Kernels& kernels = best_kernels();
  count = whole_units(count, kMultiplyAddUnit);
  // x -> 0.999 x + 0.001 goes to 1: no overflow, and no denormal numbers, which are slow on some CPUs.
  g_sink = 0.999f;
  const float factor = g_sink;
  time_each(seconds, repeats, [&](size_t) { g_sink = kernels.parts->multiply_adds(factor, 1e-3f, count); });
  return count;
}

}  // namespace multires
