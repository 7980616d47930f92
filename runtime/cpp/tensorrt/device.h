// CUDA for this library: memory, a stream, captured graphs, and the ring
// kernels.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <exception>
#include <memory>
#include <string>

#include "multires.hpp"

namespace multires {
inline namespace v0 {
namespace tensorrt {

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw Error(MULTIRES_DEVICE, std::string(what) + ": " + cudaGetErrorString(status));
}

// Throws Error if this driver and runtime find no device. Threads then wait for it as MULTIRES_CUDA_WAIT says.
void require_device();

// Frees a handle by a function of CUDA.
template <auto function>
struct Free {
  template <typename T>
  void operator()(T* handle) const {
    function(handle);
  }
};

using DeviceMemory = std::unique_ptr<void, Free<cudaFree>>;
using PinnedMemory = std::unique_ptr<void, Free<cudaFreeHost>>;
using CudaStream = std::unique_ptr<CUstream_st, Free<cudaStreamDestroy>>;
// Work that was recorded on a stream, and is launched as a whole.
using Graph = std::unique_ptr<CUgraphExec_st, Free<cudaGraphExecDestroy>>;

// Zeroed memory on the device, and on the host.
DeviceMemory device_memory(std::size_t bytes);
PinnedMemory pinned_memory(std::size_t bytes);

// Zeroed memory of the host for inputs or outputs, and on the device: the same memory where both share it, as on a
// Jetson. Else send and receive queue copies.
class Exchanged {
 public:
  explicit Exchanged(std::size_t bytes);
  unsigned char* host() const { return static_cast<unsigned char*>(host_.get()); }
  unsigned char* address() const { return address_; }
  void send(cudaStream_t stream) const;
  void receive(cudaStream_t stream) const;

 private:
  std::size_t bytes_;
  PinnedMemory host_;
  DeviceMemory device_;  // null where the host's is used
  unsigned char* address_;
};

CudaStream new_stream();
inline void wait_for(const CudaStream& stream) { check(cudaStreamSynchronize(stream.get()), "cudaStreamSynchronize"); }

template <typename Work>
Graph capture(const CudaStream& stream, Work work) {
  // Restricts this thread only: others may allocate meanwhile.
  check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  std::exception_ptr failed;
  try {
    work();
  } catch (...) {
    failed = std::current_exception();
  }
  cudaGraph_t graph = nullptr;
  const cudaError_t status = cudaStreamEndCapture(stream.get(), &graph);
  const std::unique_ptr<CUgraph_st, Free<cudaGraphDestroy>> recorded(graph);
  if (failed) std::rethrow_exception(failed);
  check(status, "cudaStreamEndCapture");
  cudaGraphExec_t ready = nullptr;
  check(cudaGraphInstantiate(&ready, graph, 0), "cudaGraphInstantiate");
  return Graph(ready);
}

// One read or write of a ring by every row of the batch; rings.cu has the same
// struct.
struct RingAccess {
  void* ring;
  int slots, delay;
};
static_assert(sizeof(RingAccess) == 16, "the layout in rings.cu");

// A copy of rows between rings and a dense buffer (batch, count, row_bytes).
// All pointers are on the device.
struct RingMove {
  void *accesses, *rows;
  int count, batch, row_bytes;
};

// The kernels of rings.cu, which the driver translates for this device. The
// driver is loaded on first use: a program with this library starts on a
// machine without a driver.
class RingKernels {
 public:
  RingKernels();
  void gather(const RingMove& move, void* position, cudaStream_t stream) const {
    launch(gather_, move, position, nullptr, stream);
  }
  // Writes position + 1 to next_position (batch), unless it is null.
  void push(const RingMove& move, void* position, void* next_position, cudaStream_t stream) const {
    launch(push_, move, position, next_position, stream);
  }

 private:
  struct Unload {
    void operator()(CUmodule module) const;
  };
  static constexpr int kWords[] = {16, 4, 2, 1};
  std::unique_ptr<CUmod_st, Unload> module_;
  CUfunction gather_[4]{}, push_[4]{};
  void launch(const CUfunction (&kernels)[4], const RingMove& move, void* position, void* next_position,
              cudaStream_t stream) const;
};

} // namespace tensorrt
} // namespace v0
} // namespace multires
