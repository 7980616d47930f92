// TensorRT's objects of one engine file, and what was found to be in it.
#pragma once

#include <NvInferRuntime.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device.h"
#include "multires_tensorrt.hpp"

namespace multires {
inline namespace v0 {
namespace tensorrt {

// Keeps the last error, which TensorRT tells nobody else.
class Log : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override;
  std::string last_error() const;

 private:
  mutable std::mutex mutex_;
  std::string last_;
};

// Rings that an engine of a taps graph leaves to the ring kernels: those of its input `taps`, and rows for
// them in its output `pushes`.
struct Bank {
  struct Ring {
    std::string state;
    int slots;
    std::vector<int> delays;
  };
  std::string taps, pushes;
  std::vector<Ring> rings;
  int row_bytes = 0;
  int reads() const;
};

struct LoadedEngine {
  LoadedEngine(const std::string& path, const Model& model);

  Model model;
  std::string name;
  Log log;
  std::unique_ptr<nvinfer1::IRuntime> runtime;
  std::unique_ptr<nvinfer1::ICudaEngine> engine;
  std::unique_ptr<RingKernels> kernels;  // with banks only
  std::vector<Bank> banks;
  std::vector<std::string> tensors, inputs;  // all of them by name; the inputs alone
  int smallest_batch = 0, largest_batch = 0;
  bool in_place = false;

  bool has(const std::string& tensor) const;
  // Whether a state's output must share its input's memory. To bind any other pair so is undefined.
  bool updates_in_place(const std::string& state) const;
  std::unique_ptr<nvinfer1::IExecutionContext> context(int batch) const;

 private:
  void find_banks(const std::vector<multires_part>& parts);
  void check_tensors(const std::vector<multires_part>& parts) const;
  void check_tensor(const std::string& tensor, const std::vector<std::int64_t>& shape, nvinfer1::DataType dtype) const;
  [[noreturn]] void refuse(multires_status status, const std::string& why) const;
};

}  // namespace tensorrt
}  // namespace v0
}  // namespace multires
