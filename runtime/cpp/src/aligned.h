// Memory aligned to cache lines, so that a vector load reads one line. Large arrays are on large pages where the
// system has them: a step reads a few lines, far apart, in megabytes of queues.
#pragma once

#include <sys/mman.h>

#include <cassert>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

namespace multires {

constexpr size_t kLargePage = 2u << 20;

template <typename T>
class AlignedArray {
 public:
  AlignedArray() = default;
  explicit AlignedArray(size_t count) : count_(count) {
    if (count == 0) return;
    if (count > static_cast<size_t>(-1) / 2 / sizeof(T)) throw std::bad_alloc();
    const size_t used = count * sizeof(T), alignment = used < kLargePage ? 64 : kLargePage;
    data_ = static_cast<T*>(std::aligned_alloc(alignment, (used + alignment - 1) / alignment * alignment));
    if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    // A hint to the system; only for whole large pages, so that no memory is wasted.
    if (used >= kLargePage) madvise(static_cast<void*>(data_), used / kLargePage * kLargePage, MADV_HUGEPAGE);
#endif
    std::memset(static_cast<void*>(data_), 0, used);
  }
  AlignedArray(AlignedArray&& other) noexcept : data_(other.data_), count_(other.count_) {
    other.data_ = nullptr;
    other.count_ = 0;
  }
  AlignedArray& operator=(AlignedArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~AlignedArray() { std::free(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return count_; }
  T& operator[](size_t i) {
    assert(i < count_);
    return data_[i];
  }
  const T& operator[](size_t i) const {
    assert(i < count_);
    return data_[i];
  }

 private:
  T* data_ = nullptr;
  size_t count_ = 0;
};

}  // namespace multires
