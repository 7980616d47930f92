#include "banks.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "kernels.h"

namespace multires {
namespace {

void expect(bool good, const char* what) {
  if (!good) throw std::invalid_argument(what);
}

void check(const Bank& bank) {
  constexpr int64_t kMost = int64_t{1} << 31;
  size_t taps = 0;
  for (const BankRing& ring : bank.rings) {
    expect(ring.slots > 1 && ring.slots < kMost && ring.dilation > 0 && ring.taps > 0, "a ring has no past");
    expect(ring.taps <= (ring.slots - 1) / ring.dilation, "a ring is shorter than its longest delay");
    taps += static_cast<size_t>(ring.taps);
  }
  expect(bank.width > 0 && bank.outputs > 0 && !bank.rings.empty() && taps == bank.taps, "a bank has another size");
  expect(bank.weights.size() == bank.outputs * bank.taps * bank.width, "the weights have another size");
  expect(bank.bias.size() == bank.outputs * bank.width, "the bias has another size");
  expect(bank.factors.size() == bank.terms.size() * bank.width, "the factors have another size");
  expect(bank.row_bias.size() == bank.rings.size() * bank.width, "the bias of the rows has another size");
  int64_t before = 0;
  for (const BankTerm& term : bank.terms) {
    expect(term.row >= before && term.row < static_cast<int64_t>(bank.rings.size()), "a term is of no row");
    const int64_t most = term.kind == BankTerm::kSource ? static_cast<int64_t>(bank.sources)
                         : term.kind == BankTerm::kRow  ? term.row
                                                        : static_cast<int64_t>(bank.taps);
    expect(term.kind >= BankTerm::kSource && term.kind <= BankTerm::kTap, "a term is of no kind");
    expect(term.index >= 0 && term.index < most, "a term reads what is not there");
    before = term.row;
  }
}

}  // namespace

BankStreams::BankStreams(size_t batch) : kernels_(*best_kernels().banks), position_(batch) {}

void BankStreams::add(Bank bank, float* sums, const float* sources) {
  check(bank);
  std::vector<std::vector<float>> rings;
  rings.reserve(bank.rings.size());
  for (const BankRing& ring : bank.rings) rings.emplace_back(batch() * static_cast<size_t>(ring.slots) * bank.width);
  taps_.resize(std::max(taps_.size(), bank.taps));
  rows_.resize(std::max(rows_.size(), bank.rings.size()));
  rings_.push_back(std::move(rings));
  sums_.push_back(sums);
  sources_.push_back(sources);
  banks_.push_back(std::move(bank));
}

// The taps of one row of the batch, and where its rings get their rows.
void BankStreams::find(size_t bank, size_t row) {
  const Bank& parts = banks_[bank];
  const float** tap = taps_.data();
  for (size_t r = 0; r < parts.rings.size(); ++r) {
    const BankRing& ring = parts.rings[r];
    float* rows = rings_[bank][r].data() + row * static_cast<size_t>(ring.slots) * parts.width;
    // Unsigned: a damaged position must not lead out of the ring.
    int64_t slot = static_cast<int64_t>(static_cast<uint64_t>(position_[row]) % static_cast<uint64_t>(ring.slots));
    rows_[r] = rows + static_cast<size_t>(slot) * parts.width;
    for (int64_t k = 0; k < ring.taps; ++k) {
      slot -= ring.dilation;
      if (slot < 0) slot += ring.slots;
      *tap++ = rows + static_cast<size_t>(slot) * parts.width;
    }
  }
}

void BankStreams::sum() noexcept {
  for (size_t i = 0; i < banks_.size(); ++i)
    for (size_t row = 0; row < batch(); ++row) {
      find(i, row);
      kernels_.sums(banks_[i], taps_.data(), sums_[i] + row * banks_[i].outputs * banks_[i].width);
    }
}

void BankStreams::push() noexcept {
  for (size_t i = 0; i < banks_.size(); ++i)
    for (size_t row = 0; row < batch(); ++row) {
      find(i, row);
      kernels_.rows(banks_[i], taps_.data(), sources_[i] + row * banks_[i].sources * banks_[i].width, rows_.data());
    }
  for (int64_t& position : position_) ++position;
}

void BankStreams::reset(size_t row) noexcept {
  position_[row] = 0;
  for (size_t i = 0; i < banks_.size(); ++i)
    for (size_t r = 0; r < banks_[i].rings.size(); ++r) {
      const size_t size = static_cast<size_t>(banks_[i].rings[r].slots) * banks_[i].width;
      std::fill_n(rings_[i][r].begin() + static_cast<std::ptrdiff_t>(row * size), size, 0.0f);
    }
}

}  // namespace multires
