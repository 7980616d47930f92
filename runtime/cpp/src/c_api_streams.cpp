// The C interface to streams: checks arguments, and calls the engine. Microcontrollers have it too.

#include "kernels.h"
#include "running.h"
#include "state.h"

namespace {

// Whether a call of `steps` steps may be made.
bool accepts(const multires_state* state, const float* x, const int64_t* tokens, int64_t steps, const float* y) {
  if (!state || !y || steps < 0) return false;
  const int32_t n_tokens = state->network.info.n_tokens;
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

int32_t multires_state_batch(const multires_state* state) { return state ? state->batch : 0; }

int32_t multires_state_window(const multires_state* state) { return state ? state->pool.window : 0; }

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

}  // extern "C"
