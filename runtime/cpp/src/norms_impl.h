// The end of a block for one row, x = norm(x + y), for each kind of norm. Padding stays zero. Included by
// kernels_impl.h.
#pragma once

namespace multires {
namespace {

// x = scale * normal(x + y) + shift, where normal values have mean 0 and variance 1 over the channels.
void layer_norm_row(const Layer& layer, int channels, int width, float* x, const float* y) {
  const float *scale = layer.scale.data(), *shift = layer.shift.data();
  Vec sum{};
  for (int c = 0; c < width; c += kVector) {
    const Vec v = load(x + c) + load(y + c);
    store(x + c, v);
    sum += v;
  }
  const Vec mean = all(total(sum) / static_cast<float>(channels));
  Vec squares{};
  int c = 0;
  for (; c + kVector <= channels; c += kVector) {
    const Vec v = load(x + c) - mean;
    squares += v * v;
  }
  float square = total(squares);
  for (; c < channels; ++c) square += (x[c] - mean[0]) * (x[c] - mean[0]);
  const Vec factor = all(1.0f / std::sqrt(square / static_cast<float>(channels) + layer.epsilon));
  for (c = 0; c < width; c += kVector) store(x + c, (load(x + c) - mean) * factor * load(scale + c) + load(shift + c));
}

// x = scale * x + shift + y: a folded BatchNorm.
void affine_row(const Layer& layer, int width, float* x, const float* y) {
  const float *scale = layer.scale.data(), *shift = layer.shift.data();
  for (int c = 0; c < width; c += kVector)
    store(x + c, load(x + c) * load(scale + c) + (load(shift + c) + load(y + c)));
}

void norm_row(const Layer& layer, int channels, int width, float* x, const float* y) {
  switch (layer.norm) {
    case Norm::kLayer: layer_norm_row(layer, channels, width, x, y); break;
    case Norm::kAffine: affine_row(layer, width, x, y); break;
  }
  for (int c = channels; c < width; ++c) x[c] = 0;
}

}  // namespace
}  // namespace multires
