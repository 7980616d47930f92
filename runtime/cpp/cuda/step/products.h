// Products of a matrix with the rows of a block.
//
// A thread forms kColumns outputs of all rows over a slice of the inputs: it reads a weight once for all rows, in words
// of 8 or 16 bytes, of which neighbouring threads read neighbours. So a single stream has as many reads in flight as
// threads, and several streams share them. The slices do not depend on the number of rows, and each sum has a fixed
// order: no stream changes a bit of another.
#pragma once

#include "stored.h"

constexpr int kColumns = 4;  // outputs of a thread
constexpr int kGroup = 4;  // int8 inputs in a word
constexpr int kMostSlices = 32;

MULTIRES_DEVICE constexpr int rounded_up(int count, int multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

// `length` units of the inputs in each of `count` slices; a unit is an input, or a group of int8 inputs.
struct Slices {
  int groups, count, length;
};
MULTIRES_DEVICE constexpr Slices slices_of(int units, int outputs) {
  const int groups = rounded_up(outputs, kColumns) / kColumns;
  int count = kThreads / groups < kMostSlices ? kThreads / groups : kMostSlices;
  count = count < units ? count : units;
  const int length = count > 1 ? (units + count - 1) / count : units;
  return {groups, (units + length - 1) / length, length};
}

struct alignas(16) Floats {
  float at[kColumns];
};
struct alignas(8) Halves {
  unsigned short at[kColumns];
};
struct alignas(16) Words {
  int at[kColumns];  // a group of inputs for each output
};

MULTIRES_DEVICE float widened(float weight) { return weight; }
MULTIRES_DEVICE float widened(unsigned short weight) { return float_of_half(weight); }
MULTIRES_DEVICE float with_product(float weight, float input, float sum) { return sum + weight * input; }
MULTIRES_DEVICE int with_product(int weights, int inputs, int sum) { return dot(weights, inputs, sum); }
MULTIRES_DEVICE int widened(int weights) { return weights; }

// Writes partial (kRows, slices, padded outputs), the sum of each slice. `in` is (kRows, kUnits).
template <int kUnits, int kOutputs, typename Quad, typename Value>
MULTIRES_DEVICE void multiply_quads(const unsigned char* weights, const Value* in, Value* partial) {
  constexpr Slices slices = slices_of(kUnits, kOutputs);
  constexpr int width = slices.groups * kColumns;
  static_assert(slices.count * width <= kPartial, "the sums of the slices fit");
  const Quad* quads = reinterpret_cast<const Quad*>(weights);
  for (int item = thread_index(); item < slices.groups * slices.count; item += kThreads) {
    const int group = item % slices.groups, slice = item / slices.groups;
    Value sums[kRows][kColumns] = {};
    const int begin = slice * slices.length, left = kUnits - begin;
    const int units = kUnits % slices.length == 0 || left > slices.length ? slices.length : left;
    MULTIRES_UNROLL(8)
    for (int k = begin; k < begin + units; ++k) {
      const Quad quad = quads[k * slices.groups + group];
      for (int r = 0; r < kRows; ++r) {
        const Value input = in[r * kUnits + k];
        for (int o = 0; o < kColumns; ++o) sums[r][o] = with_product(widened(quad.at[o]), input, sums[r][o]);
      }
    }
    for (int r = 0; r < kRows; ++r)
      for (int o = 0; o < kColumns; ++o)
        partial[(r * slices.count + slice) * width + group * kColumns + o] = sums[r][o];
  }
}

// The sum of the slices of an output.
template <int kUnits, int kOutputs, typename Value>
MULTIRES_DEVICE Value total_of_slices(const Value* partial, int r, int o) {
  constexpr Slices slices = slices_of(kUnits, kOutputs);
  constexpr int width = slices.groups * kColumns;
  Value sum = partial[r * slices.count * width + o];
  for (int slice = 1; slice < slices.count; ++slice) sum += partial[(r * slices.count + slice) * width + o];
  return sum;
}

// A product of a matrix of any type, in two parts with a barrier between them. The inputs are float, or were put as
// bytes by put_input.
template <int kInputs, int kOutputs>
struct Product {
  // Values of a row of `partial`, for float weights.
  static constexpr int kPartialRow = slices_of(kInputs, kOutputs).count * rounded_up(kOutputs, kColumns);
  static constexpr int kUnits8 = rounded_up(kInputs, kGroup) / kGroup;

  // Input c of row r, as the matrix takes it. `bytes` is (kRows, kUnits8) words; its padding meets weights of 0.
  static MULTIRES_DEVICE void put_input(const unsigned char* weights, const Matrix& matrix, int r, int c, float value,
                                        float* in, int* bytes) {
    if (kSomeInt8 && matrix.type == Type::kInt8) {
      const float* reciprocals = reinterpret_cast<const float*>(weights + matrix.reciprocals);
      reinterpret_cast<signed char*>(bytes)[r * kUnits8 * kGroup + c] =
          static_cast<signed char>(quantize(value * reciprocals[c]));
    } else {
      in[r * kInputs + c] = value;
    }
  }

  static MULTIRES_DEVICE void multiply(const unsigned char* weights, const Matrix& matrix, const float* in,
                                       const int* bytes, float* partial) {
    const unsigned char* from = weights + matrix.weights;
    if (kSomeInt8 && matrix.type == Type::kInt8)
      multiply_quads<kUnits8, kOutputs, Words>(from, bytes, reinterpret_cast<int*>(partial));
    else if (kSomeFloat16 && matrix.type == Type::kFloat16)
      multiply_quads<kInputs, kOutputs, Halves>(from, in, partial);
    else
      multiply_quads<kInputs, kOutputs, Floats>(from, in, partial);
  }

  static MULTIRES_DEVICE float output(const unsigned char* weights, const Matrix& matrix, const float* partial, int r,
                                      int o) {
    const float bias = reinterpret_cast<const float*>(weights + matrix.bias)[o];
    if (!kSomeInt8 || matrix.type != Type::kInt8) return total_of_slices<kInputs, kOutputs>(partial, r, o) + bias;
    const int sum = total_of_slices<kUnits8, kOutputs>(reinterpret_cast<const int*>(partial), r, o);
    return static_cast<float>(sum) * reinterpret_cast<const float*>(weights + matrix.scales)[o] + bias;
  }
};
