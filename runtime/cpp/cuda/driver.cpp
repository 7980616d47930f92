#include "driver.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "wait.h"

namespace multires {
inline namespace v0 {
namespace cuda {
namespace {

constexpr unsigned kNonBlocking = 1;  // CU_STREAM_NON_BLOCKING
constexpr unsigned kMapped = 2;       // CU_MEMHOSTALLOC_DEVICEMAP

void* open_library(const std::string& given) {
  if (!given.empty()) return dlopen(given.c_str(), RTLD_NOW);
  for (const char* name : {"libcuda.so.1", "libcuda.so"})
    if (void* library = dlopen(name, RTLD_NOW)) return library;
  return nullptr;
}

}  // namespace

// The library stays loaded, as in every program of CUDA.
Driver::Driver(const std::string& library) {
  void* opened = open_library(library);
  if (!opened)
    throw Error(
        MULTIRES_DEVICE,
        "no CUDA driver was found (libcuda.so.1): install NVIDIA's driver, or use a machine with an NVIDIA GPU");
  const auto find = [&](const char* name, auto& function) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(opened, name));
    if (!function)
      throw Error(MULTIRES_DEVICE, "the CUDA driver is too old, it has no " + std::string(name) + ": update it");
  };
#define MULTIRES_FIND(name, ...) find(#name, name);
  MULTIRES_CUDA_FUNCTIONS(MULTIRES_FIND)
#undef MULTIRES_FIND
  check(cuInit(0), "cuInit");
}

void Driver::fail(int status, const char* function) const {
  const char *name = nullptr, *text = nullptr;
  cuGetErrorName(status, &name);
  cuGetErrorString(status, &text);
  throw DriverError(std::string(function) + " failed: " + (name ? name : "unknown error") + " (" +
                        std::to_string(status) + "), " + (text ? text : "unknown error"),
                    status);
}

Device::Device(std::shared_ptr<const Driver> driver) : driver_(std::move(driver)) {
  const Driver& d = *driver_;
  int count = 0;
  d.check(d.cuDeviceGetCount(&count), "cuDeviceGetCount");
  if (count < 1) throw Error(MULTIRES_DEVICE, "the CUDA driver found no device");
  d.check(d.cuDeviceGet(&device_, 0), "cuDeviceGet");
  if (const unsigned wait = wait_flag())
    d.check(d.cuDevicePrimaryCtxSetFlags_v2(device_, wait), "cuDevicePrimaryCtxSetFlags");
  d.check(d.cuDevicePrimaryCtxRetain(&context_, device_), "cuDevicePrimaryCtxRetain");
  try {
    activate();
    d.check(d.cuStreamCreate(&stream_, kNonBlocking), "cuStreamCreate");
  } catch (...) {
    close();
    throw;
  }
}

Device::~Device() { close(); }

// Ignores errors: they were reported before, and everything else must be freed.
void Device::close() noexcept {
  const Driver& d = *driver_;
  d.cuCtxSetCurrent(context_);
  if (stream_) d.cuStreamSynchronize(stream_);
  for (const Address address : memory_) d.cuMemFree_v2(address);
  for (void* data : mapped_) d.cuMemFreeHost(data);
  if (module_) d.cuModuleUnload(module_);
  if (stream_) d.cuStreamDestroy_v2(stream_);
  d.cuDevicePrimaryCtxRelease_v2(device_);
}

int Device::attribute(int which) const {
  int value = 0;
  driver_->check(driver_->cuDeviceGetAttribute(&value, which, device_), "cuDeviceGetAttribute");
  return value;
}

int Device::cuda() const {
  int version = 0;
  driver_->check(driver_->cuDriverGetVersion(&version), "cuDriverGetVersion");
  return version / 1000;
}

Address Device::allocate(std::size_t bytes) {
  Address address = 0;
  memory_.reserve(memory_.size() + 1);
  driver_->check(driver_->cuMemAlloc_v2(&address, std::max<std::size_t>(bytes, 1)), "cuMemAlloc");
  memory_.push_back(address);
  zero(address, bytes);
  return address;
}

void* Device::map_bytes(std::size_t bytes, Address& address) {
  void* data = nullptr;
  mapped_.reserve(mapped_.size() + 1);
  driver_->check(driver_->cuMemHostAlloc(&data, std::max<std::size_t>(bytes, 1), kMapped), "cuMemHostAlloc");
  mapped_.push_back(data);
  std::memset(data, 0, bytes);
  driver_->check(driver_->cuMemHostGetDevicePointer_v2(&address, data, 0), "cuMemHostGetDevicePointer");
  return data;
}

void Device::upload(Address to, const void* from, std::size_t bytes) const {
  driver_->check(driver_->cuMemcpyHtoDAsync_v2(to, from, bytes, stream_), "cuMemcpyHtoDAsync");
}

void Device::download(void* to, Address from, std::size_t bytes) const {
  driver_->check(driver_->cuMemcpyDtoHAsync_v2(to, from, bytes, stream_), "cuMemcpyDtoHAsync");
}

void Device::zero(Address to, std::size_t bytes) const {
  if (bytes > 0) driver_->check(driver_->cuMemsetD8Async(to, 0, bytes, stream_), "cuMemsetD8Async");
}

void* Device::load(const void* image, const char* name) {
  driver_->check(driver_->cuModuleLoadData(&module_, image), "cuModuleLoadData");
  void* kernel = nullptr;
  driver_->check(driver_->cuModuleGetFunction(&kernel, module_, name), "cuModuleGetFunction");
  return kernel;
}

void Device::launch(void* kernel, int blocks, int threads, void** parameters) const {
  driver_->check(driver_->cuLaunchKernel(kernel, static_cast<unsigned>(blocks), 1, 1, static_cast<unsigned>(threads), 1,
                                         1, 0, stream_, parameters, nullptr),
                 "cuLaunchKernel");
}

void Device::wait() const { driver_->check(driver_->cuStreamSynchronize(stream_), "cuStreamSynchronize"); }

}  // namespace cuda
}  // namespace v0
}  // namespace multires
