#include "owned_state.h"

#include "kernels.h"

namespace multires {
namespace {

// The batch, if a state of it fits into memory.
int checked(int batch, const Model& model, int window) {
  Counter counter;
  const State counted(model, batch, window, kBlockRows, counter);
  check_memory(counter.bytes(), "a state");
  return batch;
}

}  // namespace

OwnedState::OwnedState(std::shared_ptr<const Model> shared, int batch, int window, std::unique_ptr<Memory> empty)
    : multires_state(*shared, checked(batch, *shared, window), window, kBlockRows, *empty), model(std::move(shared)),
      memory(std::move(empty)) {
  for_each_part([&](const char* name, int number, multires_dtype dtype, void* data, const auto& shape) {
    const std::string digits = number < 0 ? "" : std::to_string(100 + number).substr(1);
    names.push_back(name + digits);
    multires_part part{};
    part.data = data;
    part.dtype = dtype;
    part.bytes = size_of(dtype);
    for (const int64_t size : shape) {
      part.shape[part.rank++] = size;
      part.bytes *= static_cast<size_t>(size);
    }
    parts.push_back(part);
  });
  for (size_t i = 0; i < parts.size(); ++i) parts[i].name = names[i].c_str();
}

}  // namespace multires
