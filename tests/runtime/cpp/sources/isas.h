// Kernels of every instruction set, and float16 values, for the tests of the arithmetic.
#pragma once

#include <set>

#include "kernels.h"
#include "testing.h"

// Calls function() with the kernels of each instruction set that this CPU has, as MULTIRES_ISA chooses them.
template <typename Function>
void for_each_isa(Function function) {
  std::set<std::string> seen;
  for (const char* name : {"baseline", "avx2", "avx512", "avx512vnni", "neondot"}) {
    setenv("MULTIRES_ISA", name, 1);
    const multires::Kernels& kernels = multires::best_kernels();
    if (seen.insert(kernels.isa).second) function(kernels);
  }
}

constexpr int kInfinity = 0x7c00;  // of float16; smaller ones are the finite values

inline float value_of(int half) {
  const int exponent = half >> 10 & 31, digits = half & 0x3ff;
  const float value = std::ldexp(static_cast<float>(exponent ? digits + 1024 : digits), std::max(exponent, 1) - 25);
  return half & 0x8000 ? -value : value;
}

// The nearest quantized value of a product that is first rounded to float32, as in the graph.
inline int quantized(float x, float reciprocal) {
  const volatile float product = x * reciprocal;
  return static_cast<int>(std::nearbyint(std::fmin(127.0f, std::fmax(-128.0f, product))));
}
