#include "state.h"

#include <algorithm>
#include <cstdio>

#include "memory.h"

namespace multires {
namespace {

// Rings of this size stay in the nearer caches of most CPUs. Prefetching them takes longer than it saves.
constexpr size_t kNear = 16u << 20;

// Of a state, without the scratch of a block, whose size does not depend on the batch.
uint64_t bytes_of(const Model& model, int batch, int window) {
  const uint64_t rows = static_cast<uint64_t>(batch), d = static_cast<uint64_t>(model.info.d_model);
  Bytes bytes;
  bytes.add({rows, static_cast<uint64_t>(model.info.n_layers), static_cast<uint64_t>(model.width), sizeof(float)});
  bytes.add({rows, sizeof(int64_t), 1 + static_cast<uint64_t>(model.info.depth)});  // position and heads
  for (int64_t slots : model.slots)
    bytes.add(
        {rows, static_cast<uint64_t>(slots), static_cast<uint64_t>(model.info.n_layers), d, size_of(model.queues)});
  if (model.encoder_taps > 1)
    bytes.add(
        {rows, static_cast<uint64_t>(model.encoder_taps), static_cast<uint64_t>(model.info.d_input), sizeof(float)});
  if (!model.poolings.empty()) bytes.add({rows, 5, d, sizeof(float)});  // sums, their errors, and the maximum
  bytes.add({rows, static_cast<uint64_t>(pool_values(model.poolings, model.info.d_model, window)), sizeof(float)});
  return bytes.total();
}

}  // namespace

State::State(const Model& model_, int batch_, int window) : model(model_), batch(batch_), scratch(model_) {
  const multires_info& info = model.info;
  const size_t rows = static_cast<size_t>(batch);
  // Before the first allocation: the products below cannot overflow.
  check_memory(bytes_of(model, batch, window), "a state");
  position = AlignedArray<int64_t>(rows);
  heads = AlignedArray<int64_t>(rows * info.depth);
  make_queues();
  pool = Pool(model.poolings, info.d_model, batch, window, parts);
  if (model.encoder_taps > 1) {
    const size_t values = static_cast<size_t>(model.encoder_taps) * info.d_input;
    encoder_queue = AlignedArray<float>(rows * values);
    parts.push_back(make_part("encoder_queue", MULTIRES_FLOAT32, encoder_queue.data(),
                              {batch, 1, model.encoder_taps, info.d_input}));
  }
  parts.push_back(make_part("position", MULTIRES_INT64, position.data(), {batch}));
  std::sort(parts.begin(), parts.end(),
            [](const multires_part& a, const multires_part& b) { return std::string(a.name) < b.name; });

  known_ = AlignedArray<float>(rows * info.n_layers * model.width);
  fetches = rings_.size() > kNear;
}

void State::make_queues() {
  const int depth = model.info.depth;
  const int64_t wide = static_cast<int64_t>(model.info.n_layers) * model.info.d_model;
  size_t values = 0;
  for (int64_t slots : model.slots) values += static_cast<size_t>(batch * slots * wide);
  // One array, so that it can be on large pages. It is longer because vector loads may read past the last channel.
  const size_t each = size_of(model.queues);
  rings_ = AlignedArray<unsigned char>((values + kLane) * each);
  names.reserve(static_cast<size_t>(depth));
  unsigned char* queue = rings_.data();
  for (int j = 0; j < depth; ++j) {
    char name[24];
    std::snprintf(name, sizeof name, "queue_%02d", j);
    names.emplace_back(name);
    queues.push_back(queue);
    parts.push_back(make_part(names.back().c_str(), model.queues, queue, {batch, 1, model.slots[j], wide}));
    queue += static_cast<size_t>(batch * model.slots[j] * wide) * each;
  }
}

multires_part make_part(const char* name, multires_dtype dtype, void* data, const std::vector<int64_t>& shape) {
  multires_part part{};
  part.name = name;
  part.data = data;
  part.rank = static_cast<int32_t>(shape.size());
  part.dtype = dtype;
  part.bytes = size_of(dtype);
  for (size_t i = 0; i < shape.size(); ++i) {
    part.shape[i] = shape[i];
    part.bytes *= static_cast<size_t>(shape[i]);
  }
  return part;
}

void State::find_heads() {
  for (int b = 0; b < batch; ++b)
    for (int j = 0; j < model.info.depth; ++j)
      heads[static_cast<size_t>(b) * model.info.depth + j] = position[b] % model.slots[j];
}

void State::zero(int row) {
  for (multires_part& part : parts) {
    const size_t bytes = part.bytes / static_cast<size_t>(batch);
    std::memset(static_cast<char*>(part.data) + static_cast<size_t>(row) * bytes, 0, bytes);
  }
  for (int j = 0; j < model.info.depth; ++j) heads[static_cast<size_t>(row) * model.info.depth + j] = 0;
}

}  // namespace multires
