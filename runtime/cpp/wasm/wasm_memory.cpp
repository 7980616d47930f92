// Memory of a module, and what the C++ library does where memory ends: it stops the module, without printing. So the
// module needs nothing of its host.
#include <cstdlib>
#include <new>

#include "exports.h"

void* operator new(size_t bytes) {
  if (void* const memory = std::malloc(bytes)) return memory;
  __builtin_trap();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace std {
inline namespace __1 {
// What libc++ calls for a vector that is too long.
[[noreturn]] void __libcpp_verbose_abort(const char*, ...) noexcept { __builtin_trap(); }
}  // namespace __1
}  // namespace std

// What the table of an abstract class refers to.
extern "C" void __cxa_pure_virtual() { __builtin_trap(); }

MULTIRES_EXPORT(memory_new) void* memory_new(size_t bytes) { return std::malloc(bytes); }
MULTIRES_EXPORT(memory_free) void memory_free(void* memory) { std::free(memory); }
