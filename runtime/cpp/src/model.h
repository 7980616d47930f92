// A network from a weights file, and the memory of its weights.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "memory.h"
#include "network.h"

namespace multires {

constexpr int kGroupOfHosts = 4;  // on all instruction sets of hosts

struct Model : Network {
  std::map<std::string, std::string> metadata;
  uint64_t fingerprint = 0;  // of the tensors
  std::string path;          // of the weights file; empty for weights from memory

  int64_t stream_values() const;  // values in the queues and the window of one stream

  // These throw LoadError or std::bad_alloc.
  static std::unique_ptr<Model> load(const std::string& path);
  // `group` int8 inputs have their weights side by side: those of the instruction set, see kGroup in kernels_impl.h.
  static std::unique_ptr<Model> load(const void* data, size_t size, int group = kGroupOfHosts);

  Memory memory;
};

}  // namespace multires
