// Sums of products of int8 for instruction sets that add the products of a group to one number. Included before
// kernels_impl.h, which names these functions.
#pragma once

namespace multires {
namespace {

constexpr bool kPairs = false;
typedef Ints Dots;
inline Dots dots_of(Ints sums) { return sums; }
inline Ints sums_of(Dots dots) { return dots; }
inline Dots dot_two(Dots dots, const int8_t* w, const Group& g, const int8_t* next, const Group& following) {
  return dot(dot(dots, w, g), next, following);
}

}  // namespace
}  // namespace multires
