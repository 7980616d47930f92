// Flags of faulty leads, as runtime/ecg/quality.py, where the limits come from.
#pragma once

#include <vector>

#include "trends.h"

namespace multires {

class Quality {
 public:
  // missing: channels that the source lacks. derived: those that were computed from others.
  Quality(const EcgCard& card, const std::vector<bool>& missing, const std::vector<bool>& derived, double rate);

  // A sample (channels) in the card's unit, NaN without a value.
  void push(const double* x);
  // The flags (channels) since the last call, and the number of channels that showed a heart.
  int take(std::vector<uint32_t>& flags);

 private:
  void judge();
  void judge(size_t channel, const std::vector<double>& values, std::vector<double>& medians);

  double volts_;
  size_t channels_, lag_, plateau_, second_;
  std::vector<bool> missing_, valued_;
  std::vector<double> window_;  // of the second that has not ended, in volts
  std::vector<uint32_t> judged_, since_;
  bool taken_ = false;
  Trends trends_;
};

}  // namespace multires
