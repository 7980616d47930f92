// Streams on the device. A state that the engine or the ring kernels update in
// place has one buffer. Any other state has two, which swap roles at each step;
// one graph is captured for each role.

#include <cstring>

#include "engine.h"

namespace multires {
inline namespace v0 {
namespace tensorrt {
namespace {

constexpr int kChunk = 16;  // steps of run() in one graph; even, so that the buffers have their roles again

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

// Of one step of all streams.
std::size_t sample_bytes_of(const multires_info& info, int batch) {
  const std::size_t each = info.n_tokens > 0 ? sizeof(std::int64_t) : static_cast<std::size_t>(info.d_input) * 4;
  return static_cast<std::size_t>(batch) * each;
}

} // namespace

struct StreamState {
  StreamState(std::shared_ptr<const LoadedEngine> engine, std::int32_t batch);

  std::shared_ptr<const LoadedEngine> engine;
  int batch;
  std::size_t sample_bytes, output_bytes;
  multires::Stream host; // its state has the same layout; snapshots are made from it
  CudaStream stream = new_stream();
  Exchanged sample, output;    // of a step
  Exchanged samples, outputs;  // of a chunk
  std::vector<Placed> states;
  std::vector<PlacedBank> banks;
  std::unique_ptr<nvinfer1::IExecutionContext> contexts[2];
  Graph graphs[2], chunks[2];
  int turn = 0;
  mutable std::string reason;

  const Placed& state(const std::string& name) const;
  void bind(int turn);
  void enqueue(int turn) const;
  void enqueue_step(int turn) const;
  void enqueue_chunk(int turn) const;
  template <typename Work>
  multires_status launch(const Graph& graph, Work work) const noexcept;
  void copy_states(bool to_device) const;
  multires_status run(const void* given, bool are_tokens, std::int64_t steps, float* y) noexcept;
  multires_status fail(const char* why) const noexcept;
  multires_status fail(cudaError_t status) const noexcept { return fail(cudaGetErrorString(status)); }

 private:
  template <typename Work>
  Graph captured(Work work) const;
  void place_states();
  void place_banks();
  void warm_up();
};

StreamState::StreamState(std::shared_ptr<const LoadedEngine> engine_, std::int32_t batch_)
    : engine(std::move(engine_)), batch(batch_), sample_bytes(sample_bytes_of(engine->model.info(), batch)),
      output_bytes(static_cast<std::size_t>(batch) * static_cast<std::size_t>(engine->model.info().d_output) *
                   sizeof(float)),
      host(engine->model, batch_), sample(sample_bytes), output(output_bytes), samples(kChunk * sample_bytes),
      outputs(kChunk * output_bytes) {
  place_states();
  place_banks();
  for (int t : {0, 1}) bind(t);
  warm_up();
  for (int t : {0, 1}) graphs[t] = captured([&] { enqueue_step(t); });
  for (int t : {0, 1}) chunks[t] = captured([&] { enqueue_chunk(t); });
}

// Work as a graph. Null, with the reason, if it cannot be captured: then it is queued each time.
template <typename Work>
Graph StreamState::captured(Work work) const {
  try {
    return capture(stream, work);
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
  to(info.n_tokens > 0 ? "tokens" : "x", sample.address());
  to(info.autoregressive ? "params" : "logits", output.address());
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

void StreamState::enqueue_step(int t) const {
  sample.send(stream.get());
  enqueue(t);
  output.receive(stream.get());
}

void StreamState::enqueue_chunk(int t) const {
  const auto copy = [&](void* to, const void* from, std::size_t bytes) {
    // Either may be memory of the host.
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream.get()), "copy of a step");
  };
  samples.send(stream.get());
  for (std::size_t step = 0; step < kChunk; ++step) {
    copy(sample.address(), samples.address() + step * sample_bytes, sample_bytes);
    enqueue((t + static_cast<int>(step)) % 2);
    copy(outputs.address() + step * output_bytes, output.address(), output_bytes);
  }
  outputs.receive(stream.get());
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

// Runs a graph, or queues its work if it could not be captured, and waits.
template <typename Work>
multires_status StreamState::launch(const Graph& graph, Work work) const noexcept {
  try {
    if (graph)
      check(cudaGraphLaunch(graph.get(), stream.get()), "cudaGraphLaunch");
    else
      work();
    wait_for(stream);
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

multires_status StreamState::run(const void* given, bool are_tokens, std::int64_t steps, float* y) noexcept {
  const std::int32_t n_tokens = engine->model.info().n_tokens;
  if (!given || !y || steps < 0 || are_tokens != (n_tokens > 0)) return MULTIRES_ARGUMENT;
  if (are_tokens) {
    const auto* tokens = static_cast<const std::int64_t*>(given);
    if (steps > INT64_MAX / batch) return MULTIRES_ARGUMENT;
    for (std::int64_t i = 0; i < steps * batch; ++i)
      if (tokens[i] < 0 || tokens[i] >= n_tokens) return MULTIRES_ARGUMENT;
  }
  if (const cudaError_t status = cudaSetDevice(0)) return fail(status);
  const auto* from = static_cast<const unsigned char*>(given);
  auto* to = reinterpret_cast<unsigned char*>(y);
  while (steps > 0) {
    const bool whole = steps >= kChunk;
    const std::int64_t some = whole ? kChunk : 1;
    const auto in = static_cast<std::size_t>(some) * sample_bytes, out = static_cast<std::size_t>(some) * output_bytes;
    std::memcpy((whole ? samples : sample).host(), from, in);
    const multires_status status =
        whole ? launch(chunks[turn], [&] { enqueue_chunk(turn); }) : launch(graphs[turn], [&] { enqueue_step(turn); });
    if (status != MULTIRES_OK) return status;
    std::memcpy(to, (whole ? outputs : output).host(), out);
    if (!whole) turn = 1 - turn;
    steps -= some, from += in, to += out;
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
  const std::lock_guard<std::mutex> one(loaded.opening);
  state_ = std::make_unique<StreamState>(engine.loaded_, batch);
  loaded.cache->keep();
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
