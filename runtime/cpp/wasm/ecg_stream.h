// From samples of an ECG to decisions, as EcgStream of runtime/ecg/streams.py without gaps in time.
#pragma once

#include <vector>

#include "conditioning.h"
#include "multires_ecg.hpp"
#include "quality.h"
#include "wasm_stream.h"

namespace multires {

class EcgStream {
 public:
  // Expects a rate that Resampler accepts, and a stream of the card's network.
  EcgStream(const EcgCard& card, int d_output, NetworkStream network, const std::vector<bool>& missing,
            const std::vector<bool>& derived, double rate);

  // A sample (channels) in the card's unit at the source's rate, NaN without a value; the mean for a missing channel.
  void push(const double* x);
  // The recording has ended: the decisions still due.
  void finish();

  // Those that were not taken yet, one after the other, in doubles: seconds of the record, seconds that it is pooled
  // over, 1 if it was decided and 0 without a signal, 1 while the stream has not seen enough for an alarm, then the
  // probabilities (d_output) and the flags (channels).
  std::vector<double>& decisions() { return decisions_; }

 private:
  void filter(const double* resampled);
  void step(const double* filtered);
  void decide();

  const EcgCard& card_;
  size_t channels_, outputs_;
  NetworkStream network_;
  double rate_;
  std::vector<bool> missing_;
  std::vector<Spikes> spikes_;
  std::vector<Hold> hold_;
  std::vector<Levels> levels_;
  Quality quality_;
  Resampler resampler_;
  HighPass high_pass_;
  std::vector<double> clean_, filled_;
  std::vector<float> x_, y_;  // the steps of the next decision, and their outputs
  int64_t steps_ = 0, signal_from_ = 0;
  std::vector<double> decisions_;
  std::vector<uint32_t> flags_;
};

}  // namespace multires
