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

struct Tensor {
  std::vector<int64_t> shape;
  const float* data;  // little-endian float32, 4-byte aligned, inside the file
  size_t count;
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

  // A tensor of exactly this shape; throws MULTIRES_MALFORMED otherwise. -1 stands for any size.
  const Tensor& tensor(const std::string& name, const std::vector<int64_t>& shape) const;
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
