// Compares an engine on a GPU with the native engine:
//   tensorrt_test WEIGHTS ENGINE [LIMIT]
// Several streams for 400 steps, with restarted rows, and with snapshots that move between the two. Prints the largest
// |y - native| / max(1, |native|) and exits 0 if it is at most LIMIT (1e-4). Exits 3, with the reason on stderr, if the
// engine cannot be loaded, as on a machine without a GPU.

#include <multires_tensorrt.hpp>

#include "streams.h"

namespace {

constexpr int kSteps = 400;

double roll(const Model& model, const multires::tensorrt::Engine& engine) {
  const int batch = std::min(3, engine.largest_batch());
  multires::tensorrt::Stream ours(engine, batch);
  Stream native(model, batch);
  if (!ours.captured()) std::printf("not captured: %s\n", ours.reason());
  const Inputs inputs = random_inputs(model.info(), batch, kSteps, 7);
  double most = 0;
  const auto both = [&](int from, int steps) {
    most = std::fmax(most, largest_error(outputs(ours, inputs, from, steps), outputs(native, inputs, from, steps)));
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
  CHECK(status_of([&] { ours.load(damaged); }) == MULTIRES_MALFORMED);
  both(199, 101);
  CHECK(ours.reset() == MULTIRES_OK && native.reset() == MULTIRES_OK);
  both(300, kSteps - 300);
  multires::tensorrt::Stream moved = std::move(ours);
  CHECK(ours.reset() == MULTIRES_ARGUMENT && moved.batch() == batch && moved.window() == native.window());
  CHECK(moved.reset(batch) == MULTIRES_ARGUMENT && moved.step(static_cast<float*>(nullptr), nullptr) != MULTIRES_OK);
  return most;
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 3 || count == 4);
  const Model model(arguments[1]);
  try {
    const multires::tensorrt::Engine engine(arguments[2], model);
    if (engine.in_place()) std::printf("in place\n");
    const double most = roll(model, engine);
    std::printf("%.3g\n", most);
    return most <= (count == 4 ? std::atof(arguments[3]) : 1e-4) ? 0 : 1;
  } catch (const multires::Error& error) {
    std::fprintf(stderr, "%s: %s\n", multires::text(error.status()), error.what());
    return 3;
  }
}
