#include "state.h"

#include <cstring>

namespace multires {
namespace {

// Rings of this size, of all streams together, stay in the nearest caches: prefetching them would only take time.
constexpr uint64_t kNear = 512u << 10;

}  // namespace

State::State(const Network& network_, int batch_, int window, int rows, Storage& storage)
    : network(network_), batch(batch_) {
  const multires_info& info = network.info;
  const uint64_t streams = static_cast<uint64_t>(batch), depth = static_cast<uint64_t>(info.depth),
                 layers = static_cast<uint64_t>(info.n_layers), d = static_cast<uint64_t>(info.d_model);
  position = storage.array<int64_t>({streams});
  heads = storage.array<int64_t>({streams, depth});
  queues = storage.array<unsigned char*>({depth});
  uint64_t values = 0;  // a network has less than 2^32 in a stream
  for (const int64_t slots : network.slots) values += streams * static_cast<uint64_t>(slots) * layers * d;
  // One array, so that it can be on large pages. It is longer because vector loads may read past the last channel.
  const size_t each = size_of(network.queues);
  const View<unsigned char> rings = storage.array<unsigned char>({values + kLane, each});
  unsigned char* queue = rings.data();
  for (size_t j = 0; queue && j < queues.size(); ++j) {
    queues[j] = queue;
    queue += static_cast<size_t>(streams * static_cast<uint64_t>(network.slots[j]) * layers * d) * each;
    if (static_cast<uint64_t>(queue - rings.data()) <= kNear) near_taps += network.taps[j];
  }
  pool = Pool(network.poolings, info.d_model, batch, window, storage);
  if (network.encoder_taps > 1)
    encoder_queue = storage.array<float>(
        {streams, static_cast<uint64_t>(network.encoder_taps), static_cast<uint64_t>(info.d_input)});
  known_ = storage.array<float>({streams, layers, static_cast<uint64_t>(network.width)});
  scratch = Scratch(network, rows, storage);
}

void State::find_heads() {
  for (int b = 0; b < batch; ++b)
    for (int j = 0; j < network.info.depth; ++j)
      heads[static_cast<size_t>(b) * network.info.depth + j] = position[b] % network.slots[j];
}

void State::zero(int row) {
  for_each_part([&](const char*, int, multires_dtype dtype, void* data, std::initializer_list<int64_t> shape) {
    size_t bytes = size_of(dtype);
    for (const int64_t* size = shape.begin() + 1; size < shape.end(); ++size) bytes *= static_cast<size_t>(*size);
    std::memset(static_cast<char*>(data) + static_cast<size_t>(row) * bytes, 0, bytes);
  });
  for (int j = 0; j < network.info.depth; ++j) heads[static_cast<size_t>(row) * network.info.depth + j] = 0;
}

}  // namespace multires
