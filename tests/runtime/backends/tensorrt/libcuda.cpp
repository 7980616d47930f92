// A CUDA driver without a GPU, for the real Python binding to load: memory is the host's, the kernels are
// rings.cu, and work is done at once, or kept where a stream is captured.
#include <cuda.h>

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

CUresult init(unsigned) { return CUDA_SUCCESS; }
CUresult device_get(CUdevice* device, int) { return *device = 0, CUDA_SUCCESS; }
CUresult retain(CUcontext* context, CUdevice) { return give(context); }
CUresult release(CUdevice) { return CUDA_SUCCESS; }
CUresult set_current(CUcontext context) { return context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT; }
CUresult stream_create(CUstream* stream, unsigned) { return give(stream); }
CUresult stream_ok(CUstream stream) { return stream ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE; }
CUresult module_load(CUmodule* module, const void* image) {
  return std::strstr(static_cast<const char*>(image), ".entry push_rows_1(") ? give(module) : CUDA_ERROR_INVALID_IMAGE;
}
CUresult module_unload(CUmodule) { return CUDA_SUCCESS; }
CUresult allocate(CUdeviceptr* address, size_t size) {
  void* memory = std::malloc(size);
  std::memset(memory, 0xff, size);
  *address = reinterpret_cast<CUdeviceptr>(memory);
  return CUDA_SUCCESS;
}
CUresult host_allocate(void** memory, size_t size, unsigned) { return *memory = std::malloc(size), CUDA_SUCCESS; }
CUresult release_memory(CUdeviceptr address) { return std::free(at(address)), CUDA_SUCCESS; }
CUresult release_host(void* memory) { return std::free(memory), CUDA_SUCCESS; }
CUresult upload(CUdeviceptr to, const void* from, size_t size, CUstream) {
  return ask([=] { std::memcpy(at(to), from, size); });
}
CUresult download(void* to, CUdeviceptr from, size_t size, CUstream) {
  return ask([=] { std::memcpy(to, at(from), size); });
}
CUresult copy(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream) {
  return ask([=] { std::memcpy(at(to), at(from), size); });
}
CUresult fill(CUdeviceptr to, unsigned char value, size_t size, CUstream) {
  return ask([=] { std::memset(at(to), value, size); });
}
CUresult begin_capture(CUstream, CUstreamCaptureMode) { return capturing = new Works, CUDA_SUCCESS; }
CUresult end_capture(CUstream, CUgraph* graph) {
  *graph = reinterpret_cast<CUgraph>(capturing);
  capturing = nullptr;
  return CUDA_SUCCESS;
}
CUresult instantiate(CUgraphExec* ready, CUgraph graph, unsigned long long) {
  *ready = reinterpret_cast<CUgraphExec>(new Works(*reinterpret_cast<Works*>(graph)));
  return CUDA_SUCCESS;
}
CUresult graph_destroy(CUgraph graph) { return delete reinterpret_cast<Works*>(graph), CUDA_SUCCESS; }
CUresult exec_destroy(CUgraphExec graph) { return delete reinterpret_cast<Works*>(graph), CUDA_SUCCESS; }
CUresult graph_launch(CUgraphExec graph, CUstream) {
  for (const Work& work : *reinterpret_cast<Works*>(graph)) ask(work);
  return CUDA_SUCCESS;
}
CUresult error_string(CUresult, const char** text) { return *text = "of the fake driver", CUDA_SUCCESS; }

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

CUresult module_function(CUfunction* function, CUmodule, const char* name) {
  const auto found = kernels.find(name);
  if (found == kernels.end()) return CUDA_ERROR_NOT_FOUND;
  *function = reinterpret_cast<CUfunction>(const_cast<std::function<void(void**)>*>(&found->second));
  return CUDA_SUCCESS;
}

CUresult launch(CUfunction function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream,
                void** parameters, void**) {
  (*reinterpret_cast<std::function<void(void**)>*>(function))(parameters);
  return CUDA_SUCCESS;
}

template <typename Function>
void* any(Function* function) {
  return reinterpret_cast<void*>(function);
}

const std::map<std::string, void*> functions = {
    {"cuInit", any(init)},
    {"cuDeviceGet", any(device_get)},
    {"cuDevicePrimaryCtxRetain", any(retain)},
    {"cuDevicePrimaryCtxRelease", any(release)},
    {"cuCtxSetCurrent", any(set_current)},
    {"cuStreamCreate", any(stream_create)},
    {"cuStreamSynchronize", any(stream_ok)},
    {"cuStreamDestroy", any(stream_ok)},
    {"cuModuleLoadData", any(module_load)},
    {"cuModuleUnload", any(module_unload)},
    {"cuModuleGetFunction", any(module_function)},
    {"cuMemAlloc", any(allocate)},
    {"cuMemHostAlloc", any(host_allocate)},
    {"cuMemFree", any(release_memory)},
    {"cuMemFreeHost", any(release_host)},
    {"cuMemcpyHtoDAsync", any(upload)},
    {"cuMemcpyDtoHAsync", any(download)},
    {"cuMemcpyDtoDAsync", any(copy)},
    {"cuMemsetD8Async", any(fill)},
    {"cuStreamBeginCapture", any(begin_capture)},
    {"cuStreamEndCapture", any(end_capture)},
    {"cuGraphInstantiate", any(instantiate)},
    {"cuGraphInstantiateWithFlags", any(instantiate)},
    {"cuGraphDestroy", any(graph_destroy)},
    {"cuGraphExecDestroy", any(exec_destroy)},
    {"cuGraphLaunch", any(graph_launch)},
    {"cuLaunchKernel", any(launch)},
    {"cuGetErrorString", any(error_string)},
};

}  // namespace

extern "C" {
#undef cuGetProcAddress
CUresult cuGetProcAddress_v2(const char* name, void** function, int, cuuint64_t, CUdriverProcAddressQueryResult*) {
  const auto found = functions.find(name);
  *function = found == functions.end() ? nullptr : found->second;
  return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
CUresult cuGetProcAddress(const char* name, void** function, int version, cuuint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}

// For an engine that runs in Python: work of its own, in order with the rest.
void ask_from_python(void (*work)()) { ask(work); }
}
