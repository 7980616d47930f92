// What the functions for Python share. Python calls them, and those of multires.h, by ctypes: so one library serves
// every Python. An exception becomes a status, and a message that the calling thread can ask for.
#pragma once

#include <exception>
#include <stdexcept>
#include <string>

#include "multires.h"

#if defined(_WIN32)
#define NATIVE_API extern "C" __declspec(dllexport)
#else
#define NATIVE_API extern "C" __attribute__((visibility("default")))
#endif

enum NativeStatus { kNativeOk = 0, kNativeError = 1, kNativeMemory = 2, kNativeDriver = 3 };

// The last error of this thread; `code` is the number of a driver's error.
struct LastError {
  std::string message;
  int code = 0;
};
LastError& last_error();

// An error with a driver's number.
struct NumberedError : std::runtime_error {
  NumberedError(const std::string& message, int number) : std::runtime_error(message), code(number) {}
  int code;
};

// The status of an exception, which becomes the last error.
NativeStatus fail_as(const std::exception_ptr& error) noexcept;

// Calls a function that returns nothing and may throw.
template <typename Function>
NativeStatus guarded(Function function) noexcept {
  try {
    function();
    return kNativeOk;
  } catch (...) {
    return fail_as(std::current_exception());
  }
}

// A result of any size: native_text_data and native_text_size read it, native_text_free ends it.
using NativeText = std::string;
