// multires_cuda.hpp: streams on an NVIDIA GPU by one kernel per step, without TensorRT.
//
// The calls are those of multires.hpp: a program chooses CPU or GPU by the class of its Stream.
//
// @code
// const multires::Model model("out/demo.bundle");  // or native/weights.int8.safetensors of the same bundle
// multires::cuda::Stream stream(model, 64);        // 64 patients in lockstep
// if (stream.step(x, y) != MULTIRES_OK) std::fprintf(stderr, "%s\n", stream.reason());
// @endcode
//
// The state stays on the device. A step is one launch: the kernel reads the sample and writes the output in memory of
// the host. The library links nothing of CUDA. It loads the driver when a stream is made, and NVRTC, which compiles
// the kernel for the network and the device; the kernel is kept in ~/.cache/multires-edge/kernels (XDG_CACHE_HOME).
// Without NVRTC, the bundle must have the kernel: `multires-edge build BUNDLE --target cuda`. One CUDA device is used,
// the first that CUDA_VISIBLE_DEVICES names.
//
// Threads: any number may use one Model. A Stream belongs to one thread at a time. step, run and reset throw nothing
// and allocate nothing, but they wait for the device.
#ifndef MULTIRES_CUDA_HPP
#define MULTIRES_CUDA_HPP

#include "multires.hpp"

namespace multires {
inline namespace v0 {
namespace cuda {

struct StreamState;  // stream.cpp

// One or several streams in lockstep, like multires::Stream. Movable; a moved-from stream returns
// MULTIRES_ARGUMENT.
class Stream {
 public:
  // As in multires.hpp. Throws Error: MULTIRES_DEVICE without a driver, a device or a kernel, with the driver's or the
  // compiler's words; MULTIRES_UNSUPPORTED for a network with more than 2 GiB of weights.
  explicit Stream(const Model& model, std::int32_t batch = 1, std::int32_t window = MULTIRES_DEFAULT_WINDOW);
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  std::int32_t batch() const noexcept;
  std::int32_t window() const noexcept;

  // As in multires.hpp; MULTIRES_DEVICE if the device fails. The stream cannot be used afterwards.
  multires_status step(const float* x, float* y) noexcept;
  multires_status step(const std::int64_t* tokens, float* y) noexcept;
  multires_status run(const float* x, std::int64_t steps, float* y) noexcept;
  multires_status run(const std::int64_t* tokens, std::int64_t steps, float* y) noexcept;
  multires_status reset(std::int32_t row = -1) noexcept;

  // The same bytes as those of multires::Stream: a stream can move between CPU and GPU. They need the memory of a
  // stream on the CPU for a moment. Throw Error.
  std::vector<unsigned char> save() const;
  void load(const unsigned char* snapshot, std::size_t size);
  void load(const std::vector<unsigned char>& snapshot) { load(snapshot.data(), snapshot.size()); }

  // The reason for the last MULTIRES_DEVICE.
  const char* reason() const noexcept;

 private:
  std::unique_ptr<StreamState> state_;
};

}  // namespace cuda
}  // namespace v0
}  // namespace multires
#endif
