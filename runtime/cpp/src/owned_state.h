// A state of a host: with the memory of its arrays, and the description of its parts for the C interface.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "memory.h"
#include "model.h"
#include "state.h"

namespace multires {

struct OwnedState : multires_state {
  // window: steps to pool over, 0 for everything so far. Throws LoadError or std::bad_alloc.
  OwnedState(std::shared_ptr<const Model> shared, int batch, int window,
             std::unique_ptr<Memory> empty = std::make_unique<Memory>());

  const std::shared_ptr<const Model> model;
  const std::unique_ptr<const Memory> memory;  // of the arrays
  std::vector<std::string> names;
  std::vector<multires_part> parts;  // sorted by name
};

}  // namespace multires
