// A safetensors file, on disk or in memory. All of it is checked before any of it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "aligned.h"
#include "multires.h"

namespace multires {

// An error while loading; c_api.cpp turns it into a status.
struct LoadError : std::runtime_error {
  LoadError(multires_status code, const std::string& message) : std::runtime_error(message), status(code) {}
  multires_status status;
};

enum class DType { kFloat32, kFloat16, kInt8 };

inline size_t size_of(DType dtype) { return dtype == DType::kFloat32 ? 4 : dtype == DType::kFloat16 ? 2 : 1; }

// Finite numbers; int8 from -127 to 127.
struct Tensor {
  std::vector<int64_t> shape;
  DType dtype;
  const void* data;  // little-endian, aligned to its type, inside the file
  size_t count;

  // Only for a tensor of float32.
  const float* floats() const { return static_cast<const float*>(data); }
};

// The weights file of a path: the path itself, or the weights of the bundle in that folder.
std::string find_weights(const std::string& path);

class WeightsFile {
 public:
  explicit WeightsFile(const std::string& path);  // maps it
  // Reads the memory in place; it must not change while this object exists. Copies it if the address is not a
  // multiple of 4.
  WeightsFile(const void* data, size_t size);
  ~WeightsFile();
  WeightsFile(const WeightsFile&) = delete;
  WeightsFile& operator=(const WeightsFile&) = delete;

  // A float32 tensor of exactly this shape; throws MULTIRES_MALFORMED otherwise. -1 allows any size.
  const Tensor& tensor(const std::string& name, const std::vector<int64_t>& shape) const;
  // The same, of float32 or `other`.
  const Tensor& tensor(const std::string& name, const std::vector<int64_t>& shape, DType other) const;
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  size_t size() const { return size_; }  // bytes
  // Metadata; throws MULTIRES_MALFORMED if the key is missing, or the value is not a number from low to high.
  const std::string& text(const std::string& key) const;
  int64_t number(const std::string& key, int64_t low, int64_t high) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // A digest of all tensors with their names. Metadata does not change it.
  uint64_t fingerprint() const;

 private:
  void parse();
  const unsigned char* bytes_ = nullptr;
  size_t size_ = 0;
  void* mapping_ = nullptr;
  AlignedArray<unsigned char> copy_;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace multires
