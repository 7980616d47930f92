// Products of a matrix in panels with rows of inputs, for each type of weights. Included by kernels_impl.h.
#pragma once

namespace multires {
namespace {

template <typename V, typename W>
inline void load_to(V& v, const W* p) {
  v = load(p);
}
inline Ints load(const int32_t* p) {
  Ints v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// One panel of float32 or float16 weights.
template <typename W>
struct FloatPanel {
  typedef float Input;
  const W* weights;
  const float* bias;
  int width, inputs;

  FloatPanel(const Panels& panels, int p)
      : weights(panels.panel<W>(p)), bias(panels.bias.data() + p * kPanel), width(panels.width(p)),
        inputs(panels.inputs) {}

  typedef std::conditional_t<std::is_same_v<W, Half>, HalfSums, Vec> Sum;
  static constexpr int kLanes = sizeof(Sum) / sizeof(float);
  static constexpr int kRowsTogether = kRows * kLanes / kVector;  // the same number of registers for any length
  static constexpr int kVectorsAlone = kAlone;

  // out[r][c .. c + V vectors) = bias + weights * in[r] for R rows. Each sum is in the order of the inputs, so R and V
  // change no bit.
  template <int R, int V>
  void columns(int c, const float* in, size_t stride, float* out) const {
    constexpr int N = V * kVector / kLanes;
    Sum sums[R][N], weight;
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < N; ++n) load_to(sums[r][n], bias + c + n * kLanes);
    const W* from = weights + c;
    int i = 0;
    // A multiply-add may take its factor from a lane of a vector.
    for (; kInputs > 1 && i + kInputs <= inputs; i += kInputs) {
      Vec factors[R];
      for (int r = 0; r < R; ++r) factors[r] = load(in + r * stride + i);
#pragma GCC unroll 4
      for (int lane = 0; lane < kInputs; ++lane, from += width)
        for (int n = 0; n < N; ++n) {
          load_to(weight, from + n * kLanes);
          for (int r = 0; r < R; ++r) sums[r][n] += weight * (lane_of(factors[r], lane) - Sum{});
        }
    }
    for (; i < inputs; ++i, from += width) {
      for (int r = 0; r < R; ++r) {
        const Sum factor = in[r * stride + i] - Sum{};
        for (int n = 0; n < N; ++n) {
          load_to(weight, from + n * kLanes);
          sums[r][n] += weight * factor;
        }
      }
    }
    for (int r = 0; r < R; ++r)
      for (int n = 0; n < N; ++n) store(out + r * kPanel + c + n * kLanes, sums[r][n]);
  }
};

// q = round(x * reciprocal_scales). `channels` are read in whole vectors.
inline void quantize_row(const float* x, int channels, const float* reciprocal_scales, uint8_t* q) {
  for (int c = 0; c < channels; c += kVector) {
    const Ints quantized = quantize(load(x + c) * load(reciprocal_scales + c));
    store_low_bytes(q + c, kUnsigned ? quantized + 128 : quantized);
  }
}

// One panel of int8 weights. An input is quantized once. The sums are exact, so they are equal on all instruction sets.
struct Int8Panel {
  typedef uint8_t Input;
  const int8_t* weights;
  const float *bias, *scales;
  const int32_t* offsets;
  int width, inputs;

  Int8Panel(const Panels& panels, int p)
      : weights(panels.panel<int8_t>(p)), bias(panels.bias.data() + p * kPanel),
        scales(panels.scales.data() + p * kPanel), offsets(panels.offsets.data() + p * kPanel), width(panels.width(p)),
        inputs(panels.inputs) {}

  static constexpr int kRowsTogether = kDotRows, kVectorsAlone = kDotAlone;
  template <int R, int V>
  void columns(int c, const uint8_t* in, size_t stride, float* out) const {
    Dots dots[R][V];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) dots[r][v] = dots_of(kUnsigned ? load(offsets + c + v * kVector) : Ints{});
    const int8_t* from = weights + kGroup * c;
    const size_t next = static_cast<size_t>(kGroup) * width;  // from one group to the next
    int i = 0;
    for (; kPairs && i + kGroup < inputs; i += 2 * kGroup, from += 2 * next)
      for (int r = 0; r < R; ++r) {
        const uint8_t* q = in + r * stride + i;
        const Group first = group(q), second = group(q + kGroup);
        for (int v = 0; v < V; ++v) {
          const int8_t* w = from + kGroup * v * kVector;
          dots[r][v] = dot_two(dots[r][v], w, first, w + next, second);
        }
      }
    for (; i < inputs; i += kGroup, from += next)
      for (int r = 0; r < R; ++r) {
        const Group inputs_of_row = group(in + r * stride + i);
        for (int v = 0; v < V; ++v) dots[r][v] = dot(dots[r][v], from + kGroup * v * kVector, inputs_of_row);
      }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) {
        const Vec sum = floats_of(sums_of(dots[r][v]));
        store(out + r * kPanel + c + v * kVector, sum * load(scales + c + v * kVector) + load(bias + c + v * kVector));
      }
  }
};

// A whole panel for R rows, from column c on.
template <int R, int V, typename Panel>
inline void multiply_panel(const Panel& panel, const typename Panel::Input* in, size_t stride, float* out, int c = 0) {
  for (; c + V * kVector <= panel.width; c += V * kVector) panel.template columns<R, V>(c, in, stride, out);
  // The width is a multiple of kLane.
  if constexpr (kLane % (V * kVector) != 0) multiply_panel<R, V / 2>(panel, in, stride, out, c);
}

// One panel of float16 weights, for so many rows that it is faster to convert them once into `widened`.
struct WidenedPanel : FloatPanel<float> {
  WidenedPanel(const Panels& panels, int p, float* widened) : FloatPanel<float>(panels, p) {
    const Half* halves = panels.panel<Half>(p);
    for (int i = 0; i < inputs * width; i += kVector) store(widened + i, load(halves + i));
    weights = widened;
  }
};

template <typename Panel, typename Use, typename... Memory>
void multiply_panels(const Panels& panels, const typename Panel::Input* in, size_t stride, int rows, Use use,
                     Memory... memory) {
  constexpr int R = Panel::kRowsTogether;
  alignas(64) float out[R * kPanel];
  for (int p = 0; p < panels.count; ++p) {
    const Panel panel(panels, p, memory...);
    int row = 0;
    for (; R > 1 && row + R <= rows; row += R) {
      multiply_panel<R, kColumns>(panel, in + row * stride, stride, out);
      for (int r = 0; r < R; ++r) use(p, row + r, out + r * kPanel);
    }
    for (; row < rows; ++row) {
      multiply_panel<1, Panel::kVectorsAlone>(panel, in + row * stride, stride, out);
      use(p, row, out);
    }
  }
}

// Calls use(panel, row, outputs of that panel) for every panel and row of a float32 matrix.
template <typename Use>
void multiply(const Panels& panels, const float* in, size_t stride, int rows, Use use) {
  multiply_panels<FloatPanel<float>>(panels, in, stride, rows, use);
}

// The same for a matrix of any type.
template <typename Use>
void multiply(const Panels& panels, const float* in, size_t stride, int rows, const ProductScratch& scratch, Use use) {
  if constexpr (kKinds.has_weights(MULTIRES_FLOAT32))
    if (panels.dtype == MULTIRES_FLOAT32) return multiply_panels<FloatPanel<float>>(panels, in, stride, rows, use);
  if constexpr (kKinds.has_weights(MULTIRES_FLOAT16))
    if (panels.dtype == MULTIRES_FLOAT16 && rows < kRowsToWiden)
      return multiply_panels<FloatPanel<Half>>(panels, in, stride, rows, use);
  if constexpr (kKinds.has_weights(MULTIRES_FLOAT16) && kRows > 1)
    if (panels.dtype == MULTIRES_FLOAT16)
      return multiply_panels<WidenedPanel>(panels, in, stride, rows, use, scratch.widened);
  if constexpr (kKinds.has_weights(MULTIRES_INT8)) {
    uint8_t* bytes = scratch.bytes;
    for (int row = 0; row < rows; ++row)
      quantize_row(in + row * stride, panels.inputs, panels.reciprocal_scales.data(), bytes + row * stride);
    multiply_panels<Int8Panel>(panels, bytes, stride, rows, use);
  }
}

}  // namespace
}  // namespace multires
