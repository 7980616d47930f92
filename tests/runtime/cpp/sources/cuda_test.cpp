// Compares streams on a GPU with the native engine:
//   cuda_test WEIGHTS [LIMIT [STEPS]]
// A stream alone and several, with restarted rows, and with snapshots that move between the two; two threads at once.
// Prints the largest |y - native| / max(1, |native|) and exits 0 if it is at most LIMIT (1e-4). Exits 3, with the
// reason on stderr, if there is no stream, as on a machine without a GPU.

#include <multires_cuda.hpp>
#include <thread>

#include "streams.h"

namespace {

double roll(const Model& model, int batch, int steps, int window) {
  multires::cuda::Stream ours(model, batch, window);
  Stream native(model, batch, window);
  CHECK(ours.batch() == batch && ours.window() == native.window() && *ours.reason() == '\0');
  const Inputs inputs = random_inputs(model.info(), batch, 5 * steps, 7);
  double most = 0;
  const auto both = [&](int part, int count) {
    const int from = part * steps;
    most = std::fmax(most, largest_error(outputs(ours, inputs, from, count), outputs(native, inputs, from, count)));
  };
  both(0, 1);
  both(1, steps);
  CHECK(ours.reset(batch - 1) == MULTIRES_OK && native.reset(batch - 1) == MULTIRES_OK);
  both(2, steps);
  // Each continues from the other's state.
  const std::vector<unsigned char> of_device = ours.save(), of_host = native.save();
  CHECK(of_device.size() == of_host.size());
  native.load(of_device);
  CHECK(native.save() == of_device);  // to the last bit
  ours.load(of_host);
  CHECK(ours.save() == of_host);
  std::vector<unsigned char> damaged = of_host;
  damaged[damaged.size() / 2] ^= 1;
  CHECK(status_of([&] { ours.load(damaged); }) == MULTIRES_MALFORMED);
  both(3, steps);
  CHECK(ours.reset() == MULTIRES_OK && native.reset() == MULTIRES_OK);
  both(4, steps);
  multires::cuda::Stream moved = std::move(ours);
  CHECK(ours.reset() == MULTIRES_ARGUMENT && moved.batch() == batch && moved.window() == native.window());
  CHECK(status_of([&] { ours.save(); }) == MULTIRES_ARGUMENT);
  CHECK(moved.reset(batch) == MULTIRES_ARGUMENT && moved.step(static_cast<float*>(nullptr), nullptr) != MULTIRES_OK);
  std::vector<int64_t> tokens(static_cast<size_t>(batch), -1);
  std::vector<float> y(static_cast<size_t>(batch * model.info().d_output));
  CHECK(moved.step(tokens.data(), y.data()) == MULTIRES_ARGUMENT);  // out of range, or no tokens at all
  return most;
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count >= 2);
  const Model model(arguments[1]);
  const double limit = count > 2 ? std::atof(arguments[2]) : 1e-4;
  const int steps = count > 3 ? std::atoi(arguments[3]) : 20;
  try {
    CHECK(multires::cuda::Stream(model).batch() == 1);  // throws here, and not in the other thread
    double alone = 0;
    std::thread other([&] { alone = roll(model, 1, steps, MULTIRES_DEFAULT_WINDOW); });
    double most = roll(model, 3, steps, model.info().takes_window ? 5 : 0);
    other.join();
    most = std::fmax(most, alone);
    CHECK(status_of([&] { multires::cuda::Stream(model, 0); }) == MULTIRES_ARGUMENT);
    CHECK(status_of([&] { multires::cuda::Stream(model, 1, -7); }) == MULTIRES_ARGUMENT);
    std::printf("%.3g\n", most);
    return most <= limit ? 0 : 1;
  } catch (const multires::Error& error) {
    std::fprintf(stderr, "%s: %s\n", multires::text(error.status()), error.what());
    return 3;
  }
}
