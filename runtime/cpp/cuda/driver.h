// The CUDA driver, which is loaded at run time: a program with this library starts on a machine without it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "multires.hpp"

namespace multires {
inline namespace v0 {
namespace cuda {

using Address = unsigned long long;  // of memory on the device

// An error of the driver: the name of the function, and the driver's words. `code` is its number, 0 without one.
struct DriverError : Error {
  DriverError(const std::string& message, int number) : Error(MULTIRES_DEVICE, message), code(number) {}
  int code;
};

// The functions by their names in the library, and their parameters. All return a CUresult. Handles are void*.
#define MULTIRES_CUDA_FUNCTIONS(X)                                                                              \
  X(cuInit, unsigned)                                                                                           \
  X(cuDriverGetVersion, int*)                                                                                   \
  X(cuDeviceGetCount, int*)                                                                                     \
  X(cuDeviceGet, int*, int)                                                                                     \
  X(cuDeviceGetAttribute, int*, int, int)                                                                       \
  X(cuDevicePrimaryCtxSetFlags_v2, int, unsigned)                                                               \
  X(cuDevicePrimaryCtxRetain, void**, int)                                                                      \
  X(cuDevicePrimaryCtxRelease_v2, int)                                                                          \
  X(cuCtxSetCurrent, void*)                                                                                     \
  X(cuStreamCreate, void**, unsigned)                                                                           \
  X(cuStreamSynchronize, void*)                                                                                 \
  X(cuStreamDestroy_v2, void*)                                                                                  \
  X(cuModuleLoadData, void**, const void*)                                                                      \
  X(cuModuleGetFunction, void**, void*, const char*)                                                            \
  X(cuModuleUnload, void*)                                                                                      \
  X(cuMemAlloc_v2, Address*, std::size_t)                                                                       \
  X(cuMemFree_v2, Address)                                                                                      \
  X(cuMemHostAlloc, void**, std::size_t, unsigned)                                                              \
  X(cuMemHostGetDevicePointer_v2, Address*, void*, unsigned)                                                    \
  X(cuMemFreeHost, void*)                                                                                       \
  X(cuMemcpyHtoDAsync_v2, Address, const void*, std::size_t, void*)                                             \
  X(cuMemcpyDtoHAsync_v2, void*, Address, std::size_t, void*)                                                   \
  X(cuMemsetD8Async, Address, unsigned char, std::size_t, void*)                                                \
  X(cuLaunchKernel, void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, \
    void**)                                                                                                     \
  X(cuGetErrorName, int, const char**)                                                                          \
  X(cuGetErrorString, int, const char**)

class Driver {
 public:
  // Loads `library`, or the driver of this machine for "", and starts it. Throws Error (MULTIRES_DEVICE).
  explicit Driver(const std::string& library);

#define MULTIRES_DECLARE(name, ...) int (*name)(__VA_ARGS__) = nullptr;
  MULTIRES_CUDA_FUNCTIONS(MULTIRES_DECLARE)
#undef MULTIRES_DECLARE

  // Throws DriverError for the status of a function that failed.
  void check(int status, const char* function) const {
    if (status != 0) fail(status, function);
  }

 private:
  [[noreturn]] void fail(int status, const char* function) const;
};

// The first device of CUDA_VISIBLE_DEVICES, in its primary context. All work is queued on one stream, in the order of
// the calls; only wait() waits, as the environment variable MULTIRES_CUDA_WAIT says. Every function throws Error
// (MULTIRES_DEVICE). All memory is zeroed, and freed with the device.
class Device {
 public:
  explicit Device(std::shared_ptr<const Driver> driver);
  ~Device();
  Device(const Device&) = delete;

  // Makes this the device of the calling thread; comes before every other call.
  void activate() const { driver_->check(driver_->cuCtxSetCurrent(context_), "cuCtxSetCurrent"); }

  int multiprocessors() const { return attribute(16); }
  int capability() const { return 10 * attribute(75) + attribute(76); }  // 87 for 8.7
  int cuda() const;  // the newest major version of CUDA whose programs the driver runs

  Address allocate(std::size_t bytes);
  // Memory of the host that kernels use too, with its address on the device.
  template <typename T>
  struct Mapped {
    T* data = nullptr;
    Address address = 0;
  };
  template <typename T>
  Mapped<T> map(std::size_t count) {
    Mapped<T> mapped;
    mapped.data = static_cast<T*>(map_bytes(count * sizeof(T), mapped.address));
    return mapped;
  }
  void upload(Address to, const void* from, std::size_t bytes) const;
  void download(void* to, Address from, std::size_t bytes) const;
  void zero(Address to, std::size_t bytes) const;
  // Machine code, or PTX and a zero byte; returns the kernel of a name.
  void* load(const void* image, const char* name);
  void launch(void* kernel, int blocks, int threads, void** parameters) const;
  void wait() const;

 private:
  int attribute(int which) const;
  void* map_bytes(std::size_t bytes, Address& address);

  std::shared_ptr<const Driver> driver_;
  int device_ = 0;
  void *context_ = nullptr, *stream_ = nullptr, *module_ = nullptr;
  std::vector<Address> memory_;
  std::vector<void*> mapped_;
  void close() noexcept;
};

}  // namespace cuda
}  // namespace v0
}  // namespace multires
