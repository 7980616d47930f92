// A CUDA driver without a GPU, for the package to load: memory is the host's, the kernels are rings.cu, or those of a
// library that is loaded as a module, and work is done at once, or kept where a stream is captured. cuda.h declares
// every function, under the name that the driver's library has.
#include <cuda.h>
#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "rings.cu"

namespace {

using Work = std::function<void()>;
using Works = std::vector<Work>;
Works* capturing = nullptr;

CUresult ask(Work work) {
  if (capturing)
    capturing->push_back(std::move(work));
  else
    work();
  return CUDA_SUCCESS;
}

void* at(CUdeviceptr address) { return reinterpret_cast<void*>(address); }

template <typename Handle>
CUresult give(Handle* handle) {
  *handle = reinterpret_cast<Handle>(1);
  return CUDA_SUCCESS;
}

template <typename Word>
void gather(void** p, void (*kernel)(const RingAccess*, int, const long long*, Word*, int, int)) {
  const auto accesses = *static_cast<const RingAccess**>(p[0]);
  const auto position = *static_cast<const long long**>(p[2]);
  const auto rows = *static_cast<Word**>(p[3]);
  const int count = *static_cast<int*>(p[1]), batch = *static_cast<int*>(p[4]), words = *static_cast<int*>(p[5]);
  ask([=] { kernel(accesses, count, position, rows, batch, words); });
}

template <typename Word>
void push(void** p, void (*kernel)(const RingAccess*, int, const long long*, const Word*, int, int, long long*)) {
  const auto accesses = *static_cast<const RingAccess**>(p[0]);
  const auto position = *static_cast<const long long**>(p[2]);
  const auto rows = *static_cast<const Word**>(p[3]);
  const int count = *static_cast<int*>(p[1]), batch = *static_cast<int*>(p[4]), words = *static_cast<int*>(p[5]);
  const auto next = *static_cast<long long**>(p[6]);
  ask([=] { kernel(accesses, count, position, rows, batch, words, next); });
}

const std::map<std::string, std::function<void(void**)>> kernels = {
    {"gather_taps_16", [](void** p) { gather(p, gather_taps_16); }},
    {"gather_taps_4", [](void** p) { gather(p, gather_taps_4); }},
    {"gather_taps_2", [](void** p) { gather(p, gather_taps_2); }},
    {"gather_taps_1", [](void** p) { gather(p, gather_taps_1); }},
    {"push_rows_16", [](void** p) { push(p, push_rows_16); }},
    {"push_rows_4", [](void** p) { push(p, push_rows_4); }},
    {"push_rows_2", [](void** p) { push(p, push_rows_2); }},
    {"push_rows_1", [](void** p) { push(p, push_rows_1); }},
};

// The steps of a module that was compiled for the host: parameters, blocks and threads of a launch, and a seed.
using Steps = void (*)(void**, int, int, unsigned);
const char* kSteps = "multires_step";
std::map<CUmodule, Steps> libraries;

// Loads a library from memory. Its file ends with its section headers.
CUresult load_library(CUmodule* module, const Elf64_Ehdr* header) {
  const size_t size = header->e_shoff + size_t{header->e_shnum} * header->e_shentsize;
  const int file = memfd_create("module", 0);
  if (write(file, header, size) != static_cast<ssize_t>(size)) return CUDA_ERROR_INVALID_IMAGE;
  void* library = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW);
  if (!library) return CUDA_ERROR_INVALID_IMAGE;
  *module = static_cast<CUmodule>(library);
  libraries[*module] = reinterpret_cast<Steps>(dlsym(library, "multires_launch"));
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {
CUresult cuInit(unsigned) {
  const char* refused = std::getenv("CUINIT");  // the status that a test asks for
  return refused ? static_cast<CUresult>(std::atoi(refused)) : CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int* version) { return *version = 12060, CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int* count) { return *count = 1, CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice* device, int) { return *device = 0, CUDA_SUCCESS; }
CUresult cuDeviceGetName(char* name, int size, CUdevice) { return std::strncpy(name, "Orin", size), CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  if (attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT) return *value = 16, CUDA_SUCCESS;
  return *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 8 : 7, CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t* size, CUdevice) { return *size = size_t{30} << 30, CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxSetFlags(CUdevice, unsigned) { return CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) { return give(context); }
CUresult cuDevicePrimaryCtxRelease(CUdevice) { return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext context) { return context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT; }
CUresult cuStreamCreate(CUstream* stream, unsigned) { return give(stream); }
CUresult cuStreamSynchronize(CUstream stream) { return stream ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE; }
CUresult cuStreamDestroy(CUstream stream) { return cuStreamSynchronize(stream); }
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  if (std::memcmp(image, ELFMAG, SELFMAG) == 0) return load_library(module, static_cast<const Elf64_Ehdr*>(image));
  return std::strstr(static_cast<const char*>(image), ".entry push_rows_1(") ? give(module) : CUDA_ERROR_INVALID_IMAGE;
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  const auto library = libraries.find(module);
  if (library != libraries.end()) {
    *function = reinterpret_cast<CUfunction>(library->second);
    return std::strcmp(name, kSteps) == 0 ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
  }
  const auto found = kernels.find(name);
  if (found == kernels.end()) return CUDA_ERROR_NOT_FOUND;
  *function = reinterpret_cast<CUfunction>(const_cast<std::function<void(void**)>*>(&found->second));
  return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
CUresult cuMemAlloc(CUdeviceptr* address, size_t size) {
  // As of a device with an absurd amount of memory: no other test sees a size beyond 32 bits.
  if (size > size_t{1} << 40) return CUDA_ERROR_OUT_OF_MEMORY;
  void* memory = std::malloc(size);
  std::memset(memory, 0xff, size);
  *address = reinterpret_cast<CUdeviceptr>(memory);
  return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) { return std::free(at(address)), CUDA_SUCCESS; }
CUresult cuMemHostAlloc(void** memory, size_t size, unsigned) { return *memory = std::malloc(size), CUDA_SUCCESS; }
CUresult cuMemHostGetDevicePointer(CUdeviceptr* address, void* memory, unsigned) {
  return *address = reinterpret_cast<CUdeviceptr>(memory), CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void* memory) { return std::free(memory), CUDA_SUCCESS; }
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t size, CUstream) {
  return ask([=] { std::memcpy(at(to), from, size); });
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t size, CUstream) {
  return ask([=] { std::memcpy(to, at(from), size); });
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream) {
  return ask([=] { std::memcpy(at(to), at(from), size); });
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t size, CUstream) {
  return ask([=] { std::memset(at(to), value, size); });
}
CUresult cuLaunchKernel(CUfunction function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned,
                        unsigned, CUstream, void** parameters, void**) {
  for (const auto& [module, steps] : libraries)
    if (function == reinterpret_cast<CUfunction>(steps)) {
      static unsigned launches = 0;
      return steps(parameters, static_cast<int>(blocks), static_cast<int>(threads), launches++), CUDA_SUCCESS;
    }
  (*reinterpret_cast<std::function<void(void**)>*>(function))(parameters);
  return CUDA_SUCCESS;
}
CUresult cuStreamBeginCapture(CUstream, CUstreamCaptureMode) { return capturing = new Works, CUDA_SUCCESS; }
CUresult cuStreamEndCapture(CUstream, CUgraph* graph) {
  *graph = reinterpret_cast<CUgraph>(capturing);
  capturing = nullptr;
  return CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec* ready, CUgraph graph, unsigned long long) {
  *ready = reinterpret_cast<CUgraphExec>(new Works(*reinterpret_cast<Works*>(graph)));
  return CUDA_SUCCESS;
}
CUresult cuGraphDestroy(CUgraph graph) { return delete reinterpret_cast<Works*>(graph), CUDA_SUCCESS; }
CUresult cuGraphExecDestroy(CUgraphExec graph) { return delete reinterpret_cast<Works*>(graph), CUDA_SUCCESS; }
CUresult cuGraphLaunch(CUgraphExec graph, CUstream) {
  for (const Work& work : *reinterpret_cast<Works*>(graph)) ask(work);
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult status, const char** text) {
  return *text = status == CUDA_ERROR_OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR", CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult, const char** text) { return *text = "of the fake driver", CUDA_SUCCESS; }

// For an engine that runs in Python: work of its own, in order with the rest.
void ask_from_python(void (*work)()) { ask(work); }
}
