// A 64-bit digest that finds damage; it does not stop a forger. Every single changed word changes the digest,
// because each round is a bijection of both the word and the digest so far.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace multires {

constexpr uint64_t kDigestStart = 0xcbf29ce484222325u;

inline uint64_t digest(const void* data, size_t bytes, uint64_t so_far = kDigestStart) {
  const char* at = static_cast<const char*>(data);
  for (size_t left = bytes; left > 0;) {
    const size_t n = left < sizeof(uint64_t) ? left : sizeof(uint64_t);
    uint64_t word = 0;
    std::memcpy(&word, at, n);
    so_far = (so_far ^ word) * 0x9e3779b97f4a7c15u;  // odd, hence invertible
    so_far ^= so_far >> 32;                          // mixes the high bits into the low ones
    at += n;
    left -= n;
  }
  return so_far;
}

}  // namespace multires
