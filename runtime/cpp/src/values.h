// The types of values in weights files and states.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "multires.h"

namespace multires {

inline size_t size_of(multires_dtype dtype) {
  switch (dtype) {
    case MULTIRES_INT64: return 8;
    case MULTIRES_FLOAT16: return 2;
    case MULTIRES_INT8: return 1;
    case MULTIRES_FLOAT32: break;
  }
  return 4;
}

// Tests the bits: compilers vectorize this, it needs no alignment, and no assumption of the compiler about NaN.
template <typename Bits>
bool all_finite(const void* data, size_t bytes, Bits exponent) {
  bool finite = true;
  for (size_t i = 0; i < bytes; i += sizeof(Bits)) {
    Bits bits;
    std::memcpy(&bits, static_cast<const char*>(data) + i, sizeof bits);
    finite &= (bits & exponent) != exponent;
  }
  return finite;
}

// Whether there is no NaN or infinity. Integers are finite.
inline bool all_finite(multires_dtype dtype, const void* data, size_t bytes) {
  if (dtype == MULTIRES_FLOAT32) return all_finite<uint32_t>(data, bytes, 0x7f800000);
  return dtype != MULTIRES_FLOAT16 || all_finite<uint16_t>(data, bytes, 0x7c00);
}

}  // namespace multires
