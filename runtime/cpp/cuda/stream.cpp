// The class of multires_cuda.hpp: checks arguments, and turns exceptions into a status with a reason.

#include "multires_cuda.hpp"

#include <cstring>
#include <utility>

#include "kernel.h"
#include "streams.h"
#include "weights_file.h"

namespace multires {
inline namespace v0 {
namespace cuda {
namespace {

Plan plan_for(const multires_model* model, std::int32_t window, int rows) {
  try {
    return make_plan(*model, window, rows);
  } catch (const LoadError& error) {
    throw Error(error.status, error.what());
  }
}

Streams open(const multires_model* model, std::int32_t batch, std::int32_t window) {
  const auto device = std::make_shared<Device>(std::make_shared<Driver>(""));
  const Plan plan = plan_for(model, window, rows_for(batch, device->multiprocessors()));
  const std::string code =
      kernel_for(plan, device->capability(), engines_of(model), [&] { return find_nvrtc(device->cuda(), {}); });
  return {device, model, plan, code, batch, window};
}

// Checks both, as the engine does.
std::int32_t window_of(const Model& model, std::int32_t batch, std::int32_t window) {
  if (batch < 1) throw Error(MULTIRES_ARGUMENT, "batch is " + std::to_string(batch) + ", expected 1 or more");
  return multires::Stream(model, 1, window).window();
}

}  // namespace

struct StreamState {
  StreamState(const Model& model_, std::int32_t batch, std::int32_t window)
      : model(model_), streams(open(model_.handle(), batch, window_of(model_, batch, window))) {}

  Model model;
  Streams streams;
  std::string reason;

  // Calls work() on the device.
  template <typename Work>
  multires_status attempt(Work work) noexcept {
    try {
      work();
      return MULTIRES_OK;
    } catch (const std::exception& error) {
      try {
        reason = error.what();
      } catch (...) {  // not enough memory for a message
      }
      return MULTIRES_DEVICE;
    }
  }

  bool accepts(const void* samples, bool are_tokens, std::int64_t steps, const float* y) const noexcept {
    const std::int64_t batch = streams.batch, n_tokens = streams.info.n_tokens;
    if (!samples || !y || steps < 0 || are_tokens != (n_tokens > 0)) return false;
    if (!are_tokens) return true;
    if (steps > INT64_MAX / batch) return false;
    const auto* tokens = static_cast<const std::int64_t*>(samples);
    for (std::int64_t i = 0; i < steps * batch; ++i)
      if (tokens[i] < 0 || tokens[i] >= n_tokens) return false;
    return true;
  }

  multires_status step(const void* sample, bool is_token, float* y) noexcept {
    if (!accepts(sample, is_token, 1, y)) return MULTIRES_ARGUMENT;
    return attempt([&] {
      std::memcpy(streams.sample(), sample, streams.sample_bytes());
      streams.step();
      std::memcpy(y, streams.output(), streams.output_bytes());
    });
  }

  multires_status run(const void* samples, bool are_tokens, std::int64_t steps, float* y) noexcept {
    if (!accepts(samples, are_tokens, steps, y)) return MULTIRES_ARGUMENT;
    return attempt([&] { streams.run(samples, steps, y); });
  }

  // Calls copy(part, place) for each state and its place in a stream of the CPU.
  template <typename Copy>
  void with_parts(const multires::Stream& host, Copy copy) const {
    streams.activate();
    for (std::size_t i = 0; i < streams.parts().size(); ++i) {
      multires_part part;
      detail::check(multires_state_part(host.handle(), static_cast<std::int32_t>(i), &part));
      copy(streams.parts()[i], part.data);
    }
    streams.wait();
  }
};

Stream::Stream(const Model& model, std::int32_t batch, std::int32_t window)
    : state_(std::make_unique<StreamState>(model, batch, window)) {}

Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

std::int32_t Stream::batch() const noexcept { return state_ ? state_->streams.batch : 0; }
std::int32_t Stream::window() const noexcept { return state_ ? state_->streams.window : 0; }
const char* Stream::reason() const noexcept { return state_ ? state_->reason.c_str() : ""; }

multires_status Stream::step(const float* x, float* y) noexcept {
  return state_ ? state_->step(x, false, y) : MULTIRES_ARGUMENT;
}

multires_status Stream::step(const std::int64_t* tokens, float* y) noexcept {
  return state_ ? state_->step(tokens, true, y) : MULTIRES_ARGUMENT;
}

multires_status Stream::run(const float* x, std::int64_t steps, float* y) noexcept {
  return state_ ? state_->run(x, false, steps, y) : MULTIRES_ARGUMENT;
}

multires_status Stream::run(const std::int64_t* tokens, std::int64_t steps, float* y) noexcept {
  return state_ ? state_->run(tokens, true, steps, y) : MULTIRES_ARGUMENT;
}

multires_status Stream::reset(std::int32_t row) noexcept {
  if (!state_ || row < -1 || row >= state_->streams.batch) return MULTIRES_ARGUMENT;
  return state_->attempt([&] { state_->streams.reset(row); });  // the next step follows on the same stream of work
}

std::vector<unsigned char> Stream::save() const {
  if (!state_) throw Error(MULTIRES_ARGUMENT, "a moved-from stream has no state");
  multires::Stream host(state_->model, batch(), window());
  state_->with_parts(host, [&](const Part& part, void* place) { state_->streams.read(part, -1, place); });
  detail::check(multires_state_changed(host.handle()));
  return host.save();
}

void Stream::load(const unsigned char* snapshot, std::size_t size) {
  if (!state_) throw Error(MULTIRES_ARGUMENT, "a moved-from stream has no state");
  multires::Stream host(state_->model, batch(), window());
  host.load(snapshot, size);  // checks all of it before anything changes
  state_->with_parts(host, [&](const Part& part, void* place) { state_->streams.write(part, -1, place); });
}

}  // namespace cuda
}  // namespace v0
}  // namespace multires
