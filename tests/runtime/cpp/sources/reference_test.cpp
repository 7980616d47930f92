// Compares the engine with outputs that another program computed in double precision:
//   reference_test WEIGHTS CASE [LIMIT]
// CASE, little-endian: int64 batch, int64 steps, the inputs, float32 (steps, batch, d_input) or int64
// tokens (steps, batch), and the expected outputs, float64 (steps, batch, d_output). Prints the largest
// |y - expected| / max(1, |expected|) and exits 0 if it is at most LIMIT (1e-5).

#include "streams.h"

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
  const Model model(arguments[1]);
  const multires_info info = model.info();
  const std::string bytes = read_file(arguments[2]);
  size_t at = 0;
  const auto sizes = take<int64_t>(bytes, at, 2);
  const int batch = static_cast<int>(sizes[0]), steps = static_cast<int>(sizes[1]);
  const size_t rows = static_cast<size_t>(sizes[0] * sizes[1]);
  Inputs inputs{info, batch, {}, {}};
  if (info.n_tokens > 0)
    inputs.tokens = take<int64_t>(bytes, at, rows);
  else
    inputs.x = take<float>(bytes, at, rows * static_cast<size_t>(info.d_input));
  const auto expected = take<double>(bytes, at, rows * static_cast<size_t>(info.d_output));
  CHECK(at == bytes.size() && !expected.empty());

  Stream stream(model, batch);
  const double most = largest_error(outputs(stream, inputs, 0, steps), expected);
  std::printf("%s %.3g\n", model.isa(), most);
  return most <= (count == 4 ? std::atof(arguments[3]) : 1e-5) ? 0 : 1;
}
