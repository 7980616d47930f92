#include "nvrtc.h"

#include <dlfcn.h>
#include <glob.h>

#include <cstdlib>

#include "multires.hpp"

namespace multires {
inline namespace v0 {
namespace cuda {
namespace {

constexpr int kMajors[] = {13, 12};  // of CUDA, the newest first
constexpr const char* kFolders[] = {"/usr/local/cuda/lib64", "/usr/local/cuda/targets/aarch64-linux/lib"};
constexpr const char* kInstall =
    "on a Jetson: sudo apt install nvidia-jetpack; elsewhere: pip install nvidia-cuda-nvrtc for CUDA 13, "
    "nvidia-cuda-nvrtc-cu12 for CUDA 12; or compile the kernel into the bundle: multires-edge build BUNDLE --target "
    "cuda";

// NVIDIA's Python packages have libraries that do not find their other part, unless it is loaded.
void load_other_part(const std::string& path) {
  glob_t found{};
  const std::string pattern = path.substr(0, path.rfind('/') + 1) + "libnvrtc-builtins.so.*";
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0)
    for (std::size_t i = 0; i < found.gl_pathc; ++i) dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_GLOBAL);
  globfree(&found);
}

std::vector<std::string> candidates(const std::vector<std::string>& more) {
  std::vector<std::string> folders(std::begin(kFolders), std::end(kFolders)), paths;
  for (const char* variable : {"CUDA_PATH", "CUDA_HOME"})
    if (const char* home = std::getenv(variable)) folders.insert(folders.begin(), std::string(home) + "/lib64");
  for (const int major : kMajors) {
    const std::string name = "libnvrtc.so." + std::to_string(major);
    for (const std::string& path : more)
      if (path.substr(path.rfind('/') + 1) == name) paths.push_back(path);
    paths.push_back(name);
    for (const std::string& folder : folders) paths.push_back(std::string(folder).append("/").append(name));
  }
  return paths;
}

}  // namespace

Nvrtc::Nvrtc(const std::string& path) {
  if (path.find('/') != std::string::npos) load_other_part(path);
  library_ = dlopen(path.c_str(), RTLD_NOW);
  if (!library_) throw Error(MULTIRES_DEVICE, path + ": is no library");
  find("nvrtcGetErrorString", error_string_);
  int (*version)(int*, int*);
  find("nvrtcVersion", version);
  check(version(&major_, &minor_), "nvrtcVersion");
}

template <typename Function>
void Nvrtc::find(const char* name, Function& function) const {
  function = reinterpret_cast<Function>(dlsym(library_, name));
  if (!function) throw Error(MULTIRES_DEVICE, "NVRTC has no " + std::string(name));
}

void Nvrtc::check(int status, const char* function) const {
  if (status != 0) throw Error(MULTIRES_DEVICE, std::string(function) + " failed: " + error_string_(status));
}

std::vector<int> Nvrtc::architectures() const {
  int (*count_of)(int*);
  int (*get)(int*);
  find("nvrtcGetNumSupportedArchs", count_of);
  find("nvrtcGetSupportedArchs", get);
  int count = 0;
  check(count_of(&count), "nvrtcGetNumSupportedArchs");
  std::vector<int> known(static_cast<std::size_t>(count));
  check(get(known.data()), "nvrtcGetSupportedArchs");
  return known;
}

std::string Nvrtc::get(void* program, const char* what, int (*size_of)(void*, std::size_t*),
                       int (*get)(void*, char*)) const {
  std::size_t size = 0;
  check(size_of(program, &size), what);
  std::string content(size, '\0');
  check(get(program, content.data()), what);
  return content;
}

Compiled Nvrtc::compile(const std::string& source, const std::map<std::string, std::string>& headers,
                        const std::vector<std::string>& options, bool ptx) const {
  int (*create)(void**, const char*, const char*, int, const char* const*, const char* const*);
  int (*run)(void*, int, const char* const*);
  int (*destroy)(void**);
  int (*log_size)(void*, std::size_t*), (*code_size)(void*, std::size_t*);
  int (*get_log)(void*, char*), (*get_code)(void*, char*);
  find("nvrtcCreateProgram", create);
  find("nvrtcCompileProgram", run);
  find("nvrtcDestroyProgram", destroy);
  find("nvrtcGetProgramLogSize", log_size);
  find("nvrtcGetProgramLog", get_log);
  find(ptx ? "nvrtcGetPTXSize" : "nvrtcGetCUBINSize", code_size);
  find(ptx ? "nvrtcGetPTX" : "nvrtcGetCUBIN", get_code);
  std::vector<const char*> names, texts, flags;
  for (const auto& [name, text] : headers) {
    names.push_back(name.c_str());
    texts.push_back(text.c_str());
  }
  for (const std::string& option : options) flags.push_back(option.c_str());
  void* made = nullptr;
  check(create(&made, source.c_str(), "step.cu", static_cast<int>(names.size()), texts.data(), names.data()),
        "nvrtcCreateProgram");
  const auto free = [&](void*) { destroy(&made); };
  const std::unique_ptr<void, decltype(free)> program(made, free);
  const int failed = run(made, static_cast<int>(flags.size()), flags.data());
  std::string said = get(made, "nvrtcGetProgramLog", log_size, get_log);
  while (!said.empty() && said.back() == '\0') said.pop_back();
  if (failed != 0) {
    const std::size_t first = said.find_first_not_of("\n ");
    const std::string line =
        first == std::string::npos ? "no reason given" : said.substr(first, said.find('\n', first) - first);
    throw Error(MULTIRES_DEVICE, "NVRTC " + version() + " refuses the kernel: " + line);
  }
  return {get(made, "nvrtcGetCode", code_size, get_code), said};
}

std::unique_ptr<Nvrtc> find_nvrtc(int most, const std::vector<std::string>& more) {
  std::string newer;
  for (const std::string& path : candidates(more)) {
    std::unique_ptr<Nvrtc> found;
    try {
      found = std::make_unique<Nvrtc>(path);
    } catch (const Error&) {
      continue;
    }
    if (found->major() <= most) return found;
    if (newer.empty()) newer = found->version();
  }
  const std::string why =
      newer.empty() ? "it was not found"
                    : "only NVRTC " + newer + ", newer than the driver's CUDA " + std::to_string(most) + ", was found";
  throw Error(MULTIRES_DEVICE, "the kernel is compiled by NVRTC; " + why + ": " + kInstall);
}

}  // namespace cuda
}  // namespace v0
}  // namespace multires
