// multires_tensorrt.hpp: streams on an NVIDIA GPU, with an engine that `multires-edge build` made.
//
// The calls are those of multires.hpp: a program chooses CPU or GPU by the class of its Stream.
//
// @code
// const multires::Model model("out/demo.bundle");
// const multires::tensorrt::Engine engine("out/demo.bundle/engines/step.fp32.jetpack7.engine", model);
// multires::tensorrt::Stream stream(engine, 64);  // 64 patients in lockstep
// if (stream.step(x, y) != MULTIRES_OK) std::fprintf(stderr, "%s\n", stream.reason());
// @endcode
//
// The state stays on the device. A step is one CUDA graph: the sample to the device, the network, the output to
// the host; 16 steps of run are another. If they cannot be captured, they are queued. The library links TensorRT and
// the CUDA runtime. A program starts without a GPU; the constructor of Engine then throws. One CUDA device is used, the
// first that CUDA_VISIBLE_DEVICES names.
//
// Threads: any number may use one Engine. A Stream belongs to one thread at a time. step, run and reset throw
// nothing and allocate nothing, but they wait for the device: by the environment variable MULTIRES_CUDA_WAIT, "spin",
// "yield" or "block", which the first Engine reads. Without it, the driver chooses.
#ifndef MULTIRES_TENSORRT_HPP
#define MULTIRES_TENSORRT_HPP

#include "multires.hpp"

namespace multires {
inline namespace v0 {
namespace tensorrt {

struct LoadedEngine;  // engine.h
struct StreamState;  // stream.cpp

// An engine of a step graph or of a taps graph, on the device. Copies and streams share it.
class Engine {
 public:
  // path: the engine file. model: the weights of the same bundle and precision; the engine's inputs and outputs
  // are checked against them, and snapshots name them. Throws Error: MULTIRES_DEVICE without a device, or for an
  // engine of another TensorRT or device, with TensorRT's reason; MULTIRES_MISMATCH for an engine of another
  // network or precision.
  Engine(const std::string& path, const Model& model);

  const Model& model() const noexcept;
  // Whether TensorRT updates the queues in place. Otherwise ring kernels update them, or each step copies them.
  bool in_place() const noexcept;
  std::int32_t smallest_batch() const noexcept;
  std::int32_t largest_batch() const noexcept;

 private:
  friend class Stream;
  std::shared_ptr<const LoadedEngine> loaded_;
};

// One or several streams in lockstep, like multires::Stream. Movable; a moved-from stream returns
// MULTIRES_ARGUMENT.
class Stream {
 public:
  // Throws Error: MULTIRES_ARGUMENT for a batch that the engine was not built for, MULTIRES_DEVICE.
  explicit Stream(const Engine& engine, std::int32_t batch = 1);
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  std::int32_t batch() const noexcept;
  std::int32_t window() const noexcept;

  // As in multires.hpp; MULTIRES_DEVICE if the device fails. The stream cannot be used afterwards.
  multires_status step(const float* x, float* y) noexcept { return run(x, 1, y); }
  multires_status step(const std::int64_t* tokens, float* y) noexcept { return run(tokens, 1, y); }
  multires_status run(const float* x, std::int64_t steps, float* y) noexcept;
  multires_status run(const std::int64_t* tokens, std::int64_t steps, float* y) noexcept;
  multires_status reset(std::int32_t row = -1) noexcept;

  // The same bytes as those of multires::Stream: a stream can move between CPU and GPU. Throw Error.
  std::vector<unsigned char> save() const;
  void load(const unsigned char* snapshot, std::size_t size);
  void load(const std::vector<unsigned char>& snapshot) { load(snapshot.data(), snapshot.size()); }

  // Whether a step is a CUDA graph. Otherwise it is slower, and a new stream's reason() says why.
  bool captured() const noexcept;

  // The reason for the last MULTIRES_DEVICE.
  const char* reason() const noexcept;

 private:
  std::unique_ptr<StreamState> state_;
};

}  // namespace tensorrt
}  // namespace v0
}  // namespace multires
#endif
