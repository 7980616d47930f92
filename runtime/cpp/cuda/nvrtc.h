// NVRTC, the CUDA compiler as a library. It is loaded at run time, and needs no toolkit.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace multires {
inline namespace v0 {
namespace cuda {

struct Compiled {
  std::string code;  // machine code, or PTX and a zero byte
  std::string said;  // by the compiler
};

// One library. Every function throws Error (MULTIRES_DEVICE).
class Nvrtc {
 public:
  explicit Nvrtc(const std::string& path);

  int major() const { return major_; }
  std::string version() const { return std::to_string(major_) + "." + std::to_string(minor_); }
  std::vector<int> architectures() const;  // compute capabilities, such as 87
  Compiled compile(const std::string& source, const std::map<std::string, std::string>& headers,
                   const std::vector<std::string>& options, bool ptx) const;

 private:
  template <typename Function>
  void find(const char* name, Function& function) const;
  void check(int status, const char* function) const;
  std::string get(void* program, const char* what, int (*size_of)(void*, std::size_t*), int (*get)(void*, char*)) const;

  void* library_;
  int major_ = 0, minor_ = 0;
  const char* (*error_string_)(int) = nullptr;
};

// The newest NVRTC whose code a driver of CUDA `most` loads: among the files `more`, with the loader, or in CUDA's
// folder. Throws Error (MULTIRES_DEVICE) if there is none.
std::unique_ptr<Nvrtc> find_nvrtc(int most, const std::vector<std::string>& more);

}  // namespace cuda
}  // namespace v0
}  // namespace multires
