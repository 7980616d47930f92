#include "panels.h"

#include <cmath>
#include <cstring>

namespace multires {
namespace {

// With more inputs, a sum of int8 products may overflow 32 bits.
constexpr int kMaxInt8Inputs = 1 << 17;
static_assert(static_cast<int64_t>(kMaxInt8Inputs) * 128 * 127 <= INT32_MAX, "sums of products are exact");

// A matrix of the file, and panels to copy its rows to.
class Filler {
 public:
  Filler(const WeightsFile& file, const std::string& name, int inputs, int outputs, DType precision)
      : weight_(file.tensor(name + ".weight", {outputs, inputs}, precision)),
        bias_(file.tensor(name + ".bias", {outputs})) {
    panels_.dtype = weight_.dtype;
    panels_.inputs = inputs;
    if (panels_.dtype != DType::kInt8) return;
    if (inputs > kMaxInt8Inputs) throw LoadError(MULTIRES_UNSUPPORTED, name + " has more than 2^17 inputs in int8");
    weight_scales_ = &file.tensor(name + ".weight_scales", {outputs});
    const float* input_scales = file.tensor(name + ".input_scales", {inputs}).floats();
    panels_.reciprocal_scales = AlignedArray<float>(static_cast<size_t>(padded(inputs)));
    for (int i = 0; i < inputs; ++i) {
      panels_.reciprocal_scales[i] = 1.0f / input_scales[i];
      if (!(input_scales[i] > 0 && std::isfinite(panels_.reciprocal_scales[i])))
        throw LoadError(MULTIRES_MALFORMED, name + ".input_scales has a value that is not above 0, or too small");
    }
    for (int row = 0; row < outputs; ++row)
      if (!(weight_scales_->floats()[row] > 0))
        throw LoadError(MULTIRES_MALFORMED, name + ".weight_scales has a value that is not above 0");
  }

  void make_room(int count, int last) {
    panels_.count = count;
    panels_.last = last;
    const size_t places = static_cast<size_t>(count) * kPanel;
    panels_.weights = AlignedArray<unsigned char>((places - kPanel + last) * panels_.rows() * size_of(panels_.dtype));
    panels_.bias = AlignedArray<float>(places);
    if (panels_.dtype != DType::kInt8) return;
    panels_.scales = AlignedArray<float>(places);
    panels_.offsets = AlignedArray<int32_t>(places);
  }

  void put_row(int panel, int place, int row) {
    const size_t each = size_of(panels_.dtype), inputs = static_cast<size_t>(panels_.inputs);
    const size_t group = panels_.dtype == DType::kInt8 ? kGroup : 1, width = panels_.width(panel);
    const unsigned char* from = static_cast<const unsigned char*>(weight_.data) + row * inputs * each;
    unsigned char* to = panels_.weights.data() + static_cast<size_t>(panel) * panels_.rows() * kPanel * each;
    for (size_t i = 0; i < inputs; ++i) {
      const size_t at = (i / group * width + place) * group + i % group;
      std::memcpy(to + at * each, from + i * each, each);
    }
    const size_t output = static_cast<size_t>(panel) * kPanel + place;
    panels_.bias[output] = bias_.floats()[row];
    if (panels_.dtype != DType::kInt8) return;
    panels_.scales[output] = weight_scales_->floats()[row];
    // Modulo 2^32, like the sums of products: an overflow in between cancels.
    uint32_t sum = 0;
    for (size_t i = 0; i < inputs; ++i) sum += static_cast<uint32_t>(static_cast<int8_t>(from[i]));
    const uint32_t offset = 0u - 128u * sum;
    std::memcpy(&panels_.offsets[output], &offset, sizeof offset);
  }

  Panels take() { return std::move(panels_); }
  int width(int panel) const { return panels_.width(panel); }

 private:
  const Tensor &weight_, &bias_;
  const Tensor* weight_scales_ = nullptr;
  Panels panels_;
};

}  // namespace

Panels read_panels(const WeightsFile& file, const std::string& name, int inputs, int outputs, DType precision) {
  Filler filler(file, name, inputs, outputs, precision);
  const int count = (outputs + kPanel - 1) / kPanel;
  filler.make_room(count, padded(outputs - (count - 1) * kPanel));
  for (int row = 0; row < outputs; ++row) filler.put_row(row / kPanel, row % kPanel, row);
  return filler.take();
}

Panels read_glu_panels(const WeightsFile& file, const std::string& name, int channels, DType precision) {
  Filler filler(file, name, channels, 2 * channels, precision);
  const int count = (channels + kHalf - 1) / kHalf;
  filler.make_room(count, 2 * padded(channels - (count - 1) * kHalf));
  for (int c = 0; c < channels; ++c) {
    const int panel = c / kHalf;
    filler.put_row(panel, c % kHalf, c);
    filler.put_row(panel, filler.width(panel) / 2 + c % kHalf, channels + c);
  }
  return filler.take();
}

}  // namespace multires
