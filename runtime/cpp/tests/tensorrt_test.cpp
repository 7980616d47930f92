// Compares an engine on a GPU with the native engine:
//   tensorrt_test WEIGHTS ENGINE [LIMIT]
// Several streams for 400 steps, with restarted rows, and with snapshots that move between the two. Prints the largest
// |y - native| / max(1, |native|) and exits 0 if it is at most LIMIT (1e-4). Exits 3, with the reason on stderr, if the
// engine cannot be loaded, as on a machine without a GPU.

#include <cmath>

#include <multires_tensorrt.hpp>

#include "testing.h"

namespace {

constexpr int kSteps = 400;

template <typename Stream>
multires_status feed(Stream& stream, const multires_info& info, const Inputs& inputs, int batch, int from, int steps,
                     float* y) {
  const size_t row = static_cast<size_t>(from) * static_cast<size_t>(batch);
  if (info.n_tokens > 0) return stream.run(inputs.tokens.data() + row, steps, y);
  return stream.run(inputs.x.data() + row * static_cast<size_t>(info.d_input), steps, y);
}

template <typename Stream>
bool refuses(Stream& stream, const std::vector<unsigned char>& snapshot) {
  try {
    stream.load(snapshot);
  } catch (const multires::Error&) {
    return true;
  }
  return false;
}

double roll(const multires::Model& model, const multires::tensorrt::Engine& engine) {
  const multires_info info = model.info();
  const int batch = std::min(3, engine.largest_batch());
  multires::tensorrt::Stream ours(engine, batch);
  multires::Stream native(model, batch);
  const Inputs inputs = random_inputs(info, batch, kSteps, 7);
  const size_t width = static_cast<size_t>(batch) * static_cast<size_t>(info.d_output);
  std::vector<float> y(width * kSteps), expected(width * kSteps);
  const auto both = [&](int from, int steps) {
    CHECK(feed(ours, info, inputs, batch, from, steps, y.data() + width * static_cast<size_t>(from)) == MULTIRES_OK);
    CHECK(feed(native, info, inputs, batch, from, steps, expected.data() + width * static_cast<size_t>(from)) ==
          MULTIRES_OK);
  };
  both(0, 1);
  both(1, 120);
  CHECK(ours.reset(batch - 1) == MULTIRES_OK && native.reset(batch - 1) == MULTIRES_OK);
  both(121, 78);
  // Each continues from the other's state.
  const std::vector<unsigned char> of_device = ours.save(), of_host = native.save();
  native.load(of_device);
  ours.load(of_host);
  std::vector<unsigned char> damaged = of_host;
  damaged[damaged.size() / 2] ^= 1;
  CHECK(refuses(ours, damaged));
  both(199, 101);
  CHECK(ours.reset() == MULTIRES_OK && native.reset() == MULTIRES_OK);
  both(300, kSteps - 300);
  multires::tensorrt::Stream moved = std::move(ours);
  CHECK(ours.reset() == MULTIRES_ARGUMENT && moved.batch() == batch && moved.window() == native.window());
  CHECK(moved.reset(batch) == MULTIRES_ARGUMENT && moved.step(static_cast<float*>(nullptr), y.data()) != MULTIRES_OK);
  double most = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double error = std::abs(y[i] - expected[i]) / std::fmax(1.0, std::abs(expected[i]));
    if (!(error <= most)) most = error;
  }
  return most;
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 3 || count == 4);
  const multires::Model model(arguments[1]);
  try {
    const multires::tensorrt::Engine engine(arguments[2], model);
    const double most = roll(model, engine);
    std::printf("%.3g\n", most);
    return most <= (count == 4 ? std::atof(arguments[3]) : 1e-4) ? 0 : 1;
  } catch (const multires::Error& error) {
    std::fprintf(stderr, "%s: %s\n", multires::text(error.status()), error.what());
    return 3;
  }
}
