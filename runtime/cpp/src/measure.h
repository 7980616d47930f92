// Times for benchmarks, measured without an interpreter, in seconds of a monotonic clock. These functions allocate:
// do not call them in a real-time thread.
#pragma once

#include <chrono>
#include <cstddef>

#include "multires.h"

namespace multires {

struct Model;

// The bytes and multiply-adds of one step of one stream; see multires_model_cost.
multires_cost cost_of(const Model& model);

// The time of each of `repeats` calls of `function`.
template <typename Function>
void time_each(double* seconds, size_t repeats, Function function) {
  using Clock = std::chrono::steady_clock;
  for (size_t i = 0; i < repeats; ++i) {
    const Clock::time_point started = Clock::now();
    function(i);
    seconds[i] = std::chrono::duration<double>(Clock::now() - started).count();
  }
}

// Times reading `bytes` (rounded up to 512) of memory that was read before: from the smallest cache that has room
// for it. Returns the bytes that were read.
size_t time_reading(size_t bytes, double* seconds, size_t repeats);

// Times at least `count` float32 multiply-adds in registers. Returns their number.
size_t time_multiply_adds(size_t count, double* seconds, size_t repeats);

}  // namespace multires
