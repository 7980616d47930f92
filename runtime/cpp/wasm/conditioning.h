// Samples of one channel at their own rate: impossible values, and gaps. As runtime/ecg/conditioning.py and gaps.py.
#pragma once

#include <algorithm>
#include <cmath>

namespace multires {

// Replaces values that no heart can have by NaN. A value near the last believed one strengthens the belief in that
// level, any other value and a missing one weaken it, and the value at which no belief is left becomes the level.
class Spikes {
 public:
  Spikes(double rate, double volts)
      : step_(10e-3 / volts), strongest_(std::max(2, static_cast<int>(std::nearbyint(0.5 * rate)))) {}

  double remove(double value) {
    if (std::isnan(value)) {
      belief_ = std::max(1, belief_ - 1);
      return value;
    }
    if (std::abs(value - last_) <= step_) {
      last_ = value;
      belief_ = std::min(belief_ + 1, strongest_);
      return value;
    }
    if (--belief_ == 0) {
      last_ = value;
      belief_ = 1;
    }
    return NAN;
  }

 private:
  double step_, last_ = 0;
  int strongest_, belief_ = 1;
};

// Fills gaps with the last value for ten seconds, and then, as before the first value, with the mean.
class Hold {
 public:
  Hold(double rate, double mean) : longest_(static_cast<long>(std::nearbyint(10 * rate))), mean_(mean), last_(mean) {}

  double fill(double value) {
    if (!std::isnan(value)) {
      age_ = 0;
      return last_ = value;
    }
    return ++age_ <= longest_ ? last_ : mean_;
  }

 private:
  long longest_, age_ = 0;
  double mean_, last_;
};

// Fills gaps in front of a high-pass filter, which must not see the levels of electrodes change: a lead is zero at its
// first value, and the step over a longer gap is taken away.
class Levels {
 public:
  explicit Levels(double rate) : kept_(std::max(1, static_cast<int>(std::nearbyint(0.5 * rate)))) {}

  double fill(double value) {
    if (std::isnan(value)) {
      ++absent_;
    } else {
      if (std::isnan(last_))
        level_ = value;
      else if (absent_ >= kept_)
        level_ += value - last_;
      last_ = value;
      absent_ = 0;
    }
    return std::isnan(last_) ? 0 : last_ - level_;
  }

 private:
  int kept_;
  long absent_ = 0;
  double last_ = NAN, level_ = 0;
};

}  // namespace multires
