// Inputs, steps and errors, for the tests of streams.
#pragma once

#include "multires.hpp"
#include "testing.h"

using multires::Model;
using multires::Stream;

// Samples (steps, batch, d_input) of unit variance or tokens (steps, batch), whichever the model takes.
struct Inputs {
  multires_info info;
  int batch;
  std::vector<float> x;
  std::vector<int64_t> tokens;
};

inline Inputs random_inputs(const multires_info& info, int batch, int steps, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> noise;
  Inputs inputs{info, batch, {}, {}};
  const size_t rows = static_cast<size_t>(batch) * static_cast<size_t>(steps);
  for (size_t i = 0; i < rows * static_cast<size_t>(info.d_input); ++i) inputs.x.push_back(noise(random));
  if (info.n_tokens > 0)
    for (size_t i = 0; i < rows; ++i)
      inputs.tokens.push_back(static_cast<int64_t>(random() % static_cast<unsigned>(info.n_tokens)));
  return inputs;
}

// Runs `steps` steps of the inputs, beginning with step `from`, to y (steps, batch, d_output).
template <typename AnyStream>
multires_status feed(AnyStream& stream, const Inputs& inputs, int from, int steps, float* y) {
  const size_t row = static_cast<size_t>(from) * static_cast<size_t>(inputs.batch);
  if (inputs.info.n_tokens > 0) return stream.run(inputs.tokens.data() + row, steps, y);
  return stream.run(inputs.x.data() + row * static_cast<size_t>(inputs.info.d_input), steps, y);
}

// One step, by the function for one step.
inline multires_status step(Stream& stream, const Inputs& inputs, int t, float* y) {
  const size_t row = static_cast<size_t>(t) * static_cast<size_t>(inputs.batch);
  if (inputs.info.n_tokens > 0) return stream.step(inputs.tokens.data() + row, y);
  return stream.step(inputs.x.data() + row * static_cast<size_t>(inputs.info.d_input), y);
}

template <typename AnyStream>
std::vector<float> outputs(AnyStream& stream, const Inputs& inputs, int from, int steps) {
  std::vector<float> y(static_cast<size_t>(steps) * static_cast<size_t>(inputs.batch * inputs.info.d_output));
  CHECK(feed(stream, inputs, from, steps, y.data()) == MULTIRES_OK);
  return y;
}

// The largest |y - expected| / max(1, |expected|).
template <typename Expected>
double largest_error(const std::vector<float>& y, const std::vector<Expected>& expected) {
  double most = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double wanted = expected[i], error = std::abs(y[i] - wanted) / std::fmax(1.0, std::abs(wanted));
    if (!(error <= most)) most = error;  // NaN too
  }
  return most;
}

// The status of the Error that `function` throws.
template <typename Function>
multires_status status_of(Function function) {
  try {
    function();
  } catch (const multires::Error& error) {
    CHECK(*error.what() != '\0');
    return error.status();
  }
  return MULTIRES_OK;
}
