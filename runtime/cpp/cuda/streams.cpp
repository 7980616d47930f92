#include "streams.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernel.h"

namespace multires {
inline namespace v0 {
namespace cuda {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 22;  // of inputs and outputs in one launch of run()
constexpr std::size_t kChunkSteps = 1024;                  // a launch must not keep a GPU from its display

// The pointers of States in states.h, before those of the rings. Rings of a kind have a number behind their name.
constexpr const char* kStates[] = {"position",   "encoder_queue",    "pool_sum",    "pool_sum_error",
                                   "pool_block", "pool_block_error", "pool_prefix", "pool_max"};

bool begins(const std::string& name, const char* with) { return name.compare(0, std::strlen(with), with) == 0; }

}  // namespace

std::vector<Part> parts_of(const multires_model* model, std::int32_t window) {
  char message[256];
  multires_state* one = nullptr;
  detail::check(multires_state_new(model, 1, window, &one, message, sizeof message), message);
  const std::unique_ptr<multires_state, decltype(&multires_state_free)> state(one, multires_state_free);
  std::vector<Part> parts;
  for (std::int32_t i = 0; i < multires_state_parts(one); ++i) {
    multires_part part;
    detail::check(multires_state_part(one, i, &part));
    parts.push_back({part.name, part.dtype, {part.shape, part.shape + part.rank}, part.bytes});
  }
  return parts;
}

std::vector<const Part*> pointers_of(const std::vector<Part>& parts) {
  std::vector<const Part*> pointers;
  for (const char* name : kStates) {
    const auto found = std::find_if(parts.begin(), parts.end(), [&](const Part& part) { return part.name == name; });
    pointers.push_back(found == parts.end() ? nullptr : &*found);
  }
  for (const char* rings : {"queue_", "pool_max_"}) {
    const std::size_t before = pointers.size();
    for (const Part& part : parts)  // sorted by name
      if (begins(part.name, rings)) pointers.push_back(&part);
    if (pointers.size() == before) pointers.push_back(nullptr);  // no array of the structure is empty
  }
  return pointers;
}

Streams::Streams(std::shared_ptr<Device> device, const multires_model* model, const Plan& plan, const std::string& code,
                 std::int32_t batch_, std::int32_t window_)
    : info(multires_model_info(model)), batch(batch_), window(window_), device_(std::move(device)),
      threads_(plan.threads), blocks_((batch + plan.rows - 1) / plan.rows), parts_(parts_of(model, window)) {
  const auto streams = static_cast<std::size_t>(batch);
  sample_bytes_ = streams * (info.n_tokens > 0 ? sizeof(std::int64_t) : static_cast<std::size_t>(info.d_input) * 4);
  output_bytes_ = streams * static_cast<std::size_t>(info.d_output) * sizeof(float);
  chunk_ =
      static_cast<std::int64_t>(std::clamp<std::size_t>(kChunkBytes / (sample_bytes_ + output_bytes_), 1, kChunkSteps));
  device_->activate();
  kernel_ = device_->load(code.data(), kEntry);
  for (Part& part : parts_) part.address = device_->allocate(streams * part.bytes);
  for (const Part* part : pointers_of(parts_)) states_.push_back(part ? part->address : 0);
  weights_ = device_->allocate(plan.weights.size());
  device_->upload(weights_, plan.weights.data(), plan.weights.size());
  scratch_ = plan.scratch > 0 ? device_->allocate(static_cast<std::size_t>(blocks_) * plan.scratch) : 0;
  device_->wait();
  samples_ = device_->map<unsigned char>(sample_bytes_ * static_cast<std::size_t>(1 + chunk_));
  outputs_ = device_->map<unsigned char>(output_bytes_ * static_cast<std::size_t>(1 + chunk_));
}

void Streams::launch(std::size_t first, std::int64_t steps) {
  Address samples = samples_.address + first * sample_bytes_, outputs = outputs_.address + first * output_bytes_;
  int streams = batch, count = static_cast<int>(steps);
  void* parameters[] = {&weights_, states_.data(), &samples, &outputs, &scratch_, &streams, &count};
  device_->launch(kernel_, blocks_, threads_, parameters);
  device_->wait();
}

void Streams::step() {
  device_->activate();
  launch(0, 1);
}

void Streams::run(const void* samples, std::int64_t steps, float* y) {
  device_->activate();
  const auto* from = static_cast<const unsigned char*>(samples);
  auto* to = reinterpret_cast<unsigned char*>(y);
  for (std::int64_t done = 0; done < steps; done += chunk_) {
    const std::int64_t some = std::min(chunk_, steps - done);
    const std::size_t in = static_cast<std::size_t>(some) * sample_bytes_,
                      out = static_cast<std::size_t>(some) * output_bytes_;
    std::memcpy(samples_.data + sample_bytes_, from, in);
    launch(1, some);
    std::memcpy(to, outputs_.data + output_bytes_, out);
    from += in;
    to += out;
  }
}

void Streams::reset(std::int32_t row) {
  device_->activate();
  for (const Part& part : parts_) device_->zero(address_of(part, row), bytes_of(part, row));
}

void Streams::read(const Part& part, std::int32_t row, void* to) const {
  device_->download(to, address_of(part, row), bytes_of(part, row));
}

void Streams::write(const Part& part, std::int32_t row, const void* from) const {
  device_->upload(address_of(part, row), from, bytes_of(part, row));
}

std::size_t Streams::bytes_of(const Part& part, std::int32_t row) const {
  return row < 0 ? part.bytes * static_cast<std::size_t>(batch) : part.bytes;
}

Address Streams::address_of(const Part& part, std::int32_t row) {
  return part.address + (row < 0 ? 0 : static_cast<std::size_t>(row) * part.bytes);
}

}  // namespace cuda
}  // namespace v0
}  // namespace multires
