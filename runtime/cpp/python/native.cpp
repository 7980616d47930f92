// The engine for Python: thin, and without the interpreter's lock while it computes.
// multires_edge.runtime.backends.native checks shapes and dtypes before it calls.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <stdexcept>

#include "multires.h"

namespace nb = nanobind;

namespace {

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Tokens = nb::ndarray<const int64_t, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

void check(multires_status status, const char* message = "") {
  if (status == MULTIRES_MEMORY) throw std::bad_alloc();
  if (status != MULTIRES_OK) throw std::runtime_error(*message ? message : "argument out of range");
}

struct Model {
  explicit Model(const std::string& path) {
    char message[8192];  // room for the longest path
    check(multires_model_load(path.c_str(), &handle, message, sizeof message), message);
  }
  ~Model() { multires_model_free(handle); }
  Model(const Model&) = delete;
  multires_model* handle = nullptr;
};

struct State {
  State(const Model& model, int batch, int window) {
    char message[512] = "";
    check(multires_state_new(model.handle, batch, window, &handle, message, sizeof message), message);
    info = multires_model_info(model.handle);
    rows = static_cast<size_t>(batch);
  }
  ~State() { multires_state_free(handle); }
  State(const State&) = delete;

  void run(const Floats& x, Output y) { feed(multires_run, x, static_cast<size_t>(info.d_input), y); }
  void run_tokens(const Tokens& tokens, Output y) { feed(multires_run_tokens, tokens, 1, y); }

  // inputs: (steps, batch, each); y: (steps, batch, d_output).
  template <typename Function, typename Inputs>
  void feed(Function function, const Inputs& inputs, size_t each, Output& y) {
    const size_t row = rows * each, steps = row ? inputs.size() / row : 0;
    if (inputs.size() != steps * row || y.size() != steps * rows * static_cast<size_t>(info.d_output))
      throw std::runtime_error("an array has the wrong size");
    const auto* from = inputs.data();
    float* to = y.data();
    multires_status status;
    {
      nb::gil_scoped_release released;
      status = function(handle, from, static_cast<int64_t>(steps), to);
    }
    check(status);
  }

  multires_state* handle = nullptr;
  multires_info info{};
  size_t rows = 0;
};

}  // namespace

NB_MODULE(_native, module) {
  nb::class_<Model>(module, "Model")
      .def(nb::init<const std::string&>(), nb::arg("path"))
      .def_prop_ro("isa", [](const Model& model) { return std::string(multires_model_isa(model.handle)); });
  nb::class_<State>(module, "State")
      .def(nb::init<const Model&, int, int>(), nb::arg("model"), nb::arg("batch"), nb::arg("window") = MULTIRES_DEFAULT_WINDOW)
      .def("run", &State::run, nb::arg("x"), nb::arg("y"))
      .def("run_tokens", &State::run_tokens, nb::arg("tokens"), nb::arg("y"))
      .def("reset", [](State& state, int row) { check(multires_reset(state.handle, row)); }, nb::arg("row"))
      .def("changed", [](State& state) { check(multires_state_changed(state.handle)); })
      .def("parts", [](nb::handle self) {
        State& state = nb::cast<State&>(self);
        nb::dict parts;
        for (int32_t i = 0; i < multires_state_parts(state.handle); ++i) {
          multires_part part;
          check(multires_state_part(state.handle, i, &part));
          size_t shape[4];
          for (int32_t k = 0; k < part.rank; ++k) shape[k] = static_cast<size_t>(part.shape[k]);
          const size_t rank = static_cast<size_t>(part.rank);
          if (part.is_int64)
            parts[part.name] = nb::ndarray<nb::numpy, int64_t>(static_cast<int64_t*>(part.data), rank, shape, self);
          else
            parts[part.name] = nb::ndarray<nb::numpy, float>(static_cast<float*>(part.data), rank, shape, self);
        }
        return parts;
      });
}
