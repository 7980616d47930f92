// The arithmetic for a block of rows, compiled for each instruction set and chosen at run time.
#pragma once

#include "network.h"
#include "state.h"

namespace multires {

struct BankKernels;  // banks.h

// The inputs and outputs of a call: x (steps, batch, d_input) or tokens (steps, batch), to y (steps, batch, d_output).
struct Call {
  const float* x;
  const int64_t* tokens;
  float* y;
};

// A block of consecutive rows of (steps, batch). It begins with stream `start` of a step.
struct Rows {
  int batch;
  int64_t step;
  int start, count;

  int stream(int row) const { return (start + row) % batch; }
  // The number of rows of the same stream before this row.
  int ahead(int row) const { return row / batch; }
  // The row of (steps, batch).
  int64_t of_call(int row) const { return step * batch + start + row; }
};

// Functions that kernels consist of, for tests and measurements.
struct KernelParts {
  // Elementwise.
  void (*gelu)(const float* x, float* y, int count);
  void (*sigmoid)(const float* x, float* y, int count);
  void (*widen)(const uint16_t* x, float* y, int count);   // from float16
  void (*narrow)(const float* x, uint16_t* y, int count);  // to float16, as float16 queues store x
  void (*from_int8)(const int8_t* x, float* y, int count);
  void (*push_int8)(const float* x, float reciprocal, int8_t* y, int count);  // to int8, as int8 queues store x
  // A product: in (rows, stride) to out (rows, panels.count * kPanel).
  void (*multiply)(const Panels& panels, const float* in, size_t stride, int rows, const ProductScratch& scratch,
                   float* out);
  // For measuring the rates of this CPU, see rates_impl.h.
  float (*read_floats)(const float* p, size_t count);
  float (*multiply_adds)(float factor, float addend, size_t count);
};

struct Kernels {
  const char* isa;
  // These allocate nothing and take no lock. Computes a block of at most Scratch::rows rows, and advances the state. In
  // a prepared state the rows are those of one step, and what is pushed into the queues is left to commit.
  void (*forward)(const Network& network, State& state, Scratch& scratch, const Call& call, const Rows& rows);
  // Sums the taps of the next step of all streams, and touches the weights, so that they are in a cache.
  void (*prepare)(const Network& network, State& state);
  // Pushes into the queues what the last step of all streams left.
  void (*commit)(const Network& network, State& state);
  const KernelParts* parts;  // null in programs of one network
  const BankKernels* banks;  // the same
};

// Rows (a row is one step of one stream) that share a pass over the weights, and a conversion of float16 weights.
constexpr int kBlockRows = 128;
constexpr int kRowsToWiden = 4;  // rows from which on it is faster to convert a panel of float16 weights once

constexpr int kReadUnit = 128;         // floats
constexpr int kMultiplyAddUnit = 960;  // multiply-adds; a multiple of the chains of every instruction set

// The kernels of each instruction set. A build has those of its architecture; the baseline is SSE2 on x86-64, NEON on
// aarch64.
extern const Kernels kBaselineKernels, kAvx2Kernels, kAvx512Kernels, kAvx512VnniKernels, kNeonDotKernels;

// The best kernels for this CPU, or those that MULTIRES_ISA in the environment names, such as "avx2" or "baseline".
// An unknown name, or an instruction set that the CPU lacks, means the baseline.
const Kernels& best_kernels();

}  // namespace multires
