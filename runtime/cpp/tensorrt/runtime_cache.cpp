#include "runtime_cache.h"

#ifdef TRT_MAJOR_RTX
#include <filesystem>
#include <fstream>
#include <random>
#include <utility>

#include "files.h"
#include "multires.hpp"
#endif

namespace multires {
inline namespace v0 {
namespace tensorrt {

#ifdef TRT_MAJOR_RTX

namespace {

// Replaces a file. Returns whether it could.
bool replace_file(const std::string& path, const std::string& content) {
  const std::string temporary = path + "." + std::to_string(std::random_device{}());
  std::ofstream file(temporary, std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  std::error_code failed;
  if (file) std::filesystem::rename(temporary, path, failed);
  if (file && !failed) return true;
  std::filesystem::remove(temporary, failed);
  return false;
}

}  // namespace

RuntimeCache::RuntimeCache(nvinfer1::ICudaEngine& engine, const std::string& engine_path)
    : engine_(engine), path_(std::filesystem::path(engine_path).replace_extension(".kernels").string()),
      config_(engine.createRuntimeConfig()) {
  if (config_) cache_.reset(config_->createRuntimeCache());
  if (!cache_) throw Error(MULTIRES_DEVICE, "TensorRT-RTX makes no cache for its kernels");
  // By default TensorRT-RTX specializes kernels later, and a captured graph would keep the first ones.
  config_->setDynamicShapesKernelSpecializationStrategy(nvinfer1::DynamicShapesKernelSpecializationStrategy::kEAGER);
  stored_ = read_file(path_);
  if (!stored_.empty()) cache_->deserialize(stored_.data(), stored_.size());
  if (!config_->setRuntimeCache(*cache_)) throw Error(MULTIRES_DEVICE, "TensorRT-RTX refuses its cache for kernels");
}

std::unique_ptr<nvinfer1::IExecutionContext> RuntimeCache::context() const {
  return std::unique_ptr<nvinfer1::IExecutionContext>(engine_.createExecutionContext(config_.get()));
}

void RuntimeCache::keep() {
  const std::unique_ptr<nvinfer1::IHostMemory> compiled(cache_->serialize());
  if (!compiled) return;
  std::string content(static_cast<const char*>(compiled->data()), compiled->size());
  if (content != stored_ && replace_file(path_, content)) stored_ = std::move(content);
}

#else

RuntimeCache::RuntimeCache(nvinfer1::ICudaEngine& engine, const std::string&) : engine_(engine) {}

std::unique_ptr<nvinfer1::IExecutionContext> RuntimeCache::context() const {
  return std::unique_ptr<nvinfer1::IExecutionContext>(engine_.createExecutionContext());
}

void RuntimeCache::keep() {}

#endif

}  // namespace tensorrt
}  // namespace v0
}  // namespace multires
