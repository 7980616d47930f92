// The arithmetic of a step, one text for all instruction sets. Included by the source file of each of them, after
// vectors.h and the parts that differ:
//   kRows                       rows that a matrix product computes at once,
//   kColumns                    and vectors of each row: their sums leave enough registers for the rest
//   kAlone                      vectors that it computes at once for a single row
//   kInputs                     inputs that it loads at once: a vector, if a lane can be a factor, or 1
//   kDotRows, kDotAlone         kRows and kAlone for int8
//   kChains                     vectors whose sums hide the latency of a multiply-add and fit into the registers
//   least, most                 of two vectors; the second where one is NaN
//   total                       the sum of the lanes: the upper half is added to the lower half, and so on
//   multiply_add                a * b + c, rounded once where the instruction set can do so
//   widen, narrow               float16 to float32; back, for values within float16's range, or NaN
//   HalfSums                    the vectors in which products with float16 weights are summed
//   load, store_low_bytes       int8 to float32; the low byte of each lane of integers. For such short vectors, GCC's
//                               __builtin_convertvector converts one byte after the other
//   reciprocal                  of numbers from 1 to 2^126
//   kGroup                      int8 inputs whose products are summed together
//   Group, group                kGroup inputs in int8, in the layout of the instruction set
//   Dots, dots_of, sums_of      sums of products of int8 while they are formed; from and to a vector of integers
//   dot(dots, w, g)             adds to output o the products of the group with w[kGroup * o] ..
//                               w[kGroup * o + kGroup - 1]. No weight is -128: the loader checks this
//   kPairs, dot_two             whether it is faster to add two groups at once; the same for two groups
//   kUnsigned                   whether 128 was added to these inputs; Panels::offsets then correct the sum
#pragma once

#include "kinds.h"
#include "stored_impl.h"

#include "activations_impl.h"
#include "multires_impl.h"
#include "norms_impl.h"
#include "pooling_impl.h"
#include "products_impl.h"

#include "forward_impl.h"
#include "look_ahead_impl.h"

namespace multires {
namespace {

// Elementwise functions, for tests.
Vec itself(Vec v) { return v; }
void push_int8(const float* x, float reciprocal, int8_t* y, int count) {
  apply(x, y, count, [=](Vec v) { return v * all(reciprocal); });
}

void multiply_alone(const Panels& panels, const float* in, size_t stride, int rows, const ProductScratch& scratch,
                    float* out) {
  multiply(panels, in, stride, rows, scratch, [&](int panel, int row, const float* outputs) {
    std::memcpy(out + (static_cast<size_t>(row) * panels.count + panel) * kPanel, outputs,
                static_cast<size_t>(panels.width(panel)) * sizeof(float));
  });
}

}  // namespace
}  // namespace multires

#include "rates_impl.h"

namespace multires {
namespace {

constexpr KernelParts kParts{apply_all<gelu>,   apply_all<sigmoid>, apply_all<itself>,
                             apply_all<itself>, apply_all<itself>,  push_int8,
                             multiply_alone,    read_floats,        multiply_adds};

// banks: those of banks_impl.h, on hosts.
constexpr Kernels kernels_named(const char* isa, const BankKernels* banks = nullptr) {
  if constexpr (kKinds.any)
    return {isa, forward, prepare, commit, &kParts, banks};
  else
    return {isa, forward, prepare, commit, nullptr, nullptr};
}

}  // namespace
}  // namespace multires
