// The norms of one row, and the end of a block, for each kind and place. Padding stays zero. Included by
// kernels_impl.h.
#pragma once

namespace multires {
namespace {

// out = scale * normal(x) + shift, where normal values have mean square 1 over each group of channels, and mean 0 if
// they are centred.
template <bool kCentred>
void normalize_row(const Layer& layer, int channels, const float* x, float* out) {
  const int size = channels / layer.groups;
  for (int first = 0; first < channels; first += size) {
    const float *from = x + first, *scale = layer.scale.data() + first, *shift = layer.shift.data() + first;
    int c = 0;
    Vec mean{};
    if (kCentred) {
      for (; c + kVector <= size; c += kVector) mean += load(from + c);
      if (c < size) mean += load_some(from + c, size - c);
      mean = all(total(mean) / static_cast<float>(size));
    }
    Vec squares{};
    for (c = 0; c + kVector <= size; c += kVector) {
      const Vec v = load(from + c) - mean;
      squares += v * v;
    }
    float square = total(squares);
    for (; c < size; ++c) square += (from[c] - lane_of(mean, 0)) * (from[c] - lane_of(mean, 0));
    const Vec factor = all(1.0f / std::sqrt(square / static_cast<float>(size) + layer.epsilon));
    for (c = 0; c + kVector <= size; c += kVector)
      store(out + first + c, (load(from + c) - mean) * factor * load(scale + c) + load(shift + c));
    if (c < size) {
      const int rest = size - c;
      const Vec normal = (load_some(from + c, rest) - mean) * factor;
      store_some(out + first + c, normal * load_some(scale + c, rest) + load_some(shift + c, rest), rest);
    }
  }
}

void affine_row(const Layer& layer, int width, const float* x, float* out) {
  const float *scale = layer.scale.data(), *shift = layer.shift.data();
  for (int c = 0; c < width; c += kVector) store(out + c, load(x + c) * load(scale + c) + load(shift + c));
}

// out = norm(x); they may be the same row.
void norm_row(const Layer& layer, int channels, int width, const float* x, float* out) {
  switch (layer.norm) {
    case Norm::kLayer: normalize_row<true>(layer, channels, x, out); break;
    case Norm::kRms: normalize_row<false>(layer, channels, x, out); break;
    case Norm::kAffine: affine_row(layer, width, x, out); break;
  }
  for (int c = channels; c < width; ++c) out[c] = 0;
}

// From the input x of a block and its change to its output, in place.
void leave_block(const Layer& layer, int channels, int width, const float* change, float* x) {
  if (layer.place == Place::kResidual) norm_row(layer, channels, width, x, x);
  for (int c = 0; c < width; c += kVector) store(x + c, load(x + c) + load(change + c));
  if (layer.place == Place::kAfter) norm_row(layer, channels, width, x, x);
}

}  // namespace
}  // namespace multires
