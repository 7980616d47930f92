// What of the kernels a program has. A host has everything. A program of one network has what the network needs: its
// folder has network_kinds.h, written by network_source.cpp.
#pragma once

#include "multires.h"

namespace multires {

struct Kinds {
  bool any;  // everything; the rest counts only without it
  unsigned queues, weights;  // bits by multires_dtype
  int kernel_size;           // 2 or 4, 0 for all others
  int d_model;

  constexpr bool has_queues(multires_dtype dtype) const { return any || (queues >> dtype & 1); }
  constexpr bool has_weights(multires_dtype dtype) const { return any || (weights >> dtype & 1); }
  constexpr bool has_kernel_size(int size) const { return any || kernel_size == size; }
  // Whether the channels may not be a multiple of `count`.
  constexpr bool leaves_rest(int count) const { return any || d_model % count != 0; }
};

#if defined(MULTIRES_ONE_NETWORK)
#include "network_kinds.h"
#else
constexpr Kinds kKinds{true, 0, 0, 0, 0};
#endif

}  // namespace multires
