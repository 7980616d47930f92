// What the contexts of an engine share. TensorRT-RTX compiles kernels on the device; the contexts take them from one
// cache, which is kept in a file for the next start. TensorRT compiles when it builds an engine, and has no such cache.
#pragma once

#include <NvInferRuntime.h>

#include <memory>
#include <string>

#if defined(TRT_MAJOR_RTX) && TRT_MAJOR_RTX * 100 + TRT_MINOR_RTX < 107
#error "needs TensorRT-RTX 1.7 or later"
#endif

namespace multires {
inline namespace v0 {
namespace tensorrt {

class RuntimeCache {
 public:
  // Begins with the kernels beside the file of the engine, unless they are of another device or driver.
  RuntimeCache(nvinfer1::ICudaEngine& engine, const std::string& engine_path);

  // Null if TensorRT refuses. One call at a time, also with the first run of each context, which compiles too.
  std::unique_ptr<nvinfer1::IExecutionContext> context() const;
  // Writes new kernels beside the engine, whole or not at all. Where that is not possible, the next start compiles
  // again.
  void keep();

 private:
  nvinfer1::ICudaEngine& engine_;
#ifdef TRT_MAJOR_RTX
  std::string path_, stored_;
  std::unique_ptr<nvinfer1::IRuntimeConfig> config_;
  std::unique_ptr<nvinfer1::IRuntimeCache> cache_;
#endif
};

}  // namespace tensorrt
}  // namespace v0
}  // namespace multires
