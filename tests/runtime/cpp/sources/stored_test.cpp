// Values as the queues store them, on every instruction set:
//   stored_test
// float16: all values. As float32: each of them, the middle between two neighbours, which rounds to the even one, and
// the numbers next to the middle.
// int8: all bytes as floats. For floats times a reciprocal scale: the middles between two quantized values, which round
// to the even one, the numbers next to them, values that are far too large, and noise.
// Exits 0 if every bit is right.

#include "isas.h"

namespace {

using multires::Kernels;

struct Case {
  float x;
  int half;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (int half = 0; half < kInfinity; ++half) {
    const float x = value_of(half), middle = half + 1 < kInfinity ? x + (value_of(half + 1) - x) / 2 : 65520.0f;
    // A value that is too large becomes the largest.
    const int above = std::min(half + 1, kInfinity - 1);
    all.push_back({x, half});
    all.push_back({std::nextafter(middle, 0.0f), half});
    all.push_back({middle, half % 2 ? above : half});
    all.push_back({std::nextafter(middle, 1e9f), above});
  }
  all.push_back({1e30f, kInfinity - 1});
  all.push_back({INFINITY, kInfinity - 1});
  return all;
}

void check_float16(const Kernels& kernels, const std::vector<Case>& wanted) {
  for (const int sign : {0, 0x8000}) {
    std::vector<uint16_t> halves;
    for (int half = 0; half < kInfinity; ++half) halves.push_back(static_cast<uint16_t>(half | sign));
    std::vector<float> x(halves.size()), expected;
    for (const uint16_t half : halves) expected.push_back(value_of(half));
    kernels.parts->widen(halves.data(), x.data(), static_cast<int>(x.size()));
    CHECK(same_bits(x, expected));
    x.clear();
    for (const Case& one : wanted) x.push_back(sign ? -one.x : one.x);
    halves.assign(x.size(), 0);
    kernels.parts->narrow(x.data(), halves.data(), static_cast<int>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) CHECK(halves[i] == (wanted[i].half | sign));
  }
  const float nan = NAN;
  uint16_t half;
  kernels.parts->narrow(&nan, &half, 1);
  CHECK((half & 0x7fff) > kInfinity);
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

void check_int8(const Kernels& kernels) {
  std::vector<int8_t> bytes;
  for (int byte = -128; byte < 128; ++byte) bytes.push_back(static_cast<int8_t>(byte));
  std::vector<float> x(bytes.size());
  kernels.parts->from_int8(bytes.data(), x.data(), static_cast<int>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) CHECK(x[i] == static_cast<float>(bytes[i]));
  // Scales like 1 / 3 show whether a compiler fuses the product with the rounding.
  for (float scale : {1.0f, 0.0078125f, 0.021f, 1.0f / 3, 7e-5f, 1.3e9f, 0x1p-126f, 0x1.8p126f}) {
    x = values_for(scale);
    bytes.assign(x.size(), 0);
    kernels.parts->push_int8(x.data(), 1.0f / scale, bytes.data(), static_cast<int>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) CHECK(bytes[i] == quantized(x[i], 1.0f / scale));
  }
}

}  // namespace

int main() {
  const std::vector<Case> wanted = cases();
  for_each_isa([&](const Kernels& kernels) {
    check_float16(kernels, wanted);
    check_int8(kernels);
    std::printf("%s: all of float16, all quantized values\n", kernels.isa);
  });
  return 0;
}
