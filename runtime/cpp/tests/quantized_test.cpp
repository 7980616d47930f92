// The quantized values of int8 queues, on every instruction set:
//   quantized_test
// All bytes as floats. For floats times a reciprocal scale: the middles between two quantized values, which round to
// the even one, the numbers next to them, values that are far too large, and noise. Exits 0 if every value is right.

#include <cmath>
#include <set>

#include "kernels.h"
#include "testing.h"

namespace {

// The nearest quantized value of a product that is first rounded to float32, as in the graph.
int quantized(float x, float reciprocal) {
  const volatile float product = x * reciprocal;
  return static_cast<int>(std::nearbyint(std::fmin(127.0f, std::fmax(-128.0f, product))));
}

std::vector<float> values_for(float scale) {
  std::vector<float> x = {0.0f, -0.0f, 1e30f, 3e38f, INFINITY};
  for (int twice = 0; twice <= 2 * 130; ++twice) {
    const float border = static_cast<float>(twice) / 2 * scale;
    for (float value : {std::nextafter(border, 0.0f), border, std::nextafter(border, 1e38f)}) x.push_back(value);
  }
  std::mt19937 random(5);
  std::normal_distribution<float> noise(0, 50);
  for (int i = 0; i < 2000; ++i) x.push_back(noise(random) * scale);
  const size_t positive = x.size();
  for (size_t i = 0; i < positive; ++i) x.push_back(-x[i]);
  return x;
}

}  // namespace

int main() {
  std::set<std::string> seen;
  for (const char* name : {"avx512vnni", "avx512", "avx2", "baseline"}) {
    setenv("MULTIRES_ISA", name, 1);
    const multires::Kernels& kernels = multires::best_kernels();
    if (!seen.insert(kernels.isa).second) continue;  // this CPU lacks it
    std::vector<int8_t> bytes;
    for (int byte = -128; byte < 128; ++byte) bytes.push_back(static_cast<int8_t>(byte));
    std::vector<float> x(bytes.size());
    kernels.from_int8(bytes.data(), x.data(), static_cast<int>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) CHECK(x[i] == static_cast<float>(bytes[i]));
    // Scales like 1 / 3 show whether a compiler fuses the product with the rounding.
    for (float scale : {1.0f, 0.0078125f, 0.021f, 1.0f / 3, 7e-5f, 1.3e9f, 0x1p-126f, 0x1.8p126f}) {
      x = values_for(scale);
      bytes.assign(x.size(), 0);
      kernels.push_int8(x.data(), 1.0f / scale, bytes.data(), static_cast<int>(x.size()));
      for (size_t i = 0; i < x.size(); ++i) CHECK(bytes[i] == quantized(x[i], 1.0f / scale));
    }
    std::printf("%s: all quantized values\n", kernels.isa);
  }
  return 0;
}
