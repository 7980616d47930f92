// multires.hpp: run a trained MultiresNet in C++17, one sample at a time. Header-only, over multires.h.
//
// A complete program that reads samples as numbers and prints the logits after each:
//
// @code
// #include <cstdio>
// #include <iostream>
// #include <vector>
//
// #include <multires.hpp>
//
// int main(int count, char** arguments) try {
//   // Loading may throw; a model is constant, and copies of it share one set of weights.
//   const multires::Model model(count > 1 ? arguments[1] : "out/demo.bundle");
//   multires::Stream stream(model);  // one stream; Stream(model, 8) is eight in lockstep
//
//   std::vector<float> sample(model.info().d_input), logits(model.info().d_output);
//   while (true) {
//     for (float& value : sample)
//       if (!(std::cin >> value)) return 0;
//     // Never throws, allocates, locks or waits: safe in a real-time thread.
//     if (stream.step(sample.data(), logits.data()) != MULTIRES_OK) return 1;
//     for (float logit : logits) std::printf("%.6f ", logit);
//     std::printf("\n");
//   }
// } catch (const multires::Error& error) {
//   std::fprintf(stderr, "%s\n", error.what());
//   return 2;
// }
// @endcode
//
// Real time: Stream::step, run, prepare, commit and reset, and the simple getters, are noexcept, allocate nothing, take
// no lock and make no system call. Call everything else in another thread, or before and after.
//
// Threads: any number may use one Model. A Stream belongs to one thread at a time.
#ifndef MULTIRES_HPP
#define MULTIRES_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "multires.h"

namespace multires {
// Separates these names from the engine's own, and from those of another release in the same program.
inline namespace v0 {

// Thrown by loading and construction; what() says what was given, what was expected and what to do.
class Error : public std::runtime_error {
 public:
  Error(multires_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  multires_status status() const noexcept { return status_; }

 private:
  multires_status status_;
};

inline const char* text(multires_status status) noexcept { return multires_status_text(status); }
inline const char* version() noexcept { return multires_version(); }

namespace detail {
inline void check(multires_status status, const char* message = "") {
  if (status != MULTIRES_OK) throw Error(status, *message ? message : multires_status_text(status));
}
}  // namespace detail

// A trained network. It is constant; copies and streams share it, and the last one frees it.
class Model {
 public:
  // path: a weights file, or a bundle's folder. Throws Error.
  explicit Model(const std::string& path) {
    load(path.size(), [&](auto... out) { return multires_model_load(path.c_str(), out...); });
  }
  // A weights file in memory, which is copied. Throws Error.
  Model(const void* data, std::size_t size) {
    load(0, [&](auto... out) { return multires_model_load_buffer(data, size, out...); });
  }

  multires_info info() const noexcept { return multires_model_info(handle_.get()); }
  // The instruction set of the kernels.
  const char* isa() const noexcept { return multires_model_isa(handle_.get()); }
  // The bytes and multiply-adds of one step of one stream.
  multires_cost cost() const noexcept { return multires_model_cost(handle_.get()); }
  // A text of the weights file (see multires_model_metadata), or null; lives as long as the model.
  const char* metadata(const char* key) const noexcept { return multires_model_metadata(handle_.get(), key); }
  // The lines of such a text, as for labels and channels; empty if the key is missing.
  std::vector<std::string> metadata_lines(const char* key) const {
    std::vector<std::string> lines;
    const char* at = metadata(key);
    for (const char* end = at; at; ++end)
      if (*end == '\n' || *end == '\0') {
        lines.emplace_back(at, end);
        at = *end ? end + 1 : nullptr;
      }
    return lines;
  }
  const multires_model* handle() const noexcept { return handle_.get(); }

 private:
  template <typename Load>
  void load(std::size_t path_size, Load load) {
    std::vector<char> message(path_size + 512);
    multires_model* handle = nullptr;
    detail::check(load(&handle, message.data(), message.size()), message.data());
    handle_.reset(handle, multires_model_free);
  }
  std::shared_ptr<multires_model> handle_;
};

// One or several streams in lockstep, each with its own state. Movable; a moved-from stream returns
// MULTIRES_ARGUMENT.
class Stream {
 public:
  // batch: streams in lockstep. window: the steps that the mean is taken over; 0 is everything so far,
  // MULTIRES_DEFAULT_WINDOW the window of the weights file. Throws Error.
  explicit Stream(const Model& model, std::int32_t batch = 1, std::int32_t window = MULTIRES_DEFAULT_WINDOW) {
    char message[256];
    multires_state* state = nullptr;
    detail::check(multires_state_new(model.handle(), batch, window, &state, message, sizeof message), message);
    state_.reset(state);
  }

  std::int32_t batch() const noexcept { return multires_state_batch(state_.get()); }
  std::int32_t window() const noexcept { return multires_state_window(state_.get()); }

  // One step: x (batch, d_input), or tokens (batch), to y (batch, d_output); dense, row-major.
  multires_status step(const float* x, float* y) noexcept { return multires_step(state_.get(), x, y); }
  multires_status step(const std::int64_t* tokens, float* y) noexcept {
    return multires_step_tokens(state_.get(), tokens, y);
  }

  // Does all of the next step that does not depend on its sample. Call it while waiting for the sample: the time from
  // the sample to its outputs is shorter. The outputs are the same.
  multires_status prepare() noexcept { return multires_prepare(state_.get()); }
  // Writes into the queues what a step after prepare() has left. The next call of any kind would do it too.
  multires_status commit() noexcept { return multires_commit(state_.get()); }

  // Several steps, faster than one by one: x (steps, batch, d_input), or tokens (steps, batch), to
  // y (steps, batch, d_output).
  multires_status run(const float* x, std::int64_t steps, float* y) noexcept {
    return multires_run(state_.get(), x, steps, y);
  }
  multires_status run(const std::int64_t* tokens, std::int64_t steps, float* y) noexcept {
    return multires_run_tokens(state_.get(), tokens, steps, y);
  }

  // Restart one row of the batch, or all rows. Other rows are not affected.
  multires_status reset(std::int32_t row = -1) noexcept { return multires_reset(state_.get(), row); }

  // The state as bytes. Throws Error for a moved-from stream, and std::bad_alloc.
  std::vector<unsigned char> save() {
    std::vector<unsigned char> snapshot(multires_snapshot_size(state_.get()));
    detail::check(multires_snapshot_save(state_.get(), snapshot.data(), snapshot.size()));
    return snapshot;
  }
  // Continue from such bytes. Throws Error for damaged bytes, or those of another model, batch or window; the
  // state then does not change.
  void load(const unsigned char* snapshot, std::size_t size) {
    detail::check(multires_snapshot_load(state_.get(), snapshot, size));
  }
  void load(const std::vector<unsigned char>& snapshot) { load(snapshot.data(), snapshot.size()); }

  multires_state* handle() const noexcept { return state_.get(); }

 private:
  struct Free {
    void operator()(multires_state* state) const noexcept { multires_state_free(state); }
  };
  std::unique_ptr<multires_state, Free> state_;
};

}  // namespace v0
}  // namespace multires
#endif
