#include "pooling.h"

namespace multires {

Pool::Pool(View<const Pooling> poolings, int d_model, int batch, int window_, Storage& storage) : window(window_) {
  const uint64_t rows = static_cast<uint64_t>(batch), d = static_cast<uint64_t>(d_model);
  for (const Pooling pooling : poolings) {
    if (pooling == Pooling::kMax && window == 0) max = storage.array<float>({rows, d});
    if (pooling == Pooling::kMax && window > 0) {
      uint64_t count = 0;
      for_each_delay(window, [&](int) { ++count; });
      delays = storage.array<int32_t>({count});
      maxima = storage.array<float*>({count});
      size_t k = 0;
      for_each_delay(window, [&](int delay) {
        float* const ring = storage.array<float>({rows, static_cast<uint64_t>(delay) + 1, d}).data();
        if (!ring) return;  // only counted
        delays[k] = delay;
        maxima[k++] = ring;
      });
    }
    if (pooling != Pooling::kMean) continue;
    sum = storage.array<float>({rows, d});
    sum_error = storage.array<float>({rows, d});
    if (window == 0) continue;
    block = storage.array<float>({rows, d});
    block_error = storage.array<float>({rows, d});
    prefix = storage.array<float>({rows, static_cast<uint64_t>(window) + 1, 2, d});
  }
}

}  // namespace multires
