// The kernel of a plan for a GPU: from the cache, from NVRTC, or as PTX from a bundle.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nvrtc.h"
#include "plan.h"

namespace multires {
inline namespace v0 {
namespace cuda {

constexpr const char* kEntry = "multires_step";

// step.cu and the headers that it includes, by name. "platform.h" is that of a GPU.
std::map<std::string, std::string> sources_of(const Plan& plan);

// Machine code for a compute capability such as 87, of NVRTC or of an earlier start. A GPU that is newer than NVRTC
// gets PTX, which its driver translates. Throws Error (MULTIRES_DEVICE).
std::string compile_kernel(const Plan& plan, const Nvrtc& nvrtc, int capability);

// A kernel that a bundle carries: PTX for every GPU from compute capability 7.5 on, behind a line with its digest.
struct PtxFile {
  std::string name;  // in the folder engines; different for every plan and every release of the kernel
  std::string content;
};
PtxFile compile_ptx(const Plan& plan, const Nvrtc& nvrtc);

// The kernel for a device: by NVRTC if find() gives one, else as PTX from the folder `engines`, if there is one.
// Throws Error (MULTIRES_DEVICE).
std::string kernel_for(const Plan& plan, int capability, const std::string& engines,
                       const std::function<std::unique_ptr<Nvrtc>()>& find);

}  // namespace cuda
}  // namespace v0
}  // namespace multires
