// A block of rows through the network, from samples to outputs. Included by kernels_impl.h.
#pragma once

namespace multires {
namespace {

// An elementwise function of `count` values.
template <typename From, typename To, typename Function>
void apply(const From* x, To* y, int count, Function function) {
  for (int i = 0; i < count; i += kVector) {
    const int n = std::min(kVector, count - i);
    store_some(y + i, function(load_some(x + i, n)), n);
  }
}
template <Vec (*function)(Vec), typename From, typename To>
void apply_all(const From* x, To* y, int count) {
  apply(x, y, count, function);
}

// Replaces the logits of a row by their probabilities.
void softmax(float* row, int count) {
  const float largest = *std::max_element(row, row + count);
  apply(row, row, count, [=](Vec v) { return exponential(most(v - all(largest), all(-87.0f))); });
  const double sum = std::accumulate(row, row + count, 0.0);
  for (int i = 0; i < count; ++i) row[i] = static_cast<float>(row[i] / sum);
}

// Rows of a buffer whose rows are `stride` floats apart. Called with a panel of outputs, it writes them. The columns
// are a multiple of kLane.
struct ToRows {
  float* buffer;
  size_t stride;
  int columns;
  void operator()(int panel, int row, const float* out) const {
    float* to = buffer + row * stride + panel * kPanel;
    const int count = std::min(kPanel, columns - panel * kPanel);
    for (int c = 0; c < count; c += kVector) store(to + c, load(out + c));
  }
};

// What the encoder reads for each row of a block: its sample and those before it, by delay. Puts the samples into the
// encoder's queue.
const float* find_samples(const Network& network, State& state, const Call& call, const Rows& rows, float* found) {
  const int taps = network.encoder_taps;
  const size_t d = static_cast<size_t>(network.info.d_input), all = d * static_cast<size_t>(taps);
  const float* x = call.x + static_cast<size_t>(rows.of_call(0)) * d;
  if (taps == 1) return x;
  float* samples = found;
  for (int row = 0; row < rows.count; ++row, samples += all, x += d) {
    std::memcpy(samples, x, d * sizeof(float));
    const int b = rows.stream(row);
    int slot = static_cast<int>((state.position[b] + rows.ahead(row)) % taps);
    float* queue = state.encoder_queue.data() + b * all;
    std::memcpy(queue + slot * d, x, d * sizeof(float));
    for (int o = 1; o < taps; ++o) {
      slot = slot == 0 ? taps - 1 : slot - 1;
      std::memcpy(samples + o * d, queue + slot * d, d * sizeof(float));
    }
  }
  return found;
}

// From the samples or tokens of a block to the features of its rows.
void encode(const Network& network, State& state, Scratch& scratch, const Call& call, const Rows& rows,
            float* features) {
  const int width = network.width;
  const size_t stride = scratch.stride;
  if (network.info.n_tokens > 0) {
    for (int row = 0; row < rows.count; ++row)
      std::memcpy(features + row * stride,
                  network.table.data() + static_cast<size_t>(call.tokens[rows.of_call(row)]) * width,
                  static_cast<size_t>(width) * sizeof(float));
    return;
  }
  const float* samples = find_samples(network, state, call, rows, scratch.samples.data());
  multiply(network.encoder, samples, static_cast<size_t>(network.encoder.inputs), rows.count,
           ToRows{features, stride, width});
}

// The part of a layer after its activation: from mixed rows, and the features that entered the layer, to features.
// Calls meanwhile(panel, row) for every panel and row of the mixing.
template <typename Meanwhile>
void mix(const Network& network, const Layer& layer, Scratch& scratch, int rows, float* mixed, float* features,
         Meanwhile meanwhile) {
  const int d = network.info.d_model, width = network.width;
  const size_t stride = scratch.stride;
  float* gated = scratch.gated.data();
  const ProductScratch products = scratch.products();
  const ToRows to_gated{gated, stride, width};
  multiply(layer.mixing, mixed, stride, rows, products, [&](int panel, int row, const float* out) {
    meanwhile(panel, row);
    if (!network.gated) return to_gated(panel, row, out);
    float* glu = gated + row * stride + panel * kHalf;
    const int half = layer.mixing.width(panel) / 2;
    for (int c = 0; c < half; c += kVector) store(glu + c, load(out + c) * sigmoid(load(out + half + c)));
  });
  const float* change = gated;
  if (layer.output.count) {
    multiply(layer.output, gated, stride, rows, products, ToRows{mixed, stride, width});
    change = mixed;
  }
  for (int row = 0; row < rows; ++row) leave_block(layer, d, width, change + row * stride, features + row * stride);
}

// From the features after the last layer to the outputs. Pools them, and counts the step.
void leave(const Network& network, State& state, Scratch& scratch, const Call& call, const Rows& rows,
           const float* features) {
  const multires_info& info = network.info;
  const bool pools = !network.poolings.empty();
  const size_t pooled = static_cast<size_t>(network.d_head()), stride = scratch.stride;
  for (int row = 0; row < rows.count; ++row) {
    const int b = rows.stream(row);
    if (pools)
      pool_row(network.poolings, state.pool, info.d_model, state.position[b], b, features + row * stride,
               scratch.pooled.data() + row * pooled);
    ++state.position[b];
  }
  const float* result = pools ? scratch.pooled.data() : features;
  const auto outputs_of = [&](int row) { return call.y + static_cast<size_t>(rows.of_call(row)) * info.d_output; };
  multiply(network.head, result, pools ? pooled : stride, rows.count, [&](int panel, int row, const float* out) {
    const int column = panel * kPanel, count = std::min(kPanel, static_cast<int>(info.d_output) - column);
    float* to = outputs_of(row) + column;
    if (network.output_activation == OutputActivation::kSigmoid)
      apply_all<sigmoid>(out, to, count);
    else
      std::memcpy(to, out, static_cast<size_t>(count) * sizeof(float));
  });
  if (network.output_activation == OutputActivation::kSoftmax)
    for (int row = 0; row < rows.count; ++row) softmax(outputs_of(row), info.d_output);
}

// The layers, from the features that enter the first one to those that leave the last. A step and its rehearsal share
// the compiled code.
[[gnu::noinline]] void pass_layers(const Network& network, State& state, Scratch& scratch, const Rows& rows) {
  const int d = network.info.d_model, width = network.width, layers = network.info.n_layers, total = network.total_taps;
  const size_t stride = scratch.stride;
  float *features = scratch.x.data(), *mixed = scratch.mixed.data(), *gated = scratch.gated.data();
  const size_t row_bytes = static_cast<size_t>(d) * size_of(network.queues);  // of one layer in a row of a ring
  const bool whole = state.phase == Phase::kSettled;
  const int near = whole ? state.near_taps : total, far = total - near;
  const auto multires = multires_of<Stage::kWhole>(network);
  for (int i = 0; i < layers; ++i) {
    const Layer& layer = network.layers[static_cast<size_t>(i)];
    for (int row = 0; row < rows.count; ++row) {
      float *entered = features + row * stride, *sum = mixed + row * stride;
      if (layer.place == Place::kBefore) {
        norm_row(layer, d, width, entered, gated + row * stride);
        entered = gated + row * stride;
      }
      if (whole) {
        multires(network, layer, static_cast<size_t>(i) * d, scratch.taps.data() + row * total, entered, sum, 0);
      } else {
        float* known = state.known(rows.stream(row), i);
        add_input(network, layer, known, entered, sum);
        if (state.phase == Phase::kPrepared)
          std::memcpy(known, entered, static_cast<size_t>(width) * sizeof(float));  // for the pushes
      }
      activate_row(network.activation, width, sum);
    }
    mix(network, layer, scratch, rows.count, mixed, features, [&](int panel, int row) {
      if (i + 1 == layers) return;
      const int panels = layer.mixing.count;
      prefetch_taps(scratch.taps.data() + row * total, near + panel * far / panels, near + (panel + 1) * far / panels,
                    static_cast<size_t>(i + 1) * row_bytes, row_bytes);
    });
  }
}

void forward(const Network& network, State& state, Scratch& scratch, const Call& call, const Rows& rows) {
  const int total = network.total_taps;
  const size_t row_bytes = static_cast<size_t>(network.info.d_model) * size_of(network.queues);
  const bool prepared = state.phase == Phase::kPrepared;
  encode(network, state, scratch, call, rows, scratch.x.data());
  for (int row = 0; row < rows.count && !prepared; ++row) {
    unsigned char** taps = scratch.taps.data() + row * total;
    find_taps(network, state, rows.stream(row), rows.ahead(row), taps);
    prefetch_taps(taps, state.near_taps, total, 0, row_bytes);
  }
  pass_layers(network, state, scratch, rows);
  leave(network, state, scratch, call, rows, scratch.x.data());
  for (int row = 0; row < rows.count && !prepared; ++row) advance_heads(network, state, rows.stream(row));
}

}  // namespace
}  // namespace multires
