// The C interface: checks arguments, turns exceptions into status codes, and splits calls into blocks.

#include <cstdio>
#include <memory>
#include <new>
#include <string>

#include "kernels.h"
#include "measure.h"
#include "model.h"
#include "rounding.h"
#include "running.h"
#include "snapshot.h"
#include "state.h"

struct multires_model {
  std::shared_ptr<const multires::Model> model;
};

struct multires_state : multires::State {
  multires_state(std::shared_ptr<const multires::Model> shared, int batch, int window)
      : State(*shared, batch, window), owner(std::move(shared)) {}
  std::shared_ptr<const multires::Model> owner;
};

namespace {

using multires::LoadError;

template <typename Function>
multires_status guarded(char* message, size_t size, Function function) noexcept {
  const auto say = [&](const char* text) {
    if (message && size) std::snprintf(message, size, "%s", text);
  };
  say("");
  const multires::RoundToNearest rounding;
  try {
    function();
    return MULTIRES_OK;
  } catch (const LoadError& error) {
    say(error.what());
    return error.status;
  } catch (const std::bad_alloc&) {
    say("not enough memory");
    return MULTIRES_MEMORY;
  } catch (const std::exception& error) {
    say(error.what());
    return MULTIRES_UNSUPPORTED;
  }
}

// Calls load(), which returns a Model.
template <typename Load>
multires_status load_model(multires_model** model, char* message, size_t size, Load load) {
  if (model) *model = nullptr;
  return guarded(message, size, [&] {
    if (!model) throw LoadError(MULTIRES_ARGUMENT, "model must not be null");
    *model = new multires_model{load()};
  });
}

// Whether a call of `steps` steps may be made.
bool accepts(const multires_state* state, const float* x, const int64_t* tokens, int64_t steps, const float* y) {
  if (!state || !y || steps < 0) return false;
  const int32_t n_tokens = state->model.info.n_tokens;
  if (n_tokens > 0 ? !tokens : !x) return false;
  if (steps > INT64_MAX / state->batch) return false;
  for (int64_t row = 0; n_tokens > 0 && row < steps * state->batch; ++row)
    if (tokens[row] < 0 || tokens[row] >= n_tokens) return false;
  return true;
}

multires_status step(multires_state* state, const float* x, const int64_t* tokens, float* y) noexcept {
  if (!accepts(state, x, tokens, 1, y)) return MULTIRES_ARGUMENT;
  multires::step(*state, {x, tokens, y});
  return MULTIRES_OK;
}

multires_status run(multires_state* state, const float* x, const int64_t* tokens, int64_t steps, float* y) noexcept {
  if (!accepts(state, x, tokens, steps, y)) return MULTIRES_ARGUMENT;
  multires::run(*state, {x, tokens, y}, steps);
  return MULTIRES_OK;
}

}  // namespace

extern "C" {

const char* multires_status_text(multires_status status) {
  switch (status) {
    case MULTIRES_OK: return "no error";
    case MULTIRES_IO: return "the file cannot be opened or read";
    case MULTIRES_MALFORMED: return "damaged, or not of this format";
    case MULTIRES_UNSUPPORTED: return "a version, size or kind that this release does not run";
    case MULTIRES_ARGUMENT: return "an argument is null, out of range or of the wrong kind";
    case MULTIRES_MEMORY: return "not enough memory";
    case MULTIRES_MISMATCH: return "of another model, batch or window";
    case MULTIRES_DEVICE: return "no GPU, or an error of the GPU";
  }
  return "not a status of this release";
}

const char* multires_version(void) { return MULTIRES_VERSION; }

multires_status multires_model_load(const char* path, multires_model** model, char* message, size_t message_size) {
  return load_model(model, message, message_size, [&] {
    if (!path) throw LoadError(MULTIRES_ARGUMENT, "path must not be null");
    return multires::Model::load(multires::find_weights(path));
  });
}

multires_status multires_model_load_buffer(const void* data, size_t size, multires_model** model, char* message,
                                           size_t message_size) {
  return load_model(model, message, message_size, [&] {
    if (!data) throw LoadError(MULTIRES_ARGUMENT, "data must not be null");
    return multires::Model::load(data, size);
  });
}

void multires_model_free(multires_model* model) { delete model; }

multires_info multires_model_info(const multires_model* model) { return model ? model->model->info : multires_info{}; }

const char* multires_model_isa(const multires_model* model) { return model ? model->model->kernels->isa : ""; }

multires_cost multires_model_cost(const multires_model* model) {
  return model ? multires::cost_of(*model->model) : multires_cost{};
}

const char* multires_model_metadata(const multires_model* model, const char* key) {
  if (!model || !key) return nullptr;
  const auto found = model->model->metadata.find(key);
  return found == model->model->metadata.end() ? nullptr : found->second.c_str();
}

multires_status multires_state_new(const multires_model* model, int32_t batch, int32_t window, multires_state** state,
                                   char* message, size_t message_size) {
  if (state) *state = nullptr;
  return guarded(message, message_size, [&] {
    if (!model || !state) throw LoadError(MULTIRES_ARGUMENT, "model and state must not be null");
    const int32_t pooled = multires::check_window(model->model->info, window);
    if (batch < 1) throw LoadError(MULTIRES_ARGUMENT, "batch is " + std::to_string(batch) + ", expected 1 or more");
    *state = new multires_state(model->model, batch, pooled);
  });
}

int32_t multires_state_batch(const multires_state* state) { return state ? state->batch : 0; }

int32_t multires_state_window(const multires_state* state) { return state ? state->pool.window : 0; }

void multires_state_free(multires_state* state) { delete state; }

multires_status multires_step(multires_state* state, const float* x, float* y) { return step(state, x, nullptr, y); }

multires_status multires_step_tokens(multires_state* state, const int64_t* tokens, float* y) {
  return step(state, nullptr, tokens, y);
}

multires_status multires_run(multires_state* state, const float* x, int64_t steps, float* y) {
  return run(state, x, nullptr, steps, y);
}

multires_status multires_run_tokens(multires_state* state, const int64_t* tokens, int64_t steps, float* y) {
  return run(state, nullptr, tokens, steps, y);
}

multires_status multires_prepare(multires_state* state) {
  if (!state) return MULTIRES_ARGUMENT;
  multires::prepare(*state);
  return MULTIRES_OK;
}

multires_status multires_commit(multires_state* state) {
  if (!state) return MULTIRES_ARGUMENT;
  multires::commit(*state);
  return MULTIRES_OK;
}

multires_status multires_reset(multires_state* state, int32_t row) {
  if (!state || row < -1 || row >= state->batch) return MULTIRES_ARGUMENT;
  multires::settle(*state);
  for (int b = 0; b < state->batch; ++b)
    if (row == -1 || row == b) state->zero(b);
  return MULTIRES_OK;
}

size_t multires_snapshot_size(const multires_state* state) { return state ? multires::snapshot_size(*state) : 0; }

multires_status multires_snapshot_save(multires_state* state, void* buffer, size_t size) {
  if (!state || !buffer || size < multires::snapshot_size(*state)) return MULTIRES_ARGUMENT;
  multires::commit(*state);
  multires::save_snapshot(*state, static_cast<unsigned char*>(buffer));
  return MULTIRES_OK;
}

multires_status multires_snapshot_load(multires_state* state, const void* buffer, size_t size) {
  if (!state || (!buffer && size > 0)) return MULTIRES_ARGUMENT;
  return multires::load_snapshot(*state, static_cast<const unsigned char*>(buffer), size);
}

int32_t multires_state_parts(const multires_state* state) {
  return state ? static_cast<int32_t>(state->parts.size()) : 0;
}

multires_status multires_state_part(const multires_state* state, int32_t index, multires_part* part) {
  if (!state || !part || index < 0 || index >= multires_state_parts(state)) return MULTIRES_ARGUMENT;
  *part = state->parts[static_cast<size_t>(index)];
  return MULTIRES_OK;
}

multires_status multires_state_changed(multires_state* state) {
  if (!state) return MULTIRES_ARGUMENT;
  for (int b = 0; b < state->batch; ++b)
    if (state->position[b] < 0 || state->position[b] > multires::kMaxPosition) return MULTIRES_ARGUMENT;
  state->phase = multires::Phase::kSettled;
  state->find_heads();
  return MULTIRES_OK;
}

}  // extern "C"
