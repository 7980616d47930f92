#include "storage.h"

#include <cstring>

namespace multires {
namespace {

uint64_t pieces(uint64_t bytes) {
  return bytes > UINT64_MAX - kPiece ? UINT64_MAX : (bytes + kPiece - 1) / kPiece * kPiece;
}

}  // namespace

void* Counter::take(uint64_t bytes) {
  const uint64_t taken = pieces(bytes);
  bytes_ = bytes_ > UINT64_MAX - taken ? UINT64_MAX : bytes_ + taken;
  return nullptr;
}

void* Arena::take(uint64_t bytes) {
  unsigned char* const piece = next_;
  std::memset(piece, 0, static_cast<size_t>(bytes));
  next_ += static_cast<size_t>(pieces(bytes));
  return piece;
}

}  // namespace multires
