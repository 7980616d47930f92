// A network as a C++ source file, for programs whose weights are constants.
#pragma once

#include <string>

#include "model.h"

namespace multires {

struct NetworkSource {
  std::string source;     // network.cpp
  std::string kinds;      // network_kinds.h, see kinds.h
  size_t constant_bytes = 0;  // of its arrays
  size_t arena_bytes = 0;     // that a stream needs where pointers have 4 bytes
};

NetworkSource network_source(const Model& model);

}  // namespace multires
