// What ten seconds of leads show, as runtime/ecg/trends.py, where the limits come from.
#pragma once

#include <cstdint>
#include <vector>

#include "ecg_card.h"

namespace multires {

// Bits of runtime/ecg/quality.py, FLAGS.
enum Flag : uint32_t {
  kMissing = 1u << 0,
  kGap = 1u << 1,
  kNan = 1u << 2,
  kFlat = 1u << 3,
  kClipped = 1u << 4,
  kNoise = 1u << 5,
  kImplausible = 1u << 6,
  kNoBeat = 1u << 7,
  kOffset = 1u << 8,
  kWander = 1u << 9,
  kContradiction = 1u << 10,
  kArmsSwapped = 1u << 11,
};

// Flags of leads from the last ten seconds. Leads that `own` lacks were computed from others, or are missing: nothing
// is compared with them.
class Trends {
 public:
  Trends(const EcgCard& card, const std::vector<bool>& own, double rate);

  // Adds the flags after a second of volts (samples, channels), NaN without a value, to codes (channels). `medians`
  // (channels) are NaN for leads that do not move.
  void judge(const std::vector<double>& volts, const std::vector<double>& medians, std::vector<uint32_t>& codes);

 private:
  static constexpr int kSeconds = 10;
  struct Limb {
    int place;
    double of_one, of_two;  // its weights of leads I and II, by Einthoven's law
  };
  struct Second {
    std::vector<double> medians, off, largest;  // by channel; by limb lead: contradiction, and energy of its leads
    double product, one, two;                   // of leads I and V6
    double beat;                                // the largest move of a lead, over that of the smallest beat
  };

  Second figures(const std::vector<double>& volts, const std::vector<double>& medians) const;
  double beat_of(const std::vector<double>& volts) const;
  void judge_levels(std::vector<uint32_t>& codes) const;
  void judge_limbs(std::vector<uint32_t>& codes) const;
  void judge_arms(std::vector<uint32_t>& codes) const;
  const Second& past(int ago) const { return seconds_[seconds_.size() - 1 - static_cast<size_t>(ago)]; }

  int channels_;
  bool levels_;  // whether offsets and wander reach the network
  size_t hum_, beat_;
  int one_ = -1, two_ = -1, chest_ = -1;  // places of leads I, II and V6
  std::vector<Limb> limbs_;
  std::vector<bool> own_;
  std::vector<Second> seconds_;  // at most ten
};

}  // namespace multires
