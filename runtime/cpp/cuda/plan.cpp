#include "plan.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "handles.h"
#include "weights.h"
#include "weights_file.h"

namespace multires {
inline namespace v0 {
namespace cuda {
namespace {

constexpr std::size_t kMostWeights = std::size_t{1} << 31;
constexpr int kColumns = 4;  // of products.h
constexpr std::size_t kAlignment = 16;
constexpr int kWarp = 32, kMostThreads = 512;

// The words of kinds.h, by the engine's values.
constexpr const char* kActivationWords[] = {"kGelu", "kGeluTanh", "kRelu", "kRelu6", "kSilu", "kIdentity"};
constexpr const char* kNormWords[] = {"kLayer", "kRms", "kAffine"};
constexpr const char* kPlaceWords[] = {"kAfter", "kBefore", "kResidual"};
constexpr const char* kPoolingWords[] = {"kMean", "kMax", "kLast"};
constexpr const char* kOutputWords[] = {"kNone", "kSigmoid", "kSoftmax"};

int up(int count, int multiple) { return (count + multiple - 1) / multiple; }

// The outputs of a mixing.
int mixed(const Network& network) { return network.info.d_model * (network.gated ? 2 : 1); }

bool has(const Network& network, multires_dtype type) {
  return std::any_of(network.layers.begin(), network.layers.end(), [&](const Layer& layer) {
    return layer.mixing.dtype == type || (layer.output.count > 0 && layer.output.dtype == type);
  });
}

// For the maximum of a window: how many steps ago the ring of each shorter window is read.
std::vector<int> maxima_of(const Network& network, int window) {
  std::vector<int> delays;
  if (std::find(network.poolings.begin(), network.poolings.end(), Pooling::kMax) != network.poolings.end())
    for_each_delay(window, [&](int delay) { delays.push_back(delay); });
  return delays;
}

// Four slices of the inputs of a mixing, in whole warps. They do not depend on the rows of a block.
int threads_for(const Network& network) {
  return std::clamp(up(4 * up(mixed(network), kColumns), kWarp) * kWarp, kWarp, kMostThreads);
}

// The values of a block in its memory.
struct Memory {
  std::vector<std::pair<const char*, std::size_t>> places;  // in bytes
  std::size_t partial = 0;                                  // values of a row
  std::size_t bytes = 0;

  // 4 bytes for each of `values` in each row.
  void add(const char* name, std::size_t values, int rows) {
    places.emplace_back(name, bytes);
    bytes += (4 * values * static_cast<std::size_t>(rows) + kAlignment - 1) / kAlignment * kAlignment;
  }
};

// With `ahead`, the sums over the queues are formed for all layers at once.
Memory memory_of(const Network& network, int threads, int rows, bool ahead) {
  const multires_info& info = network.info;
  const auto d = static_cast<std::size_t>(info.d_model);
  const int widest = std::max(mixed(network), info.d_output);
  Memory memory;
  memory.partial = static_cast<std::size_t>(kColumns) * std::max(threads, up(widest, kColumns));
  memory.add("kPositionsAt", 2, rows);
  memory.add("kHeadsAt", info.depth, rows);
  memory.add("kSamplesAt", std::max(info.d_input * network.encoder_taps, 1), rows);
  memory.add("kFeaturesAt", d, rows);
  memory.add("kInputsAt", d, rows);
  memory.add("kBytesAt", has(network, MULTIRES_INT8) ? up(info.d_model, kGroupOfHosts) : 1, rows);
  memory.add("kPastAt", d * (ahead ? info.n_layers : 1), rows);
  memory.add("kPooledAt", network.d_head(), rows);
  memory.add("kPartialAt", memory.partial, rows);
  return memory;
}

// network.h, line by line.
class Header {
 public:
  Header() { text_ = "#pragma once\n#include \"kinds.h\"\n#include \"platform.h\"\n"; }

  void line(const std::string& text) { text_ += text + "\n"; }
  void add(const char* name, long long value) { constant(value > INT32_MAX ? "long long" : "int", name, value); }
  void flag(const char* name, bool value) {
    line("constexpr bool " + std::string(name) + (value ? " = true;" : " = false;"));
  }
  void word(const char* kind, const char* name, const char* word) {
    line("constexpr " + std::string(kind) + " " + name + " = " + kind + "::" + word + ";");
  }
  // Exactly, whatever the locale.
  void real(const char* name, float value) {
    int exponent;
    const float fraction = std::frexp(value, &exponent);
    char digits[64];
    std::snprintf(digits, sizeof digits, "0x%xp%d", static_cast<unsigned>(std::ldexp(fraction, 24)), exponent - 24);
    line("constexpr float " + std::string(name) + " = " + digits + "f;");
  }
  void table(const char* kind, const char* name, const std::vector<std::string>& rows) {
    std::string all;
    for (const std::string& row : rows) all += (all.empty() ? "" : ", ") + row;
    line("MULTIRES_TABLE " + std::string(kind) + " " + name + "[] = {" + all + "};");
  }
  std::string take() { return std::move(text_); }

 private:
  void constant(const char* type, const char* name, long long value) {
    line("constexpr " + std::string(type) + " " + name + " = " + std::to_string(value) + ";");
  }
  std::string text_;
};

template <typename... Values>
std::string braces(const Values&... values) {
  std::string all;
  ((all += (all.empty() ? "{" : ", ") + values), ...);
  return all + "}";
}

std::string digits(long long value) { return std::to_string(value); }

std::string row_of(const PackedMatrix& matrix) {
  const char* type = matrix.type == MULTIRES_INT8      ? "Type::kInt8"
                     : matrix.type == MULTIRES_FLOAT16 ? "Type::kFloat16"
                                                       : "Type::kFloat32";
  return braces(std::string(type), digits(matrix.weights), digits(matrix.bias), digits(matrix.scales),
                digits(matrix.reciprocals));
}

void add_sizes(Header& header, const Network& network, int window) {
  const multires_info& info = network.info;
  const int channels = std::max(info.d_input, 1);
  const Layer& layer = network.layers[0];
  header.add("kChannels", channels);
  header.add("kTokens", info.n_tokens);
  header.add("kSampleBytes", info.n_tokens > 0 ? 8 : 4LL * info.d_input);
  header.add("kOutput", info.d_output);
  header.add("kModel", info.d_model);
  header.add("kLayers", info.n_layers);
  header.add("kKernel", info.kernel_size);
  header.add("kDepth", info.depth);
  header.add("kTotalTaps", network.total_taps);
  header.add("kEncoderTaps", network.encoder_taps);
  header.add("kEncoderInputs", static_cast<long long>(channels) * network.encoder_taps);
  header.add("kWindow", window);
  header.add("kPoolings", static_cast<long long>(network.poolings.size()));
  header.add("kGroups", layer.groups);
  header.flag("kUntied", network.untied);
  header.flag("kGated", network.gated);
  header.flag("kSecond", layer.output.count > 0);
  header.flag("kSomeFloat16", has(network, MULTIRES_FLOAT16));
  header.flag("kSomeInt8", has(network, MULTIRES_INT8));
  header.word("Activation", "kActivation", kActivationWords[static_cast<int>(network.activation)]);
  header.word("OutputActivation", "kOutputActivation", kOutputWords[static_cast<int>(network.output_activation)]);
  header.word("Norm", "kNorm", kNormWords[static_cast<int>(layer.norm)]);
  header.word("Place", "kPlace", kPlaceWords[static_cast<int>(layer.place)]);
  header.real("kEpsilon", layer.epsilon);
}

void add_tables(Header& header, const Network& network, const PackedWeights& weights, int window) {
  std::vector<std::string> scales, layers, poolings, delays;
  int row = network.lowpass_rows() + 1;
  for (int j = 0; j < network.info.depth; ++j) {
    scales.push_back(braces(digits(network.slots[j]), digits(network.taps[j]), digits(row)));
    row += network.taps[j] - 1 + (network.queues == MULTIRES_INT8 ? 2 : 0);
  }
  for (const PackedLayer& layer : weights.layers)
    layers.push_back(braces(digits(layer.filters), row_of(layer.mixing), row_of(layer.second), digits(layer.norm_scale),
                            digits(layer.norm_shift)));
  for (const Pooling pooling : network.poolings)
    poolings.push_back("Pooling::" + std::string(kPoolingWords[static_cast<int>(pooling)]));
  for (const int delay : maxima_of(network, window)) delays.push_back(digits(delay));
  header.add("kMaxima", static_cast<long long>(delays.size()));
  header.add("kTableAt", weights.table);
  // C++ has no empty tables.
  if (poolings.empty()) poolings.emplace_back("Pooling::kLast");
  if (delays.empty()) delays.emplace_back("0");
  header.table("Scale", "kScales", scales);
  header.table("Layer", "kLayerTable", layers);
  header.table("Pooling", "kPoolingTable", poolings);
  header.table("int", "kMaxDelays", delays);
  header.table("Matrix", "kEncoder", {row_of(weights.encoder)});
  header.table("Matrix", "kHead", {row_of(weights.head)});
}

const char* queue_type(multires_dtype type) {
  return type == MULTIRES_INT8 ? "signed char" : type == MULTIRES_FLOAT16 ? "unsigned short" : "float";
}

}  // namespace

int rows_for(int batch, int multiprocessors) {
  for (const int rows : {4, 2})
    if (batch / 2 / rows >= multiprocessors) return rows;
  return 1;
}

Plan make_plan(const multires_model& model, int window, int rows, int threads) {
  const Network& network = *model.model;
  PackedWeights weights = pack_weights(network);
  if (weights.content.size() > kMostWeights)
    throw LoadError(MULTIRES_UNSUPPORTED, "the network has more than 2 GiB of weights, which the kernel does not read");
  if (threads == 0) threads = threads_for(network);
  bool ahead = true;
  Memory memory = memory_of(network, threads, rows, ahead);
  while (memory.bytes > kSharedBytes && rows > 1) memory = memory_of(network, threads, rows /= 2, ahead);
  if (memory.bytes > kSharedBytes) memory = memory_of(network, threads, rows, ahead = false);
  const bool in_shared = memory.bytes <= kSharedBytes;

  Header header;
  header.line("using Queue = " + std::string(queue_type(network.queues)) + ";");
  add_sizes(header, network, window);
  header.add("kThreads", threads);
  header.add("kRows", rows);
  header.flag("kAhead", ahead);
  header.flag("kInShared", in_shared);
  header.add("kScratch", static_cast<long long>(memory.bytes));
  header.add("kPartial", static_cast<long long>(memory.partial));
  for (const auto& [name, place] : memory.places) header.add(name, static_cast<long long>(place));
  add_tables(header, network, weights, window);
  return {header.take(), std::move(weights.content), threads, rows, in_shared ? 0 : memory.bytes};
}

std::string engines_of(const multires_model* model) {
  const std::string& path = model->model->path;
  const std::string native = "native/";
  const std::size_t folder = path.rfind('/') + 1;  // 0 without a slash
  const bool in_bundle = folder >= native.size() && path.compare(folder - native.size(), native.size(), native) == 0;
  return in_bundle ? path.substr(0, folder - native.size()) + "engines" : "";
}

}  // namespace cuda
}  // namespace v0
}  // namespace multires
