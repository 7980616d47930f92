// Copying matrices of a weights file to the layout that the products read, and where each weight is in it.
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

// The place of output `row` of the matrix before GLU, counted over all panels. Of any other matrix it is the row.
inline int glu_place(const Panels& panels, int row, int channels) {
  const int channel = row % channels, panel = channel / kHalf;
  return panel * kPanel + (row < channels ? 0 : panels.width(panel) / 2) + channel % kHalf;
}

// The index in `weights`, counted in weights, of an input of the output at a place.
inline size_t weight_index(const Panels& panels, int place, int input) {
  const int panel = place / kPanel, group = panels.group;
  const size_t first = static_cast<size_t>(panel) * panels.rows() * kPanel;
  const size_t unit = static_cast<size_t>(input / group) * panels.width(panel) + place % kPanel;
  return first + unit * group + input % group;
}

}  // namespace multires
