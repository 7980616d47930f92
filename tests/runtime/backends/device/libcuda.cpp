// A CUDA driver without a GPU, for the package to load. Memory is the host's. The kernels are rings.cu, or those of a
// library that is loaded as a module. Work waits for cuStreamSynchronize, as on a slow device, or is kept where the
// stream is captured. Where a driver may accept a mistake, this one refuses it. cuda.h declares every function of the
// driver, under the name that its library has; tests steer the driver by the functions fake_*.
#include <cuda.h>
#include <dlfcn.h>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "rings.cu"

namespace {

using Work = std::function<void()>;
using Works = std::vector<Work>;
// A function of a module. It takes blocks, threads and parameters of a launch, and refuses wrong ones.
using Kernel = std::function<CUresult(unsigned, unsigned, unsigned, void**)>;

struct Module {
  std::map<std::string, Kernel> kernels;
};

struct Driver {
  std::string fail;  // the function that fails, with `status`
  int status = 0, major = 8, minor = 7, multiprocessors = 16, memory_gib = 30, devices = 1;
  std::string name = "Orin";
  unsigned flags = 0;
  std::string calls, launched;  // names, each followed by a space
  std::string refusal;               // what a kernel did that it may not
  Works queue;
  std::unique_ptr<Works> captured;
  // What a program has to give back, by its handle or address.
  std::map<size_t, size_t> contexts, streams, memory, pinned;
  std::map<size_t, Module> modules;
  std::map<size_t, Works> graphs, ready;
};
Driver driver;
size_t handles = 1000;

template <typename Handle, typename Thing>
CUresult give(Handle* handle, std::map<size_t, Thing>& things, Thing thing) {
  *handle = reinterpret_cast<Handle>(++handles);
  things.emplace(handles, std::move(thing));
  return CUDA_SUCCESS;
}

template <typename Handle, typename Thing>
CUresult take(Handle handle, std::map<size_t, Thing>& things) {
  return things.erase((size_t)handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

std::recursive_mutex lock;  // a call may do the work of another thread
unsigned launches = 0;      // the seed of the next launch
void* newest = nullptr;     // the library of the module that was loaded last

// CUDA_FAILS=function:status in the environment asks a process of its own to let a function fail.
CUresult called(const char* function) {
  driver.calls.append(function).append(" ");
  const char* asked = std::getenv("CUDA_FAILS");
  const size_t size = std::strlen(function);
  if (asked && std::strncmp(asked, function, size) == 0 && asked[size] == ':')
    return static_cast<CUresult>(std::atoi(asked + size + 1));
  return driver.fail == function ? static_cast<CUresult>(driver.status) : CUDA_SUCCESS;
}
#define CALLED                                            \
  const std::lock_guard<std::recursive_mutex> held(lock); \
  if (const CUresult refused = called(__func__)) return refused

CUresult ask(Work work) {
  (driver.captured ? *driver.captured : driver.queue).push_back(std::move(work));
  return CUDA_SUCCESS;
}

void* at(CUdeviceptr address) { return reinterpret_cast<void*>(address); }

// Whether a single allocation has all of these bytes.
bool has(const void* address, size_t size) {
  for (const auto* memory : {&driver.memory, &driver.pinned}) {
    const auto after = memory->upper_bound((size_t)address);
    if (after == memory->begin()) continue;
    const auto& [first, bytes] = *std::prev(after);
    if ((size_t)address + size <= first + bytes) return true;
  }
  return false;
}

CUresult change(CUdeviceptr address, size_t size, Work work) {
  return has(at(address), size) ? ask(std::move(work)) : CUDA_ERROR_INVALID_VALUE;
}

template <typename Word, typename Rows, typename... More>
Kernel of_rings(void (*kernel)(const RingAccess*, int, const long long*, Rows*, int, int, More...)) {
  return [kernel](unsigned blocks, unsigned many, unsigned threads, void** p) {
    const auto accesses = *static_cast<const RingAccess**>(p[0]);
    const auto position = *static_cast<const long long**>(p[2]);
    const auto rows = *static_cast<Rows**>(p[3]);
    const int count = *static_cast<int*>(p[1]), batch = *static_cast<int*>(p[4]), words = *static_cast<int*>(p[5]);
    const size_t row = size_t(words) * sizeof(Word);
    bool good = blocks == unsigned(batch) && many == unsigned(count) && threads % 32 == 0 && threads <= 1024;
    good = good && has(accesses, count * sizeof(RingAccess)) && has(position, batch * sizeof(long long));
    good = good && has(rows, batch * count * row);
    for (int i = 0; good && i < count; ++i) good = has(accesses[i].ring, batch * accesses[i].slots * row);
    if (!good) return CUDA_ERROR_INVALID_VALUE;
    if constexpr (sizeof...(More) == 0)
      return ask([=] { kernel(accesses, count, position, rows, batch, words); });
    else
      return ask(
          [=, next = *static_cast<long long**>(p[6])] { kernel(accesses, count, position, rows, batch, words, next); });
  };
}

Module rings() {
#define PAIR(bytes, Word)                                         \
  {"gather_taps_" #bytes, of_rings<Word>(gather_taps_##bytes)}, { \
    "push_rows_" #bytes, of_rings<Word>(push_rows_##bytes)        \
  }
  return {{PAIR(16, Word16), PAIR(4, unsigned), PAIR(2, unsigned short), PAIR(1, unsigned char)}};
}

// Loads a library from memory. Its file ends with its section headers.
CUresult load_library(CUmodule* module, const char* image) {
  Elf64_Ehdr header;
  std::memcpy(&header, image, sizeof header);
  const size_t size = header.e_shoff + size_t{header.e_shnum} * header.e_shentsize;
  const int file = memfd_create("module", 0);
  if (write(file, image, size) != static_cast<ssize_t>(size)) return CUDA_ERROR_INVALID_IMAGE;
  void* library = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW);
  if (!library) return CUDA_ERROR_INVALID_IMAGE;
  // Copies the parameters of a kernel's launch; runs it with a grid, threads, and a seed for the order of the threads,
  // and returns what it may not do; frees it.
  const auto bind = reinterpret_cast<void* (*)(const char*, void**)>(dlsym(library, "multires_bind"));
  const auto run = reinterpret_cast<const char* (*)(void*, int, int, int, unsigned)>(dlsym(library, "multires_run"));
  const auto release = reinterpret_cast<void (*)(void*)>(dlsym(library, "multires_release"));
  const auto* names = static_cast<const char* const*>(dlsym(library, "multires_kernels"));
  if (!bind || !run || !release || !names) return CUDA_ERROR_INVALID_IMAGE;
  if (void* owns = dlsym(library, "multires_owns")) *static_cast<bool (**)(const void*, size_t)>(owns) = has;
  Module made;
  for (; *names; ++names)
    made.kernels[*names] = [=, name = *names](unsigned x, unsigned y, unsigned threads, void** parameters) {
      return ask([=, launch = std::shared_ptr<void>(bind(name, parameters), release)] {
        const char* why = run(launch.get(), int(x), int(y), int(threads), launches++);
        if (why) driver.refusal = why;
      });
    };
  newest = library;
  return give(module, driver.modules, std::move(made));
}

}  // namespace

extern "C" {
CUresult cuInit(unsigned) {
  CALLED;
  return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int* version) { return *version = 12060, CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int* count) {
  CALLED;
  return *count = driver.devices, CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  CALLED;
  return *device = ordinal, ordinal < driver.devices ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
CUresult cuDeviceGetName(char* name, int size, CUdevice) {
  CALLED;
  return std::strncpy(name, driver.name.c_str(), size), CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  CALLED;
  if (attribute == CU_DEVICE_ATTRIBUTE_INTEGRATED) return *value = driver.major == 8 && driver.minor == 7, CUDA_SUCCESS;
  if (attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT) return *value = driver.multiprocessors, CUDA_SUCCESS;
  if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) return *value = driver.major, CUDA_SUCCESS;
  if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR) return *value = driver.minor, CUDA_SUCCESS;
  return CUDA_ERROR_INVALID_VALUE;
}
CUresult cuDeviceTotalMem(size_t* size, CUdevice) {
  CALLED;
  return *size = (static_cast<size_t>(driver.memory_gib) << 30) + (1 << 28), CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxSetFlags(CUdevice, unsigned flags) {
  CALLED;
  return driver.flags = flags, CUDA_SUCCESS;  // also of a device in use, since CUDA 11
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  CALLED;
  if (driver.contexts.empty()) return give(context, driver.contexts, size_t{1});
  auto& [handle, users] = *driver.contexts.begin();  // all users of a device share its primary context
  return *context = reinterpret_cast<CUcontext>(handle), ++users, CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) {
  CALLED;
  if (driver.contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (--driver.contexts.begin()->second == 0) driver.contexts.clear();
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext context) {
  CALLED;
  return driver.contexts.count((size_t)context) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}
CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
  CALLED;
  // Another stream would wait for the default stream.
  return flags == CU_STREAM_NON_BLOCKING ? give(stream, driver.streams, size_t{0}) : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuStreamSynchronize(CUstream stream) {
  CALLED;
  if (driver.captured) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (!driver.streams.count((size_t)stream)) return CUDA_ERROR_INVALID_HANDLE;
  const Works works = std::move(driver.queue);
  driver.queue.clear();
  for (const Work& work : works) work();
  return driver.refusal.empty() ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_ADDRESS;
}
CUresult cuStreamDestroy(CUstream stream) {
  CALLED;
  return take(stream, driver.streams);
}
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  CALLED;
  const char* text = static_cast<const char*>(image);
  if (std::strncmp(text, "//", 2) == 0) text = std::strchr(text, '\n') + 1;  // a comment
  if (std::memcmp(text, ELFMAG, SELFMAG) == 0) return load_library(module, text);
  const bool is_ptx = std::strstr(text, ".entry push_rows_1(");
  return is_ptx ? give(module, driver.modules, rings()) : CUDA_ERROR_INVALID_IMAGE;
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  CALLED;
  const auto found = driver.modules.find((size_t)module);
  if (found == driver.modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  const auto kernel = found->second.kernels.find(name);
  if (kernel == found->second.kernels.end()) return CUDA_ERROR_NOT_FOUND;
  return *function = reinterpret_cast<CUfunction>(&*kernel), CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) {
  CALLED;
  return take(module, driver.modules);
}
CUresult cuMemAlloc(CUdeviceptr* address, size_t size) {
  CALLED;
  // As of a device with an absurd amount of memory: no other test sees a size beyond 32 bits.
  if (size > size_t{1} << 40) return CUDA_ERROR_OUT_OF_MEMORY;
  void* memory = std::memset(std::malloc(size), 0xff, size);  // nobody promised zeros
  driver.memory[*address = reinterpret_cast<CUdeviceptr>(memory)] = size;
  return CUDA_SUCCESS;
}
CUresult cuMemFree(CUdeviceptr address) {
  CALLED;
  if (take(address, driver.memory)) return CUDA_ERROR_INVALID_VALUE;
  return std::free(at(address)), CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void** memory, size_t size, unsigned) {
  CALLED;
  *memory = std::memset(std::malloc(size), 0xff, size);
  return driver.pinned[reinterpret_cast<size_t>(*memory)] = size, CUDA_SUCCESS;
}
CUresult cuMemHostGetDevicePointer(CUdeviceptr* address, void* memory, unsigned) {
  CALLED;
  *address = reinterpret_cast<CUdeviceptr>(memory);
  return driver.pinned.count(*address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemFreeHost(void* memory) {
  CALLED;
  if (take(memory, driver.pinned)) return CUDA_ERROR_INVALID_VALUE;
  return std::free(memory), CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t size, CUstream) {
  CALLED;
  return change(to, size, [=] { std::memcpy(at(to), from, size); });
}
CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t size, CUstream) {
  CALLED;
  return change(from, size, [=] { std::memcpy(to, at(from), size); });
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream) {
  CALLED;
  if (!has(at(from), size)) return CUDA_ERROR_INVALID_VALUE;
  return change(to, size, [=] { std::memcpy(at(to), at(from), size); });
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t size, CUstream) {
  CALLED;
  return change(to, size, [=] { std::memset(at(to), value, size); });
}
CUresult cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned ty,
                        unsigned tz, unsigned shared, CUstream stream, void** parameters, void** extra) {
  CALLED;
  if (z != 1 || ty != 1 || tz != 1 || shared || extra || !driver.streams.count((size_t)stream))
    return CUDA_ERROR_INVALID_VALUE;
  const auto& [name, kernel] = *reinterpret_cast<std::pair<const std::string, Kernel>*>(function);
  driver.launched += name + " ";
  return kernel(x, y, threads, parameters);
}
CUresult cuStreamBeginCapture(CUstream, CUstreamCaptureMode mode) {
  CALLED;
  if (mode != CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) return CUDA_ERROR_INVALID_VALUE;  // other threads may allocate
  return driver.captured = std::make_unique<Works>(), CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream, CUgraph* graph) {
  CALLED;
  return give(graph, driver.graphs, std::move(*std::exchange(driver.captured, nullptr)));
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec* ready, CUgraph graph, unsigned long long flags) {
  CALLED;
  const auto found = driver.graphs.find((size_t)graph);
  if (found == driver.graphs.end() || flags) return CUDA_ERROR_INVALID_VALUE;
  return give(ready, driver.ready, Works(found->second));
}
CUresult cuGraphDestroy(CUgraph graph) {
  CALLED;
  return take(graph, driver.graphs);
}
CUresult cuGraphExecDestroy(CUgraphExec graph) {
  CALLED;
  return take(graph, driver.ready);
}
CUresult cuGraphLaunch(CUgraphExec graph, CUstream) {
  CALLED;
  const auto found = driver.ready.find((size_t)graph);
  if (found == driver.ready.end()) return CUDA_ERROR_INVALID_HANDLE;
  for (const Work& work : found->second) ask(work);
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult status, const char** text) {
#define NAMED(error) \
  if (status == error) return *text = #error, CUDA_SUCCESS
  NAMED(CUDA_ERROR_INVALID_VALUE);
  NAMED(CUDA_ERROR_OUT_OF_MEMORY);
  NAMED(CUDA_ERROR_DEVICE_UNAVAILABLE);
  NAMED(CUDA_ERROR_NO_DEVICE);
  NAMED(CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
  NAMED(CUDA_ERROR_ILLEGAL_ADDRESS);
  NAMED(CUDA_ERROR_NOT_SUPPORTED);
  NAMED(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
  return *text = status == CUDA_ERROR_UNKNOWN ? "CUDA_ERROR_UNKNOWN" : "CUDA_ERROR", CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult, const char** text) {
  return *text = driver.refusal.empty() ? "of the fake driver" : driver.refusal.c_str(), CUDA_SUCCESS;
}

void fake_forget() { driver = Driver(); }
void fake_device(const char* name, int major, int minor, int multiprocessors, int memory_gib, int devices) {
  driver.name = name;
  driver.major = major, driver.minor = minor, driver.multiprocessors = multiprocessors;
  driver.memory_gib = memory_gib, driver.devices = devices;
}
void fake_fail(const char* function, int status) {
  driver.fail = function, driver.status = status, driver.refusal = "";
}
// A variable of the module that was loaded last.
void* fake_variable(const char* name) { return dlsym(newest, name); }
// The order of threads in the next launch.
void fake_seed(unsigned seed) { launches = seed; }
unsigned fake_flags() { return driver.flags; }
// Names of called functions, and of launched kernels, each followed by a space.
const char* fake_calls() { return driver.calls.c_str(); }
const char* fake_launched() { return driver.launched.c_str(); }
void fake_forget_calls() { driver.calls.clear(); }
// How many of a kind were not given back.
int fake_alive(const char* what) {
  const std::map<std::string, size_t> alive = {{"context", driver.contexts.size()}, {"stream", driver.streams.size()},
                                               {"module", driver.modules.size()},   {"memory", driver.memory.size()},
                                               {"pinned", driver.pinned.size()},    {"graph", driver.ready.size()}};
  return static_cast<int>(alive.at(what));
}
// For an engine that runs in Python: what there is, and work of its own, in order with the rest.
int fake_has_stream(CUstream stream) { return static_cast<int>(driver.streams.count((size_t)stream)); }
int fake_has(const void* address, size_t size) { return has(address, size); }
void fake_ask(void (*work)()) { ask(work); }
}
