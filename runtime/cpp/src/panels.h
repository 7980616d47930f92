// Matrices from a weights file into the layout that the products read.
#pragma once

#include <string>

#include "model.h"
#include "weights_file.h"

namespace multires {

// `name`.weight (outputs, inputs), in float32 or `precision`, and `name`.bias; of int8 weights also
// `name`.weight_scales (outputs) and `name`.input_scales (inputs). These throw LoadError.
Panels read_panels(const WeightsFile& file, const std::string& name, int inputs, int outputs, DType precision);

// The matrix (2 * channels, channels) in front of GLU, values and gates side by side; see Layer::mixing.
Panels read_glu_panels(const WeightsFile& file, const std::string& name, int channels, DType precision);

}  // namespace multires
