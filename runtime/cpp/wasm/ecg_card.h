// What a card and the options of a stream say, as constants of a module: export/web/card_source.py writes card.h.
#pragma once

#include <cstdint>

#include "view.h"

namespace multires {

// The leads that others are compared with, see trends.h.
enum class Lead { kOther, kI, kII, kIII, kAVR, kAVL, kAVF, kV6 };

enum class Filter { kNone, kButterworth, kLinearPhase };
enum class Output { kProbabilities, kSigmoid, kSoftmax };

struct EcgCard {
  double rate;         // of the network, in Hz
  double volts;        // of one unit of the samples
  int every;           // steps between decisions
  int window;          // of the stream, see new_stream
  int seen;            // the most steps that a decision is pooled over; 0 for all
  int alarm_after;     // steps before a stream has seen enough for an alarm
  int usable;          // channels that a decision needs
  Filter filter;
  double corner;       // of the filter, in cycles per step
  int order_or_delay;  // of kButterworth; of kLinearPhase, in steps
  Output output;
  View<const double> mean, std;  // by channel
  View<const Lead> leads;        // by channel

  int channels() const { return static_cast<int>(leads.size()); }
};

}  // namespace multires
