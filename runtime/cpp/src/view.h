// An array in memory that another object owns.
#pragma once

#include <cassert>
#include <cstddef>

namespace multires {

template <typename T>
struct View {
  T* first = nullptr;
  size_t count = 0;

  T* data() const { return first; }
  size_t size() const { return count; }
  bool empty() const { return count == 0; }
  T* begin() const { return first; }
  T* end() const { return first + count; }
  T& operator[](size_t i) const {
    assert(i < count);
    return first[i];
  }
};

template <typename T>
View<const T> read_only(View<T> view) {
  return {view.first, view.count};
}

}  // namespace multires
