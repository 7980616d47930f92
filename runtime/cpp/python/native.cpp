// The engine for Python. It loads and computes without the interpreter's lock. multires_edge.runtime.stream checks
// shapes and dtypes before it calls. The time_* functions are for multires_edge.runtime.bench.

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>

#include "bindings.h"
#include "measure.h"
#include "model.h"
#include "network_source.h"

namespace {

using Seconds = nb::ndarray<nb::numpy, double, nb::ndim<1>>;

struct State {
  State(const Model& model, int batch, int window) {
    char message[512] = "";
    check(multires_state_new(model.handle, batch, window, &handle, message, sizeof message), message);
    info = multires_model_info(model.handle);
    rows = static_cast<size_t>(batch);
    tokens.resize(info.n_tokens > 0 ? rows : 0);
    input.resize(rows * static_cast<size_t>(info.d_input));
    output.resize(rows * static_cast<size_t>(info.d_output));
  }
  ~State() { multires_state_free(handle); }
  State(const State&) = delete;

  // One step from `input` or `tokens` to `output`, which are arrays of this object. Checks the values: a bad input does
  // not change the state, and a bad output means that finite inputs were too large.
  int step() {
    if (!all_finite(input.data(), input.size())) return kBadInput;
    multires_status status;
    unlocked([&] {
      status = info.n_tokens > 0 ? multires_step_tokens(handle, tokens.data(), output.data())
                                 : multires_step(handle, input.data(), output.data());
    });
    if (status == MULTIRES_ARGUMENT) return kBadInput;  // a token out of range; everything else is valid here
    return all_finite(output.data(), output.size()) ? kDone : kBadOutput;
  }

  void prepare() {
    unlocked([&] { multires_prepare(handle); });
  }
  void commit() {
    unlocked([&] { multires_commit(handle); });
  }

  // x (steps, batch, d_input) or tokens (steps, batch), to y (steps, batch, d_output).
  template <typename Inputs>
  void run(const Inputs& inputs, Output y) {
    const size_t row = input_size(), steps = row ? inputs.size() / row : 0;
    if (inputs.size() != steps * row || y.size() != steps * output.size())
      throw std::runtime_error("an array has the wrong size");
    const auto* from = inputs.data();
    float* to = y.data();
    multires_status status;
    unlocked([&] { status = run_any(from, static_cast<int64_t>(steps), to); });
    check(status);
  }

  size_t input_size() const { return info.n_tokens > 0 ? tokens.size() : input.size(); }
  multires_status run_any(const float* x, int64_t steps, float* y) { return multires_run(handle, x, steps, y); }
  multires_status run_any(const int64_t* t, int64_t steps, float* y) {
    return multires_run_tokens(handle, t, steps, y);
  }

  multires_state* handle = nullptr;
  multires_info info{};
  size_t rows = 0;
  std::vector<float> input, output;  // (batch, d_input), (batch, d_output)
  std::vector<int64_t> tokens;       // (batch)
};

nb::dlpack::dtype dtype_of(const multires_part& part) {
  if (part.dtype == MULTIRES_INT64) return nb::dtype<int64_t>();
  if (part.dtype == MULTIRES_INT8) return nb::dtype<int8_t>();
  nb::dlpack::dtype floating = nb::dtype<float>();
  if (part.dtype == MULTIRES_FLOAT16) floating.bits = 16;
  return floating;
}

Seconds new_seconds(size_t count) {
  double* data = new double[count]();
  nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<double*>(p); });
  return Seconds(data, {count}, owner);
}

// For each of inputs (n, batch, ...), one step of every state; returns the n times.
template <typename Inputs>
Seconds time_steps(const std::vector<State*>& states, const Inputs& inputs) {
  if (states.empty() || inputs.ndim() == 0) throw std::runtime_error("no state or no input was given");
  const size_t n = inputs.shape(0), each = n ? inputs.size() / n : 0;
  for (const State* state : states)
    if (!state || each != state->input_size()) throw std::runtime_error("an array has the wrong size");
  const auto* from = inputs.data();
  Seconds seconds = new_seconds(n);
  double* to = seconds.data();
  multires_status worst = MULTIRES_OK;
  unlocked([&] {
    multires::time_each(to, n, [&](size_t i) {
      for (State* state : states) worst = std::max(worst, state->run_any(from + i * each, 1, state->output.data()));
    });
  });
  check(worst);
  return seconds;
}

// Calls a function of measure.h; returns the seconds of each call, and the bytes or multiply-adds of a call.
nb::tuple time_rate(size_t (*function)(size_t, double*, size_t), size_t amount, size_t repeats) {
  Seconds seconds = new_seconds(repeats);
  double* to = seconds.data();
  size_t done;
  unlocked([&] { done = function(amount, to, repeats); });
  return nb::make_tuple(seconds, done);
}

// A weights file as the source of a program for a microcontroller whose kernels multiply groups of `group` int8 inputs:
// its files, and the bytes of its constants and of its memory.
nb::tuple source_of(const nb::bytes& content, int group) {
  multires::NetworkSource result;
  unlocked([&] { result = multires::network_source(*multires::Model::load(content.data(), content.size(), group)); });
  return nb::make_tuple(result.source, result.kinds, result.constant_bytes, result.arena_bytes);
}

}  // namespace

NB_MODULE(_native, module) {
  nb::set_leak_warnings(false);  // a thread that computes when the program ends keeps what it computes with
  nb::class_<Model>(module, "Model")
      .def(nb::init<const nb::bytes&>(), nb::arg("content"))
      .def_prop_ro("cost",
                   [](const Model& model) {
                     const multires_cost cost = multires_model_cost(model.handle);
                     nb::dict entry;
                     entry["weight_bytes"] = cost.weight_bytes;
                     entry["tap_bytes"] = cost.tap_bytes;
                     entry["push_bytes"] = cost.push_bytes;
                     entry["multiply_adds"] = cost.multiply_adds;
                     entry["int8_multiply_adds"] = cost.int8_multiply_adds;
                     return entry;
                   })
      .def(
          "metadata",
          [](const Model& model, const std::string& key) {
            const char* text = multires_model_metadata(model.handle, key.c_str());
            return text ? nb::cast(text) : nb::none();
          },
          nb::arg("key"))
      .def_prop_ro("isa", [](const Model& model) { return std::string(multires_model_isa(model.handle)); });
  nb::class_<State>(module, "State")
      .def(nb::init<const Model&, int, int>(), nb::arg("model"), nb::arg("batch"),
           nb::arg("window") = MULTIRES_DEFAULT_WINDOW)
      .def_prop_ro("input",
                   [](nb::handle self) {
                     State& state = nb::cast<State&>(self);
                     std::vector<int64_t>& tokens = state.tokens;
                     return tokens.empty() ? as_numpy(state.input.data(), state.input.size(), state.rows, self)
                                           : as_numpy(tokens.data(), tokens.size(), state.rows, self);
                   })
      .def_prop_ro("output",
                   [](nb::handle self) {
                     State& state = nb::cast<State&>(self);
                     return as_numpy(state.output.data(), state.output.size(), state.rows, self);
                   })
      .def("step", &State::step)
      .def("prepare", &State::prepare)
      .def("commit", &State::commit)
      .def("run", &State::run<Floats>, nb::arg("inputs"), nb::arg("y"))
      .def("run", &State::run<Tokens>, nb::arg("inputs"), nb::arg("y"))
      .def(
          "reset", [](State& state, int row) { check(multires_reset(state.handle, row)); }, nb::arg("row"))
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
          parts[part.name] = nb::ndarray<nb::numpy>(part.data, rank, shape, self, nullptr, dtype_of(part));
        }
        return parts;
      });
  module.def("network_source", &source_of, nb::arg("content"), nb::arg("group"));
  module.def("time_steps", &time_steps<Floats>, nb::arg("states"), nb::arg("inputs"));
  module.def("time_steps", &time_steps<Tokens>, nb::arg("states"), nb::arg("inputs"));
  module.def(
      "time_reading", [](size_t bytes, size_t repeats) { return time_rate(multires::time_reading, bytes, repeats); },
      nb::arg("bytes"), nb::arg("repeats"));
  module.def(
      "time_multiply_adds",
      [](size_t count, size_t repeats) { return time_rate(multires::time_multiply_adds, count, repeats); },
      nb::arg("count"), nb::arg("repeats"));
  define_banks(module);
  define_cuda(module);
}
