#include "weights.h"

#include <cstring>

#include "panels.h"

namespace multires {
inline namespace v0 {
namespace cuda {
namespace {

constexpr int kColumns = 4;  // outputs of a thread, in products.h
constexpr std::size_t kAlignment = 16;

class Packer {
 public:
  explicit Packer(std::vector<unsigned char>& content) : content_(content) {}

  // Zeroed bytes; returns their place.
  std::size_t reserve(std::size_t bytes) {
    const std::size_t place = content_.size();
    content_.resize(place + (bytes + kAlignment - 1) / kAlignment * kAlignment);
    return place;
  }

  // Rows of `width` floats, of which the first `channels` are kept.
  long long put_rows(View<const float> rows, std::size_t width, std::size_t channels) {
    const std::size_t count = rows.size() / width, place = reserve(count * channels * sizeof(float));
    for (std::size_t row = 0; row < count; ++row)
      std::memcpy(&content_[place + row * channels * sizeof(float)], rows.data() + row * width,
                  channels * sizeof(float));
    return static_cast<long long>(place);
  }

  // place_of(row) is where the panels have output `row`.
  template <typename Place>
  PackedMatrix put_matrix(const Panels& panels, int outputs, Place place_of) {
    PackedMatrix matrix;
    matrix.type = panels.dtype;
    matrix.weights = static_cast<long long>(put_weights(panels, outputs, place_of));
    const auto put_of_outputs = [&](View<const float> values) {
      const std::size_t place = reserve(static_cast<std::size_t>(outputs) * sizeof(float));
      for (int o = 0; o < outputs; ++o)
        std::memcpy(&content_[place + o * sizeof(float)], &values[place_of(o)], sizeof(float));
      return static_cast<long long>(place);
    };
    matrix.bias = put_of_outputs(panels.bias);
    if (panels.dtype != MULTIRES_INT8) return matrix;
    matrix.scales = put_of_outputs(panels.scales);
    matrix.reciprocals = put_rows(panels.reciprocal_scales, panels.reciprocal_scales.size(), panels.inputs);
    return matrix;
  }

 private:
  // (inputs, outputs) in a float type, or (groups, outputs, 4) in int8, with zeros up to whole words.
  template <typename Place>
  std::size_t put_weights(const Panels& panels, int outputs, Place place_of) {
    const std::size_t each = size_of(panels.dtype), group = static_cast<std::size_t>(panels.group);
    const std::size_t wide = static_cast<std::size_t>((outputs + kColumns - 1) / kColumns) * kColumns;
    const std::size_t place = reserve(static_cast<std::size_t>(panels.rows()) * wide * each);
    for (int o = 0; o < outputs; ++o)
      for (int i = 0; i < panels.inputs; ++i) {
        const std::size_t at = (i / group * wide + o) * group + i % group;
        std::memcpy(&content_[place + at * each], panels.weights.data() + weight_index(panels, place_of(o), i) * each,
                    each);
      }
    return place;
  }

  std::vector<unsigned char>& content_;
};

int same_place(int row) { return row; }

}  // namespace

PackedWeights pack_weights(const multires::Network& network) {
  PackedWeights packed;
  Packer packer(packed.content);
  const int d = network.info.d_model;
  const auto put_channels = [&](View<const float> rows) { return packer.put_rows(rows, network.width, d); };
  if (network.info.n_tokens > 0)
    packed.table = put_channels(network.table);
  else
    packed.encoder = packer.put_matrix(network.encoder, d, same_place);
  for (const Layer& layer : network.layers) {
    PackedLayer entry;
    entry.filters = put_channels(layer.filters);
    entry.mixing =
        network.gated ? packer.put_matrix(layer.mixing, 2 * d, [&](int row) { return glu_place(layer.mixing, row, d); })
                      : packer.put_matrix(layer.mixing, d, same_place);
    if (layer.output.count > 0) entry.second = packer.put_matrix(layer.output, d, same_place);
    entry.norm_scale = put_channels(layer.scale);
    entry.norm_shift = put_channels(layer.shift);
    packed.layers.push_back(entry);
  }
  packed.head = packer.put_matrix(network.head, network.info.d_output, same_place);
  return packed;
}

}  // namespace cuda
}  // namespace v0
}  // namespace multires
