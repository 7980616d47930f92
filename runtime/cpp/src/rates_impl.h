// Two rates of this CPU that bound the time of a step from below: reading memory, and multiply-adds. They use the
// instructions of the kernels. Included by kernels_impl.h.
#pragma once

namespace multires {
namespace {

// The sum of `count` floats, a multiple of kReadUnit. A matrix-vector product cannot read its weights faster.
float read_floats(const float* p, size_t count) {
  constexpr int chains = 8;
  static_assert(kReadUnit % (chains * kVector) == 0, "no remainder");
  Vec sums[chains] = {};
  for (size_t i = 0; i < count; i += chains * kVector) {
#pragma GCC unroll 8
    for (int v = 0; v < chains; ++v) sums[v] += load(p + i + v * kVector);
  }
  Vec sum{};
  for (int v = 0; v < chains; ++v) sum += sums[v];
  return total(sum);
}

// `count` multiply-adds, a multiple of kMultiplyAddUnit, in independent chains: enough to hide the latency, and few
// enough for the registers.
float multiply_adds(float factor, float addend, size_t count) {
  static_assert(kMultiplyAddUnit % (kChains * kVector) == 0, "no remainder");
  const Vec f = all(factor), a = all(addend);
  Vec sums[kChains];
#pragma GCC unroll 20
  for (int v = 0; v < kChains; ++v) sums[v] = all(static_cast<float>(v));
  for (size_t i = 0; i < count; i += kChains * kVector) {
#pragma GCC unroll 20
    for (int v = 0; v < kChains; ++v) sums[v] = sums[v] * f + a;
  }
  Vec sum{};
#pragma GCC unroll 20
  for (int v = 0; v < kChains; ++v) sum += sums[v];
  return total(sum);
}

}  // namespace
}  // namespace multires
