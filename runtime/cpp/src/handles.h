// What a handle of the C interface holds.
#pragma once

#include <memory>

#include "model.h"

struct multires_model {
  std::shared_ptr<const multires::Model> model;
};
