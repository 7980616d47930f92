// A GPU that is not there, for the C++ streams: preloaded, it takes the place of the CUDA runtime and of
// TensorRT. Device memory is the host's, work waits in a list until a stream is waited for, the ring kernels
// are rings.cu itself, and an engine computes its step or taps graph by the native engine.
//
// An engine's file holds: KIND SMALLEST_BATCH LARGEST_BATCH WEIGHTS, with KIND "step" or "taps".
//
// With the headers of TensorRT-RTX, a step engine updates its queues in place, and contexts need a cache for kernels.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "multires.h"
#include "rings.cu"
#include "stubs.h"  // of TensorRT's interfaces: every function ends the program

namespace {

using Work = std::function<void()>;
std::vector<Work> queue;
std::vector<Work>* capturing = nullptr;

cudaError_t ask(Work work) {
  (capturing ? *capturing : queue).push_back(std::move(work));
  return cudaSuccess;
}

void wait() {
  if (capturing) std::abort();
  std::vector<Work> all;
  all.swap(queue);
  for (const Work& work : all) work();
}

cudaError_t allocate(void** data, size_t size) {
  *data = std::malloc(size);
  std::memset(*data, 0xff, size);  // nobody promised zeros
  return cudaSuccess;
}

CUresult module_load(CUmodule* module, const void* image) {
  *module = reinterpret_cast<CUmodule>(1);
  return std::strstr(static_cast<const char*>(image), ".entry push_rows_16(") ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}
CUresult module_unload(CUmodule) { return CUDA_SUCCESS; }
CUresult error_string(CUresult, const char** text) {
  *text = "of the fake driver";
  return CUDA_SUCCESS;
}

#define KERNEL(name) {#name, reinterpret_cast<void*>(&name)}
const std::map<std::string, void*> kernels = {KERNEL(gather_taps_16), KERNEL(gather_taps_4), KERNEL(gather_taps_2),
                                              KERNEL(gather_taps_1),  KERNEL(push_rows_16),  KERNEL(push_rows_4),
                                              KERNEL(push_rows_2),    KERNEL(push_rows_1)};

CUresult module_function(CUfunction* function, CUmodule, const char* name) {
  *function = reinterpret_cast<CUfunction>(const_cast<std::pair<const std::string, void*>*>(&*kernels.find(name)));
  return CUDA_SUCCESS;
}

CUresult launch(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                unsigned block_y, unsigned block_z, unsigned, CUstream, void** p, void**) {
  const auto& kernel = *reinterpret_cast<const std::pair<const std::string, void*>*>(function);
  const auto pointer = [&](int i) { return *static_cast<void**>(p[i]); };
  const auto number = [&](int i) { return *static_cast<int*>(p[i]); };
  void *accesses = pointer(0), *position = pointer(2), *rows = pointer(3);
  const int count = number(1), batch = number(4), words = number(5);
  if (grid_x != static_cast<unsigned>(batch) || grid_y != static_cast<unsigned>(count) || grid_z != 1 || block_x % 32 ||
      block_x > 1024 || block_y != 1 || block_z != 1)
    return CUDA_ERROR_INVALID_VALUE;
  if (kernel.first.rfind("gather", 0) == 0) {
    using Gather = void(void*, int, void*, void*, int, int);
    ask([=] { reinterpret_cast<Gather*>(kernel.second)(accesses, count, position, rows, batch, words); });
  } else {
    void* next = pointer(6);
    using Push = void(void*, int, void*, void*, int, int, void*);
    ask([=] { reinterpret_cast<Push*>(kernel.second)(accesses, count, position, rows, batch, words, next); });
  }
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
// The function that a test wants to fail.
static bool refused(const char* function) {
  const char* name = std::getenv("REFUSED");
  return name && std::strcmp(name, function) == 0;
}
cudaError_t cudaSetDeviceFlags(unsigned flags) { return std::fprintf(stderr, "flags %u\n", flags), cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "of the fake runtime"; }
cudaError_t cudaMalloc(void** data, size_t size) { return allocate(data, size); }
cudaError_t cudaHostAlloc(void** data, size_t size, unsigned) { return allocate(data, size); }
cudaError_t cudaHostGetDevicePointer(void** address, void* data, unsigned) { return *address = data, cudaSuccess; }
// Whether host and device share their memory, as INTEGRATED in the environment says.
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  return *value = std::getenv("INTEGRATED") ? 1 : 0, cudaSuccess;
}
cudaError_t cudaFree(void* data) { return std::free(data), cudaSuccess; }
cudaError_t cudaFreeHost(void* data) { return std::free(data), cudaSuccess; }
cudaError_t cudaMemset(void* data, int value, size_t size) { return std::memset(data, value, size), cudaSuccess; }
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
  return std::memcpy(to, from, size), cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind, cudaStream_t) {
  return ask([=] { std::memcpy(to, from, size); });
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t size, cudaStream_t) {
  return ask([=] { std::memset(data, value, size); });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return *stream = reinterpret_cast<cudaStream_t>(1), cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return wait(), cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return wait(), cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  if (refused("cudaStreamBeginCapture")) return cudaErrorStreamCaptureUnsupported;
  return capturing = new std::vector<Work>, cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = reinterpret_cast<cudaGraph_t>(capturing);
  capturing = nullptr;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
  if (refused("cudaGraphInstantiate")) return cudaErrorMemoryAllocation;
  *ready = reinterpret_cast<cudaGraphExec_t>(new std::vector<Work>(*reinterpret_cast<std::vector<Work>*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<std::vector<Work>*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete reinterpret_cast<std::vector<Work>*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  for (const Work& work : *reinterpret_cast<std::vector<Work>*>(graph)) ask(work);
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult*) {
  static const std::map<std::string, void*> known = {{"cuModuleLoadData", reinterpret_cast<void*>(&module_load)},
                                                     {"cuModuleUnload", reinterpret_cast<void*>(&module_unload)},
                                                     {"cuModuleGetFunction", reinterpret_cast<void*>(&module_function)},
                                                     {"cuLaunchKernel", reinterpret_cast<void*>(&launch)},
                                                     {"cuGetErrorString", reinterpret_cast<void*>(&error_string)}};
  const auto found = known.find(name);
  *function = found == known.end() ? nullptr : found->second;
  return cudaSuccess;
}
}

namespace {

struct Tensor {
  std::string name;
  bool is_input;
  nvinfer1::DataType dtype;
  std::vector<int64_t> shape;  // the batch first, as -1
};

nvinfer1::DataType type_of(multires_dtype dtype) {
  switch (dtype) {
    case MULTIRES_INT64: return nvinfer1::DataType::kINT64;
    case MULTIRES_FLOAT16: return nvinfer1::DataType::kHALF;
    case MULTIRES_INT8: return nvinfer1::DataType::kINT8;
    default: return nvinfer1::DataType::kFLOAT;
  }
}

// Rings of one bank: parts of a state, and the delays at which each is read.
struct Rings {
  std::vector<multires_part> parts;
  std::vector<std::vector<int64_t>> delays;
};

struct Network {
  std::string kind, weights;
  int smallest = 0, largest = 0;
  multires_model* model = nullptr;
  std::vector<Tensor> tensors;

  bool takes_tokens() const { return multires_model_info(model).n_tokens > 0; }
  bool is_taps() const { return kind == "taps"; }
  // The input whose memory an output updates; empty without one.
  std::string alias(const std::string& output) const {
#ifdef TRT_MAJOR_RTX
    for (const Tensor& tensor : tensors)
      if (!is_taps() && tensor.shape.size() == 4 && output == "next_" + tensor.name) return tensor.name;
#endif
    return "";
  }
};

std::vector<multires_part> parts_of(multires_state* state) {
  std::vector<multires_part> parts(static_cast<size_t>(multires_state_parts(state)));
  for (size_t i = 0; i < parts.size(); ++i) multires_state_part(state, static_cast<int>(i), &parts[i]);
  return parts;
}

std::map<std::string, Rings> banks_of(multires_state* state) {
  std::map<std::string, Rings> banks;
  for (const multires_part& part : parts_of(state)) {
    if (part.rank != 4) continue;
    const bool is_queue = std::strncmp(part.name, "queue_", 6) == 0;
    const bool is_encoder = std::strcmp(part.name, "encoder_queue") == 0;
    const int64_t step = is_queue ? int64_t{1} << std::atoi(part.name + 6) : is_encoder ? 1 : part.shape[2] - 1;
    const bool is_maximum = std::strncmp(part.name, "pool_max_", 9) == 0;
    Rings& bank = banks[is_queue ? "" : is_encoder ? "encoder_" : is_maximum ? "pool_max_" : "pool_"];
    bank.parts.push_back(part);
    bank.delays.emplace_back();
    for (int64_t delay = step; delay < part.shape[2]; delay += step) bank.delays.back().push_back(delay);
  }
  return banks;
}

void declare_tensors(Network& network) {
  const multires_info info = multires_model_info(network.model);
  multires_state* state = nullptr;
  multires_state_new(network.model, 1, MULTIRES_DEFAULT_WINDOW, &state, nullptr, 0);
  const auto put = [&](const std::string& name, bool is_input, nvinfer1::DataType dtype, std::vector<int64_t> shape) {
    network.tensors.push_back({name, is_input, dtype, shape});
  };
  const auto f32 = nvinfer1::DataType::kFLOAT, i64 = nvinfer1::DataType::kINT64;
  if (info.n_tokens > 0)
    put("tokens", true, i64, {-1});
  else
    put("x", true, f32, {-1, info.d_input});
  put(info.autoregressive ? "params" : "logits", false, f32, {-1, info.d_output});
  const std::vector<multires_part> parts = parts_of(state);
  const bool pools = std::any_of(parts.begin(), parts.end(),
                                 [](const multires_part& part) { return std::strncmp(part.name, "pool_", 5) == 0; });
  for (const multires_part& part : parts) {
    const bool is_clock = std::string(part.name) == "position";
    if (network.is_taps() && (part.rank == 4 || (is_clock && !pools))) continue;
    std::vector<int64_t> shape(part.shape, part.shape + part.rank);
    shape[0] = -1;
    put(part.name, true, type_of(part.dtype), shape);
    if (!(network.is_taps() && is_clock)) put("next_" + std::string(part.name), false, type_of(part.dtype), shape);
  }
  if (network.is_taps())
    for (const auto& [prefix, bank] : banks_of(state)) {
      int64_t taps = 0;
      for (const auto& delays : bank.delays) taps += static_cast<int64_t>(delays.size());
      const auto rings = static_cast<int64_t>(bank.parts.size());
      put(prefix + "taps", true, type_of(bank.parts[0].dtype), {-1, 1, taps, bank.parts[0].shape[3]});
      put(prefix + "pushes", false, type_of(bank.parts[0].dtype), {-1, 1, rings, bank.parts[0].shape[3]});
    }
  multires_state_free(state);
}

struct ContextImpl : StubExecutionContext {
  explicit ContextImpl(const Network& network_) : network(network_) {}
  ~ContextImpl() override { multires_state_free(state); }

  const Network& network;
  int batch = 0;
  multires_state* state = nullptr;
  std::map<std::string, void*> bound;

  bool setInputShape(char const*, nvinfer1::Dims const& dims) noexcept override {
    const int given = static_cast<int>(dims.d[0]);
    if (given < network.smallest || given > network.largest || (batch && given != batch)) return false;
    batch = given;
    if (!state) multires_state_new(network.model, batch, MULTIRES_DEFAULT_WINDOW, &state, nullptr, 0);
    return true;
  }
  bool setTensorAddress(char const* name, void* data) noexcept override { return bound[name] = data, true; }
  bool enqueueV3(cudaStream_t) noexcept override {
    for (const Tensor& tensor : network.tensors)
      if (!bound.count(tensor.name)) return false;
    // Two tensors have the same address if the engine updates one in place, and in no other case.
    for (const auto& [name, address] : bound)
      for (const auto& [other, its] : bound)
        if (name != other && (address == its) != (network.alias(name) == other || network.alias(other) == name))
          return false;
    return ask([this] { run(); }) == cudaSuccess;
  }

  // Rows between the rings of the native engine's state and dense ones; delays of 0 are of this step.
  template <typename Move>
  void each_row(const Rings& bank, bool pushes, const int64_t* position, Move move) {
    for (int b = 0; b < batch; ++b)
      for (size_t i = 0; i < bank.parts.size(); ++i) {
        const multires_part& part = bank.parts[i];
        const int64_t slots = part.shape[2];
        const size_t bytes = part.bytes / static_cast<size_t>(batch * slots);
        const std::vector<int64_t> now = {0};
        for (int64_t delay : pushes ? now : bank.delays[i]) {
          const int64_t slot = (position[b] + slots - delay) % slots;
          move(static_cast<char*>(part.data) + static_cast<size_t>(b * slots + slot) * bytes, bytes);
        }
      }
  }

  void run() {
    int64_t* position = nullptr;
    for (const multires_part& part : parts_of(state)) {
      if (std::string(part.name) == "position") position = static_cast<int64_t*>(part.data);
      const auto from = bound.find(part.name);
      if (from != bound.end()) std::memcpy(part.data, from->second, part.bytes);
    }
    std::vector<int64_t> before(position, position + batch);
    const auto banks = banks_of(state);
    if (network.is_taps())
      for (const auto& [prefix, bank] : banks) {
        auto* row = static_cast<const char*>(bound.at(prefix + "taps"));
        each_row(bank, false, position, [&](char* ring, size_t bytes) {
          std::memcpy(ring, row, bytes);
          row += bytes;
        });
      }
    if (multires_state_changed(state) != MULTIRES_OK) std::abort();
    auto* y = static_cast<float*>(bound.at(multires_model_info(network.model).autoregressive ? "params" : "logits"));
    const multires_status status = network.takes_tokens()
                                       ? multires_step_tokens(state, static_cast<int64_t*>(bound.at("tokens")), y)
                                       : multires_step(state, static_cast<float*>(bound.at("x")), y);
    if (status != MULTIRES_OK) std::abort();
    for (const multires_part& part : parts_of(state)) {
      const auto to = bound.find("next_" + std::string(part.name));
      if (to != bound.end()) std::memcpy(to->second, part.data, part.bytes);
    }
    if (network.is_taps())
      for (const auto& [prefix, bank] : banks) {
        auto* row = static_cast<char*>(bound.at(prefix + "pushes"));
        each_row(bank, true, before.data(), [&](char* ring, size_t bytes) {
          std::memcpy(row, ring, bytes);
          row += bytes;
        });
      }
  }
};

struct FakeContext : nvinfer1::IExecutionContext {
  explicit FakeContext(const Network& network) : impl(network) { mImpl = &impl; }
  ContextImpl impl;
};

#ifdef TRT_MAJOR_RTX
constexpr char kCompiled[] = "kernels";  // what the cache of this device holds

struct MemoryImpl : StubHostMemory {
  std::string content;
  void* data() const noexcept override { return const_cast<char*>(content.data()); }
  std::size_t size() const noexcept override { return content.size(); }
};

struct FakeMemory : nvinfer1::IHostMemory {
  explicit FakeMemory(const std::string& content) {
    impl.content = content;
    mImpl = &impl;
  }
  MemoryImpl impl;
};

struct CacheImpl : StubRuntimeCache {
  std::string content;
  nvinfer1::IHostMemory* serialize() const noexcept override { return new FakeMemory(content); }
  bool deserialize(void const* blob, std::size_t size) noexcept override {
    const std::string given(static_cast<const char*>(blob), size);
    if (given == kCompiled) content = given;
    return given == kCompiled;
  }
};

struct FakeCache : nvinfer1::IRuntimeCache {
  FakeCache() { mImpl = &impl; }
  CacheImpl impl;
};

struct ConfigImpl : StubRuntimeConfig {
  const FakeCache* cache = nullptr;
  bool eager = false;
  nvinfer1::IRuntimeCache* createRuntimeCache() const noexcept override { return new FakeCache; }
  bool setRuntimeCache(nvinfer1::IRuntimeCache const& given) noexcept override {
    return cache = static_cast<const FakeCache*>(&given), true;
  }
  void setDynamicShapesKernelSpecializationStrategy(
      nvinfer1::DynamicShapesKernelSpecializationStrategy strategy) noexcept override {
    eager = strategy == nvinfer1::DynamicShapesKernelSpecializationStrategy::kEAGER;
  }
};

struct FakeConfig : nvinfer1::IRuntimeConfig {
  FakeConfig() { mImpl = &impl; }
  ConfigImpl impl;
};
#endif

struct EngineImpl : StubCudaEngine {
  Network network;

  const Tensor* find(char const* name) const {
    for (const Tensor& tensor : network.tensors)
      if (tensor.name == name) return &tensor;
    return nullptr;
  }
  nvinfer1::Dims dims(char const* name, int64_t batch) const {
    nvinfer1::Dims dims{};
    for (int64_t size : find(name)->shape) dims.d[dims.nbDims++] = size;
    dims.d[0] = batch;
    return dims;
  }
  int32_t getNbIOTensors() const noexcept override { return static_cast<int32_t>(network.tensors.size()); }
  char const* getIOTensorName(int32_t i) const noexcept override {
    return network.tensors[static_cast<size_t>(i)].name.c_str();
  }
  nvinfer1::TensorIOMode getTensorIOMode(char const* name) const noexcept override {
    return find(name)->is_input ? nvinfer1::TensorIOMode::kINPUT : nvinfer1::TensorIOMode::kOUTPUT;
  }
  nvinfer1::DataType getTensorDataType(char const* name) const noexcept override { return find(name)->dtype; }
  nvinfer1::Dims getTensorShape(char const* name) const noexcept override { return dims(name, -1); }
  nvinfer1::Dims getProfileShape(char const* name, int32_t,
                                 nvinfer1::OptProfileSelector select) const noexcept override {
    return dims(name, select == nvinfer1::OptProfileSelector::kMIN ? network.smallest : network.largest);
  }
#ifdef TRT_MAJOR_RTX
  nvinfer1::IRuntimeConfig* createRuntimeConfig() noexcept override { return new FakeConfig; }
  nvinfer1::IExecutionContext* createExecutionContextWithRuntimeConfig(
      nvinfer1::IRuntimeConfig* config) noexcept override {
    const ConfigImpl& of = static_cast<FakeConfig*>(config)->impl;
    if (!of.cache || !of.eager) return nullptr;
    std::string& kernels = const_cast<std::string&>(of.cache->impl.content);
    if (kernels.empty()) std::fprintf(stderr, "compiled\n");
    kernels = kCompiled;
    return new FakeContext(network);
  }
  char const* getAliasedInputTensor(char const* output) const noexcept override {
    static std::string answer;
    answer = network.alias(output);
    return answer.empty() ? nullptr : answer.c_str();
  }
#else
  nvinfer1::IExecutionContext* createExecutionContext(nvinfer1::ExecutionContextAllocationStrategy) noexcept override {
    return new FakeContext(network);
  }
#endif
};

struct FakeEngine : nvinfer1::ICudaEngine {
  FakeEngine() { mImpl = &impl; }
  ~FakeEngine() noexcept override { multires_model_free(impl.network.model); }
  EngineImpl impl;
};

struct RuntimeImpl : StubRuntime {
  nvinfer1::ILogger* logger = nullptr;
  nvinfer1::ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept override {
    auto made = std::make_unique<FakeEngine>();
    Network& network = made->impl.network;
    std::istringstream text(std::string(static_cast<const char*>(blob), size));
    if (!(text >> network.kind >> network.smallest >> network.largest >> network.weights) ||
        multires_model_load(network.weights.c_str(), &network.model, nullptr, 0) != MULTIRES_OK) {
      logger->log(nvinfer1::ILogger::Severity::kERROR, "magic tag does not match");
      return nullptr;
    }
    declare_tensors(network);
    return made.release();
  }
  nvinfer1::ICudaEngine* deserializeCudaEngine(nvinfer1::IStreamReader&) noexcept override { std::abort(); }
};

struct FakeRuntime : nvinfer1::IRuntime {
  explicit FakeRuntime(void* logger) {
    mImpl = &impl;
    impl.logger = static_cast<nvinfer1::ILogger*>(logger);
  }
  RuntimeImpl impl;
};

}  // namespace

extern "C" {
void* createInferRuntime_INTERNAL(void* logger, int32_t) noexcept { return new FakeRuntime(logger); }
int32_t getInferLibVersion() noexcept { return NV_TENSORRT_VERSION; }
}
