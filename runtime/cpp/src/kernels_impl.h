// The arithmetic of a step, one text for all instruction sets. Included by the source file of each of them, after
// vectors.h and the parts that differ:
//   kRows                       rows that a matrix product computes at once,
//   kColumns                    and vectors of each row: their sums leave enough registers for the rest
//   kAlone                      vectors that it computes at once for a single row
//   kChains                     vectors whose sums hide the latency of a multiply-add and fit into the registers
//   widen, narrow               float16 to float32; back, for values within float16's range, or NaN
//   HalfSums                    the vectors in which products with float16 weights are summed
//   load, store_low_bytes       int8 to float32; the low byte of each lane of integers. For such short vectors, GCC's
//                               __builtin_convertvector converts one byte after the other
//   Group, group                kGroup inputs in int8, in the layout of the instruction set
//   dot(sum, w, g)              adds to output o of the sum the products of the group with w[kGroup * o] ..
//                               w[kGroup * o + kGroup - 1]. No weight is -128: the loader checks this
//   kUnsigned                   whether 128 was added to these inputs; Panels::offsets then correct the sum
#pragma once

#include "stored_impl.h"

namespace multires {
namespace {

constexpr size_t kLine = 64;  // bytes of a cache line
constexpr int kTogether = 4;  // vectors of channels in one pass of the multiresolution sum

inline float total(Vec v) {
  float lanes[kVector];
  std::memcpy(lanes, &v, sizeof v);
  for (int n = kVector / 2; n > 0; n /= 2)
    for (int i = 0; i < n; ++i) lanes[i] += lanes[i + n];
  return lanes[0];
}

}  // namespace
}  // namespace multires

#include "activations_impl.h"
#include "norms_impl.h"
#include "pooling_impl.h"
#include "products_impl.h"

namespace multires {
namespace {

// The multiresolution sum of V vectors of channels, and the push of a_0 .. a_{depth-1} for them.
// The sum uses the input and the taps directly (see Layer::filters): it does not wait for the a_j, each of which
// depends on the one before. For each scale, `rows` has the rows of its queue, of type Q, at this step and at each
// delay; the first is written. K is the length of the low-pass filter that all scales have, 0 if it is only known at
// run time or if they are untied. In a Partial vector only the first `kept` channels exist: the other lanes read the
// values that follow in the ring, and their results are not used. For int8 queues the weights of the taps include the
// scales, and the sum of the low-pass filter over the taps is multiplied by the scale.
template <typename Q, int K, int V, bool Partial>
inline void multires_channels(const Model& model, const float* filters, unsigned char* const* rows, size_t place,
                              int kept, const float* x, float* y) {
  const auto row_of = [&](int o) { return reinterpret_cast<Q*>(rows[o]) + place; };
  constexpr bool kQuantized = std::is_same_v<Q, int8_t>;
  const int depth = model.info.depth, lowpass_taps = K ? K : model.info.kernel_size;
  const int* taps = model.taps.data();
  const size_t width = static_cast<size_t>(model.width);
  Vec lowpass[K ? K : 1][V];
  const float* lowpass_rows = filters;  // of the scale
  const auto load_lowpass = [&] {
    for (int o = 0; o < K; ++o)
      for (int v = 0; v < V; ++v) lowpass[o][v] = load(lowpass_rows + o * width + v * kVector);
  };
  load_lowpass();
  const auto low = [&](int o, int v) {
    return K ? lowpass[K ? o : 0][v] : load(lowpass_rows + o * width + v * kVector);
  };
  const float* weights = filters + static_cast<size_t>(model.lowpass_rows()) * width;
  Vec a[V], next[V], sum[V], pushed[V];
  for (int v = 0; v < V; ++v) {
    a[v] = load(x + v * kVector);
    sum[v] = load(weights + v * kVector) * a[v];
  }
  weights += width;
  for (int j = 0; j < depth; ++j) {
    for (int v = 0; v < V; ++v) next[v] = kQuantized ? all(-0.0f) : low(0, v) * a[v];
    for (int o = 1; o < lowpass_taps; ++o, weights += width) {
      const Q* tap = row_of(o);
      for (int v = 0; v < V; ++v) {
        const Vec q = load(tap + v * kVector);
        sum[v] += load(weights + v * kVector) * q;
        next[v] += low(o, v) * q;
      }
    }
    for (int o = lowpass_taps; o < taps[j]; ++o, weights += width) {
      const Q* tap = row_of(o);
      for (int v = 0; v < V; ++v) sum[v] += load(weights + v * kVector) * load(tap + v * kVector);
    }
    for (int v = 0; v < V; ++v) pushed[v] = a[v];
    if constexpr (kQuantized) {
      for (int v = 0; v < V; ++v) {
        next[v] = load(weights + v * kVector) * next[v] + low(0, v) * a[v];
        pushed[v] *= load(weights + width + v * kVector);
      }
      weights += 2 * width;
    }
    Q* push = row_of(0);
    for (int v = 0; v < V; ++v) {
      if (Partial)
        store_some(push, pushed[v], kept);
      else
        store(push + v * kVector, pushed[v]);
      a[v] = next[v];
    }
    rows += taps[j];
    if (model.untied && j + 1 < depth) {
      lowpass_rows += lowpass_taps * width;
      load_lowpass();
    }
  }
  for (int v = 0; v < V; ++v) store(y + v * kVector, sum[v]);
}

// All channels of one row of one layer, from c on; `offset` is the start of the layer in a row of a ring.
template <typename Q, int K, int V>
void multires_row(const Model& model, const Layer& layer, size_t offset, unsigned char* const* taps, const float* x,
                  float* y, int c = 0) {
  const int channels = model.info.d_model;
  const float* filters = layer.filters.data();
  for (; c + V * kVector <= channels; c += V * kVector)
    multires_channels<Q, K, V, false>(model, filters + c, taps, offset + c, V * kVector, x + c, y + c);
  if constexpr (V > 1)
    multires_row<Q, K, V / 2>(model, layer, offset, taps, x, y, c);
  else if (c < channels)
    multires_channels<Q, K, 1, true>(model, filters + c, taps, offset + c, channels - c, x + c, y + c);
}

template <typename Q>
auto multires_for(int kernel_size) {
  return kernel_size == 2   ? multires_row<Q, 2, kTogether>
         : kernel_size == 4 ? multires_row<Q, 4, kTogether>
                            : multires_row<Q, 0, kTogether>;
}

// The address of each tap of one row: a row of a ring, with all layers.
void find_taps(const Model& model, State& state, int b, int ahead, unsigned char** taps) {
  const int64_t wide = static_cast<int64_t>(model.info.n_layers * model.info.d_model * size_of(model.queues));
  for (int j = 0; j < model.info.depth; ++j) {
    const int64_t slots = model.slots[j], bytes = slots * wide, dilation = wide << j;
    unsigned char* ring = state.queues[j] + b * bytes;
    int64_t slot = state.heads[static_cast<size_t>(b) * model.info.depth + j] + ahead;
    if (slot >= slots) slot %= slots;
    int64_t place = slot * wide;
    for (int o = 0; o < model.taps[j]; ++o) {
      *taps++ = ring + place;
      place -= dilation;
      if (place < 0) place += bytes;
    }
  }
}

// Prefetches `bytes` at `place` of the rows taps[first] .. taps[last). Rings do not fit into a cache; the values for
// one layer are loaded while the layer before it computes.
void prefetch_taps(unsigned char* const* taps, int first, int last, size_t place, size_t bytes) {
  for (; first < last; ++first) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(taps[first] + place), end = begin + bytes;
    for (uintptr_t line = begin / kLine * kLine; line < end; line += kLine)
      __builtin_prefetch(reinterpret_cast<const void*>(line), 0, 2);
  }
}

// An elementwise function of `count` values.
template <typename From, typename To, typename Function>
void apply(const From* x, To* y, int count, Function function) {
  for (int i = 0; i < count; i += kVector) {
    const int n = std::min(kVector, count - i);
    store_some(y + i, function(load_some(x + i, n)), n);
  }
}
template <Vec (*function)(Vec), typename From, typename To>
void apply_all(const From* x, To* y, int count) {
  apply(x, y, count, function);
}

// Replaces the logits of a row by their probabilities.
void softmax(float* row, int count) {
  const float largest = *std::max_element(row, row + count);
  apply(row, row, count, [=](Vec v) { return exponential(most(v - all(largest), all(-87.0f))); });
  const double sum = std::accumulate(row, row + count, 0.0);
  for (int i = 0; i < count; ++i) row[i] = static_cast<float>(row[i] / sum);
}

// Puts the samples of a block of rows into the encoder's queue. Writes what the encoder reads for each row: its sample
// and those before it, by delay.
const float* find_samples(const Model& model, State& state, const float* x, int first, int rows) {
  const int taps = model.encoder_taps;
  const size_t d = static_cast<size_t>(model.info.d_input), all = d * static_cast<size_t>(taps);
  for (int row = 0; row < rows; ++row) {
    const int b = (first + row) % state.batch;
    int slot = static_cast<int>((state.position[b] + row / state.batch) % taps);
    float *queue = state.encoder_queue.data() + b * all, *samples = state.samples.data() + row * all;
    std::memcpy(queue + slot * d, x + row * d, d * sizeof(float));
    for (int o = 0; o < taps; ++o) {
      std::memcpy(samples + o * d, queue + slot * d, d * sizeof(float));
      slot = slot == 0 ? taps - 1 : slot - 1;
    }
  }
  return state.samples.data();
}

void forward(const Model& model, State& state, const float* x, const int64_t* tokens, int first, int rows, float* y) {
  const multires_info& info = model.info;
  const int d = info.d_model, width = model.width, batch = state.batch;
  const size_t stride = static_cast<size_t>(width) + kPanel;
  float *features = state.x.data(), *mixed = state.mixed.data(), *gated = state.gated.data();
  uint8_t* bytes = state.bytes.data();
  const size_t row_bytes = static_cast<size_t>(d) * size_of(model.queues);  // of one layer in a row of a ring
  const auto place = [&](float* buffer, int columns) {
    return [=](int panel, int row, const float* out) {
      std::memcpy(buffer + row * stride + panel * kPanel, out,
                  static_cast<size_t>(std::min(kPanel, columns - panel * kPanel)) * sizeof(float));
    };
  };
  if (tokens) {
    for (int row = 0; row < rows; ++row)
      std::memcpy(features + row * stride, model.table.data() + static_cast<size_t>(tokens[row]) * width,
                  static_cast<size_t>(width) * sizeof(float));
  } else {
    if (model.encoder_taps > 1) x = find_samples(model, state, x, first, rows);
    multiply(model.encoder, x, static_cast<size_t>(model.encoder.inputs), rows, place(features, width));
  }
  // Several rows of one stream in the block are `batch` rows apart.
  for (int row = 0; row < rows; ++row) {
    unsigned char** taps = state.taps.data() + row * model.total_taps;
    find_taps(model, state, (first + row) % batch, row / batch, taps);
    prefetch_taps(taps, 0, model.total_taps, 0, row_bytes);
  }
  const auto multires = model.queues == MULTIRES_INT8      ? multires_for<int8_t>(info.kernel_size)
                        : model.queues == MULTIRES_FLOAT16 ? multires_for<Half>(info.kernel_size)
                                                           : multires_for<float>(info.kernel_size);
  for (int i = 0; i < info.n_layers; ++i) {
    const Layer& layer = model.layers[static_cast<size_t>(i)];
    for (int row = 0; row < rows; ++row) {
      float* entered = features + row * stride;
      if (layer.place == Place::kBefore) {
        norm_row(layer, d, width, entered, gated + row * stride);
        entered = gated + row * stride;
      }
      multires(model, layer, static_cast<size_t>(i) * d, state.taps.data() + row * model.total_taps, entered,
               mixed + row * stride, 0);
      activate_row(model.activation, width, mixed + row * stride);
    }
    const bool another = i + 1 < info.n_layers;
    multiply(layer.mixing, mixed, stride, rows, bytes, [&](int panel, int row, const float* out) {
      if (another) {
        const int panels = layer.mixing.count, total = model.total_taps;
        prefetch_taps(state.taps.data() + row * total, panel * total / panels, (panel + 1) * total / panels,
                      static_cast<size_t>(i + 1) * row_bytes, row_bytes);
      }
      if (!model.gated) return place(gated, width)(panel, row, out);
      float* glu = gated + row * stride + panel * kHalf;
      const int half = layer.mixing.width(panel) / 2;
      for (int c = 0; c < half; c += kVector) store(glu + c, load(out + c) * sigmoid(load(out + half + c)));
    });
    const float* change = gated;
    if (layer.output.count) {
      multiply(layer.output, gated, stride, rows, bytes, place(mixed, width));
      change = mixed;
    }
    for (int row = 0; row < rows; ++row) leave_block(layer, d, width, change + row * stride, features + row * stride);
  }
  const bool pools = !model.poolings.empty();
  const size_t pooled = static_cast<size_t>(model.d_head());  // values of a row
  for (int row = 0; row < rows; ++row) {
    const int b = (first + row) % batch;
    if (pools)
      pool_row(model.poolings, state.pool, d, state.position[b], b, features + row * stride,
               state.pooled.data() + row * pooled);
    ++state.position[b];
    for (int j = 0; j < info.depth; ++j) {
      int64_t& head = state.heads[static_cast<size_t>(b) * info.depth + j];
      if (++head == model.slots[j]) head = 0;
    }
  }
  const float* result = pools ? state.pooled.data() : features;
  multiply(model.head, result, pools ? pooled : stride, rows, [&](int panel, int row, const float* out) {
    const int column = panel * kPanel, count = std::min(kPanel, info.d_output - column);
    float* to = y + static_cast<size_t>(row) * info.d_output + column;
    if (model.output_activation == OutputActivation::kSigmoid)
      apply_all<sigmoid>(out, to, count);
    else
      std::memcpy(to, out, static_cast<size_t>(count) * sizeof(float));
  });
  if (model.output_activation == OutputActivation::kSoftmax)
    for (int row = 0; row < rows; ++row) softmax(y + static_cast<size_t>(row) * info.d_output, info.d_output);
}

// Elementwise functions, for tests.
Vec itself(Vec v) { return v; }
void push_int8(const float* x, float reciprocal, int8_t* y, int count) {
  apply(x, y, count, [=](Vec v) { return v * all(reciprocal); });
}

void multiply_alone(const Panels& panels, const float* in, size_t stride, int rows, uint8_t* bytes, float* out) {
  multiply(panels, in, stride, rows, bytes, [&](int panel, int row, const float* outputs) {
    std::memcpy(out + (static_cast<size_t>(row) * panels.count + panel) * kPanel, outputs,
                static_cast<size_t>(panels.width(panel)) * sizeof(float));
  });
}

}  // namespace
}  // namespace multires

#include "rates_impl.h"

namespace multires {
namespace {

constexpr Kernels kernels_named(const char* isa) {
  return {isa,
          forward,
          apply_all<gelu>,
          apply_all<sigmoid>,
          apply_all<itself>,
          apply_all<itself>,
          apply_all<itself>,
          push_int8,
          multiply_alone,
          read_floats,
          multiply_adds};
}

}  // namespace
}  // namespace multires
