// The engine for Python: what multires.h does not have. runtime/backends/_native.py calls these functions with arrays
// whose sizes and types it has checked.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "guard.h"
#include "measure.h"
#include "model.h"
#include "network_source.h"
#include "values.h"

namespace {

// The result of a step; Outcome in runtime/backends/protocol.py.
enum Outcome { kDone = 0, kBadInput = 1, kBadOutput = 2 };

bool all_finite(const float* values, size_t count) {
  return multires::all_finite(MULTIRES_FLOAT32, values, count * sizeof(float));
}

multires_status run(multires_state* state, const float* x, float* y) { return multires_run(state, x, 1, y); }
multires_status run(multires_state* state, const int64_t* x, float* y) { return multires_run_tokens(state, x, 1, y); }

// For each of `steps` inputs of `each` values, one step of every state, to its output.
template <typename T>
multires_status time_steps(multires_state* const* states, float* const* outputs, size_t count, const T* inputs,
                           size_t steps, size_t each, double* seconds) {
  multires_status worst = MULTIRES_OK;
  multires::time_each(seconds, steps, [&](size_t i) {
    for (size_t k = 0; k < count; ++k) worst = std::max(worst, run(states[k], inputs + i * each, outputs[k]));
  });
  return worst;
}

}  // namespace

LastError& last_error() {
  static thread_local LastError error;
  return error;
}

NativeStatus fail_as(const std::exception_ptr& error) noexcept {
  try {
    try {
      std::rethrow_exception(error);
    } catch (const NumberedError& raised) {
      last_error() = {raised.what(), raised.code};
      return kNativeDriver;
    } catch (const std::bad_alloc&) {
      return kNativeMemory;
    } catch (const std::exception& raised) {
      last_error() = {raised.what(), 0};
    }
    return kNativeError;
  } catch (...) {  // the message did not fit into memory
    return kNativeMemory;
  }
}

// Python loads only an engine that was compiled from the sources its own files were written for.
NATIVE_API const char* native_interface() { return NATIVE_INTERFACE; }

NATIVE_API const char* native_error_message() { return last_error().message.c_str(); }
NATIVE_API int native_error_code() { return last_error().code; }

NATIVE_API const char* native_text_data(const NativeText* text) { return text->data(); }
NATIVE_API size_t native_text_size(const NativeText* text) { return text->size(); }
NATIVE_API void native_text_free(NativeText* text) { delete text; }

// A step's arguments in one piece: ctypes needs time for each argument.
struct NativeStep {  // NOLINT(misc-use-internal-linkage): a parameter of C functions
  multires_state* state;
  const void* x;  // samples, or tokens
  size_t inputs;
  float* y;
  size_t outputs;
};

// One step, with checked values: a bad input does not change the state, and a bad output means that finite inputs were
// too large.
NATIVE_API int native_step(const NativeStep* step) {
  const float* x = static_cast<const float*>(step->x);
  if (!all_finite(x, step->inputs)) return kBadInput;
  multires_step(step->state, x, step->y);
  return all_finite(step->y, step->outputs) ? kDone : kBadOutput;
}

NATIVE_API int native_step_tokens(const NativeStep* step) {
  // A token out of range; everything else is valid here.
  if (multires_step_tokens(step->state, static_cast<const int64_t*>(step->x), step->y) == MULTIRES_ARGUMENT)
    return kBadInput;
  return all_finite(step->y, step->outputs) ? kDone : kBadOutput;
}

NATIVE_API multires_status native_time_steps(multires_state* const* states, float* const* outputs, size_t count,
                                             const float* inputs, size_t steps, size_t each, double* seconds) {
  return time_steps(states, outputs, count, inputs, steps, each, seconds);
}

NATIVE_API multires_status native_time_token_steps(multires_state* const* states, float* const* outputs, size_t count,
                                                   const int64_t* inputs, size_t steps, size_t each, double* seconds) {
  return time_steps(states, outputs, count, inputs, steps, each, seconds);
}

NATIVE_API NativeStatus native_time_reading(size_t bytes, double* seconds, size_t repeats, size_t* done) {
  return guarded([&] { *done = multires::time_reading(bytes, seconds, repeats); });
}

NATIVE_API NativeStatus native_time_multiply_adds(size_t count, double* seconds, size_t repeats, size_t* done) {
  return guarded([&] { *done = multires::time_multiply_adds(count, seconds, repeats); });
}

// A weights file as the source of a program for a microcontroller whose kernels multiply groups of `group` int8 inputs:
// its files, and the bytes of its constants and of its memory.
NATIVE_API NativeStatus native_network_source(const void* content, size_t size, int group, NativeText** source,
                                              NativeText** kinds, size_t* bytes) {
  return guarded([&] {
    multires::NetworkSource result = multires::network_source(*multires::Model::load(content, size, group));
    bytes[0] = result.constant_bytes;
    bytes[1] = result.arena_bytes;
    auto first = std::make_unique<NativeText>(std::move(result.source));
    *kinds = new NativeText(std::move(result.kinds));
    *source = first.release();
  });
}
