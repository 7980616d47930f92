#include "running.h"

#include <algorithm>

#include "rounding.h"

namespace multires {
namespace {

// Steps of all streams in blocks of rows.
void run_blocks(State& state, const Call& call, int64_t steps) {
  const Network& network = state.network;
  const int64_t rows = steps * state.batch;
  for (int64_t row = 0; row < rows;) {
    const int count = static_cast<int>(std::min<int64_t>(rows - row, state.scratch.rows));
    const Rows block{state.batch, row / state.batch, static_cast<int>(row % state.batch), count};
    network.kernels->forward(network, state, state.scratch, call, block);
    row += count;
  }
}

}  // namespace

void prepare(State& state) noexcept {
  if (state.phase == Phase::kPrepared) return;
  commit(state);
  const RoundToNearest rounding;
  state.phase = Phase::kPreparing;
  state.network.kernels->prepare(state.network, state);
  state.phase = Phase::kPrepared;
}

void commit(State& state) noexcept {
  if (state.phase != Phase::kAnswered) return;
  const RoundToNearest rounding;
  state.network.kernels->commit(state.network, state);
  state.phase = Phase::kSettled;
}

void settle(State& state) noexcept {
  commit(state);
  state.phase = Phase::kSettled;
}

void step(State& state, const Call& call) noexcept {
  commit(state);
  const RoundToNearest rounding;
  run_blocks(state, call, 1);
  if (state.phase == Phase::kPrepared) state.phase = Phase::kAnswered;
}

void run(State& state, const Call& call, int64_t steps) noexcept {
  settle(state);
  const RoundToNearest rounding;
  run_blocks(state, call, steps);
}

}  // namespace multires
