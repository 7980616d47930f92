// Streams on the device. A state that the engine or the ring kernels update in
// place has one buffer. Any other state has two, which swap roles at each step;
// one graph is captured for each role.

#include <cstring>

#include "engine.h"

namespace multires {
inline namespace v0 {
namespace tensorrt {
namespace {

struct Placed {
  multires_part part; // of the host's state: name, layout, and memory for snapshots
  DeviceMemory memory[2];
  bool in_place;
  void* now(int turn) const { return memory[in_place ? 0 : turn].get(); }
};

// A dense buffer of rows, and the places in rings that they are copied from or
// to.
struct Rows {
  DeviceMemory accesses, rows;
  RingMove move;

  Rows(const std::vector<RingAccess>& table, int batch, std::int64_t row_bytes)
      : accesses(device_memory(table.size() * sizeof(RingAccess))),
        rows(device_memory(table.size() * static_cast<std::size_t>(batch * row_bytes))),
        move{accesses.get(), rows.get(), static_cast<int>(table.size()), batch, static_cast<int>(row_bytes)} {
    check(cudaMemcpy(accesses.get(), table.data(), table.size() * sizeof(RingAccess), cudaMemcpyHostToDevice),
          "cudaMemcpy");
  }
};

struct PlacedBank {
  Rows taps, pushes;
};

} // namespace

struct StreamState {
  StreamState(std::shared_ptr<const LoadedEngine> engine, std::int32_t batch);

  std::shared_ptr<const LoadedEngine> engine;
  int batch;
  std::size_t sample_bytes, output_bytes;
  multires::Stream host; // its state has the same layout; snapshots are made from it
  CudaStream stream = new_stream();
  PinnedMemory host_sample, host_output;
  DeviceMemory sample, output;
  std::vector<Placed> states;
  std::vector<PlacedBank> banks;
  std::unique_ptr<nvinfer1::IExecutionContext> contexts[2];
  Graph graphs[2];
  int turn = 0;
  mutable std::string reason;

  const Placed& state(const std::string& name) const;
  void bind(int turn);
  void enqueue(int turn) const;
  void enqueue_with_copies(int turn) const;
  multires_status launch() const noexcept;
  void copy_states(bool to_device) const;
  multires_status run(const void* samples, bool are_tokens, std::int64_t steps, float* y) noexcept;
  multires_status fail(const char* why) const noexcept;
  multires_status fail(cudaError_t status) const noexcept { return fail(cudaGetErrorString(status)); }

 private:
  Graph captured(int turn) const;
  void place_states();
  void place_banks();
  void warm_up();
};

StreamState::StreamState(std::shared_ptr<const LoadedEngine> engine_, std::int32_t batch_)
    : engine(std::move(engine_)), batch(batch_), host(engine->model, batch_) {
  const multires_info info = engine->model.info();
  const auto rows = static_cast<std::size_t>(batch);
  sample_bytes =
      rows * (info.n_tokens > 0 ? sizeof(std::int64_t) : static_cast<std::size_t>(info.d_input) * sizeof(float));
  output_bytes = rows * static_cast<std::size_t>(info.d_output) * sizeof(float);
  host_sample = pinned_memory(sample_bytes);
  host_output = pinned_memory(output_bytes);
  sample = device_memory(sample_bytes);
  output = device_memory(output_bytes);
  place_states();
  place_banks();
  for (int t : {0, 1}) bind(t);
  warm_up();
  for (int t : {0, 1}) graphs[t] = captured(t);
}

// A whole step as a graph. Null, with the reason, if it cannot be captured: then each step is queued.
Graph StreamState::captured(int t) const {
  try {
    return capture(stream, [&] { enqueue_with_copies(t); });
  } catch (const Error& error) {
    reason = error.what();
    return nullptr;
  }
}

void StreamState::place_states() {
  for (const multires_part& part : parts_of(host)) {
    Placed placed{part, {}, engine->updates_in_place(part)};
    for (int t = 0; t < (placed.in_place ? 1 : 2); ++t) placed.memory[t] = device_memory(part.bytes);
    states.push_back(std::move(placed));
  }
}

const Placed& StreamState::state(const std::string& name) const {
  for (const Placed& placed : states)
    if (name == placed.part.name) return placed;
  throw Error(MULTIRES_MISMATCH, "no state " + name);
}

void StreamState::place_banks() {
  for (const Bank& bank : engine->banks) {
    std::vector<RingAccess> reads, writes;
    for (const Bank::Ring& ring : bank.rings) {
      void* address = state(ring.state).now(0);
      writes.push_back({address, ring.slots, 0});
      for (int delay : ring.delays) reads.push_back({address, ring.slots, delay});
    }
    banks.push_back({{reads, batch, bank.row_bytes}, {writes, batch, bank.row_bytes}});
  }
}

void StreamState::bind(int t) {
  contexts[t] = engine->context(batch);
  const auto to = [&](const std::string& tensor, void* address) {
    if (!contexts[t]->setTensorAddress(tensor.c_str(), address))
      throw Error(MULTIRES_DEVICE, tensor + ": " + engine->log.last_error());
  };
  const multires_info info = engine->model.info();
  to(info.n_tokens > 0 ? "tokens" : "x", sample.get());
  to(info.autoregressive ? "params" : "logits", output.get());
  for (const Placed& placed : states) {
    const std::string name = placed.part.name;
    if (engine->has(name)) to(name, placed.now(t));
    if (engine->has("next_" + name)) to("next_" + name, placed.now(1 - t));
  }
  for (std::size_t i = 0; i < banks.size(); ++i) {
    to(engine->banks[i].taps, banks[i].taps.rows.get());
    to(engine->banks[i].pushes, banks[i].pushes.rows.get());
  }
}

void StreamState::enqueue(int t) const {
  const Placed& clock = state("position");
  for (const PlacedBank& bank : banks) engine->kernels->gather(bank.taps.move, clock.now(t), stream.get());
  if (!contexts[t]->enqueueV3(stream.get())) throw Error(MULTIRES_DEVICE, "enqueueV3: " + engine->log.last_error());
  void* next = clock.now(1 - t); // the first bank counts
  for (const PlacedBank& bank : banks) {
    engine->kernels->push(bank.pushes.move, clock.now(t), next, stream.get());
    next = nullptr;
  }
}

void StreamState::enqueue_with_copies(int t) const {
  check(cudaMemcpyAsync(sample.get(), host_sample.get(), sample_bytes, cudaMemcpyHostToDevice, stream.get()),
        "copy of x");
  enqueue(t);
  check(cudaMemcpyAsync(host_output.get(), output.get(), output_bytes, cudaMemcpyDeviceToHost, stream.get()),
        "copy of y");
}

// TensorRT does some work at the first run, which a graph cannot record.
void StreamState::warm_up() {
  check(cudaDeviceSynchronize(),
        "cudaDeviceSynchronize"); // memory is zeroed on another stream
  for (int t : {0, 1}) enqueue(t);
  for (const Placed& placed : states)
    for (const DeviceMemory& memory : placed.memory)
      if (memory) check(cudaMemsetAsync(memory.get(), 0, placed.part.bytes, stream.get()), "cudaMemsetAsync");
  wait_for(stream);
}

multires_status StreamState::launch() const noexcept {
  if (graphs[turn]) {
    const cudaError_t status = cudaGraphLaunch(graphs[turn].get(), stream.get());
    return status == cudaSuccess ? MULTIRES_OK : fail(status);
  }
  try {
    enqueue_with_copies(turn);
    return MULTIRES_OK;
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}

multires_status StreamState::fail(const char* why) const noexcept {
  try {
    reason = why;
  } catch (...) { // not enough memory for a message
  }
  return MULTIRES_DEVICE;
}

multires_status StreamState::run(const void* samples, bool are_tokens, std::int64_t steps, float* y) noexcept {
  const std::int32_t n_tokens = engine->model.info().n_tokens;
  if (!samples || !y || steps < 0 || are_tokens != (n_tokens > 0)) return MULTIRES_ARGUMENT;
  if (are_tokens) {
    const auto* tokens = static_cast<const std::int64_t*>(samples);
    if (steps > INT64_MAX / batch) return MULTIRES_ARGUMENT;
    for (std::int64_t i = 0; i < steps * batch; ++i)
      if (tokens[i] < 0 || tokens[i] >= n_tokens) return MULTIRES_ARGUMENT;
  }
  if (const cudaError_t status = cudaSetDevice(0)) return fail(status);
  const auto* from = static_cast<const unsigned char*>(samples);
  auto* to = reinterpret_cast<unsigned char*>(y);
  for (std::int64_t t = 0; t < steps; ++t, from += sample_bytes, to += output_bytes) {
    std::memcpy(host_sample.get(), from, sample_bytes);
    if (const multires_status status = launch()) return status;
    if (const cudaError_t status = cudaStreamSynchronize(stream.get())) return fail(status);
    std::memcpy(to, host_output.get(), output_bytes);
    turn = 1 - turn;
  }
  return MULTIRES_OK;
}

// Between the device and the host's state.
void StreamState::copy_states(bool to_device) const {
  check(cudaSetDevice(0), "cudaSetDevice");
  const cudaMemcpyKind kind = to_device ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
  for (const Placed& placed : states) {
    void *to = placed.now(turn), *from = placed.part.data;
    if (!to_device) std::swap(to, from);
    check(cudaMemcpyAsync(to, from, placed.part.bytes, kind, stream.get()), placed.part.name);
  }
  wait_for(stream);
}

Stream::Stream(const Engine& engine, std::int32_t batch) {
  const LoadedEngine& loaded = *engine.loaded_;
  if (batch < loaded.smallest_batch || batch > loaded.largest_batch)
    throw Error(MULTIRES_ARGUMENT, "batch is " + std::to_string(batch) + ", and " + loaded.name + " was built for " +
                                       std::to_string(loaded.smallest_batch) + " to " +
                                       std::to_string(loaded.largest_batch));
  check(cudaSetDevice(0), "cudaSetDevice");
  state_ = std::make_unique<StreamState>(engine.loaded_, batch);
}

Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

std::int32_t Stream::batch() const noexcept { return state_ ? state_->batch : 0; }
std::int32_t Stream::window() const noexcept { return state_ ? state_->host.window() : 0; }
bool Stream::captured() const noexcept { return state_ && state_->graphs[0] && state_->graphs[1]; }
const char* Stream::reason() const noexcept { return state_ ? state_->reason.c_str() : ""; }

multires_status Stream::run(const float* x, std::int64_t steps, float* y) noexcept {
  return state_ ? state_->run(x, false, steps, y) : MULTIRES_ARGUMENT;
}

multires_status Stream::run(const std::int64_t* tokens, std::int64_t steps, float* y) noexcept {
  return state_ ? state_->run(tokens, true, steps, y) : MULTIRES_ARGUMENT;
}

multires_status Stream::reset(std::int32_t row) noexcept {
  if (!state_ || row < -1 || row >= state_->batch) return MULTIRES_ARGUMENT;
  if (const cudaError_t status = cudaSetDevice(0)) return state_->fail(status);
  for (const Placed& placed : state_->states) {
    const std::size_t each = placed.part.bytes / static_cast<std::size_t>(state_->batch);
    const std::size_t first = row < 0 ? 0 : static_cast<std::size_t>(row) * each;
    auto* at = static_cast<unsigned char*>(placed.now(state_->turn)) + first;
    const std::size_t bytes = row < 0 ? placed.part.bytes : each;
    if (const cudaError_t status = cudaMemsetAsync(at, 0, bytes, state_->stream.get())) return state_->fail(status);
  }
  return MULTIRES_OK; // the next step follows on the same stream
}

std::vector<unsigned char> Stream::save() const {
  if (!state_) throw Error(MULTIRES_ARGUMENT, "a moved-from stream has no state");
  state_->copy_states(false);
  detail::check(multires_state_changed(state_->host.handle()));
  return state_->host.save();
}

void Stream::load(const unsigned char* snapshot, std::size_t size) {
  if (!state_) throw Error(MULTIRES_ARGUMENT, "a moved-from stream has no state");
  state_->host.load(snapshot, size); // checks all of it before anything changes
  state_->copy_states(true);
}

} // namespace tensorrt
} // namespace v0
} // namespace multires
