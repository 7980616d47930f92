// float16 to float32 and back on every instruction set:
//   half_test
// All float16 values. As float32: each of them, the middle between two neighbours, which rounds to the even one, and
// the numbers next to the middle. Exits 0 if every bit is right.

#include <cmath>
#include <cstring>
#include <set>

#include "kernels.h"
#include "testing.h"

namespace {

constexpr int kInfinity = 0x7c00;

float value_of(int half) {  // positive ones
  const int exponent = half >> 10, digits = half & 0x3ff;
  return std::ldexp(static_cast<float>(exponent ? digits + 1024 : digits), std::max(exponent, 1) - 25);
}

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

}  // namespace

int main() {
  const std::vector<Case> wanted = cases();
  std::set<std::string> seen;
  for (const char* name : {"avx512vnni", "avx512", "avx2", "baseline"}) {
    setenv("MULTIRES_ISA", name, 1);
    const multires::Kernels& kernels = multires::best_kernels();
    if (!seen.insert(kernels.isa).second) continue;  // this CPU lacks it
    for (const int sign : {0, 0x8000}) {
      std::vector<uint16_t> halves;
      for (int half = 0; half < kInfinity; ++half) halves.push_back(static_cast<uint16_t>(half | sign));
      std::vector<float> x(halves.size());
      kernels.widen(halves.data(), x.data(), static_cast<int>(x.size()));
      for (int half = 0; half < kInfinity; ++half) {
        const float expected = sign ? -value_of(half) : value_of(half);
        CHECK(std::memcmp(&x[static_cast<size_t>(half)], &expected, sizeof expected) == 0);
      }
      x.clear();
      for (const Case& one : wanted) x.push_back(sign ? -one.x : one.x);
      halves.assign(x.size(), 0);
      kernels.narrow(x.data(), halves.data(), static_cast<int>(x.size()));
      for (size_t i = 0; i < x.size(); ++i) CHECK(halves[i] == (wanted[i].half | sign));
    }
    const float nan = NAN;
    uint16_t half;
    kernels.narrow(&nan, &half, 1);
    CHECK((half & 0x7fff) > kInfinity);
    std::printf("%s: all of float16\n", kernels.isa);
  }
  return 0;
}
