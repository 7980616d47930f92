// A safetensors file in memory. All of it is checked before any of it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "aligned.h"
#include "values.h"

namespace multires {

// An error while loading; c_api.cpp turns it into a status.
struct LoadError : std::runtime_error {
  LoadError(multires_status code, const std::string& message) : std::runtime_error(message), status(code) {}
  multires_status status;
};

// Finite numbers of float32 or float16; int8 from -127 to 127.
struct Tensor {
  std::vector<int64_t> shape;
  multires_dtype dtype;
  const void* data;  // little-endian, aligned to its type, inside the file
  size_t count;

  // Only for a tensor of float32.
  const float* floats() const { return static_cast<const float*>(data); }
};

// The weights file of a path: the path itself, or the weights of the bundle in that folder.
std::string find_weights(const std::string& path);

// The content of a regular file, which is read once: a change of the file afterwards changes nothing. Throws LoadError.
struct FileContent {
  explicit FileContent(const std::string& path);

  std::unique_ptr<unsigned char[]> data;
  size_t size = 0;
};

class WeightsFile {
 public:
  // Reads the memory in place; it must not change while this object exists. Copies it if the address is not a
  // multiple of 4.
  WeightsFile(const void* data, size_t size);

  // A tensor of exactly this shape, of float32 or `other`; throws MULTIRES_MALFORMED otherwise. -1 allows any size.
  const Tensor& tensor(const std::string& name, const std::vector<int64_t>& shape,
                       multires_dtype other = MULTIRES_FLOAT32) const;
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  size_t size() const { return size_; }  // bytes
  // Metadata; throws MULTIRES_MALFORMED if the key is missing, or the value is not a number from low to high.
  const std::string& text(const std::string& key) const;
  int32_t number(const std::string& key, int32_t low, int32_t high) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // A digest of all tensors with their names. Metadata does not change it.
  uint64_t fingerprint() const;

 private:
  void parse(const unsigned char* bytes);
  size_t size_;
  AlignedArray<unsigned char> copy_;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace multires
