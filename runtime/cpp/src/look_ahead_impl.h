// The parts of a step that can be done before its sample comes and after its outputs are known. Included by
// kernels_impl.h.
#pragma once

namespace multires {
namespace {

// Brings memory into the caches, by reading it: the CPU may drop prefetches, and so may the compiler.
template <typename T>
void touch(View<T> array) {
  const unsigned char* bytes = reinterpret_cast<const unsigned char*>(array.data());
  for (size_t i = 0; i < array.size() * sizeof(T); i += kLine) asm volatile("" : : "r"(bytes[i]));
}

void touch(const Panels& panels) {
  touch(panels.weights);
  touch(panels.bias);
  touch(panels.scales);
  touch(panels.offsets);
  touch(panels.reciprocal_scales);
}

// Passes rows through the layers, from features of zero. The step that follows then finds in the caches the weights,
// its code and its memory.
void rehearse(const Network& network, State& state) {
  Scratch& scratch = state.scratch;
  const int rows = std::min({kRows, state.batch, scratch.rows});
  std::fill_n(scratch.x.data(), static_cast<size_t>(rows) * scratch.stride, 0.0f);
  pass_layers(network, state, scratch, {state.batch, 0, 0, rows});
}

void prepare(const Network& network, State& state) {
  const auto sum = multires_of<Stage::kTaps>(network);
  unsigned char** taps = state.scratch.taps.data();
  for (int b = 0; b < state.batch; ++b) {
    find_taps(network, state, b, 0, taps);
    for (int i = 0; i < network.info.n_layers; ++i)
      sum(network, network.layers[static_cast<size_t>(i)], static_cast<size_t>(i) * network.info.d_model, taps, nullptr,
          state.known(b, i), 0);
  }
  touch(network.encoder);
  touch(network.head);
  if constexpr (kKinds.any) return rehearse(network, state);
  // A microcontroller has small caches, and nothing else runs there: it saves the instructions.
  for (const Layer& layer : network.layers) {
    touch(layer.mixing);
    touch(layer.output);
    touch(layer.scale);
    touch(layer.shift);
  }
}

void commit(const Network& network, State& state) {
  const auto push = multires_of<Stage::kPushes>(network);
  unsigned char** taps = state.scratch.taps.data();
  for (int b = 0; b < state.batch; ++b) {
    find_taps(network, state, b, 0, taps);
    for (int i = 0; i < network.info.n_layers; ++i)
      push(network, network.layers[static_cast<size_t>(i)], static_cast<size_t>(i) * network.info.d_model, taps,
           state.known(b, i), nullptr, 0);
    advance_heads(network, state, b);
  }
}

}  // namespace
}  // namespace multires
