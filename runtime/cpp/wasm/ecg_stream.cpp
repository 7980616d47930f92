#include "ecg_stream.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace multires {
namespace {

HighPass high_pass_of(const EcgCard& card) {
  switch (card.filter) {
    case Filter::kNone: break;
    case Filter::kButterworth: return HighPass::butterworth(card.corner, card.order_or_delay, card.leads.size());
    case Filter::kLinearPhase: return HighPass::linear_phase(card.corner, card.order_or_delay, card.leads.size());
  }
  return HighPass(card.leads.size());
}

// Outputs (count) become probabilities.
void to_probabilities(Output kind, double* y, size_t count) {
  if (kind == Output::kSigmoid) {
    for (size_t i = 0; i < count; ++i) {
      const double e = std::exp(-std::abs(y[i]));  // does not overflow
      y[i] = (y[i] >= 0 ? 1 : e) / (1 + e);
    }
  } else if (kind == Output::kSoftmax) {
    const double largest = *std::max_element(y, y + count);
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += y[i] = std::exp(y[i] - largest);
    for (size_t i = 0; i < count; ++i) y[i] /= sum;
  }
}

}  // namespace

EcgStream::EcgStream(const EcgCard& card, int d_output, NetworkStream network, const std::vector<bool>& missing,
                     const std::vector<bool>& derived, double rate)
    : card_(card), channels_(card.leads.size()), outputs_(static_cast<size_t>(d_output)), network_(std::move(network)),
      rate_(rate), missing_(missing), spikes_(channels_, Spikes(rate, card.volts)), levels_(channels_, Levels(rate)),
      quality_(card, missing, derived, rate), resampler_(rate, card.rate, channels_), high_pass_(high_pass_of(card)),
      clean_(channels_), filled_(channels_), y_(static_cast<size_t>(card.every) * outputs_) {
  for (size_t c = 0; c < channels_; ++c) hold_.emplace_back(rate, card.mean[c]);
  x_.reserve(static_cast<size_t>(card.every) * channels_);
}

void EcgStream::push(const double* x) {
  for (size_t c = 0; c < channels_; ++c) {
    clean_[c] = spikes_[c].remove(x[c]);
    filled_[c] = card_.filter == Filter::kNone ? hold_[c].fill(clean_[c]) : levels_[c].fill(clean_[c]);
  }
  quality_.push(clean_.data());
  resampler_.push(filled_.data(), [this](const double* y) { filter(y); });
}

void EcgStream::finish() {
  resampler_.finish([this](const double* y) { filter(y); });
  high_pass_.finish([this](const double* y) { step(y); });
}

void EcgStream::filter(const double* resampled) {
  high_pass_.push(resampled, [this](const double* y) { step(y); });
}

void EcgStream::step(const double* filtered) {
  for (size_t c = 0; c < channels_; ++c) {
    const double value = missing_[c] ? card_.mean[c] : filtered[c];
    x_.push_back(static_cast<float>((value - card_.mean[c]) / card_.std[c]));
  }
  if (x_.size() == static_cast<size_t>(card_.every) * channels_) decide();
}

void EcgStream::decide() {
  multires_run(network_.get(), x_.data(), card_.every, y_.data());
  x_.clear();
  steps_ += card_.every;
  const bool decided = quality_.take(flags_) >= card_.usable;
  if (!decided) signal_from_ = steps_;
  const int64_t seen = card_.seen ? std::min<int64_t>(steps_, card_.seen) : steps_;
  const double samples = static_cast<double>(steps_ * resampler_.down()) / static_cast<double>(resampler_.up());
  decisions_.push_back(samples / rate_);
  decisions_.push_back(static_cast<double>(seen) / card_.rate);
  decisions_.push_back(decided);
  decisions_.push_back(decided && steps_ - signal_from_ < card_.alarm_after);
  const float* last = y_.data() + y_.size() - outputs_;
  decisions_.insert(decisions_.end(), last, last + outputs_);
  to_probabilities(card_.output, decisions_.data() + decisions_.size() - outputs_, outputs_);
  decisions_.insert(decisions_.end(), flags_.begin(), flags_.end());
}

}  // namespace multires
