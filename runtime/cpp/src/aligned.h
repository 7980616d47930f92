// Memory aligned to cache lines, so that a vector load reads one line. Large arrays are on large pages where the
// system has them: a step reads a few lines, far apart, in megabytes of queues.
#pragma once

#if defined(_WIN32)
#include <malloc.h>
#else
#include <sys/mman.h>
#endif

#include <cassert>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace multires {

constexpr size_t kLargePage = 2u << 20;

// bytes is a multiple of the alignment; null without memory.
inline void* allocate_aligned(size_t alignment, size_t bytes) {
#if defined(_WIN32)
  return _aligned_malloc(bytes, alignment);
#else
  return std::aligned_alloc(alignment, bytes);
#endif
}

inline void free_aligned(void* data) {
#if defined(_WIN32)
  _aligned_free(data);
#else
  std::free(data);
#endif
}

template <typename T>
class AlignedArray {
 public:
  AlignedArray() = default;
  explicit AlignedArray(size_t count) : count_(count) {
    if (count == 0) return;
    if (count > static_cast<size_t>(-1) / 2 / sizeof(T)) throw std::bad_alloc();
    const size_t used = count * sizeof(T), alignment = used < kLargePage ? 64 : kLargePage;
    data_.reset(static_cast<T*>(allocate_aligned(alignment, (used + alignment - 1) / alignment * alignment)));
    if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    // A hint to the system; only for whole large pages, so that no memory is wasted.
    if (used >= kLargePage) madvise(data_.get(), used / kLargePage * kLargePage, MADV_HUGEPAGE);
#endif
    std::memset(static_cast<void*>(data_.get()), 0, used);
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
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
  struct Free {
    void operator()(T* data) const { free_aligned(data); }
  };
  std::unique_ptr<T[], Free> data_;
  size_t count_ = 0;
};

}  // namespace multires
