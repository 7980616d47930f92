#include "engine.h"

#include <algorithm>
#include <cstdio>

#include "files.h"

namespace multires {
inline namespace v0 {
namespace tensorrt {
namespace {

nvinfer1::DataType data_type(multires_dtype dtype) {
  switch (dtype) {
    case MULTIRES_INT64: return nvinfer1::DataType::kINT64;
    case MULTIRES_FLOAT16: return nvinfer1::DataType::kHALF;
    case MULTIRES_INT8: return nvinfer1::DataType::kINT8;
    case MULTIRES_FLOAT32: break;
  }
  return nvinfer1::DataType::kFLOAT;
}

std::vector<std::int64_t> shape_of(const multires_part& part) { return {part.shape, part.shape + part.rank}; }

bool is_ring(const multires_part& part) { return part.rank == 4; }

} // namespace

void Log::log(Severity severity, const char* text) noexcept {
  if (severity > Severity::kERROR) return;
  try {
    const std::lock_guard<std::mutex> lock(mutex_);
    last_ = text;
  } catch (...) { // not enough memory for a message
  }
}

std::string Log::last_error() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return last_.empty() ? "TensorRT gave no reason" : last_;
}

std::vector<multires_part> parts_of(const multires::Stream& stream) {
  std::vector<multires_part> parts(static_cast<std::size_t>(multires_state_parts(stream.handle())));
  for (std::size_t i = 0; i < parts.size(); ++i)
    detail::check(multires_state_part(stream.handle(), static_cast<std::int32_t>(i), &parts[i]));
  return parts;
}

LoadedEngine::LoadedEngine(const std::string& path, const Model& model_) : model(model_), name(path) {
  // Without a device, createInferRuntime returns an invalid pointer that is not
  // null.
  require_device();
  const std::string content = read_file(path);
  if (content.empty()) throw Error(MULTIRES_IO, path + ": cannot be read, or is empty");
  runtime.reset(nvinfer1::createInferRuntime(log));
  if (!runtime) refuse(MULTIRES_DEVICE, log.last_error());
  engine.reset(runtime->deserializeCudaEngine(content.data(), content.size()));
  if (!engine) refuse(MULTIRES_DEVICE, "TensorRT refuses it: " + log.last_error());
  cache = std::make_unique<RuntimeCache>(*engine, path);

  const multires::Stream host(model);
  const std::vector<multires_part> parts = parts_of(host);
  for (std::int32_t i = 0; i < engine->getNbIOTensors(); ++i) {
    const char* tensor = engine->getIOTensorName(i);
    tensors.emplace_back(tensor);
    if (engine->getTensorIOMode(tensor) == nvinfer1::TensorIOMode::kINPUT) inputs.emplace_back(tensor);
  }
  if (has("taps")) find_banks(parts);
  check_tensors(parts);
  using nvinfer1::OptProfileSelector;
  smallest_batch = static_cast<int>(engine->getProfileShape(inputs[0].c_str(), 0, OptProfileSelector::kMIN).d[0]);
  largest_batch = static_cast<int>(engine->getProfileShape(inputs[0].c_str(), 0, OptProfileSelector::kMAX).d[0]);
  if (banks.empty()) {
    for (const multires_part& part : parts) in_place |= updates_in_place(part);
  } else {
    kernels = std::make_unique<RingKernels>();
  }
}

void LoadedEngine::refuse(multires_status status, const std::string& why) const {
  throw Error(status, name + ": " + why);
}

bool LoadedEngine::has(const std::string& tensor) const {
  return std::find(tensors.begin(), tensors.end(), tensor) != tensors.end();
}

bool LoadedEngine::updates_in_place(const multires_part& part) const {
  if (!banks.empty()) return is_ring(part);
// Headers of TensorRT before 10.15 cannot ask for it.
#if defined(TRT_MAJOR_RTX) || NV_TENSORRT_MAJOR > 10 || (NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR >= 15)
  const char* aliased = engine->getAliasedInputTensor(("next_" + std::string(part.name)).c_str());
  return aliased && std::string(aliased) == part.name;
#else
  if (getInferLibVersion() >= 101500)
    refuse(MULTIRES_UNSUPPORTED,
           "this program was compiled with headers of TensorRT before 10.15 and runs with a later library, so it does "
           "not know which queues are updated in place; compile it with the headers of that library");
  return false;
#endif
}

// A queue of scale j is read at every multiple of 2^j for which it has a slot; that of the encoder at every delay, and
// the rings of windows at their ends.
void LoadedEngine::find_banks(const std::vector<multires_part>& parts) {
  banks = {{"taps", "pushes", {}, MULTIRES_FLOAT32, 0, 0},
           {"encoder_taps", "encoder_pushes", {}, MULTIRES_FLOAT32, 0, 0},
           {"pool_taps", "pool_pushes", {}, MULTIRES_FLOAT32, 0, 0},
           {"pool_max_taps", "pool_max_pushes", {}, MULTIRES_FLOAT32, 0, 0}};
  for (const multires_part& part : parts) {
    if (!is_ring(part)) continue;
    int scale = 0;
    const bool is_queue = std::sscanf(part.name, "queue_%d", &scale) == 1;
    const bool is_encoder = std::string(part.name) == "encoder_queue";
    const bool is_maximum = std::string(part.name).compare(0, 9, "pool_max_") == 0;
    Bank& bank = banks[is_queue ? 0 : is_encoder ? 1 : is_maximum ? 3 : 2];
    const int slots = static_cast<int>(part.shape[2]), step = is_queue || is_encoder ? 1 << scale : slots - 1;
    Bank::Ring ring{part.name, slots, {}};
    for (int delay = step; delay < slots; delay += step) ring.delays.push_back(delay);
    bank.rings.push_back(ring);
    bank.dtype = part.dtype;
    bank.width = part.shape[3];
    bank.row_bytes = static_cast<std::int64_t>(part.bytes) / slots;
  }
  banks.erase(std::remove_if(banks.begin(), banks.end(), [](const Bank& bank) { return bank.rings.empty(); }),
              banks.end());
}

void LoadedEngine::check_tensor(const std::string& tensor, const std::vector<std::int64_t>& shape,
                                nvinfer1::DataType dtype) const {
  if (!has(tensor))
    refuse(MULTIRES_MISMATCH, "has no " + tensor + ": it belongs to another network, or is not an engine of a step");
  const nvinfer1::Dims found = engine->getTensorShape(tensor.c_str());
  bool same = found.nbDims == static_cast<int>(shape.size()) && engine->getTensorDataType(tensor.c_str()) == dtype;
  for (int i = 1; same && i < found.nbDims; ++i) same = found.d[i] == shape[static_cast<std::size_t>(i)];
  if (!same)
    refuse(MULTIRES_MISMATCH, "its " + tensor +
                                  " has another type or shape than the "
                                  "model's: it belongs to another network, "
                                  "or the weights have another precision");
}

void LoadedEngine::check_tensors(const std::vector<multires_part>& parts) const {
  const multires_info info = model.info();
  if (info.n_tokens > 0)
    check_tensor("tokens", {1}, nvinfer1::DataType::kINT64);
  else
    check_tensor("x", {1, info.d_input}, nvinfer1::DataType::kFLOAT);
  check_tensor(info.autoregressive ? "params" : "logits", {1, info.d_output}, nvinfer1::DataType::kFLOAT);
  for (const multires_part& part : parts) {
    if (!banks.empty() && (is_ring(part) || std::string(part.name) == "position")) continue;
    check_tensor(part.name, shape_of(part), data_type(part.dtype));
    check_tensor("next_" + std::string(part.name), shape_of(part), data_type(part.dtype));
  }
  for (const Bank& bank : banks) {
    std::int64_t reads = 0;
    for (const Bank::Ring& ring : bank.rings) reads += static_cast<std::int64_t>(ring.delays.size());
    check_tensor(bank.taps, {1, 1, reads, bank.width}, data_type(bank.dtype));
    check_tensor(bank.pushes, {1, 1, static_cast<std::int64_t>(bank.rings.size()), bank.width}, data_type(bank.dtype));
  }
}

std::unique_ptr<nvinfer1::IExecutionContext> LoadedEngine::context(int batch) const {
  std::unique_ptr<nvinfer1::IExecutionContext> made = cache->context();
  if (!made) refuse(MULTIRES_DEVICE, "no execution context: " + log.last_error());
  for (const std::string& input : inputs) {
    nvinfer1::Dims shape = engine->getTensorShape(input.c_str());
    shape.d[0] = batch;
    if (!made->setInputShape(input.c_str(), shape)) refuse(MULTIRES_DEVICE, input + ": " + log.last_error());
  }
  return made;
}

Engine::Engine(const std::string& path, const Model& model) : loaded_(std::make_shared<LoadedEngine>(path, model)) {}

const Model& Engine::model() const noexcept { return loaded_->model; }
bool Engine::in_place() const noexcept { return loaded_->in_place; }
std::int32_t Engine::smallest_batch() const noexcept { return loaded_->smallest_batch; }
std::int32_t Engine::largest_batch() const noexcept { return loaded_->largest_batch; }

} // namespace tensorrt
} // namespace v0
} // namespace multires
