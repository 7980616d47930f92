#include "state.h"

#include <algorithm>
#include <cstdio>

namespace multires {

State::State(const Model& model_, int batch_, int window_) : model(model_), batch(batch_), window(window_) {
  const multires_info& info = model.info;
  const size_t rows = static_cast<size_t>(batch), d = static_cast<size_t>(info.d_model);
  const size_t layers_wide = static_cast<size_t>(info.n_layers) * d;
  position = AlignedArray<int64_t>(rows);
  heads = AlignedArray<int64_t>(rows * info.depth);
  names.reserve(static_cast<size_t>(info.depth));
  for (int j = 0; j < info.depth; ++j) {
    const int64_t slots = model.slots[j];
    if (static_cast<uint64_t>(slots) > (static_cast<uint64_t>(1) << 40) / layers_wide / rows)
      throw LoadError(MULTIRES_MEMORY, "a queue of more than 2^40 values was asked for");
    queues.emplace_back(rows * static_cast<size_t>(slots) * layers_wide);
    char name[24];
    std::snprintf(name, sizeof name, "queue_%02d", j);
    names.emplace_back(name);
  }
  if (!info.autoregressive) {
    sum = AlignedArray<float>(rows * d);
    sum_error = AlignedArray<float>(rows * d);
    add_part("pool_sum", sum.data(), {batch, info.d_model});
    add_part("pool_sum_error", sum_error.data(), {batch, info.d_model});
    if (window) {
      block = AlignedArray<float>(rows * d);
      block_error = AlignedArray<float>(rows * d);
      prefix = AlignedArray<float>(rows * (static_cast<size_t>(window) + 1) * 2 * d);
      add_part("pool_block", block.data(), {batch, info.d_model});
      add_part("pool_block_error", block_error.data(), {batch, info.d_model});
      add_part("pool_prefix", prefix.data(), {batch, 1, window + 1, 2 * info.d_model});
    }
  }
  for (int j = 0; j < info.depth; ++j)
    add_part(names[j].c_str(), queues[j].data(), {batch, 1, model.slots[j], static_cast<int64_t>(layers_wide)});
  add_part("position", nullptr, {batch});
  parts.back().data = position.data();
  parts.back().bytes = rows * sizeof(int64_t);
  parts.back().is_int64 = 1;
  std::sort(parts.begin(), parts.end(), [](const multires_part& a, const multires_part& b) {
    return std::string(a.name) < b.name;
  });

  const size_t scratch = kBlockRows * (static_cast<size_t>(model.width) + kPanel);
  for (AlignedArray<float>* buffer : {&x, &mixed, &gated, &pooled}) *buffer = AlignedArray<float>(scratch);
  taps.resize(static_cast<size_t>(kBlockRows) * model.total_taps);
}

void State::add_part(const char* name, float* data, std::vector<int64_t> shape) {
  multires_part part{};
  part.name = name;
  part.data = data;
  part.rank = static_cast<int32_t>(shape.size());
  part.bytes = sizeof(float);
  for (size_t i = 0; i < shape.size(); ++i) {
    part.shape[i] = shape[i];
    part.bytes *= static_cast<size_t>(shape[i]);
  }
  parts.push_back(part);
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
