// Streams on a GPU for Python: what multires_cuda.hpp does in one constructor, in its parts, because the package has
// compilers in more places, and a driver's words with advice.

#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "guard.h"
#include "kernel.h"
#include "streams.h"
#include "values.h"

namespace cuda = multires::cuda;

struct NativePlan {  // NOLINT(misc-use-internal-linkage): a parameter of C functions
  cuda::Plan plan;
  int window;
};

struct NativeStreams {  // NOLINT(misc-use-internal-linkage): a parameter of C functions
  std::unique_ptr<cuda::Streams> streams;

  size_t rows() const { return static_cast<size_t>(streams->batch); }
  size_t outputs() const { return rows() * static_cast<size_t>(streams->info.d_output); }

  bool has_good_input() const {
    const int64_t n_tokens = streams->info.n_tokens;
    const size_t bytes = streams->sample_bytes();
    if (n_tokens == 0) return multires::all_finite(MULTIRES_FLOAT32, streams->sample(), bytes);
    for (size_t b = 0; b < rows(); ++b) {
      int64_t token;
      std::memcpy(&token, streams->sample() + b * sizeof token, sizeof token);
      if (token < 0 || token >= n_tokens) return false;
    }
    return true;
  }

  // Calls a function with the state of a name; `bytes` are those of a row, or of all rows for -1.
  template <typename Function>
  void with_part(const char* name, int row, size_t bytes, Function function) const {
    for (const cuda::Part& part : streams->parts()) {
      if (part.name != name) continue;
      if (bytes != part.bytes * (row < 0 ? rows() : 1) || row < -1 || row >= streams->batch)
        throw std::runtime_error("an array has the wrong size");
      streams->activate();
      function(part);
      streams->wait();
      return;
    }
    throw std::runtime_error(std::string("no state ") + name);
  }
};

namespace {

constexpr const char* kDtypes[] = {"float32", "int64", "float16", "int8"};

// A line for each state: its name, type and shape for one stream, after the batch.
std::string lines_of(const std::vector<cuda::Part>& parts) {
  std::string lines;
  for (const cuda::Part& part : parts) {
    lines += part.name + ' ' + kDtypes[part.dtype];
    for (size_t i = 1; i < part.shape.size(); ++i) lines += ' ' + std::to_string(part.shape[i]);
    lines += '\n';
  }
  return lines;
}

std::vector<std::string> strings(const char* const* texts, size_t count) { return {texts, texts + count}; }

template <typename Function>
NativeStatus guarded_device(Function function) noexcept {
  return guarded([&] {
    try {
      function();
    } catch (const cuda::DriverError& error) {
      throw NumberedError(error.what(), error.code);
    }
  });
}

}  // namespace

NATIVE_API NativeStatus native_nvrtc_find(int most, const char* const* more, size_t count, cuda::Nvrtc** nvrtc) {
  return guarded_device([&] { *nvrtc = cuda::find_nvrtc(most, strings(more, count)).release(); });
}

NATIVE_API void native_nvrtc_free(cuda::Nvrtc* nvrtc) { delete nvrtc; }

NATIVE_API NativeStatus native_nvrtc_compile(const cuda::Nvrtc* nvrtc, const char* source, const char* const* names,
                                             const char* const* texts, size_t headers, const char* const* options,
                                             size_t count, int ptx, NativeText** code, NativeText** said) {
  return guarded_device([&] {
    std::map<std::string, std::string> files;
    for (size_t i = 0; i < headers; ++i) files[names[i]] = texts[i];
    cuda::Compiled compiled = nvrtc->compile(source, files, strings(options, count), ptx != 0);
    auto first = std::make_unique<NativeText>(std::move(compiled.code));
    *said = new NativeText(std::move(compiled.said));
    *code = first.release();
  });
}

NATIVE_API int native_cuda_rows_for(int batch, int multiprocessors) { return cuda::rows_for(batch, multiprocessors); }

NATIVE_API NativeStatus native_cuda_states(const multires_model* model, int window, NativeText** lines) {
  return guarded_device([&] { *lines = new NativeText(lines_of(cuda::parts_of(model, window))); });
}

// A line for each pointer of the kernel's structure States: the name of its state, empty where there is none.
NATIVE_API NativeStatus native_cuda_pointers(const multires_model* model, int window, NativeText** lines) {
  return guarded_device([&] {
    const std::vector<cuda::Part> parts = cuda::parts_of(model, window);
    std::string joined;
    for (const cuda::Part* part : cuda::pointers_of(parts)) joined += (part ? part->name : "") + '\n';
    *lines = new NativeText(std::move(joined));
  });
}

NATIVE_API NativeStatus native_plan_new(const multires_model* model, int rows, int threads, int window,
                                        NativePlan** plan) {
  return guarded_device([&] {
    window = window == MULTIRES_DEFAULT_WINDOW ? multires_model_info(model).window : window;
    *plan = new NativePlan{cuda::make_plan(*model, window, rows, threads), window};
  });
}

NATIVE_API void native_plan_free(NativePlan* plan) { delete plan; }

// numbers: window, threads, rows, scratch, bytes of the weights. Returns the weights.
NATIVE_API const unsigned char* native_plan_info(const NativePlan* plan, int64_t* numbers) {
  const cuda::Plan& of = plan->plan;
  const int64_t values[] = {plan->window, of.threads, of.rows, static_cast<int64_t>(of.scratch),
                            static_cast<int64_t>(of.weights.size())};
  std::memcpy(numbers, values, sizeof values);
  return of.weights.data();
}

// Names and contents of the files in turn, each with a zero byte behind it.
NATIVE_API NativeStatus native_plan_sources(const NativePlan* plan, NativeText** files) {
  return guarded_device([&] {
    std::string joined;
    for (const auto& [name, content] : cuda::sources_of(plan->plan))
      joined.append(name).append(1, '\0').append(content).append(1, '\0');
    *files = new NativeText(std::move(joined));
  });
}

NATIVE_API NativeStatus native_plan_compile(const NativePlan* plan, const cuda::Nvrtc* nvrtc, int capability,
                                            NativeText** code) {
  return guarded_device([&] { *code = new NativeText(cuda::compile_kernel(plan->plan, *nvrtc, capability)); });
}

NATIVE_API NativeStatus native_plan_compile_ptx(const NativePlan* plan, const cuda::Nvrtc* nvrtc, NativeText** name,
                                                NativeText** content) {
  return guarded_device([&] {
    cuda::PtxFile file = cuda::compile_ptx(plan->plan, *nvrtc);
    auto first = std::make_unique<NativeText>(std::move(file.name));
    *content = new NativeText(std::move(file.content));
    *name = first.release();
  });
}

NATIVE_API NativeStatus native_plan_kernel(const NativePlan* plan, int capability, const char* engines, int most,
                                           const char* const* more, size_t count, NativeText** code) {
  return guarded_device([&] {
    const auto find = [&] { return cuda::find_nvrtc(most, strings(more, count)); };
    *code = new NativeText(cuda::kernel_for(plan->plan, capability, engines, find));
  });
}

// driver: the library, "" for that of this machine.
NATIVE_API NativeStatus native_streams_new(const multires_model* model, const NativePlan* plan, const char* code,
                                           size_t size, int batch, const char* driver, NativeStreams** streams) {
  return guarded_device([&] {
    const auto device = std::make_shared<cuda::Device>(std::make_shared<cuda::Driver>(driver));
    const std::string kernel(code, size);
    auto made = std::make_unique<cuda::Streams>(device, model, plan->plan, kernel, batch, plan->window);
    *streams = new NativeStreams{std::move(made)};
  });
}

NATIVE_API void native_streams_free(NativeStreams* streams) { delete streams; }

NATIVE_API void* native_streams_sample(const NativeStreams* streams) { return streams->streams->sample(); }
NATIVE_API float* native_streams_output(const NativeStreams* streams) { return streams->streams->output(); }

NATIVE_API NativeStatus native_streams_states(const NativeStreams* streams, NativeText** lines) {
  return guarded_device([&] { *lines = new NativeText(lines_of(streams->streams->parts())); });
}

// As native_step; the outcome is Outcome in runtime/backends/protocol.py.
NATIVE_API NativeStatus native_streams_step(NativeStreams* streams, int* outcome) {
  return guarded_device([&] {
    *outcome = 1;
    if (!streams->has_good_input()) return;
    streams->streams->step();
    const bool good =
        multires::all_finite(MULTIRES_FLOAT32, streams->streams->output(), streams->outputs() * sizeof(float));
    *outcome = good ? 0 : 2;
  });
}

NATIVE_API NativeStatus native_streams_run(NativeStreams* streams, const void* samples, int64_t steps, float* y) {
  return guarded_device([&] { streams->streams->run(samples, steps, y); });
}

NATIVE_API NativeStatus native_streams_reset(NativeStreams* streams, int row) {
  return guarded_device([&] {
    if (row < -1 || row >= streams->streams->batch) throw std::runtime_error("argument out of range");
    streams->streams->reset(row);
  });
}

NATIVE_API NativeStatus native_streams_read(NativeStreams* streams, const char* name, int row, void* to, size_t bytes) {
  return guarded_device([&] {
    streams->with_part(name, row, bytes, [&](const cuda::Part& part) { streams->streams->read(part, row, to); });
  });
}

NATIVE_API NativeStatus native_streams_write(NativeStreams* streams, const char* name, int row, const void* from,
                                             size_t bytes) {
  return guarded_device([&] {
    streams->with_part(name, row, bytes, [&](const cuda::Part& part) { streams->streams->write(part, row, from); });
  });
}
