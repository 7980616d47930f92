// Filters of single channels in a network that another runtime computes: their rings, the sums over their past, and the
// rows that the rings get. A bank is what docs/own-networks.md describes:
//   sum[o] = bias[o] + sum over taps t of weights[o][t] * tap t,   known before the step
//   row[r] = row_bias[r] + sum of factors * (source, earlier row or tap),   at the end of the step
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace multires {

struct BankRing {
  int64_t slots, dilation, taps;  // the taps are the rows `dilation`, 2 * dilation, ... steps ago
};

struct BankTerm {
  enum Kind : int64_t { kSource, kRow, kTap };
  int64_t row, kind, index;
};

struct Bank {
  size_t width = 0, outputs = 0, taps = 0, sources = 0;
  std::vector<BankRing> rings;
  std::vector<float> weights, bias;  // (outputs, taps, width), (outputs, width)
  std::vector<BankTerm> terms;  // in the order of their rows
  std::vector<float> factors, row_bias;  // (terms, width), (rings, width)
};

struct BankKernels {
  // taps: the rows at all delays, ring after ring. y is (outputs, width).
  void (*sums)(const Bank& bank, const float* const* taps, float* y);
  // sources is (sources, width). rows: where each ring gets its row.
  void (*rows)(const Bank& bank, const float* const* taps, const float* sources, float* const* rows);
};

// The banks of `batch` streams, each with its own position.
class BankStreams {
 public:
  explicit BankStreams(size_t batch);

  // Adds a bank. Throws std::invalid_argument unless its parts fit each other. sums (batch, outputs, width) and sources
  // (batch, sources, width) must live as long as this object.
  void add(Bank bank, float* sums, const float* sources);

  // Allocate nothing and take no lock.
  void sum() noexcept;  // fills the sums of the next step
  void push() noexcept;  // writes the rows of this step, and counts it
  void reset(size_t row) noexcept;

  size_t batch() const { return position_.size(); }
  const std::vector<Bank>& banks() const { return banks_; }
  int64_t* position() { return position_.data(); }
  // (batch, slots, width)
  float* ring(size_t bank, size_t ring) { return rings_[bank][ring].data(); }

 private:
  void find(size_t bank, size_t row);

  const BankKernels& kernels_;
  std::vector<int64_t> position_;
  std::vector<Bank> banks_;
  std::vector<float*> sums_;
  std::vector<const float*> sources_;
  std::vector<std::vector<std::vector<float>>> rings_;
  std::vector<const float*> taps_;  // of one bank and row, as `find` left them
  std::vector<float*> rows_;
};

}  // namespace multires
