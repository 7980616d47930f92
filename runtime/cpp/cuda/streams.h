// Streams whose states stay on the device; a step of all of them, or a whole chunk, is one launch of one kernel.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "driver.h"
#include "plan.h"

namespace multires {
inline namespace v0 {
namespace cuda {

// A state of the streams: its name, and its type and shape for one stream.
struct Part {
  std::string name;
  multires_dtype dtype;
  std::vector<std::int64_t> shape;
  std::size_t bytes;  // of a stream
  Address address = 0;
};

// Those of a model's streams, sorted by name. Throws Error.
std::vector<Part> parts_of(const multires_model* model, std::int32_t window);

// The states that the pointers of the kernel's structure States lead to, in their order; null where there is none.
std::vector<const Part*> pointers_of(const std::vector<Part>& parts);

// Every function throws Error (MULTIRES_DEVICE) if the device fails.
class Streams {
 public:
  // code: the kernel of the plan, for this device.
  Streams(std::shared_ptr<Device> device, const multires_model* model, const Plan& plan, const std::string& code,
          std::int32_t batch, std::int32_t window);

  const multires_info info;
  const std::int32_t batch, window;

  std::size_t sample_bytes() const { return sample_bytes_; }  // of a step of all streams
  std::size_t output_bytes() const { return output_bytes_; }
  // Of one step; memory of the host.
  unsigned char* sample() const { return samples_.data; }
  float* output() const { return reinterpret_cast<float*>(outputs_.data); }

  // One step from sample() to output().
  void step();
  // `steps` steps; sample() and output() do not change.
  void run(const void* samples, std::int64_t steps, float* y);
  // Of a row, or of all rows for -1.
  void reset(std::int32_t row);

  const std::vector<Part>& parts() const { return parts_; }
  // Copies the state of a row, or of all rows for -1. The copies are complete after wait().
  void read(const Part& part, std::int32_t row, void* to) const;
  void write(const Part& part, std::int32_t row, const void* from) const;
  void wait() const { device_->wait(); }
  void activate() const { device_->activate(); }

 private:
  void launch(std::size_t first, std::int64_t steps);
  std::size_t bytes_of(const Part& part, std::int32_t row) const;
  static Address address_of(const Part& part, std::int32_t row);

  std::shared_ptr<Device> device_;
  std::size_t sample_bytes_, output_bytes_;
  int threads_, blocks_;
  std::int64_t chunk_;  // most steps of a launch
  void* kernel_;
  Address weights_, scratch_;
  std::vector<Part> parts_;
  std::vector<Address> states_;  // the structure States of the kernel
  // (1 + chunk_) steps: first that of step(), then those of run().
  Device::Mapped<unsigned char> samples_, outputs_;
};

}  // namespace cuda
}  // namespace v0
}  // namespace multires
