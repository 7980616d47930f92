// Streams on the device. A state that the engine or the ring kernels update in place has one buffer. Any other state
// has two, which swap roles at each step; one graph is captured for each role.

#include <cstring>

#include "engine.h"

namespace multires {
inline namespace v0 {
namespace tensorrt {
namespace {

using Place = Memory::Place;

struct Placed {
  multires_part part;  // of the host's state: name, layout, and memory for snapshots
  Memory memory[2];
  bool in_place;
  void* now(int turn) const { return memory[in_place ? 0 : turn].data(); }
};

struct PlacedBank {
  Memory taps, pushes, reads, writes;
};

}  // namespace

struct StreamState {
  StreamState(std::shared_ptr<const LoadedEngine> engine, std::int32_t batch);

  std::shared_ptr<const LoadedEngine> engine;
  int batch;
  std::size_t sample_bytes, output_bytes;
  multires::Stream host;  // its state has the same layout; snapshots are made from it
  CudaStream stream;
  Memory host_sample, host_output, sample, output;
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
  RingMove move(const PlacedBank& placed, const Bank& bank, bool read, const void* position) const;
  multires_status run(const void* samples, bool are_tokens, std::int64_t steps, float* y) noexcept;
  multires_status fail(cudaError_t status) const noexcept;

 private:
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
  host_sample = Memory(sample_bytes, Place::kHost);
  host_output = Memory(output_bytes, Place::kHost);
  sample = Memory(sample_bytes, Place::kDevice);
  output = Memory(output_bytes, Place::kDevice);
  place_states();
  place_banks();
  for (int t : {0, 1}) bind(t);
  warm_up();
  for (int t : {0, 1}) graphs[t].capture(stream, [&] { enqueue_with_copies(t); });
}

void StreamState::place_states() {
  for (std::int32_t i = 0; i < multires_state_parts(host.handle()); ++i) {
    Placed placed{};
    detail::check(multires_state_part(host.handle(), i, &placed.part));
    placed.in_place = engine->updates_in_place(placed.part.name);
    for (const Bank& bank : engine->banks)
      for (const Bank::Ring& ring : bank.rings) placed.in_place |= ring.state == placed.part.name;
    for (int t = 0; t < (placed.in_place ? 1 : 2); ++t) placed.memory[t] = Memory(placed.part.bytes, Place::kDevice);
    states.push_back(std::move(placed));
  }
}

const Placed& StreamState::state(const std::string& name) const {
  for (const Placed& placed : states)
    if (name == placed.part.name) return placed;
  throw Error(MULTIRES_MISMATCH, "no state " + name);
}

void StreamState::place_banks() {
  const auto table = [](const std::vector<RingAccess>& accesses) {
    Memory memory(accesses.size() * sizeof(RingAccess), Place::kDevice);
    check(cudaMemcpy(memory.data(), accesses.data(), accesses.size() * sizeof(RingAccess), cudaMemcpyHostToDevice),
          "cudaMemcpy");
    return memory;
  };
  for (const Bank& bank : engine->banks) {
    std::vector<RingAccess> reads, writes;
    for (const Bank::Ring& ring : bank.rings) {
      void* address = state(ring.state).now(0);
      writes.push_back({address, ring.slots, 0});
      for (int delay : ring.delays) reads.push_back({address, ring.slots, delay});
    }
    const std::size_t row = static_cast<std::size_t>(batch) * static_cast<std::size_t>(bank.row_bytes);
    banks.push_back({Memory(reads.size() * row, Place::kDevice), Memory(writes.size() * row, Place::kDevice),
                     table(reads), table(writes)});
  }
}

void StreamState::bind(int t) {
  contexts[t] = engine->context(batch);
  const auto to = [&](const std::string& tensor, void* address) {
    if (!contexts[t]->setTensorAddress(tensor.c_str(), address))
      throw Error(MULTIRES_DEVICE, tensor + ": " + engine->log.last_error());
  };
  const multires_info info = engine->model.info();
  to(info.n_tokens > 0 ? "tokens" : "x", sample.data());
  to(info.autoregressive ? "params" : "logits", output.data());
  for (const Placed& placed : states) {
    const std::string name = placed.part.name;
    if (engine->has(name)) to(name, placed.now(t));
    if (engine->has("next_" + name)) to("next_" + name, placed.now(1 - t));
  }
  for (std::size_t i = 0; i < banks.size(); ++i) {
    to(engine->banks[i].taps, banks[i].taps.data());
    to(engine->banks[i].pushes, banks[i].pushes.data());
  }
}

RingMove StreamState::move(const PlacedBank& placed, const Bank& bank, bool read, const void* position) const {
  const Memory& table = read ? placed.reads : placed.writes;
  const Memory& rows = read ? placed.taps : placed.pushes;
  const int count = read ? bank.reads() : static_cast<int>(bank.rings.size());
  return {table.data(), count, position, rows.data(), batch, bank.row_bytes};
}

void StreamState::enqueue(int t) const {
  const Placed& clock = state("position");
  for (std::size_t i = 0; i < banks.size(); ++i)
    engine->kernels->gather(move(banks[i], engine->banks[i], true, clock.now(t)), stream);
  if (!contexts[t]->enqueueV3(stream)) throw Error(MULTIRES_DEVICE, "enqueueV3: " + engine->log.last_error());
  for (std::size_t i = 0; i < banks.size(); ++i)
    engine->kernels->push(move(banks[i], engine->banks[i], false, clock.now(t)), i ? nullptr : clock.now(1 - t),
                          stream);
}

void StreamState::enqueue_with_copies(int t) const {
  check(cudaMemcpyAsync(sample.data(), host_sample.data(), sample_bytes, cudaMemcpyHostToDevice, stream), "copy of x");
  enqueue(t);
  check(cudaMemcpyAsync(host_output.data(), output.data(), output_bytes, cudaMemcpyDeviceToHost, stream), "copy of y");
}

// TensorRT does some work at the first run, which a graph cannot record.
void StreamState::warm_up() {
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");  // memory is zeroed on another stream
  for (int t : {0, 1}) enqueue(t);
  for (const Placed& placed : states)
    for (const Memory& memory : placed.memory)
      if (memory.data()) check(cudaMemsetAsync(memory.data(), 0, placed.part.bytes, stream), "cudaMemsetAsync");
  stream.wait();
}

multires_status StreamState::fail(cudaError_t status) const noexcept {
  try {
    reason = cudaGetErrorString(status);
  } catch (...) {  // not enough memory for a message
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
    std::memcpy(host_sample.data(), from, sample_bytes);
    if (const cudaError_t status = graphs[turn].launch(stream)) return fail(status);
    if (const cudaError_t status = cudaStreamSynchronize(stream)) return fail(status);
    std::memcpy(to, host_output.data(), output_bytes);
    turn = 1 - turn;
  }
  return MULTIRES_OK;
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
const char* Stream::reason() const noexcept { return state_ ? state_->reason.c_str() : ""; }

multires_status Stream::step(const float* x, float* y) noexcept { return run(x, 1, y); }
multires_status Stream::step(const std::int64_t* tokens, float* y) noexcept { return run(tokens, 1, y); }

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
    auto* at = static_cast<unsigned char*>(placed.now(state_->turn));
    const cudaError_t status =
        row < 0 ? cudaMemsetAsync(at, 0, placed.part.bytes, state_->stream)
                : cudaMemsetAsync(at + static_cast<std::size_t>(row) * each, 0, each, state_->stream);
    if (status) return state_->fail(status);
  }
  return MULTIRES_OK;  // the next step follows on the same stream
}

std::vector<unsigned char> Stream::save() const {
  if (!state_) throw Error(MULTIRES_ARGUMENT, "a moved-from stream has no state");
  check(cudaSetDevice(0), "cudaSetDevice");
  for (const Placed& placed : state_->states)
    check(cudaMemcpyAsync(placed.part.data, placed.now(state_->turn), placed.part.bytes, cudaMemcpyDeviceToHost,
                          state_->stream),
          placed.part.name);
  state_->stream.wait();
  detail::check(multires_state_changed(state_->host.handle()));
  return state_->host.save();
}

void Stream::load(const unsigned char* snapshot, std::size_t size) {
  if (!state_) throw Error(MULTIRES_ARGUMENT, "a moved-from stream has no state");
  state_->host.load(snapshot, size);  // checks all of it before anything changes
  check(cudaSetDevice(0), "cudaSetDevice");
  for (const Placed& placed : state_->states)
    check(cudaMemcpyAsync(placed.now(state_->turn), placed.part.data, placed.part.bytes, cudaMemcpyHostToDevice,
                          state_->stream),
          placed.part.name);
  state_->stream.wait();
}

}  // namespace tensorrt
}  // namespace v0
}  // namespace multires
