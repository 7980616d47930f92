#include "memory.h"

#if defined(_WIN32)
#define NOMINMAX
#include <windows.h>
#else
#include <unistd.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <new>
#include <string>

#include "weights_file.h"

namespace multires {
namespace {

uint64_t sum(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

#if defined(_WIN32)
uint64_t available_memory() {
  MEMORYSTATUSEX status;
  status.dwLength = sizeof status;
  return GlobalMemoryStatusEx(&status) ? status.ullAvailPageFile : UINT64_MAX;
}
#else
// Linux says what it can give without ending a process: with swap. Other systems say only what they have.
uint64_t available_memory() {
  uint64_t available = 0;
  bool told = false;
  if (std::FILE* file = std::fopen("/proc/meminfo", "re")) {
    char line[256];
    unsigned long long kilobytes;
    while (std::fgets(line, sizeof line, file)) {
      const bool free = std::sscanf(line, "MemAvailable: %llu", &kilobytes) == 1;
      if (!free && std::sscanf(line, "SwapFree: %llu", &kilobytes) != 1) continue;
      available = sum(available, saturated({kilobytes, 1024}));
      told |= free;
    }
    std::fclose(file);
  }
  if (told) return available;
  const long pages = sysconf(_SC_PHYS_PAGES), each = sysconf(_SC_PAGESIZE);
  return pages > 0 && each > 0 ? saturated({static_cast<uint64_t>(pages), static_cast<uint64_t>(each)}) : UINT64_MAX;
}
#endif

}  // namespace

void* Memory::take(uint64_t bytes) {
  if (bytes > PTRDIFF_MAX) throw std::bad_alloc();
  arrays_.emplace_back(static_cast<size_t>(bytes));
  return arrays_.back().data();
}

void check_memory(uint64_t bytes, const char* what) {
  const uint64_t most = std::min<uint64_t>(available_memory(), PTRDIFF_MAX);
  if (bytes <= most) return;
  throw LoadError(MULTIRES_MEMORY, "not enough memory: " + std::string(what) + " needs " +
                                       (bytes == UINT64_MAX ? "more than 2^64" : std::to_string(bytes)) +
                                       " bytes, and " + std::to_string(most) + " are available");
}

}  // namespace multires
