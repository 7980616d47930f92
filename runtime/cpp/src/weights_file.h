// A safetensors file, in a file or in memory, checked whole before anything in it is used.
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

// What goes wrong while loading; never leaves the library (see c_api.cpp).
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

  // Of a tensor that was asked for by this type.
  const float* floats() const { return static_cast<const float*>(data); }
};

// The weights file that a path means: itself, or that of the bundle whose folder it is.
std::string find_weights(const std::string& path);

class WeightsFile {
 public:
  explicit WeightsFile(const std::string& path);  // maps it
  // Reads it where it lies, which must stay as it is while this object lives; copies it if the address is
  // no multiple of 4.
  WeightsFile(const void* data, size_t size);
  ~WeightsFile();
  WeightsFile(const WeightsFile&) = delete;
  WeightsFile& operator=(const WeightsFile&) = delete;

  // A tensor of exactly this shape, in float32; throws MULTIRES_MALFORMED otherwise. -1 stands for any size.
  const Tensor& tensor(const std::string& name, const std::vector<int64_t>& shape) const;
  // The same in float32 or in `other`.
  const Tensor& tensor(const std::string& name, const std::vector<int64_t>& shape, DType other) const;
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  size_t size() const { return size_; }  // bytes
  // Metadata; throws MULTIRES_MALFORMED if it is not there, or is no number from low to high.
  const std::string& text(const std::string& key) const;
  int64_t number(const std::string& key, int64_t low, int64_t high) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  // A digest of all tensors with their names: the same network has the same one, whatever its metadata.
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
