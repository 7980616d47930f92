// libFuzzer: any bytes as a weights file give an error or a model that runs.
//   fuzz_weights CORPUS -dict=fuzz_weights.dict
// Random changes rarely keep a file consistent, so most mutations change its parts: the header as text, or as a tree
// whose sizes change everywhere at once, and the weights as numbers.

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>

#include "header_parser.h"
#include "model.h"
#include "multires.h"
#include "state.h"
#include "weights_file.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

constexpr size_t kLength = 8;  // of the number before the header

struct Parts {
  std::string header, data;
};

bool split(const uint8_t* bytes, size_t size, Parts& parts) {
  uint64_t length = 0;
  if (size < kLength) return false;
  for (size_t i = kLength; i-- > 0;) length = length << 8 | bytes[i];
  if (length > size - kLength) return false;
  parts.header.assign(reinterpret_cast<const char*>(bytes) + kLength, length);
  parts.data.assign(reinterpret_cast<const char*>(bytes) + kLength + length, size - kLength - length);
  return true;
}

size_t join(Parts& parts, uint8_t* bytes, size_t max_size) {
  parts.header.resize((parts.header.size() + 7) / 8 * 8, ' ');
  const size_t size = kLength + parts.header.size() + parts.data.size();
  if (size > max_size) return 0;
  for (size_t i = 0; i < kLength; ++i)
    bytes[i] = static_cast<uint8_t>(static_cast<uint64_t>(parts.header.size()) >> 8 * i);
  std::memcpy(bytes + kLength, parts.header.data(), parts.header.size());
  if (!parts.data.empty()) std::memcpy(bytes + kLength + parts.header.size(), parts.data.data(), parts.data.size());
  return size;
}

void mutate_text(std::string& text, size_t room) {
  const size_t size = text.size();
  text.resize(size + room);
  text.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(&text[0]), size, text.size()));
}

void mutate_weights(std::string& data, std::mt19937& random) {
  static constexpr uint32_t kBits[] = {0,          0x80000000, 0x7f7fffff, 0xff7fffff, 1,
                                       0x3f800000, 0x7f800000, 0x7fc00000, 0x00800000, 0x5f000000};
  if (data.size() < sizeof(uint32_t)) return;
  for (unsigned n = random() % 8 + 1; n > 0; --n) {
    const uint32_t bits =
        random() % 3 ? kBits[random() % (sizeof kBits / sizeof *kBits)] : static_cast<uint32_t>(random());
    std::memcpy(&data[random() % (data.size() / sizeof bits) * sizeof bits], &bits, sizeof bits);
  }
}

// Changes numbers, or removes an entry, and writes the tensors again with the new shapes.
bool mutate_sizes(Parts& parts, std::mt19937& random, size_t max_size) {
  multires::Header header;
  try {
    header = multires::parse_header(parts.header.data(), parts.header.data() + parts.header.size());
  } catch (const multires::LoadError&) {
    return false;
  }
  auto metadata = header.find("__metadata__");
  if (metadata == header.end() || metadata->second.empty() || header.size() < 2) return false;
  static constexpr int64_t kSizes[] = {0,  1,  2,  3,  7,  8,   15,   16,      17,     31,
                                       32, 33, 63, 64, 65, 100, 1000, 1 << 20, 1 << 24};
  const int64_t size = kSizes[random() % (sizeof kSizes / sizeof *kSizes)];
  auto key = std::next(metadata->second.begin(), static_cast<long>(random() % metadata->second.size()));
  const int64_t old = std::min<int64_t>(std::atoll(key->second.text.c_str()), 1 << 30);
  if (random() % 4 == 0) {
    auto tensor = std::next(header.begin(), static_cast<long>(random() % header.size()));
    if (tensor != metadata) header.erase(tensor);
  } else {
    key->second.text = std::to_string(size);
  }
  if (random() % 4)  // wherever that size, or twice that size, occurs
    for (auto& [name, object] : header)
      for (int64_t& dimension : object["shape"].numbers)
        dimension = dimension == old ? size : dimension == 2 * old && old ? 2 * size : dimension;

  std::string text = "{\"__metadata__\":{", data;
  for (auto& [name, value] : metadata->second)
    if (value.is_text) text += (text.back() == '{' ? "\"" : ",\"") + name + "\":\"" + value.text + "\"";
  text += '}';
  for (auto& [name, object] : header) {
    if (name == "__metadata__") continue;
    size_t count = 1;
    std::string shape;
    for (int64_t dimension : object["shape"].numbers) {
      if (dimension > 0 && count > max_size / static_cast<size_t>(dimension)) return false;
      count *= static_cast<size_t>(dimension);
      shape += (shape.empty() ? "" : ",") + std::to_string(dimension);
    }
    // Each type must begin at a multiple of its size; the order of the file ensures it.
    const std::string& dtype = object["dtype"].text;
    const size_t first = data.size(), bytes = count * (dtype == "F16" ? 2 : dtype == "I8" ? 1 : sizeof(float));
    if (bytes > max_size - std::min(max_size, first)) return false;
    while (data.size() < first + bytes && !parts.data.empty())
      data.append(parts.data, 0, std::min(parts.data.size(), first + bytes - data.size()));
    data.resize(first + bytes);
    text += ",\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" +
            std::to_string(first) + "," + std::to_string(data.size()) + "]}";
  }
  parts.header = text + "}";
  parts.data = data;
  return true;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* bytes, size_t size, size_t max_size, unsigned seed) {
  std::mt19937 random(seed);
  Parts parts;
  if (random() % 10 == 0 || !split(bytes, size, parts)) return LLVMFuzzerMutate(bytes, size, max_size);
  switch (random() % 4) {
    case 0: mutate_text(parts.header, 64); break;
    case 1: mutate_weights(parts.data, random); break;
    default:
      if (!mutate_sizes(parts, random, max_size)) return LLVMFuzzerMutate(bytes, size, max_size);
  }
  const size_t joined = join(parts, bytes, max_size);
  return joined ? joined : LLVMFuzzerMutate(bytes, size, max_size);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  multires_model* model = nullptr;
  char message[128];
  const multires_status status = multires_model_load_buffer(data, size, &model, message, sizeof message);
  if ((status == MULTIRES_OK) != (model != nullptr) || (status == MULTIRES_OK) != (message[0] == '\0')) std::abort();
  // A valid file may need gigabytes of state; the caller decides whether to create one.
  if (!model || multires::Model::load(data, size)->stream_values() > 1 << 20) {
    multires_model_free(model);
    return 0;
  }
  const multires_info info = multires_model_info(model);
  multires_state* state = nullptr;
  constexpr int kBatch = 2, kSteps = 20;
  if (multires_state_new(model, kBatch, MULTIRES_DEFAULT_WINDOW, &state, nullptr, 0) != MULTIRES_OK) std::abort();
  const std::vector<float> x(static_cast<size_t>(info.d_input) * kBatch * kSteps, 0.5f);
  std::vector<int64_t> tokens(kBatch * kSteps);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = info.n_tokens ? static_cast<int64_t>(i) % info.n_tokens : 0;
  std::vector<float> y(static_cast<size_t>(info.d_output) * kBatch * kSteps);
  const auto run = [&](int steps) {
    return info.n_tokens ? multires_run_tokens(state, tokens.data(), steps, y.data())
                         : multires_run(state, x.data(), steps, y.data());
  };
  if (run(kSteps) != MULTIRES_OK || multires_reset(state, 1) != MULTIRES_OK || run(1) != MULTIRES_OK) std::abort();
  multires_state_free(state);
  multires_model_free(model);
  return 0;
}
