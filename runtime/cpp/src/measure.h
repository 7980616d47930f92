// Times that a benchmark wants to know, taken without an interpreter in between. Seconds, by a clock that
// never goes back. All of it allocates; none of it belongs into a real-time thread.
#pragma once

#include <chrono>
#include <cstddef>

#include "multires.h"

namespace multires {

struct Model;

// What one step of one stream reads and computes; see multires_model_cost.
multires_cost cost_of(const Model& model);

// Seconds that each of `repeats` calls of `function` takes.
template <typename Function>
void time_each(double* seconds, size_t repeats, Function function) {
  using Clock = std::chrono::steady_clock;
  for (size_t i = 0; i < repeats; ++i) {
    const Clock::time_point started = Clock::now();
    function(i);
    seconds[i] = std::chrono::duration<double>(Clock::now() - started).count();
  }
}

// Reading a piece of memory of `bytes` (rounded up to 512) from end to end, which has been read before: from
// the cache that it fits into. Returns the bytes that were read.
size_t time_reading(size_t bytes, double* seconds, size_t repeats);

// At least `count` float32 multiply-adds that depend on no memory. Returns how many.
size_t time_multiply_adds(size_t count, double* seconds, size_t repeats);

}  // namespace multires
