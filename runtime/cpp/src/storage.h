// Where the arrays of a model or a state are: on a host in memory that is allocated for them, on a microcontroller in
// an array of its program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "view.h"

namespace multires {

// A product of sizes; UINT64_MAX after an overflow.
inline uint64_t saturated(std::initializer_list<uint64_t> factors) {
  uint64_t bytes = 1;
  for (uint64_t factor : factors) bytes = factor != 0 && bytes > UINT64_MAX / factor ? UINT64_MAX : bytes * factor;
  return bytes;
}

class Storage {
 public:
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  // A zeroed array of the product of `sizes` values. Its data are null if this storage only counts.
  template <typename T>
  View<T> array(std::initializer_list<uint64_t> sizes) {
    const uint64_t count = saturated(sizes);
    const size_t each = std::is_pointer_v<T> ? pointer_ : sizeof(T);
    return {static_cast<T*>(take(saturated({count, each}))), static_cast<size_t>(count)};
  }

 protected:
  explicit Storage(size_t pointer = sizeof(void*)) : pointer_(pointer) {}
  ~Storage() = default;

 private:
  virtual void* take(uint64_t bytes) = 0;
  const size_t pointer_;  // bytes of a pointer
};

// Counts what a state needs, for pointers of this many bytes. After an overflow the sum is UINT64_MAX.
class Counter final : public Storage {
 public:
  explicit Counter(size_t pointer = sizeof(void*)) : Storage(pointer) {}
  uint64_t bytes() const { return bytes_; }

 private:
  void* take(uint64_t bytes) override;
  uint64_t bytes_ = 0;
};

// Gives pieces of an array, which must have what Counter counted, and be aligned to kPiece bytes.
class Arena final : public Storage {
 public:
  explicit Arena(void* memory) : next_(static_cast<unsigned char*>(memory)) {}

 private:
  void* take(uint64_t bytes) override;
  unsigned char* next_;
};

constexpr size_t kPiece = 16;  // the alignment of arrays in an arena

}  // namespace multires
