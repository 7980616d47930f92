// The state of one or several streams, in the layout of the step graph's states.
#pragma once

#include "network.h"
#include "pooling.h"
#include "scratch.h"
#include "storage.h"

namespace multires {

// Where a state is between two steps. Only the first phase has all of it in its parts.
enum class Phase {
  kSettled,
  kPreparing,  // kernels rehearse the next step: only known() and memory that is unused between calls may change
  kPrepared,   // known() has the sums of the taps for the next step
  kAnswered,   // known() has the layers' inputs of the last step, which has not yet been pushed
};

// The arrays are those of a storage.
struct State {
  // window: steps to pool over, 0 for everything so far. rows: the most rows of a block.
  State(const Network& network, int batch, int window, int rows, Storage& storage);

  const Network& network;
  const int batch;

  View<int64_t> position;        // (batch): steps seen
  View<float> encoder_queue;     // (batch, encoder_taps, d_input): the last samples; convolutions only
  View<unsigned char*> queues;   // scale j: (batch, slots, n_layers * d_model) of type Network::queues
  Pool pool;

  // position modulo the slots of each scale, (batch, depth), so that a step does not divide.
  View<int64_t> heads;
  void find_heads();
  void zero(int row);

  Phase phase = Phase::kSettled;
  // (width) floats of a stream and layer, see Phase.
  float* known(int b, int layer) const {
    return known_.data() + (static_cast<size_t>(b) * network.info.n_layers + layer) * network.width;
  }

  // The taps of the first scales, whose rings stay in the nearest caches. The others are prefetched.
  int near_taps = 0;
  Scratch scratch;

  // Calls function(name, number, dtype, data, shape) for each part; shape is a list of int64_t that begins with the
  // batch. Parts of a kind have numbers, all others -1.
  template <typename Function>
  void for_each_part(Function function) const;

 private:
  View<float> known_;  // (batch, n_layers, width)
};

template <typename Function>
void State::for_each_part(Function function) const {
  using Shape = std::initializer_list<int64_t>;
  const int64_t d = network.info.d_model, rows = batch, wide = d * network.info.n_layers;
  const auto floats = [&](const char* name, const View<float>& array, Shape shape) {
    if (!array.empty()) function(name, -1, MULTIRES_FLOAT32, array.data(), shape);
  };
  floats("encoder_queue", encoder_queue, {rows, 1, network.encoder_taps, network.info.d_input});
  floats("pool_block", pool.block, {rows, d});
  floats("pool_block_error", pool.block_error, {rows, d});
  floats("pool_max", pool.max, {rows, d});
  for (size_t k = 0; k < pool.maxima.size(); ++k)
    function("pool_max_", static_cast<int>(k), MULTIRES_FLOAT32, pool.maxima[k],
             Shape{rows, 1, static_cast<int64_t>(pool.delays[k]) + 1, d});
  floats("pool_prefix", pool.prefix, {rows, 1, static_cast<int64_t>(pool.window) + 1, 2 * d});
  floats("pool_sum", pool.sum, {rows, d});
  floats("pool_sum_error", pool.sum_error, {rows, d});
  function("position", -1, MULTIRES_INT64, position.data(), Shape{rows});
  for (size_t j = 0; j < queues.size(); ++j)
    function("queue_", static_cast<int>(j), network.queues, queues[j], Shape{rows, 1, network.slots[j], wide});
}

}  // namespace multires

// What multires.h calls a state.
struct multires_state : multires::State {
  using State::State;
};
