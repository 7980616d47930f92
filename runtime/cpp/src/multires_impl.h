// The multiresolution sum, and the pushes into the queues. Included by kernels_impl.h.
#pragma once

namespace multires {
namespace {

constexpr size_t kLine = 64;  // bytes of a cache line
constexpr int kTogether = 4;  // vectors of channels in one pass of the multiresolution sum

// A layer's work with its queues at one step. The sum of the taps needs no sample, and nobody waits for the pushes, so
// both can be done apart from the rest of a step. The same sums are formed in the same order.
enum class Stage {
  kWhole,   // the sum of the taps, then of the layer's input; and the pushes
  kTaps,    // the sum of the taps
  kPushes,  // the pushes
};

// Adding products to it gives the sum of the products, to the sign of a zero.
inline Vec no_products() { return all(-0.0f); }

// A stage for V vectors of channels: y is the sum, and a_0 .. a_{depth-1} are pushed.
// The sum uses the taps and the input x directly (see Layer::filters): it does not wait for the a_j, each of which
// depends on the one before. For each scale, `rows` has the rows of its queue, of type Q, at this step and at each
// delay; the first is written. K is the length of the low-pass filter that all scales have, 0 if it is only known at
// run time or if they are untied. In a Partial vector only the first `kept` channels exist: the other lanes read the
// values that follow in the ring, and their results are not used. For int8 queues the weights of the taps include the
// scales, and the sum of the low-pass filter over the taps is multiplied by the scale.
template <typename Q, int K, Stage stage, int V, bool Partial>
inline void multires_channels(const Network& network, const float* filters, unsigned char* const* rows, size_t place,
                              int kept, const float* x, float* y) {
  const auto row_of = [&](int o) { return reinterpret_cast<Q*>(rows[o]) + place; };
  constexpr bool kQuantized = std::is_same_v<Q, int8_t>;
  constexpr bool kSums = stage != Stage::kPushes, kPushes = stage != Stage::kTaps;
  const int depth = network.info.depth, lowpass_taps = K ? K : network.info.kernel_size;
  const int* taps = network.taps.data();
  const size_t width = static_cast<size_t>(network.width);
  Vec lowpass[K ? K : 1][V];
  const float* lowpass_rows = filters;  // of the scale
  const auto load_lowpass = [&] {
    for (int o = 0; o < K; ++o)
      for (int v = 0; v < V; ++v) lowpass[o][v] = load(lowpass_rows + o * width + v * kVector);
  };
  if (kPushes) load_lowpass();
  const auto low = [&](int o, int v) {
    return K ? lowpass[K ? o : 0][v] : load(lowpass_rows + o * width + v * kVector);
  };
  const float* of_input = filters + static_cast<size_t>(network.lowpass_rows()) * width;
  const float* weights = of_input + width;
  Vec a[V], next[V], sum[V], pushed[V];
  for (int v = 0; v < V; ++v) {
    sum[v] = no_products();
    if (kPushes) a[v] = load(x + v * kVector);
  }
  for (int j = 0; j < depth; ++j) {
    for (int v = 0; v < V; ++v) next[v] = no_products();
    int o = 1;
    for (; kPushes && o < lowpass_taps; ++o, weights += width) {
      const Q* tap = row_of(o);
      for (int v = 0; v < V; ++v) {
        const Vec q = load(tap + v * kVector);
        if (kSums) sum[v] = multiply_add(load(weights + v * kVector), q, sum[v]);
        next[v] = multiply_add(low(o, v), q, next[v]);
      }
    }
    for (; kSums && o < taps[j]; ++o, weights += width) {
      const Q* tap = row_of(o);
      for (int v = 0; v < V; ++v) sum[v] = multiply_add(load(weights + v * kVector), load(tap + v * kVector), sum[v]);
    }
    if (!kSums) weights += static_cast<size_t>(taps[j] - lowpass_taps) * width;
    if constexpr (kPushes) {
      for (int v = 0; v < V; ++v) {
        pushed[v] = kQuantized ? a[v] * load(weights + width + v * kVector) : a[v];
        if (kQuantized) next[v] = load(weights + v * kVector) * next[v];
        next[v] = multiply_add(low(0, v), a[v], next[v]);
      }
      Q* push = row_of(0);
      for (int v = 0; v < V; ++v) {
        if (Partial)
          store_some(push, pushed[v], kept);
        else
          store(push + v * kVector, pushed[v]);
        a[v] = next[v];
      }
      if (network.untied && j + 1 < depth) {
        lowpass_rows += lowpass_taps * width;
        load_lowpass();
      }
    }
    if (kQuantized) weights += 2 * width;
    rows += taps[j];
  }
  for (int v = 0; kSums && v < V; ++v) {
    if (stage == Stage::kWhole) sum[v] = multiply_add(load(of_input + v * kVector), load(x + v * kVector), sum[v]);
    store(y + v * kVector, sum[v]);
  }
}

// A stage for all channels of one row of one layer, from c on; `offset` is the start of the layer in a row of a ring.
template <typename Q, int K, Stage stage, int V>
void multires_row(const Network& network, const Layer& layer, size_t offset, unsigned char* const* taps, const float* x,
                  float* y, int c = 0) {
  const int channels = network.info.d_model;
  const float* filters = layer.filters.data();
  for (; c + V * kVector <= channels; c += V * kVector)
    multires_channels<Q, K, stage, V, false>(network, filters + c, taps, offset + c, V * kVector, x + c, y + c);
  if constexpr (!kKinds.leaves_rest(V * kVector)) return;
  if constexpr (V > 1)
    multires_row<Q, K, stage, V / 2>(network, layer, offset, taps, x, y, c);
  else if (c < channels)
    multires_channels<Q, K, stage, 1, true>(network, filters + c, taps, offset + c, channels - c, x + c, y + c);
}

using MultiresRow = void (*)(const Network&, const Layer&, size_t, unsigned char* const*, const float*, float*, int);

template <typename Q, Stage stage>
MultiresRow multires_of(int kernel_size) {
  if constexpr (kKinds.has_kernel_size(2))
    if (kernel_size == 2) return multires_row<Q, 2, stage, kTogether>;
  if constexpr (kKinds.has_kernel_size(4))
    if (kernel_size == 4) return multires_row<Q, 4, stage, kTogether>;
  if constexpr (kKinds.has_kernel_size(0)) return multires_row<Q, 0, stage, kTogether>;
  return nullptr;
}

template <Stage stage>
MultiresRow multires_of(const Network& network) {
  if constexpr (kKinds.has_queues(MULTIRES_INT8))
    if (network.queues == MULTIRES_INT8) return multires_of<int8_t, stage>(network.info.kernel_size);
  if constexpr (kKinds.has_queues(MULTIRES_FLOAT16))
    if (network.queues == MULTIRES_FLOAT16) return multires_of<Half, stage>(network.info.kernel_size);
  if constexpr (kKinds.has_queues(MULTIRES_FLOAT32)) return multires_of<float, stage>(network.info.kernel_size);
  return nullptr;
}

// The end of the sum after Stage::kTaps: y = sum + weight * x.
inline void add_input(const Network& network, const Layer& layer, const float* sum, const float* x, float* y) {
  const float* weights = layer.filters.data() + static_cast<size_t>(network.lowpass_rows()) * network.width;
  for (int c = 0; c < network.width; c += kVector)
    store(y + c, multiply_add(load(weights + c), load(x + c), load(sum + c)));
}

// The address of each tap of one row, `ahead` steps after the newest of stream b: a row of a ring, with all layers.
void find_taps(const Network& network, State& state, int b, int ahead, unsigned char** taps) {
  const int64_t wide = static_cast<int64_t>(network.info.n_layers * network.info.d_model * size_of(network.queues));
  for (int j = 0; j < network.info.depth; ++j) {
    const int64_t slots = network.slots[j], bytes = slots * wide, dilation = wide << j;
    unsigned char* ring = state.queues[j] + b * bytes;
    int64_t slot = state.heads[static_cast<size_t>(b) * network.info.depth + j] + ahead;
    if (slot >= slots) slot %= slots;
    int64_t place = slot * wide;
    for (int o = 0; o < network.taps[j]; ++o) {
      *taps++ = ring + place;
      place -= dilation;
      if (place < 0) place += bytes;
    }
  }
}

// Prefetches `bytes` at `place` of the rows taps[first] .. taps[last). The values for one layer are loaded while the
// layer before it computes.
void prefetch_taps(unsigned char* const* taps, int first, int last, size_t place, size_t bytes) {
  for (; first < last; ++first) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(taps[first] + place), end = begin + bytes;
    for (uintptr_t line = begin / kLine * kLine; line < end; line += kLine) {
      __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 2);
      // GCC takes a function that only prefetches for one without effect, and removes calls of it.
      asm volatile("");
    }
  }
}

// Moves the heads of the rings of one stream to the next step.
inline void advance_heads(const Network& network, State& state, int b) {
  for (int j = 0; j < network.info.depth; ++j) {
    int64_t& head = state.heads[static_cast<size_t>(b) * network.info.depth + j];
    if (++head == network.slots[j]) head = 0;
  }
}

}  // namespace
}  // namespace multires
