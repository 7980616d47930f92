// What the parts of this module share.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <unistd.h>

#include <stdexcept>
#include <type_traits>
#include <vector>

#include "multires.h"
#include "values.h"

namespace nb = nanobind;

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Tokens = nb::ndarray<const int64_t, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

inline void check(multires_status status, const char* message = "") {
  if (status == MULTIRES_MEMORY) throw std::bad_alloc();
  if (status != MULTIRES_OK) throw std::runtime_error(*message ? message : "argument out of range");
}

// At the end of the program, Python 3.10 to 3.13 stop a daemon thread that asks for the lock, by pthread_exit. This
// unwinds its stack, and aborts the process at the first noexcept function, of which nanobind has many. So the thread
// waits until the process has ended, as in Python 3.14. Why not nb::gil_scoped_release: its destructor is noexcept.
inline void take_lock(PyThreadState* thread) {
  try {
    PyEval_RestoreThread(thread);
  } catch (...) {
    while (true) pause();
  }
}

// Calls a function without the interpreter's lock.
template <typename Function>
void unlocked(Function function) {
  PyThreadState* const thread = PyEval_SaveThread();
  try {
    function();
  } catch (...) {
    take_lock(thread);
    throw;
  }
  take_lock(thread);
}

// The result of State::step; Outcome in runtime/backends/protocol.py.
enum Outcome { kDone = 0, kBadInput = 1, kBadOutput = 2 };

inline bool all_finite(const float* values, size_t count) {
  return multires::all_finite(MULTIRES_FLOAT32, values, count * sizeof(float));
}

struct Model {
  // content: a weights file, which is not needed afterwards.
  explicit Model(const nb::bytes& content) {
    char message[512] = "";
    multires_status status;
    unlocked(
        [&] { status = multires_model_load_buffer(content.data(), content.size(), &handle, message, sizeof message); });
    check(status, message);
  }
  ~Model() { multires_model_free(handle); }
  Model(const Model&) = delete;
  multires_model* handle = nullptr;
};

// An array (rows, count / rows) of floats, or (rows) of tokens, in memory of its owner.
template <typename T>
nb::object as_numpy(T* values, size_t count, size_t rows, nb::handle owner) {
  const size_t shape[2] = {rows, count / rows};
  return nb::cast(nb::ndarray<nb::numpy, T>(values, std::is_same_v<T, int64_t> ? 1 : 2, shape, owner));
}

// Adds banks of filters, and the streams on a GPU, to the module.
void define_banks(nb::module_& module);
void define_cuda(nb::module_& module);
