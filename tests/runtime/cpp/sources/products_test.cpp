// The products of int8 and float16 matrices on every instruction set, compared with exact sums:
//   products_test WEIGHTS
// uses the matrices of a weights file. The integers must be equal on every instruction set, for any number of rows, for
// inputs in the middle of two quantized values, and far beyond the range. Exits 0 on success.

#include <memory>

#include "isas.h"
#include "model.h"

namespace {

using multires::Kernels;
using multires::Panels;

constexpr int kRows = 7;  // whole blocks of rows and single rows, on every instruction set

std::vector<float> inputs_for(const Panels& panels, size_t stride, std::mt19937& random) {
  std::vector<float> x(kRows * stride);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t input = i % stride;
    const bool scaled = panels.dtype == MULTIRES_INT8 && input < static_cast<size_t>(panels.inputs);
    const float scale = scaled ? 1.0f / panels.reciprocal_scales[input] : 1.0f;
    const float whole = static_cast<float>(static_cast<int>(random() % 301) - 150);
    switch (i / stride) {
      case 0: x[i] = 1e30f; break;  // every byte at its limit: the largest sums of pairs
      case 1: x[i] = i % 2 ? 1e30f : -1e30f; break;
      case 2: x[i] = (whole + 0.5f) * scale; break;  // in the middle of two quantized values
      case 3: x[i] = std::nextafter((whole + 0.5f) * scale, whole); break;
      default: x[i] = std::normal_distribution<float>(0, 50)(random) * scale;
    }
    if (panels.dtype != MULTIRES_INT8) x[i] = std::min(1e3f, std::max(-1e3f, x[i]));
  }
  return x;
}

// Checks output `place` of a panel for one row, with the layout in network.h.
void check_output(const Panels& panels, int panel, int place, const float* x, float y) {
  const size_t width = static_cast<size_t>(panels.width(panel));
  if (panels.dtype == MULTIRES_INT8) {
    int64_t sum = 0;
    const int8_t* weights = panels.panel<int8_t>(panel);
    for (int i = 0; i < panels.inputs; ++i)
      sum += weights[(i / 4 * width + place) * 4 + i % 4] * quantized(x[i], panels.reciprocal_scales[i]);
    CHECK(y == static_cast<float>(sum));
    return;
  }
  double sum = 0, size = 0;
  for (int i = 0; i < panels.inputs; ++i) {
    const size_t at = i * width + place;
    const float weight =
        panels.dtype == MULTIRES_FLOAT16 ? value_of(panels.panel<uint16_t>(panel)[at]) : panels.panel<float>(panel)[at];
    sum += static_cast<double>(weight) * x[i];
    size += std::fabs(static_cast<double>(weight) * x[i]);
  }
  CHECK(std::fabs(y - sum) <= 1e-5 * size);
}

void check_products(const Kernels& kernels, Panels panels, std::mt19937& random) {
  const size_t stride = static_cast<size_t>(multires::padded(panels.inputs)) + 16;
  const size_t outputs = static_cast<size_t>(panels.count) * multires::kPanel;
  // Without scales and biases, the outputs are the sums.
  const std::vector<float> zeros(outputs, 0.0f), ones(outputs, 1.0f);
  panels.bias = {zeros.data(), outputs};
  panels.scales = {ones.data(), outputs};
  const std::vector<float> x = inputs_for(panels, stride, random);
  std::vector<uint8_t> bytes(x.size());
  std::vector<float> widened(static_cast<size_t>(panels.inputs) * multires::kPanel);
  const multires::ProductScratch scratch{bytes.data(), widened.data()};
  std::vector<float> y(kRows * outputs), alone(outputs);
  kernels.parts->multiply(panels, x.data(), stride, kRows, scratch, y.data());
  for (int row = 0; row < kRows; ++row) {
    const float* in = x.data() + row * stride;
    kernels.parts->multiply(panels, in, stride, 1, scratch, alone.data());
    for (int panel = 0; panel < panels.count; ++panel)
      for (int place = 0; place < panels.width(panel); ++place) {
        const size_t at = static_cast<size_t>(panel) * multires::kPanel + place;
        CHECK(y[row * outputs + at] == alone[at]);
        check_output(panels, panel, place, in, alone[at]);
      }
  }
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 2);
  for_each_isa([&](const Kernels& kernels) {
    const std::unique_ptr<multires::Model> model = multires::Model::load(arguments[1]);
    CHECK(model->kernels == &kernels);
    std::mt19937 random(7);
    for (const multires::Layer& layer : model->layers) {
      check_products(kernels, layer.mixing, random);
      if (layer.output.count) check_products(kernels, layer.output, random);
    }
    std::printf("%s: all sums are exact\n", kernels.isa);
  });
  return 0;
}
