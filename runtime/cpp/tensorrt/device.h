// CUDA for this library: memory, a stream, captured graphs, and the ring kernels.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <string>
#include <utility>

#include "multires.hpp"

namespace multires {
inline namespace v0 {
namespace tensorrt {

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw Error(MULTIRES_DEVICE, std::string(what) + ": " + cudaGetErrorString(status));
}

// Throws Error if this driver and runtime find no device.
void require_device();

// Zeroed memory on the device, or pinned memory on the host.
class Memory {
 public:
  enum class Place { kDevice, kHost };
  Memory() = default;
  Memory(std::size_t bytes, Place place);
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(place_, other.place_);
    return *this;
  }
  ~Memory();
  void* data() const noexcept { return data_; }

 private:
  void* data_ = nullptr;
  Place place_ = Place::kDevice;
};

class CudaStream {
 public:
  CudaStream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate"); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  ~CudaStream() { cudaStreamDestroy(stream_); }
  operator cudaStream_t() const noexcept { return stream_; }  // NOLINT(misc-explicit-constructor)
  void wait() const { check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

 private:
  cudaStream_t stream_ = nullptr;
};

// Work that was recorded on a stream, and is launched as a whole.
class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() {
    if (graph_) cudaGraphExecDestroy(graph_);
  }
  template <typename Work>
  void capture(cudaStream_t stream, Work work) {
    // Restricts this thread only: others may allocate meanwhile.
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    cudaGraph_t recorded = nullptr;
    try {
      work();
    } catch (...) {
      if (cudaStreamEndCapture(stream, &recorded) == cudaSuccess) cudaGraphDestroy(recorded);
      throw;
    }
    check(cudaStreamEndCapture(stream, &recorded), "cudaStreamEndCapture");
    const cudaError_t status = cudaGraphInstantiate(&graph_, recorded, 0);
    cudaGraphDestroy(recorded);
    check(status, "cudaGraphInstantiate");
  }
  cudaError_t launch(cudaStream_t stream) const noexcept { return cudaGraphLaunch(graph_, stream); }

 private:
  cudaGraphExec_t graph_ = nullptr;
};

// One read or write of a ring by every row of the batch; rings.cu has the same struct.
struct RingAccess {
  void* ring;
  int slots, delay;
};
static_assert(sizeof(RingAccess) == 16, "the layout in rings.cu");

// A copy of rows between rings and a dense buffer (batch, count, row_bytes). All pointers are on the device.
struct RingMove {
  const void* accesses;
  int count;
  const void* position;
  void* rows;
  int batch, row_bytes;
};

// The kernels of rings.cu, which the driver translates for this device. The driver is loaded on first use: a program
// with this library starts on a machine without a driver.
class RingKernels {
 public:
  RingKernels();
  RingKernels(const RingKernels&) = delete;
  RingKernels& operator=(const RingKernels&) = delete;
  ~RingKernels();
  void gather(const RingMove& move, cudaStream_t stream) const;
  // Writes position + 1 to next_position (batch), unless it is null.
  void push(const RingMove& move, void* next_position, cudaStream_t stream) const;

 private:
  static constexpr int kWords[] = {16, 4, 2, 1};
  CUmodule module_ = nullptr;
  CUfunction gather_[4]{}, push_[4]{};
  void launch(const CUfunction (&kernels)[4], const RingMove& move, void* next_position, cudaStream_t stream) const;
};

}  // namespace tensorrt
}  // namespace v0
}  // namespace multires
