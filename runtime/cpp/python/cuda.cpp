// Streams on a GPU for Python: what multires_cuda.hpp does in one constructor, in its parts, because the package has
// compilers in more places, and a driver's words with advice.

#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "bindings.h"
#include "kernel.h"
#include "streams.h"

namespace cuda = multires::cuda;

namespace {

using Bytes = nb::ndarray<nb::ndim<1>, uint8_t, nb::c_contig, nb::device::cpu>;
using ConstantBytes = nb::ndarray<nb::ndim<1>, const uint8_t, nb::c_contig, nb::device::cpu>;

nb::bytes as_bytes(const std::string& content) { return nb::bytes(content.data(), content.size()); }

struct Plan {
  Plan(const Model& model, int rows, int threads, int window_)
      : window(window_ == MULTIRES_DEFAULT_WINDOW ? multires_model_info(model.handle).window : window_) {
    unlocked([&] { plan = cuda::make_plan(*model.handle, window, rows, threads); });
  }
  cuda::Plan plan{};
  int window;
};

struct Streams {
  // driver: the library, "" for that of this machine.
  Streams(const Model& model, const Plan& plan, const nb::bytes& code, int batch, const std::string& driver) {
    const std::string kernel(code.c_str(), code.size());
    unlocked([&] {
      const auto device = std::make_shared<cuda::Device>(std::make_shared<cuda::Driver>(driver));
      streams = std::make_unique<cuda::Streams>(device, model.handle, plan.plan, kernel, batch, plan.window);
    });
  }

  size_t rows() const { return static_cast<size_t>(streams->batch); }
  float* samples() const { return reinterpret_cast<float*>(streams->sample()); }
  int64_t* tokens() const { return reinterpret_cast<int64_t*>(streams->sample()); }
  size_t values() const { return rows() * static_cast<size_t>(streams->info.d_input); }
  size_t outputs() const { return rows() * static_cast<size_t>(streams->info.d_output); }

  bool has_good_input() const {
    const int64_t n_tokens = streams->info.n_tokens;
    if (n_tokens == 0) return all_finite(samples(), values());
    for (size_t b = 0; b < rows(); ++b)
      if (tokens()[b] < 0 || tokens()[b] >= n_tokens) return false;
    return true;
  }

  // As State::step.
  int step() {
    if (!has_good_input()) return kBadInput;
    unlocked([&] { streams->step(); });
    return all_finite(streams->output(), outputs()) ? kDone : kBadOutput;
  }

  // x (steps, batch, d_input) or tokens (steps, batch), to y (steps, batch, d_output).
  template <typename Inputs>
  void run(const Inputs& inputs, Output y) {
    const size_t steps = y.size() / outputs();
    if (inputs.nbytes() != steps * streams->sample_bytes() || y.size() != steps * outputs())
      throw std::runtime_error("an array has the wrong size");
    const void* from = inputs.data();
    float* to = y.data();
    unlocked([&] { streams->run(from, static_cast<int64_t>(steps), to); });
  }

  // Copy the state of a row, or of all rows for -1.
  void read(const std::string& name, int row, const Bytes& array) {
    copy(name, row, array.size(), [&](const cuda::Part& part) { streams->read(part, row, array.data()); });
  }
  void write(const std::string& name, int row, const ConstantBytes& array) {
    copy(name, row, array.size(), [&](const cuda::Part& part) { streams->write(part, row, array.data()); });
  }

  template <typename Copy>
  void copy(const std::string& name, int row, size_t bytes, Copy copy_part) {
    for (const cuda::Part& part : streams->parts()) {
      if (part.name != name) continue;
      if (bytes != part.bytes * (row < 0 ? rows() : 1) || row >= streams->batch)
        throw std::runtime_error("an array has the wrong size");
      unlocked([&] {
        streams->activate();
        copy_part(part);
        streams->wait();
      });
      return;
    }
    throw std::runtime_error("no state " + name);
  }

  std::unique_ptr<cuda::Streams> streams;
};

const char* name_of(multires_dtype dtype) {
  constexpr const char* kNames[] = {"float32", "int64", "float16", "int8"};
  return kNames[dtype];
}

// {name: (dtype, shape)} of the states.
nb::dict shapes_of(const std::vector<cuda::Part>& parts, int batch) {
  nb::dict shapes;
  for (const cuda::Part& part : parts) {
    nb::list shape;
    shape.append(batch);
    for (size_t i = 1; i < part.shape.size(); ++i) shape.append(part.shape[i]);
    shapes[part.name.c_str()] = nb::make_tuple(name_of(part.dtype), nb::tuple(shape));
  }
  return shapes;
}

}  // namespace

void define_cuda(nb::module_& module) {
  // Arguments: the message, and the number of the driver's error.
  static PyObject* const driver_error =
      PyErr_NewException("multires_edge.runtime.backends._native.DriverError", PyExc_RuntimeError, nullptr);
  module.attr("DriverError") = nb::borrow(driver_error);
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const cuda::DriverError& error) {
      PyErr_SetObject(driver_error, nb::make_tuple(error.what(), error.code).ptr());
    }
  });
  nb::class_<Plan>(module, "CudaPlan")
      .def(nb::init<const Model&, int, int, int>(), nb::arg("model"), nb::arg("rows"), nb::arg("threads") = 0,
           nb::arg("window") = MULTIRES_DEFAULT_WINDOW)
      .def_ro("window", &Plan::window)
      .def_prop_ro("threads", [](const Plan& plan) { return plan.plan.threads; })
      .def_prop_ro("rows", [](const Plan& plan) { return plan.plan.rows; })
      .def_prop_ro("scratch", [](const Plan& plan) { return plan.plan.scratch; })
      .def_prop_ro("weights",
                   [](const Plan& plan) { return nb::bytes(plan.plan.weights.data(), plan.plan.weights.size()); })
      .def_prop_ro("sources", [](const Plan& plan) { return cuda::sources_of(plan.plan); })
      .def(
          "compile",
          [](const Plan& plan, const cuda::Nvrtc& nvrtc, int capability) {
            std::string code;
            unlocked([&] { code = cuda::compile_kernel(plan.plan, nvrtc, capability); });
            return as_bytes(code);
          },
          nb::arg("nvrtc"), nb::arg("capability"))
      .def(
          "compile_ptx",
          [](const Plan& plan, const cuda::Nvrtc& nvrtc) {
            cuda::PtxFile file;
            unlocked([&] { file = cuda::compile_ptx(plan.plan, nvrtc); });
            return nb::make_tuple(file.name, as_bytes(file.content));
          },
          nb::arg("nvrtc"))
      .def(
          "kernel",
          [](const Plan& plan, int capability, const std::string& engines, int most,
             const std::vector<std::string>& more) {
            std::string code;
            unlocked([&] {
              code = cuda::kernel_for(plan.plan, capability, engines, [&] { return cuda::find_nvrtc(most, more); });
            });
            return as_bytes(code);
          },
          nb::arg("capability"), nb::arg("engines"), nb::arg("most"), nb::arg("more"));
  nb::class_<cuda::Nvrtc>(module, "Nvrtc")
      .def(nb::init<const std::string&>(), nb::arg("path"))
      .def_prop_ro("version", &cuda::Nvrtc::version)
      .def_prop_ro("architectures", &cuda::Nvrtc::architectures)
      .def(
          "compile",
          [](const cuda::Nvrtc& nvrtc, const std::string& source, const std::map<std::string, std::string>& headers,
             const std::vector<std::string>& options, bool ptx) {
            const cuda::Compiled compiled = nvrtc.compile(source, headers, options, ptx);
            return nb::make_tuple(as_bytes(compiled.code), compiled.said);
          },
          nb::arg("source"), nb::arg("headers"), nb::arg("options"), nb::arg("ptx") = false);
  module.def("find_nvrtc", &cuda::find_nvrtc, nb::arg("most"), nb::arg("more"));
  module.def(
      "rows_for", [](int batch, int multiprocessors) { return cuda::rows_for(batch, multiprocessors); },
      nb::arg("batch"), nb::arg("multiprocessors"));
  module.def(
      "state_shapes",
      [](const Model& model, int batch, int window) { return shapes_of(cuda::parts_of(model.handle, window), batch); },
      nb::arg("model"), nb::arg("batch"), nb::arg("window") = MULTIRES_DEFAULT_WINDOW);
  module.def(
      "state_pointers",
      [](const Model& model, int window) {
        std::vector<std::optional<std::string>> names;
        const std::vector<cuda::Part> parts = cuda::parts_of(model.handle, window);
        for (const cuda::Part* part : cuda::pointers_of(parts))
          names.push_back(part ? std::make_optional(part->name) : std::nullopt);
        return names;
      },
      nb::arg("model"), nb::arg("window") = MULTIRES_DEFAULT_WINDOW);
  nb::class_<Streams>(module, "CudaStreams")
      .def(nb::init<const Model&, const Plan&, const nb::bytes&, int, const std::string&>(), nb::arg("model"),
           nb::arg("plan"), nb::arg("code"), nb::arg("batch"), nb::arg("driver") = "")
      .def_prop_ro("input",
                   [](nb::handle self) {
                     const Streams& streams = nb::cast<Streams&>(self);
                     return streams.streams->info.n_tokens > 0
                                ? as_numpy(streams.tokens(), streams.rows(), streams.rows(), self)
                                : as_numpy(streams.samples(), streams.values(), streams.rows(), self);
                   })
      .def_prop_ro("output",
                   [](nb::handle self) {
                     const Streams& streams = nb::cast<Streams&>(self);
                     return as_numpy(streams.streams->output(), streams.outputs(), streams.rows(), self);
                   })
      .def_prop_ro("shapes",
                   [](const Streams& streams) { return shapes_of(streams.streams->parts(), streams.streams->batch); })
      .def("step", &Streams::step)
      .def("run", &Streams::run<Floats>, nb::arg("inputs"), nb::arg("y"))
      .def("run", &Streams::run<Tokens>, nb::arg("inputs"), nb::arg("y"))
      .def(
          "reset",
          [](Streams& streams, int row) {
            if (row < -1 || row >= streams.streams->batch) throw std::runtime_error("argument out of range");
            unlocked([&] { streams.streams->reset(row); });
          },
          nb::arg("row"))
      .def("read", &Streams::read, nb::arg("name"), nb::arg("row"), nb::arg("array"))
      .def("write", &Streams::write, nb::arg("name"), nb::arg("row"), nb::arg("array"));
}
