// TensorRT's objects for one engine file, and the contents that were found in
// it.
#pragma once

#include <NvInferRuntime.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device.h"
#include "multires_tensorrt.hpp"
#include "runtime_cache.h"

namespace multires {
inline namespace v0 {
namespace tensorrt {

// Keeps the last error, which TensorRT only logs.
class Log : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override;
  std::string last_error() const;

 private:
  mutable std::mutex mutex_;
  std::string last_;
};

// Rings that the ring kernels update for an engine of a taps graph: they fill
// its input `taps`, and take rows from its output `pushes`.
struct Bank {
  struct Ring {
    std::string state;
    int slots;
    std::vector<int> delays;
  };
  std::string taps, pushes;
  std::vector<Ring> rings;
  multires_dtype dtype;
  std::int64_t width, row_bytes; // of a row: values and bytes
};

// The parts of a stream's state.
std::vector<multires_part> parts_of(const multires::Stream& stream);

struct LoadedEngine {
  LoadedEngine(const std::string& path, const Model& model);

  Model model;
  std::string name;
  Log log;
  std::unique_ptr<nvinfer1::IRuntime> runtime;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;
  std::unique_ptr<RuntimeCache> cache;
  mutable std::mutex opening;  // streams are made one after the other, as the cache wants it
  std::unique_ptr<RingKernels> kernels; // only if there are banks
  std::vector<Bank> banks;
  std::vector<std::string> tensors,
      inputs; // the names of all tensors, and of the inputs
  int smallest_batch = 0, largest_batch = 0;
  bool in_place = false;

  bool has(const std::string& tensor) const;
  // Whether the ring kernels or TensorRT update a state in place. The output of
  // a state that TensorRT updates in place must share the memory of its input.
  // For any other pair that is undefined.
  bool updates_in_place(const multires_part& part) const;
  std::unique_ptr<nvinfer1::IExecutionContext> context(int batch) const;

 private:
  void find_banks(const std::vector<multires_part>& parts);
  void check_tensors(const std::vector<multires_part>& parts) const;
  void check_tensor(const std::string& tensor, const std::vector<std::int64_t>& shape, nvinfer1::DataType dtype) const;
  [[noreturn]] void refuse(multires_status status, const std::string& why) const;
};

} // namespace tensorrt
} // namespace v0
} // namespace multires
