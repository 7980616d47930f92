// The high-pass filter of a network's card, from its weights file.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include <multires.hpp>
#include <multires_ecg.hpp>

// Without a filter in the card, samples pass unchanged.
inline multires::HighPass high_pass_of(const multires::Model& model) {
  const size_t channels = static_cast<size_t>(model.info().d_input);
  const std::vector<std::string> card = model.metadata_lines("high_pass");
  if (card.empty()) return multires::HighPass(channels);
  const char* text = model.metadata("sampling_rate");
  const double rate = text ? std::strtod(text, nullptr) : 0;
  const double corner = card.size() == 3 ? std::strtod(card[1].c_str(), nullptr) : 0;
  const double last = card.size() == 3 ? std::strtod(card[2].c_str(), nullptr) : 0;
  if (card[0] == "butterworth" && corner > 0 && rate > 0 && last >= 1)
    return multires::HighPass::butterworth(corner / rate, static_cast<int>(last), channels);
  if (card[0] == "linear-phase" && corner > 0 && rate > 0 && last > 0)
    return multires::HighPass::linear_phase(corner / rate, std::max<int64_t>(1, std::lrint(last * rate)), channels);
  throw std::runtime_error("the high-pass filter in the weights file is unknown; export it again");
}
