// Included by one source file for each instruction set, which defines
//   MULTIRES_KERNELS  the name of the table to define
//   MULTIRES_ISA_NAME its name for people
//   MULTIRES_VECTOR   floats in a vector
//   MULTIRES_CHUNK    vectors of a panel that a matrix product holds at once
//   MULTIRES_ROWS     rows that a matrix product holds at once
// Vectors are the compiler's own (GCC and Clang vector extensions), so one text serves all of them.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace multires {
namespace {

constexpr int kVector = MULTIRES_VECTOR;
typedef float Vec __attribute__((vector_size(kVector * sizeof(float))));
typedef int32_t Ints __attribute__((vector_size(kVector * sizeof(float))));
static_assert(kLane % kVector == 0, "a padded row is a whole number of vectors");

// A vector anywhere in memory. Not memcpy: GCC for aarch64 then holds sums in integer registers.
typedef float LooseVec __attribute__((vector_size(kVector * sizeof(float)), aligned(sizeof(float)), may_alias));
inline Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }
// Minus zero leaves every value as it is; plus zero would turn -0 into 0, and so cost an addition.
inline Vec all(float value) { return value - Vec{}; }
inline Vec least(Vec a, Vec b) { return a < b ? a : b; }
inline Vec most(Vec a, Vec b) { return a > b ? a : b; }

// x * Phi(x) = max(x, 0) - h(|x|) with h(a) = a * (1 - Phi(a)), which is smooth, at most 0.17 and below
// 1e-6 from 5.5 on. h is a polynomial in s = a / 2.75 - 1, interpolated at Chebyshev nodes.
// |error| < 5e-7 for every x (tested); no branch, no division, no exponential.
inline Vec gelu(Vec x) {
  static constexpr float kH[] = {
      8.194348896e-03f, -6.057822884e-02f, 1.912661398e-01f, -3.086717827e-01f, 1.788887135e-01f,
      2.603210509e-01f, -6.278478086e-01f, 4.601556816e-01f, 1.495049154e-01f, -5.463876933e-01f,
      2.762417609e-01f, 2.338470182e-01f, -2.616878095e-01f, -3.841818385e-02f, 1.018768775e-01f,
      -2.678953359e-04f, -1.643713241e-02f};
  const Vec a = most(x, -x);
  const Vec s = least(a, all(5.5f)) * all(1.0f / 2.75f) - all(1.0f);
  constexpr int n = sizeof kH / sizeof *kH;
  Vec h = all(kH[n - 1]);
  for (int k = n - 2; k >= 0; --k) h = h * s + all(kH[k]);
  return most(x, all(0.0f)) - h;
}

// 1 / (1 + e^-x): e^-x by 2^n * e^r with |r| <= ln 2 / 2 and a polynomial of degree 6.
// Relative error < 5e-7 (tested).
inline Vec sigmoid(Vec x) {
  // Beyond these, the result is 1, or so small that a lower one changes nothing.
  const Vec z = most(least(-x, all(87.0f)), all(-87.0f));
  // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits.
  const Vec magic = all(12582912.0f);
  const Vec shifted = z * all(1.44269504f) + magic;
  const Vec n = shifted - magic;
  // ln 2 in two parts: the first has so few digits that n times it is exact.
  const Vec r = (z - n * all(0.693359375f)) - n * all(-2.12194440e-4f);
  Vec e = all(1.0f / 720);
  e = e * r + all(1.0f / 120);
  e = e * r + all(1.0f / 24);
  e = e * r + all(1.0f / 6);
  e = e * r + all(0.5f);
  e = e * r + all(1.0f);
  e = e * r + all(1.0f);
  Ints bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127) << 23;
  Vec power;
  std::memcpy(&power, &bits, sizeof power);
  return all(1.0f) / (all(1.0f) + e * power);
}

inline float total(Vec v) {
  float sum = 0;
  for (int i = 0; i < kVector; ++i) sum += v[i];
  return sum;
}

// out[row][0 .. kPanel) = bias + panel * in[row], for R rows at once.
template <int R>
inline void multiply_panel(const float* panel, const float* bias, int inputs, const float* in, size_t stride, float* out) {
  constexpr int kChunk = MULTIRES_CHUNK;
  for (int first = 0; first < kPanel; first += kChunk * kVector) {
    Vec sums[R][kChunk];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kChunk; ++v) sums[r][v] = load(bias + first + v * kVector);
    const float* weights = panel + first;
    for (int i = 0; i < inputs; ++i, weights += kPanel) {
      for (int r = 0; r < R; ++r) {
        const Vec factor = all(in[r * stride + i]);
        for (int v = 0; v < kChunk; ++v) sums[r][v] += load(weights + v * kVector) * factor;
      }
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kChunk; ++v) store(out + r * kPanel + first + v * kVector, sums[r][v]);
  }
}

// Calls use(panel, row, outputs of that panel) for every panel and row.
template <typename Use>
void multiply(const Panels& panels, const float* in, size_t stride, int rows, Use use) {
  alignas(64) float out[MULTIRES_ROWS * kPanel];
  for (int p = 0; p < panels.count; ++p) {
    const float* panel = panels.weights.data() + static_cast<size_t>(p) * panels.inputs * kPanel;
    const float* bias = panels.bias.data() + static_cast<size_t>(p) * kPanel;
    int row = 0;
    for (; row + MULTIRES_ROWS <= rows; row += MULTIRES_ROWS) {
      multiply_panel<MULTIRES_ROWS>(panel, bias, panels.inputs, in + row * stride, stride, out);
      for (int r = 0; r < MULTIRES_ROWS; ++r) use(p, row + r, out + r * kPanel);
    }
    for (; row < rows; ++row) {
      multiply_panel<1>(panel, bias, panels.inputs, in + row * stride, stride, out);
      use(p, row, out);
    }
  }
}

// One layer's multiresolution sum and GELU for one row, and the push of a_0 .. a_{depth-1}.
// taps: for each scale, the rows of its queue at this step and at each delay; the first is written.
// K is the length of the low-pass filter, 0 if only known at run time.
template <int K>
void multires_row(const Model& model, const Layer& layer, size_t offset, float* const* taps, const float* x, float* y) {
  constexpr int kVectors = kLane / kVector;
  const int channels = model.info.d_model, depth = model.info.depth;
  const int lowpass_taps = K ? K : model.info.kernel_size;
  const float* filter = layer.filters.data();
  for (int c = 0; c < channels; c += kLane) {
    const int n = std::min(kLane, channels - c);
    const size_t place = offset + static_cast<size_t>(c);
    Vec a[kVectors], next[kVectors], sum[kVectors] = {};
    float whole[kLane] = {};  // a part of a vector, where the channels end
    const auto past = [&](const float* row) {
      if (n == kLane) return row + place;
      std::memcpy(whole, row + place, static_cast<size_t>(n) * sizeof(float));
      return static_cast<const float*>(whole);
    };
    for (int v = 0; v < kVectors; ++v) a[v] = load(x + c + v * kVector);
    float* const* rows = taps;
    for (int j = 0; j < depth; ++j) {
      for (int v = 0; v < kVectors; ++v) {
        sum[v] += load(filter + v * kVector) * a[v];
        next[v] = load(filter + kLane + v * kVector) * a[v];
      }
      filter += 2 * kLane;
      for (int o = 1; o < lowpass_taps; ++o, filter += 2 * kLane) {
        const float* row = past(rows[o]);
        for (int v = 0; v < kVectors; ++v) {
          const Vec q = load(row + v * kVector);
          sum[v] += load(filter + v * kVector) * q;
          next[v] += load(filter + kLane + v * kVector) * q;
        }
      }
      for (int o = lowpass_taps; o < model.taps[j]; ++o, filter += kLane) {
        const float* row = past(rows[o]);
        for (int v = 0; v < kVectors; ++v) sum[v] += load(filter + v * kVector) * load(row + v * kVector);
      }
      if (n == kLane) {
        for (int v = 0; v < kVectors; ++v) store(rows[0] + place + v * kVector, a[v]);
      } else {
        for (int v = 0; v < kVectors; ++v) store(whole + v * kVector, a[v]);
        std::memcpy(rows[0] + place, whole, static_cast<size_t>(n) * sizeof(float));
      }
      for (int v = 0; v < kVectors; ++v) a[v] = next[v];
      rows += model.taps[j];
    }
    for (int v = 0; v < kVectors; ++v) store(y + c + v * kVector, gelu(sum[v]));
  }
}

// Where each tap of one row lies: rows of the rings, of all layers.
void find_taps(const Model& model, State& state, int b, int ahead, float** taps) {
  const size_t wide = static_cast<size_t>(model.info.n_layers) * model.info.d_model;
  for (int j = 0; j < model.info.depth; ++j) {
    const int64_t slots = model.slots[j];
    int64_t slot = state.heads[static_cast<size_t>(b) * model.info.depth + j] + ahead;
    if (slot >= slots) slot %= slots;
    float* ring = state.queues[j].data() + static_cast<size_t>(b) * slots * wide;
    const int64_t dilation = static_cast<int64_t>(1) << j;
    for (int o = 0; o < model.taps[j]; ++o) {
      *taps++ = ring + static_cast<size_t>(slot) * wide;
      slot -= dilation;
      if (slot < 0) slot += slots;
    }
  }
}

// x = norm(x + y), or what a folded BatchNorm has left: scale * x + bias + y. Padding stays zero.
void residual_row(const Layer& layer, int channels, int width, float* x, const float* y) {
  const float *scale = layer.scale.data(), *bias = layer.bias.data();
  if (!layer.normalizes) {
    for (int c = 0; c < width; c += kVector)
      store(x + c, load(x + c) * load(scale + c) + (load(bias + c) + load(y + c)));
  } else {
    Vec sum{};
    for (int c = 0; c < width; c += kVector) {
      const Vec v = load(x + c) + load(y + c);
      store(x + c, v);
      sum += v;
    }
    const Vec mean = all(total(sum) / static_cast<float>(channels));
    Vec squares{};
    int c = 0;
    for (; c + kVector <= channels; c += kVector) {
      const Vec v = load(x + c) - mean;
      squares += v * v;
    }
    float square = total(squares);
    for (; c < channels; ++c) square += (x[c] - mean[0]) * (x[c] - mean[0]);
    const Vec factor = all(1.0f / std::sqrt(square / static_cast<float>(channels) + layer.epsilon));
    for (c = 0; c < width; c += kVector)
      store(x + c, (load(x + c) - mean) * factor * load(scale + c) + load(bias + c));
  }
  for (int c = channels; c < width; ++c) x[c] = 0;
}

// Sum two numbers exactly: the rounded sum, and what rounding lost (Knuth, TAOCP 2, 4.2.2).
inline float two_sum(float a, float b, float& lost) {
  const float sum = a + b, added = sum - a, had = sum - added;
  lost = (a - had) + (b - added);
  return sum;
}

// Adds to a sum kept in two numbers, and moves into the first what has gathered in the second.
inline void add_exactly(float& sum, float& error, float addend) {
  float lost;
  const float rounded = two_sum(sum, addend, lost);
  const float owed = error + lost;
  sum = rounded + owed;
  error = owed - (sum - rounded);
}

// Takes a row of features into the pool of stream b, and gives the mean. See export/graphs/pooling.py.
void pool_row(const multires_info& info, State& state, int b, const float* x, float* pooled) {
  const int d = info.d_model;
  const size_t row = static_cast<size_t>(b) * d;
  float *sum = state.sum.data() + row, *error = state.sum_error.data() + row;
  const int64_t position = state.position[b];
  if (info.window == 0) {
    const float count = static_cast<float>(position + 1);
    for (int c = 0; c < d; ++c) {
      add_exactly(sum[c], error[c], x[c]);
      pooled[c] = (sum[c] + error[c]) / count;
    }
    return;
  }
  float *block = state.block.data() + row, *block_error = state.block_error.data() + row;
  if (position % info.window == 0) {
    std::memcpy(block, sum, static_cast<size_t>(d) * sizeof(float));
    std::memcpy(block_error, error, static_cast<size_t>(d) * sizeof(float));
    std::memset(sum, 0, static_cast<size_t>(d) * sizeof(float));
    std::memset(error, 0, static_cast<size_t>(d) * sizeof(float));
  }
  const int64_t slots = static_cast<int64_t>(info.window) + 1;
  float* ring = state.prefix.data() + static_cast<size_t>(b) * slots * 2 * d;
  const float* before = ring + static_cast<size_t>((position + 1) % slots) * 2 * d;
  float* now = ring + static_cast<size_t>(position % slots) * 2 * d;
  const float count = static_cast<float>(std::min<int64_t>(position + 1, info.window));
  for (int c = 0; c < d; ++c) {
    add_exactly(sum[c], error[c], x[c]);
    const float whole = (block[c] - before[c]) + sum[c];
    const float small = (block_error[c] - before[d + c]) + error[c];
    pooled[c] = (whole + small) / count;
    now[c] = sum[c];
    now[d + c] = error[c];
  }
}

void forward(const Model& model, State& state, const float* x, const int64_t* tokens, int first, int rows, float* y) {
  const multires_info& info = model.info;
  const int d = info.d_model, width = model.width, batch = state.batch;
  const size_t stride = static_cast<size_t>(width) + kPanel;
  float *features = state.x.data(), *mixed = state.mixed.data(), *gated = state.gated.data();
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
    multiply(model.encoder, x, static_cast<size_t>(info.d_input), rows, place(features, width));
  }
  // Where a stream has several rows in the block, they lie `batch` apart.
  for (int row = 0; row < rows; ++row)
    find_taps(model, state, (first + row) % batch, row / batch, state.taps.data() + row * model.total_taps);
  const auto multires = info.kernel_size == 2 ? multires_row<2> : info.kernel_size == 4 ? multires_row<4> : multires_row<0>;
  for (int i = 0; i < info.n_layers; ++i) {
    const Layer& layer = model.layers[static_cast<size_t>(i)];
    for (int row = 0; row < rows; ++row)
      multires(model, layer, static_cast<size_t>(i) * d, state.taps.data() + row * model.total_taps,
               features + row * stride, mixed + row * stride);
    multiply(layer.mixing, mixed, stride, rows, [&](int panel, int row, const float* out) {
      float* glu = gated + row * stride + panel * kHalf;
      for (int c = 0; c < kHalf; c += kVector) store(glu + c, load(out + c) * sigmoid(load(out + kHalf + c)));
    });
    const float* change = gated;
    if (layer.output.count) {
      multiply(layer.output, gated, stride, rows, place(mixed, width));
      change = mixed;
    }
    for (int row = 0; row < rows; ++row)
      residual_row(layer, d, width, features + row * stride, change + row * stride);
  }
  const float* result = features;
  if (!info.autoregressive) result = state.pooled.data();
  for (int row = 0; row < rows; ++row) {
    const int b = (first + row) % batch;
    if (!info.autoregressive) pool_row(info, state, b, features + row * stride, state.pooled.data() + row * stride);
    ++state.position[b];
    for (int j = 0; j < info.depth; ++j) {
      int64_t& head = state.heads[static_cast<size_t>(b) * info.depth + j];
      if (++head == model.slots[j]) head = 0;
    }
  }
  multiply(model.head, result, stride, rows, [&](int panel, int row, const float* out) {
    const int column = panel * kPanel;
    std::memcpy(y + static_cast<size_t>(row) * info.d_output + column, out,
                static_cast<size_t>(std::min(kPanel, info.d_output - column)) * sizeof(float));
  });
}

inline Vec load_some(const float* p, int n) {
  Vec v{};
  std::memcpy(&v, p, static_cast<size_t>(n) * sizeof(float));
  return v;
}

template <Vec (*function)(Vec)>
void apply(const float* x, float* y, int count) {
  for (int i = 0; i < count; i += kVector) {
    const int n = std::min(kVector, count - i);
    const Vec result = function(load_some(x + i, n));
    std::memcpy(y + i, &result, static_cast<size_t>(n) * sizeof(float));
  }
}

}  // namespace

extern const Kernels MULTIRES_KERNELS;
const Kernels MULTIRES_KERNELS = {MULTIRES_ISA_NAME, forward, apply<gelu>, apply<sigmoid>};

}  // namespace multires
