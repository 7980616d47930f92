// Banks of filters for Python: multires_edge.runtime.backends.banks keeps their rings beside a graph in ONNX Runtime.

#include "banks.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "guard.h"

// The arrays of a bank, each with its number of values. rings (n, 3): slots, dilation and taps. terms (n, 3): row, kind
// and index, see banks.h.
struct NativeBank {  // NOLINT(misc-use-internal-linkage): a parameter of C functions
  size_t outputs, taps, width, sources;
  const int64_t *rings, *terms;
  const float *weights, *bias, *factors, *row_bias;
  size_t n_rings, n_terms, n_weights, n_bias, n_factors, n_row_bias;
  float* sums;
  const float* source_values;
};

NATIVE_API NativeStatus native_banks_new(size_t batch, multires::BankStreams** banks) {
  return guarded([&] { *banks = new multires::BankStreams(batch); });
}

NATIVE_API void native_banks_free(multires::BankStreams* banks) { delete banks; }

NATIVE_API NativeStatus native_banks_add(multires::BankStreams* banks, const NativeBank* from) {
  return guarded([&] {
    multires::Bank bank;
    bank.outputs = from->outputs;
    bank.taps = from->taps;
    bank.width = from->width;
    bank.sources = from->sources;
    for (const int64_t* ring = from->rings; ring != from->rings + 3 * from->n_rings; ring += 3)
      bank.rings.push_back({ring[0], ring[1], ring[2]});
    for (const int64_t* term = from->terms; term != from->terms + 3 * from->n_terms; term += 3)
      bank.terms.push_back({term[0], term[1], term[2]});
    bank.weights.assign(from->weights, from->weights + from->n_weights);
    bank.bias.assign(from->bias, from->bias + from->n_bias);
    bank.factors.assign(from->factors, from->factors + from->n_factors);
    bank.row_bias.assign(from->row_bias, from->row_bias + from->n_row_bias);
    banks->add(std::move(bank), from->sums, from->source_values);
  });
}

NATIVE_API void native_banks_sum(multires::BankStreams* banks) { banks->sum(); }
NATIVE_API void native_banks_push(multires::BankStreams* banks) { banks->push(); }
NATIVE_API void native_banks_reset(multires::BankStreams* banks, size_t row) { banks->reset(row); }
NATIVE_API int64_t* native_banks_position(multires::BankStreams* banks) { return banks->position(); }
NATIVE_API float* native_banks_ring(multires::BankStreams* banks, size_t bank, size_t ring) {
  return banks->ring(bank, ring);
}
