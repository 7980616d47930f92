// The arithmetic of banks of filters, for hosts. Included after kernels_impl.h.
#pragma once

#include "banks.h"

namespace multires {
namespace {

// y = bias + the sum of weights[t] * values[t], for channels from c on that fill V vectors. Returns the next channel.
template <int V>
inline size_t weighted_vectors(const float* weights, const float* const* values, size_t count, size_t c, size_t width,
                               const float* bias, float* y) {
  for (; c + V * kVector <= width; c += V * kVector) {
    Vec sum[V];
    for (int v = 0; v < V; ++v) sum[v] = load(bias + c + v * kVector);
    for (size_t t = 0; t < count; ++t)
      for (int v = 0; v < V; ++v)
        sum[v] = multiply_add(load(weights + t * width + c + v * kVector), load(values[t] + c + v * kVector), sum[v]);
    for (int v = 0; v < V; ++v) store(y + c + v * kVector, sum[v]);
  }
  return c;
}

// The same for all channels; bias may be y.
inline void weighted_sum(const float* weights, const float* const* values, size_t count, size_t width,
                         const float* bias, float* y) {
  size_t c = weighted_vectors<kTogether>(weights, values, count, 0, width, bias, y);
  c = weighted_vectors<1>(weights, values, count, c, width, bias, y);
  for (; c < width; ++c) {
    float sum = bias[c];
    for (size_t t = 0; t < count; ++t) sum += weights[t * width + c] * values[t][c];
    y[c] = sum;
  }
}

void bank_sums(const Bank& bank, const float* const* taps, float* y) {
  for (size_t o = 0; o < bank.outputs; ++o)
    weighted_sum(bank.weights.data() + o * bank.taps * bank.width, taps, bank.taps, bank.width,
                 bank.bias.data() + o * bank.width, y + o * bank.width);
}

void bank_rows(const Bank& bank, const float* const* taps, const float* sources, float* const* rows) {
  constexpr size_t kMost = 8;  // terms at once; a row of a tree has one or two
  size_t term = 0;
  for (size_t r = 0; r < bank.rings.size(); ++r) {
    const float* bias = bank.row_bias.data() + r * bank.width;
    bool any = false;
    while (!any || (term < bank.terms.size() && bank.terms[term].row == static_cast<int64_t>(r))) {
      const float* values[kMost];
      const float* factors = bank.factors.data() + term * bank.width;
      size_t count = 0;
      for (; count < kMost && term < bank.terms.size() && bank.terms[term].row == static_cast<int64_t>(r); ++term) {
        const BankTerm& each = bank.terms[term];
        const size_t index = static_cast<size_t>(each.index);
        values[count++] = each.kind == BankTerm::kSource ? sources + index * bank.width
                          : each.kind == BankTerm::kRow  ? rows[index]
                                                         : taps[index];
      }
      weighted_sum(factors, values, count, bank.width, any ? rows[r] : bias, rows[r]);
      any = true;
    }
  }
}

constexpr BankKernels kBankKernels{bank_sums, bank_rows};

}  // namespace
}  // namespace multires
