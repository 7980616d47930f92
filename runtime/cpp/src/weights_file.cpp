#include "weights_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "digest.h"
#include "header_parser.h"
#include "memory.h"

namespace multires {
namespace {

#if defined(_WIN32)
constexpr int kReading = O_RDONLY | O_BINARY;
#else
constexpr int kReading = O_RDONLY | O_CLOEXEC | O_NONBLOCK;  // a pipe would wait for a writer
#endif
constexpr size_t kMaxHeader = 100u << 20;  // the limit of the format

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

[[noreturn]] void malformed(const std::string& what) { throw LoadError(MULTIRES_MALFORMED, what); }

struct Type {
  multires_dtype dtype;
  const char* name;
};
constexpr Type kTypes[] = {{MULTIRES_FLOAT32, "F32"}, {MULTIRES_FLOAT16, "F16"}, {MULTIRES_INT8, "I8"}};

std::string name_of(multires_dtype dtype) {
  for (const Type& type : kTypes)
    if (type.dtype == dtype) return type.name;
  return "";  // no weights are int64
}

multires_dtype type_named(const std::string& text, const std::string& tensor) {
  for (const Type& type : kTypes)
    if (text == type.name) return type.dtype;
  malformed("tensor " + tensor + " is " + text + ", expected F32, F16 or I8");
}

struct Descriptor {
  explicit Descriptor(int file) : number(file) {}
  ~Descriptor() {
    if (number >= 0) close(number);
  }
  Descriptor(const Descriptor&) = delete;
  const int number;
};

void check_values(const Tensor& tensor, const std::string& name) {
  if (!all_finite(tensor.dtype, tensor.data, tensor.count * size_of(tensor.dtype)))
    malformed("tensor " + name + " contains NaN or infinity");
  // Weights are symmetric. Without -128, the sum of two products of bytes also fits into 16 bits.
  if (tensor.dtype == MULTIRES_INT8 && std::memchr(tensor.data, 0x80, tensor.count))
    malformed("tensor " + name + " contains -128, expected -127 to 127");
}

}  // namespace

std::string find_weights(const std::string& path) {
  struct stat status;
  const bool is_folder = stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
  return is_folder ? path + "/native/weights.safetensors" : path;
}

FileContent::FileContent(const std::string& path) {
  const Descriptor file(open(path.c_str(), kReading));
  if (file.number < 0) throw LoadError(MULTIRES_IO, std::strerror(errno));
  struct stat status;
  if (fstat(file.number, &status) != 0) throw LoadError(MULTIRES_IO, std::strerror(errno));
  if (!S_ISREG(status.st_mode) || status.st_size < 8) malformed("not a file, or too short for weights");
  size = static_cast<size_t>(status.st_size);
  check_memory(size, "the file");
  data.reset(new unsigned char[size]);
  for (size_t done = 0; done < size;) {
    const ssize_t count = read(file.number, data.get() + done, size - done);
    if (count < 0 && errno != EINTR) throw LoadError(MULTIRES_IO, std::strerror(errno));
    if (count == 0) throw LoadError(MULTIRES_IO, "became shorter while it was read");
    if (count > 0) done += static_cast<size_t>(count);
  }
}

WeightsFile::WeightsFile(const void* data, size_t size) : size_(size) {
  if (reinterpret_cast<uintptr_t>(data) % alignof(float) != 0) {
    copy_ = AlignedArray<unsigned char>(size);
    std::memcpy(copy_.data(), data, size);
    data = copy_.data();
  }
  parse(static_cast<const unsigned char*>(data));
}

void WeightsFile::parse(const unsigned char* bytes) {
  if (size_ < 8) malformed("too short for weights");
  uint64_t header_size;
  std::memcpy(&header_size, bytes, sizeof header_size);
  if (header_size > kMaxHeader || header_size > size_ - 8) malformed("the header is longer than the file");
  const char* begin = reinterpret_cast<const char*>(bytes) + 8;
  const size_t data_size = size_ - 8 - header_size;
  const unsigned char* data = bytes + 8 + header_size;
  if (header_size % alignof(float) != 0) malformed("the data is not aligned");

  size_t used = 0;
  for (auto& [name, object] : parse_header(begin, begin + header_size)) {
    if (name == "__metadata__") {
      for (auto& [key, value] : object) {
        if (!value.is_text) malformed("metadata " + key + " is not a string");
        metadata_[key] = value.text;
      }
      continue;
    }
    const HeaderValue &dtype = object["dtype"], &shape = object["shape"], &offsets = object["data_offsets"];
    if (object.size() != 3 || !dtype.is_text || shape.is_text || offsets.numbers.size() != 2)
      malformed("the entry of tensor " + name + " is incomplete");
    Tensor tensor{shape.numbers, type_named(dtype.text, name), nullptr, 1};
    const size_t each = size_of(tensor.dtype);
    if (shape.numbers.size() > 4) malformed("tensor " + name + " has too many dimensions");
    for (int64_t size : shape.numbers) {
      if (size < 1 || static_cast<size_t>(size) > data_size / each / tensor.count)
        malformed("tensor " + name + " is larger than the file");
      tensor.count *= static_cast<size_t>(size);
    }
    const int64_t first = offsets.numbers[0], last = offsets.numbers[1];
    if (first > last || static_cast<size_t>(last) > data_size || static_cast<size_t>(first) % each != 0 ||
        static_cast<size_t>(last - first) != tensor.count * each)
      malformed("tensor " + name + " has data_offsets that do not fit its shape or the file");
    // Refused before the values are read: a small file could otherwise name the same bytes many times.
    used += tensor.count * each;
    if (used > data_size) malformed("tensors overlap");
    tensor.data = data + first;
    check_values(tensor, name);
    tensors_[name] = tensor;
  }
  if (used != data_size) malformed("the tensors do not fill the file");
}

const Tensor& WeightsFile::tensor(const std::string& name, const std::vector<int64_t>& shape,
                                  multires_dtype other) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) malformed("tensor " + name + " is missing");
  const Tensor& tensor = found->second;
  bool fits = tensor.shape.size() == shape.size();
  for (size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] == -1 || shape[i] == tensor.shape[i];
  if (!fits) malformed("tensor " + name + " has shape " + shape_text(tensor.shape) + ", expected " + shape_text(shape));
  if (tensor.dtype != MULTIRES_FLOAT32 && tensor.dtype != other)
    malformed("tensor " + name + " is " + name_of(tensor.dtype) + ", expected F32" +
              (other == MULTIRES_FLOAT32 ? "" : " or " + name_of(other)));
  return tensor;
}

const std::string& WeightsFile::text(const std::string& key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) malformed("metadata " + key + " is missing");
  return found->second;
}

uint64_t WeightsFile::fingerprint() const {
  uint64_t all = kDigestStart;
  for (const auto& [name, tensor] : tensors_) {
    all = digest(name.data(), name.size(), all);
    all = digest(tensor.shape.data(), tensor.shape.size() * sizeof tensor.shape[0], all);
    all = digest(name_of(tensor.dtype).data(), 2, all);
    all = digest(tensor.data, tensor.count * size_of(tensor.dtype), all);
  }
  return all;
}

int32_t WeightsFile::number(const std::string& key, int32_t low, int32_t high) const {
  const std::string& value = text(key);
  const char* end = value.data() + value.size();
  uint32_t number = 0;  // without a sign
  const auto [rest, error] = std::from_chars(value.data(), end, number);
  if (rest != end || error != std::errc() || static_cast<int64_t>(number) < low || static_cast<int64_t>(number) > high)
    malformed("metadata " + key + " is '" + value + "'");
  return static_cast<int32_t>(number);
}

}  // namespace multires
