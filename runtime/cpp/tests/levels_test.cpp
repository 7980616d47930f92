// What int8 queues keep, on every instruction set:
//   levels_test
// All bytes as floats; and of floats times a reciprocal, the borders between two levels, where the even one is
// nearest, what lies beside them, what is far too large, and noise. Exits 0 when every level is right.

#include <cmath>
#include <set>

#include "kernels.h"
#include "testing.h"

namespace {

// The nearest level of a product that is rounded to float32 first, as the graph has it.
int level_of(float x, float reciprocal) {
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
    std::vector<int8_t> levels;
    for (int level = -128; level < 128; ++level) levels.push_back(static_cast<int8_t>(level));
    std::vector<float> x(levels.size());
    kernels.from_levels(levels.data(), x.data(), static_cast<int>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) CHECK(x[i] == static_cast<float>(levels[i]));
    // 1 / 3 and the like: a product that a compiler fuses with the rounding falls on the other side now and then.
    for (float scale : {1.0f, 0.0078125f, 0.021f, 1.0f / 3, 7e-5f, 1.3e9f, 0x1p-126f, 0x1.8p126f}) {
      x = values_for(scale);
      levels.assign(x.size(), 0);
      kernels.push_levels(x.data(), 1.0f / scale, levels.data(), static_cast<int>(x.size()));
      for (size_t i = 0; i < x.size(); ++i) CHECK(levels[i] == level_of(x[i], 1.0f / scale));
    }
    std::printf("%s: all levels\n", kernels.isa);
  }
  return 0;
}
