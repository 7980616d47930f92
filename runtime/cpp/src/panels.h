// Copying matrices of a weights file to the layout that the products read.
#pragma once

#include <string>

#include "memory.h"
#include "network.h"
#include "weights_file.h"

namespace multires {

// Where the arrays of matrices are, and the int8 inputs of a group.
struct Layout {
  Memory& memory;
  int group;
};

// Reads `name`.weight (outputs, inputs), of float32 or `precision`, and `name`.bias; for int8 weights also
// `name`.weight_scales (outputs) and `name`.input_scales (inputs). Throws LoadError.
Panels read_panels(const WeightsFile& file, Layout layout, const std::string& name, int inputs, int outputs,
                   multires_dtype precision);

// The matrix (2 * channels, channels) before GLU, with values and gates in the same panel; see Layer::mixing.
Panels read_glu_panels(const WeightsFile& file, Layout layout, const std::string& name, int channels,
                       multires_dtype precision);

}  // namespace multires
