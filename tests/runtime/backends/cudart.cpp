// The CUDA runtime and cuBLAS without a GPU, as far as ONNX Runtime's CUDA provider needs them to load a graph: memory
// is the host's, and nothing is computed. missing.h has every other function that the provider links with.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>

#include "missing.h"

namespace {
template <typename Handle>
int give(Handle* handle) {
  *handle = reinterpret_cast<Handle>(1);
  return 0;
}
}  // namespace

extern "C" {
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* device, int) {
  *device = {};
  std::strcpy(device->name, "Orin");
  device->major = 8, device->minor = 7, device->multiProcessorCount = 16, device->warpSize = 32;
  device->maxThreadsPerBlock = 1024, device->maxThreadsPerMultiProcessor = 1536;
  device->sharedMemPerBlock = device->sharedMemPerBlockOptin = 48 << 10, device->totalGlobalMem = size_t{30} << 30;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) { return *value = 0, cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* left, size_t* all) { return *left = *all = size_t{30} << 30, cudaSuccess; }
cudaError_t cudaMalloc(void** data, size_t size) { return *data = std::malloc(size + 256), cudaSuccess; }
cudaError_t cudaFree(void* data) { return std::free(data), cudaSuccess; }
cudaError_t cudaMallocHost(void** data, size_t size) { return cudaMalloc(data, size); }
cudaError_t cudaHostAlloc(void** data, size_t size, unsigned) { return cudaMalloc(data, size); }
cudaError_t cudaFreeHost(void* data) { return cudaFree(data); }
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
  return std::memcpy(to, from, size), cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, size, kind);
}
cudaError_t cudaMemset(void* data, int value, size_t size) { return std::memset(data, value, size), cudaSuccess; }
cudaError_t cudaMemsetAsync(void* data, int value, size_t size, cudaStream_t) { return cudaMemset(data, value, size); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return static_cast<cudaError_t>(give(stream)); }
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return static_cast<cudaError_t>(give(stream)); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return static_cast<cudaError_t>(give(event)); }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return static_cast<cudaError_t>(give(event)); }
const char* cudaGetErrorString(cudaError_t) { return "of the fake runtime"; }
const char* cudaGetErrorName(cudaError_t) { return "of the fake runtime"; }
void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
int cublasCreate_v2(void** handle) { return give(handle); }
int cublasLtCreate(void** handle) { return give(handle); }
}
