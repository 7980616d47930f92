#include "device.h"

#include <algorithm>
#include <cstring>

#include "../cuda/wait.h"
#include "rings_ptx.h"

namespace multires {
inline namespace v0 {
namespace tensorrt {
namespace {

// Functions of the driver, which is loaded at run time.
struct Driver {
  CUresult(CUDAAPI* module_load)(CUmodule*, const void*);
  CUresult(CUDAAPI* module_unload)(CUmodule);
  CUresult(CUDAAPI* module_function)(CUfunction*, CUmodule, const char*);
  CUresult(CUDAAPI* launch)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream,
                            void**, void**);
  CUresult(CUDAAPI* error_string)(CUresult, const char**);

  Driver() {
    find("cuModuleLoadData", module_load);
    find("cuModuleUnload", module_unload);
    find("cuModuleGetFunction", module_function);
    find("cuLaunchKernel", launch);
    find("cuGetErrorString", error_string);
  }

  void check(CUresult status, const char* what) const {
    if (status == CUDA_SUCCESS) return;
    const char* text = nullptr;
    error_string(status, &text);
    throw Error(MULTIRES_DEVICE, std::string(what) + ": " + (text ? text : "unknown error"));
  }

 private:
  template <typename Function>
  static void find(const char* name, Function& function) {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    tensorrt::check(cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result), name);
    if (!found)
      throw Error(MULTIRES_DEVICE,
                  std::string("the CUDA driver has no ") + name + "; install a driver for CUDA 12.0 or later");
    function = reinterpret_cast<Function>(found);
  }
};

const Driver& driver() {
  static const Driver found;
  return found;
}

} // namespace

void require_device() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess)
    throw Error(MULTIRES_DEVICE, std::string("needs a CUDA device: ") + cudaGetErrorString(status));
  if (count < 1) throw Error(MULTIRES_DEVICE, "needs a CUDA device; the driver found none");
  // Before the first use of the device.
  if (const unsigned wait = cuda::wait_flag()) check(cudaSetDeviceFlags(wait), "cudaSetDeviceFlags");
  check(cudaSetDevice(0), "cudaSetDevice");
}

DeviceMemory device_memory(std::size_t bytes) {
  void* data = nullptr;
  check(cudaMalloc(&data, std::max<std::size_t>(bytes, 1)), "cudaMalloc");
  DeviceMemory memory(data);
  check(cudaMemset(data, 0, bytes), "cudaMemset");
  return memory;
}

PinnedMemory pinned_memory(std::size_t bytes) {
  void* data = nullptr;
  check(cudaHostAlloc(&data, std::max<std::size_t>(bytes, 1), cudaHostAllocMapped), "cudaHostAlloc");
  std::memset(data, 0, bytes);
  return PinnedMemory(data);
}

Exchanged::Exchanged(std::size_t bytes) : bytes_(bytes), host_(pinned_memory(bytes)) {
  int shared = 0;
  void* address = nullptr;
  check(cudaDeviceGetAttribute(&shared, cudaDevAttrIntegrated, 0), "cudaDeviceGetAttribute");
  if (shared) {
    check(cudaHostGetDevicePointer(&address, host_.get(), 0), "cudaHostGetDevicePointer");
  } else {
    device_ = device_memory(bytes);
    address = device_.get();
  }
  address_ = static_cast<unsigned char*>(address);
}

void Exchanged::send(cudaStream_t stream) const {
  if (device_) check(cudaMemcpyAsync(address_, host(), bytes_, cudaMemcpyHostToDevice, stream), "copy of x");
}

void Exchanged::receive(cudaStream_t stream) const {
  if (device_) check(cudaMemcpyAsync(host(), address_, bytes_, cudaMemcpyDeviceToHost, stream), "copy of y");
}

CudaStream new_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  return CudaStream(stream);
}

RingKernels::RingKernels() {
  CUmodule module = nullptr;
  driver().check(driver().module_load(&module, kRingsPtx), "cuModuleLoadData");
  module_.reset(module);
  for (int i = 0; i < 4; ++i) {
    const std::string word = std::to_string(kWords[i]);
    driver().check(driver().module_function(&gather_[i], module, ("gather_taps_" + word).c_str()), "gather_taps");
    driver().check(driver().module_function(&push_[i], module, ("push_rows_" + word).c_str()), "push_rows");
  }
}

void RingKernels::Unload::operator()(CUmodule module) const { driver().module_unload(module); }

void RingKernels::launch(const CUfunction (&kernels)[4], const RingMove& move, void* position, void* next_position,
                         cudaStream_t stream) const {
  int which = 0;
  while (move.row_bytes % kWords[which]) ++which; // the last is 1
  RingMove of = move;
  int words = move.row_bytes / kWords[which];
  // gather_taps has one parameter less and ignores the last.
  void* parameters[] = {&of.accesses, &of.count, &position, &of.rows, &of.batch, &words, &next_position};
  const unsigned threads = static_cast<unsigned>(std::min(256, (words + 31) / 32 * 32));
  driver().check(driver().launch(kernels[which], static_cast<unsigned>(move.batch), static_cast<unsigned>(move.count),
                                 1, threads, 1, 1, 0, stream, parameters, nullptr),
                 "cuLaunchKernel");
}

} // namespace tensorrt
} // namespace v0
} // namespace multires
