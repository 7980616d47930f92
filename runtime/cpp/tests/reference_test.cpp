// Compares the engine with outputs that another program computed in double precision:
//   reference_test WEIGHTS CASE [LIMIT]
// CASE, little-endian: int64 batch, int64 steps, the inputs, float32 (steps, batch, d_input) or int64
// tokens (steps, batch), and the expected outputs, float64 (steps, batch, d_output). Prints the largest
// |y - expected| / max(1, |expected|) and exits 0 if it is at most LIMIT (1e-5).

#include <cmath>
#include <cstring>

#include "testing.h"

namespace {

template <typename T>
std::vector<T> take(const std::string& bytes, size_t& at, size_t count) {
  CHECK(count <= (bytes.size() - at) / sizeof(T));
  std::vector<T> values(count);
  std::memcpy(values.data(), bytes.data() + at, count * sizeof(T));
  at += count * sizeof(T);
  return values;
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 3 || count == 4);
  multires_model* model = load_model(arguments[1]);
  const multires_info info = multires_model_info(model);
  const std::string bytes = read_file(arguments[2]);
  size_t at = 0;
  const auto sizes = take<int64_t>(bytes, at, 2);
  const size_t rows = static_cast<size_t>(sizes[0] * sizes[1]), outputs = rows * static_cast<size_t>(info.d_output);
  Inputs inputs;
  if (info.n_tokens > 0)
    inputs.tokens = take<int64_t>(bytes, at, rows);
  else
    inputs.x = take<float>(bytes, at, rows * static_cast<size_t>(info.d_input));
  const auto expected = take<double>(bytes, at, outputs);
  CHECK(at == bytes.size() && outputs > 0);

  std::vector<float> y(outputs);
  const int batch = static_cast<int>(sizes[0]), steps = static_cast<int>(sizes[1]);
  multires_state* state = new_state(model, batch);
  CHECK(feed(state, info, inputs, batch, 0, steps, y.data()) == MULTIRES_OK);
  double most = 0;
  for (size_t i = 0; i < outputs; ++i) {
    const double error = std::abs(y[i] - expected[i]) / std::fmax(1.0, std::abs(expected[i]));
    if (!(error <= most)) most = error;
  }
  std::printf("%s %.3g\n", multires_model_isa(model), most);
  multires_state_free(state);
  multires_model_free(model);
  return most <= (count == 4 ? std::atof(arguments[3]) : 1e-5) ? 0 : 1;
}
