// The C interface to models, and to what a host has of states: checks arguments, and turns exceptions into status
// codes.

#include <cstdio>
#include <memory>
#include <new>
#include <string>

#include "handles.h"
#include "kernels.h"
#include "measure.h"
#include "model.h"
#include "owned_state.h"
#include "pooling_names.h"
#include "rounding.h"
#include "running.h"
#include "snapshot.h"

namespace {

using multires::LoadError;
using multires::OwnedState;

// Every state of a host is one.
OwnedState& owned(multires_state* state) { return *static_cast<OwnedState*>(state); }
const OwnedState& owned(const multires_state* state) { return *static_cast<const OwnedState*>(state); }

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

}  // namespace

extern "C" {

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
    *state = new OwnedState(model->model, batch, pooled);
  });
}

void multires_state_free(multires_state* state) { delete static_cast<OwnedState*>(state); }

size_t multires_snapshot_size(const multires_state* state) { return state ? multires::snapshot_size(owned(state)) : 0; }

multires_status multires_snapshot_save(multires_state* state, void* buffer, size_t size) {
  if (!state || !buffer || size < multires::snapshot_size(owned(state))) return MULTIRES_ARGUMENT;
  multires::commit(*state);
  multires::save_snapshot(owned(state), static_cast<unsigned char*>(buffer));
  return MULTIRES_OK;
}

multires_status multires_snapshot_load(multires_state* state, const void* buffer, size_t size) {
  if (!state || (!buffer && size > 0)) return MULTIRES_ARGUMENT;
  return multires::load_snapshot(owned(state), static_cast<const unsigned char*>(buffer), size);
}

int32_t multires_state_parts(const multires_state* state) {
  return state ? static_cast<int32_t>(owned(state).parts.size()) : 0;
}

multires_status multires_state_part(const multires_state* state, int32_t index, multires_part* part) {
  if (!state || !part || index < 0 || index >= multires_state_parts(state)) return MULTIRES_ARGUMENT;
  *part = owned(state).parts[static_cast<size_t>(index)];
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
