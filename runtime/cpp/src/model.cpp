#include "model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <locale>
#include <memory>
#include <sstream>

#include "kernels.h"
#include "panels.h"
#include "pooling_names.h"

namespace multires {
namespace {

constexpr int32_t kMaxChannels = 1 << 20;
constexpr int64_t kMaxTaps = 1 << 20;
constexpr int64_t kMaxStreamValues = static_cast<int64_t>(1) << 31;

template <typename T>
View<const T> copied(Memory& memory, const std::vector<T>& values) {
  const View<T> array = memory.array<T>({values.size()});
  std::copy(values.begin(), values.end(), array.begin());
  return read_only(array);
}

// A tensor (channels) or (rows, channels), with the channels padded.
View<const float> padded_rows(Memory& memory, const Tensor& tensor) {
  const size_t channels = static_cast<size_t>(tensor.shape.back()), rows = tensor.count / channels;
  const size_t width = static_cast<size_t>(padded(static_cast<int>(channels)));
  const View<float> array = memory.array<float>({rows, width});
  for (size_t row = 0; row < rows; ++row)
    std::copy_n(tensor.floats() + row * channels, channels, array.data() + row * width);
  return read_only(array);
}

const Tensor& highpass(const WeightsFile& file, const multires_info& info, const std::string& layer, int scale) {
  return file.tensor(layer + ".highpass." + std::to_string(scale), {-1, info.d_model});
}

// (depth, d_model): the scales of int8 queues.
const float* read_queue_scales(const WeightsFile& file, const multires_info& info, const std::string& layer) {
  const Tensor& scales = file.tensor(layer + ".queue_scales", {info.depth, info.d_model});
  for (size_t i = 0; i < scales.count; ++i)
    if (!(scales.floats()[i] >= std::numeric_limits<float>::min()))
      throw LoadError(MULTIRES_MALFORMED, layer + ".queue_scales has a value that is not a normal number above 0");
  return scales.floats();
}

// With the filters of the file, y = sum over scales j and delays o of highpass[j][o] * a_j(t - o * 2^j), and
// a_{j+1} = sum over o of lowpass[j][o] * a_j(t - o * 2^j). Substituting the a_j(t), coarsest first, leaves weights of
// the layer's input and of the values in the queues.
View<const float> read_filters(const WeightsFile& file, Model& model, const std::string& name) {
  const multires_info& info = model.info;
  const int d = info.d_model, K = info.kernel_size;
  const size_t width = static_cast<size_t>(model.width);
  const Tensor& lowpass =
      model.untied ? file.tensor(name + ".lowpass", {info.depth, K, d}) : file.tensor(name + ".lowpass", {K, d});
  const size_t rows = static_cast<size_t>(model.lowpass_rows());
  const float* queue_scales = model.queues == MULTIRES_INT8 ? read_queue_scales(file, info, name) : nullptr;
  const size_t beside = queue_scales ? 2 : 0;  // rows after the weights of each scale
  const View<float> filters =
      model.memory.array<float>({rows + 1 + model.total_taps - info.depth + beside * info.depth, width});
  for (size_t row = 0; row < rows; ++row) std::copy_n(lowpass.floats() + row * d, d, filters.data() + row * width);
  std::vector<double> reached(static_cast<size_t>(d));  // weight of a_{j+1}(t) in y(t)
  float* weights = filters.data() + filters.size();
  for (int j = info.depth; j-- > 0;) {
    const Tensor& high = highpass(file, info, name, j);
    weights -= (model.taps[j] - 1 + beside) * width;
    const float* low = lowpass.floats() + (model.untied ? static_cast<size_t>(j) * K * d : 0);
    const float* scale = queue_scales ? queue_scales + static_cast<size_t>(j) * d : nullptr;
    const auto part = [&](int o, int c) {
      const size_t i = static_cast<size_t>(o) * d + c;
      return (o < high.shape[0] ? static_cast<double>(high.floats()[i]) : 0.0) + (o < K ? low[i] * reached[c] : 0.0);
    };
    for (int o = 1; o < model.taps[j]; ++o)
      for (int c = 0; c < d; ++c)
        weights[(o - 1) * width + c] = static_cast<float>(scale ? part(o, c) * scale[c] : part(o, c));
    if (scale) {
      float* rows = weights + (model.taps[j] - 1) * width;
      for (int c = 0; c < d; ++c) {
        rows[c] = scale[c];
        rows[width + c] = 1.0f / scale[c];
      }
    }
    for (int c = 0; c < d; ++c) reached[c] = part(0, c);
  }
  std::copy(reached.begin(), reached.end(), weights - width);
  // An infinite weight times a quantized zero would be NaN.
  if (queue_scales && !std::all_of(filters.begin(), filters.end(), [](float w) { return std::isfinite(w); }))
    throw LoadError(MULTIRES_MALFORMED, "the product of " + name + ".queue_scales and its filters overflows float32");
  return read_only(filters);
}

float read_epsilon(const WeightsFile& file) {
  const std::string& text = file.text("norm_epsilon");
  // strtof would stop at the point if the program has set a locale with a decimal comma.
  std::istringstream stream(text);
  stream.imbue(std::locale::classic());
  float epsilon = -1;
  if (!(stream >> epsilon) || stream.peek() != EOF || !(epsilon >= 0.0f && epsilon < 1.0f))
    throw LoadError(MULTIRES_MALFORMED, "metadata norm_epsilon is '" + text + "'");
  return epsilon;
}

// Metadata that files of the published block leave out.
std::string text_or(const WeightsFile& file, const std::string& key, const char* published) {
  const auto given = file.metadata().find(key);
  return given == file.metadata().end() ? published : given->second;
}

// Whether metadata have `other` instead of what the published block has.
bool differs(const WeightsFile& file, const std::string& key, const char* published, const std::string& other) {
  const std::string given = text_or(file, key, published);
  if (given != published && given != other)
    throw LoadError(MULTIRES_UNSUPPORTED,
                    "metadata " + key + " is '" + given + "', this release runs " + published + " and " + other);
  return given == other;
}

Activation read_activation(const WeightsFile& file) {
  const std::string given = text_or(file, "activation", "gelu");
  for (const ActivationName& known : kActivations)
    if (given == known.name) return known.activation;
  throw LoadError(MULTIRES_UNSUPPORTED, "metadata activation is '" + given + "', which this release does not run");
}

Layer read_layer(const WeightsFile& file, Layout layout, Model& model, const std::string& name,
                 multires_dtype precision) {
  const multires_info& info = model.info;
  const int d = info.d_model;
  Layer layer;
  for (int j = 0; j < info.depth; ++j)
    if (std::max(highpass(file, info, name, j).shape[0], static_cast<int64_t>(info.kernel_size)) != model.taps[j])
      throw LoadError(MULTIRES_MALFORMED, "the layers' filters differ in length");
  layer.filters = read_filters(file, model, name);
  layer.mixing = model.gated ? read_glu_panels(file, layout, name + ".mixing", d, precision)
                             : read_panels(file, layout, name + ".mixing", d, d, precision);
  if (file.has(name + ".output.weight")) layer.output = read_panels(file, layout, name + ".output", d, d, precision);
  const auto* tensors = std::find_if(std::begin(kNorms), std::end(kNorms),
                                     [&](const NormTensors& norm) { return file.has(name + norm.scale); });
  if (tensors == std::end(kNorms)) throw LoadError(MULTIRES_UNSUPPORTED, name + " has no norm that this release runs");
  layer.norm = tensors->norm;
  layer.place = differs(file, "norm_place", "after", "before") ? Place::kBefore : tensors->place;
  layer.groups = file.metadata().count("norm_groups") ? file.number("norm_groups", 1, d) : 1;
  if (d % layer.groups != 0) throw LoadError(MULTIRES_MALFORMED, "norm_groups does not divide d_model");
  layer.scale = padded_rows(model.memory, file.tensor(name + tensors->scale, {d}));
  layer.shift = tensors->shift ? padded_rows(model.memory, file.tensor(name + tensors->shift, {d}))
                               : read_only(model.memory.array<float>({static_cast<uint64_t>(model.width)}));
  return layer;
}

// The metadata of a type; `names` are those of float32, float16 and int8.
multires_dtype read_type(const WeightsFile& file, const std::string& key, const std::array<const char*, 3>& names) {
  constexpr multires_dtype kTypes[] = {MULTIRES_FLOAT32, MULTIRES_FLOAT16, MULTIRES_INT8};
  const std::string& name = file.text(key);
  for (size_t i = 0; i < names.size(); ++i)
    if (name == names[i]) return kTypes[i];
  throw LoadError(MULTIRES_UNSUPPORTED, "metadata " + key + " is '" + name + "', this release runs " + names[0] + ", " +
                                            names[1] + " and " + names[2]);
}

}  // namespace

int64_t Model::stream_values() const {
  int64_t values = pool_values(poolings, info.d_model, info.window);
  const int64_t wide = static_cast<int64_t>(info.n_layers) * info.d_model, most = INT64_MAX / 64;
  for (int64_t rows : slots) values += rows > most / wide ? most : rows * wide;  // cannot overflow: depth <= 30
  return values;
}

std::unique_ptr<Model> Model::load(const void* data, size_t size, int group) {
  const WeightsFile file(data, size);
  if (file.text("format") != "multires-weights") throw LoadError(MULTIRES_MALFORMED, "not a weights file");
  if (file.text("version") != "2")
    throw LoadError(MULTIRES_UNSUPPORTED, "has version " + file.text("version") + ", this release reads version 2");
  auto model = std::make_unique<Model>();
  multires_info& info = model->info;
  info.d_input = file.number("d_input", 0, kMaxChannels);
  info.n_tokens = file.number("n_tokens", 0, kMaxChannels);
  info.d_output = file.number("d_output", 1, kMaxChannels);
  info.d_model = file.number("d_model", 1, kMaxChannels);
  info.n_layers = file.number("n_layers", 1, 10000);
  info.kernel_size = file.number("kernel_size", 2, 1000);
  info.depth = file.number("depth", 1, 30);
  info.window = file.number("window", 0, kMaxWindow);
  info.autoregressive = file.number("autoregressive", 0, 1);
  const std::vector<Pooling> poolings = read_poolings(file, info.autoregressive);
  model->poolings = copied(model->memory, poolings);
  info.takes_window = take_window(poolings);
  if (info.window > 0 && !info.takes_window)
    throw LoadError(MULTIRES_MALFORMED, "metadata window is for models that pool by the mean or the maximum");
  if ((info.d_input > 0) == (info.n_tokens > 0))
    throw LoadError(MULTIRES_MALFORMED, "exactly one of d_input and n_tokens must be above 0");
  if (file.metadata().count("encoder_kernel_size"))
    model->encoder_taps = file.number("encoder_kernel_size", 2, 1 << 12);
  if (info.n_tokens > 0 && model->encoder_taps > 1)
    throw LoadError(MULTIRES_MALFORMED, "metadata encoder_kernel_size is not for models of tokens");
  if (static_cast<int64_t>(info.d_input) * model->encoder_taps > kMaxChannels)
    throw LoadError(MULTIRES_UNSUPPORTED, "the encoder reads more than 2^20 values");
  if (file.metadata().count("output_activation")) {
    const bool softmax = differs(file, "output_activation", "sigmoid", "softmax");
    model->output_activation = softmax ? OutputActivation::kSoftmax : OutputActivation::kSigmoid;
  }
  model->width = padded(info.d_model);
  const Layout layout{model->memory, group};
  if (info.n_tokens > 0)
    model->table = padded_rows(model->memory, file.tensor("encoder.table", {info.n_tokens, info.d_model}));
  else
    model->encoder =
        read_panels(file, layout, "encoder", info.d_input * model->encoder_taps, info.d_model, MULTIRES_FLOAT32);
  const multires_dtype precision = read_type(file, "precision", {"fp32", "fp16", "int8"});
  model->queues = read_type(file, "queues", {"float32", "float16", "int8"});
  model->activation = read_activation(file);
  model->gated = !differs(file, "mixing", "glu", "plain");
  model->untied = differs(file, "filters", "tied", "untied");
  const float epsilon = read_epsilon(file);
  std::vector<int> taps;
  std::vector<int64_t> slots;
  for (int j = 0; j < info.depth; ++j) {
    const int64_t given = highpass(file, info, "layers.0", j).shape[0];
    if (given > kMaxTaps) throw LoadError(MULTIRES_UNSUPPORTED, "a filter has more than 2^20 taps");
    taps.push_back(std::max(static_cast<int>(given), static_cast<int>(info.kernel_size)));
    slots.push_back((static_cast<int64_t>(taps.back() - 1) << j) + 1);
    model->total_taps += taps.back();
  }
  model->taps = copied(model->memory, taps);
  model->slots = copied(model->memory, slots);
  if (model->stream_values() > kMaxStreamValues)
    throw LoadError(MULTIRES_UNSUPPORTED, "a stream would hold more than 2^31 values, which are 8 GiB in float32");
  // Short filters are padded to the length of the low-pass filter: a small file could ask for much memory.
  const uint64_t filters = static_cast<uint64_t>(model->total_taps) * 2 * model->width * info.n_layers * sizeof(float);
  if (filters / 64 > file.size()) throw LoadError(MULTIRES_MALFORMED, "the filters need too much padding");
  const View<Layer> layers = model->memory.array<Layer>({static_cast<uint64_t>(info.n_layers)});
  for (int i = 0; i < info.n_layers; ++i) {
    layers[i] = read_layer(file, layout, *model, "layers." + std::to_string(i), precision);
    layers[i].epsilon = epsilon;
  }
  model->layers = read_only(layers);
  model->head = read_panels(file, layout, "head", model->d_head(), info.d_output, MULTIRES_FLOAT32);
  model->kernels = &best_kernels();
  model->metadata = file.metadata();
  model->fingerprint = file.fingerprint();
  return model;
}

std::unique_ptr<Model> Model::load(const std::string& path) {
  try {
    const FileContent file(path);
    auto model = load(file.data.get(), file.size);
    model->path = path;
    return model;
  } catch (const LoadError& error) {
    throw LoadError(error.status, path + ": " + error.what());
  }
}

}  // namespace multires
