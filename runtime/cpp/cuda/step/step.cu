// Steps of a MultiresNet in one kernel: a block has kRows streams, and does all of their steps of a launch.
//
// NVRTC compiles it for one network on the device that runs it; "network.h" has the network's constants and
// "platform.h" is gpu.h. A C++ compiler compiles the same text for a host, with another platform.h; the tests use that.
// Between two barriers, no thread reads what another writes.
#include "filters.h"
#include "functions.h"
#include "network.h"
#include "pooling.h"
#include "products.h"

#define MULTIRES_EACH(item, count) for (int item = thread_index(); item < (count); item += kThreads)

constexpr int kPooled = kModel * (kPoolings > 0 ? kPoolings : 1);  // values that the head reads of a stream

using Encoding = Product<kEncoderInputs, kModel>;
using Mixing = Product<kModel, kModel*(kGated ? 2 : 1)>;
using Second = Product<kModel, kModel>;
using Heading = Product<kPooled, kOutput>;

// The values of a block between its barriers.
struct Block {
  const unsigned char* weights;
  const States& states;
  int first, rows;  // of the batch
  long long* positions;  // (kRows)
  int* heads;  // (kRows, kDepth): the slot of the current step in each ring
  float* samples;  // (kRows, kEncoderInputs)
  float* x;  // (kRows, kModel): the features
  float* y;  // (kRows, kModel): inputs of products, as floats
  int* bytes;  // the same as bytes
  float* past;  // (kRows, kAhead ? kWidth : kModel)
  float* pooled;  // (kRows, kPooled)
  float* partial;  // (kRows, kPartial)
};

MULTIRES_DEVICE const float* floats(const Block& block, long long at) {
  return reinterpret_cast<const float*>(block.weights + at);
}

// What the encoder reads for each stream: its sample, and those before it by delay. Tokens become features at once.
MULTIRES_DEVICE void read_samples(const Block& block, const void* given) {
  if (kTokens > 0) {
    const long long* tokens = static_cast<const long long*>(given);
    MULTIRES_EACH(item, block.rows * kModel)
      block.x[item] = floats(block, kTableAt)[tokens[block.first + item / kModel] * kModel + item % kModel];
    return;
  }
  const float* now = static_cast<const float*>(given);
  MULTIRES_EACH(item, block.rows * kEncoderInputs) {
    const int r = item / kEncoderInputs, o = item % kEncoderInputs / kChannels, i = item % kChannels;
    const long long b = block.first + r;
    if (kEncoderTaps == 1) {
      block.samples[item] = now[b * kChannels + i];
      continue;
    }
    float* queue = block.states.encoder_queue + b * kEncoderTaps * kChannels + i;
    const int slot = static_cast<int>(block.positions[r] % kEncoderTaps);
    if (o == 0) queue[slot * kChannels] = now[b * kChannels + i];
    block.samples[item] = o == 0 ? now[b * kChannels + i] : queue[(slot + kEncoderTaps - o) % kEncoderTaps * kChannels];
  }
}

// The parts of the sums of `layers` layers, from `layer` on, that are known before their inputs.
MULTIRES_DEVICE void read_past(const Block& block, int layer, int layers) {
  const int width = layers * kModel;
  MULTIRES_EACH(item, block.rows * width) {
    const int r = item / width, w = item % width;
    block.past[item] =
        past_of(block.weights, block.states, block.heads + r * kDepth, block.first + r, layer + w / kModel, w % kModel);
  }
}

// The end of a block of the network for one channel, without the norm of other channels.
MULTIRES_DEVICE float leave_block(const Block& block, const Layer& layer, int c, float x, float change) {
  const bool affine = kNorm == Norm::kAffine;
  const float scale = affine ? floats(block, layer.norm_scale)[c] : 1.0f;
  const float shift = affine ? floats(block, layer.norm_shift)[c] : 0.0f;
  if (kPlace == Place::kResidual) return (x * scale + shift) + change;
  if (kPlace == Place::kAfter && affine) return (x + change) * scale + shift;
  return x + change;
}

MULTIRES_DEVICE void run_layer(const Block& block, int i) {
  const Layer& layer = kLayerTable[i];
  if (!kAhead) read_past(block, i, 1);
  if (kPlace == Place::kBefore && kNormalizes)
    normalize(floats(block, layer.norm_scale), floats(block, layer.norm_shift), block.x, block.y, block.rows);
  if (!kAhead || (kPlace == Place::kBefore && kNormalizes)) barrier();
  MULTIRES_EACH(item, block.rows * kModel) {
    const int r = item / kModel, c = item % kModel;
    float entered = block.x[item];
    if (kPlace == Place::kBefore)
      entered = kNormalizes ? block.y[item]
                            : entered * floats(block, layer.norm_scale)[c] + floats(block, layer.norm_shift)[c];
    const float past = block.past[kAhead ? r * kWidth + i * kModel + c : item];
    const float y =
        filter_channel(block.weights, block.states, block.heads + r * kDepth, block.first + r, i, c, entered, past);
    Mixing::put_input(block.weights, layer.mixing, r, c, activate(y), block.y, block.bytes);
  }
  barrier();
  Mixing::multiply(block.weights, layer.mixing, block.y, block.bytes, block.partial);
  barrier();
  MULTIRES_EACH(item, block.rows * kModel) {
    const int r = item / kModel, c = item % kModel;
    float change = Mixing::output(block.weights, layer.mixing, block.partial, r, c);
    if (kGated) change *= sigmoid(Mixing::output(block.weights, layer.mixing, block.partial, r, kModel + c));
    if (kSecond)
      Second::put_input(block.weights, layer.second, r, c, change, block.y, block.bytes);
    else
      block.x[item] = leave_block(block, layer, c, block.x[item], change);
  }
  barrier();
  if (kSecond) {
    Second::multiply(block.weights, layer.second, block.y, block.bytes, block.partial);
    barrier();
    MULTIRES_EACH(item, block.rows * kModel) {
      const int r = item / kModel, c = item % kModel;
      const float change = Second::output(block.weights, layer.second, block.partial, r, c);
      block.x[item] = leave_block(block, layer, c, block.x[item], change);
    }
    barrier();
  }
  if (kPlace == Place::kAfter && kNormalizes) {
    normalize(floats(block, layer.norm_scale), floats(block, layer.norm_shift), block.x, block.x, block.rows);
    barrier();
  }
}

// `outputs` are those of the first stream of the block.
MULTIRES_DEVICE void pool_and_head(const Block& block, float* outputs) {
  MULTIRES_EACH(item, block.rows * kModel) {
    const int r = item / kModel, c = item % kModel;
    float* pooled = block.pooled + r * kPooled;
    if (kPoolings > 0)
      pool_channel(block.states, block.positions[r], block.first + r, c, block.x[item], pooled);
    else
      pooled[c] = block.x[item];
  }
  barrier();
  Heading::multiply(block.weights, kHead[0], block.pooled, block.bytes, block.partial);
  barrier();
  MULTIRES_EACH(item, block.rows * kOutput) {
    const int r = item / kOutput, o = item % kOutput;
    const float value = Heading::output(block.weights, kHead[0], block.partial, r, o);
    if (kOutputActivation == OutputActivation::kSoftmax)
      block.partial[r * Heading::kPartialRow + o] = value;  // in the place of a part of the same sum
    else
      outputs[r * kOutput + o] = kOutputActivation == OutputActivation::kSigmoid ? sigmoid(value) : value;
  }
  if (kOutputActivation != OutputActivation::kSoftmax) return;
  barrier();
  for (int r = thread_index() / kWarp; r < block.rows; r += kThreads / kWarp)
    softmax(block.partial + r * Heading::kPartialRow, outputs + r * kOutput, kOutput);
}

MULTIRES_DEVICE void run_step(const Block& block, const void* samples, float* outputs) {
  read_samples(block, samples);
  if (kAhead) read_past(block, 0, kLayers);
  barrier();
  if (kTokens == 0) {
    Encoding::multiply(block.weights, kEncoder[0], block.samples, block.bytes, block.partial);
    barrier();
    MULTIRES_EACH(item, block.rows * kModel)
      block.x[item] = Encoding::output(block.weights, kEncoder[0], block.partial, item / kModel, item % kModel);
    barrier();
  }
  for (int i = 0; i < kLayers; ++i) run_layer(block, i);
  pool_and_head(block, outputs + static_cast<long long>(block.first) * kOutput);
  MULTIRES_EACH(item, block.rows * kDepth) {
    int& head = block.heads[item];
    head = head + 1 == kScales[item % kDepth].slots ? 0 : head + 1;
  }
  MULTIRES_EACH(r, block.rows) ++block.positions[r];
  barrier();
}

// samples are tokens (steps, batch) or (steps, batch, kChannels); outputs are (steps, batch, kOutput). `scratch` has
// kScratch bytes for each block, and is used where the values of a block do not fit into shared memory.
MULTIRES_KERNEL multires_step(const unsigned char* weights, MULTIRES_PARAMETER(States) states, const void* samples,
                              float* outputs, unsigned char* scratch, int batch, int steps) {
  alignas(16) MULTIRES_SHARED unsigned char shared[kInShared ? kScratch : 16];
  unsigned char* memory = kInShared ? shared : scratch + static_cast<long long>(block_index()) * kScratch;
  const int first = block_index() * kRows;
  const Block block = {weights,
                       states,
                       first,
                       kRows == 1 || batch - first > kRows ? kRows : batch - first,
                       reinterpret_cast<long long*>(memory + kPositionsAt),
                       reinterpret_cast<int*>(memory + kHeadsAt),
                       reinterpret_cast<float*>(memory + kSamplesAt),
                       reinterpret_cast<float*>(memory + kFeaturesAt),
                       reinterpret_cast<float*>(memory + kInputsAt),
                       reinterpret_cast<int*>(memory + kBytesAt),
                       reinterpret_cast<float*>(memory + kPastAt),
                       reinterpret_cast<float*>(memory + kPooledAt),
                       reinterpret_cast<float*>(memory + kPartialAt)};
  MULTIRES_EACH(item, block.rows * kDepth)
    block.heads[item] = static_cast<int>(states.position[first + item / kDepth] % kScales[item % kDepth].slots);
  MULTIRES_EACH(r, block.rows) block.positions[r] = states.position[first + r];
  barrier();
  for (int t = 0; t < steps; ++t) {
    const long long row = static_cast<long long>(t) * batch;
    run_step(block, static_cast<const char*>(samples) + row * kSampleBytes, outputs + row * kOutput);
  }
  MULTIRES_EACH(r, block.rows) states.position[first + r] = block.positions[r];
}
