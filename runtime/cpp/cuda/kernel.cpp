#include "kernel.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "digest.h"
#include "multires.hpp"
#include "sources.h"
#include "weights_file.h"

namespace multires {
inline namespace v0 {
namespace cuda {
namespace {

constexpr int kOldest = 75;  // the compute capability that PTX is for: what runs there, runs on all later ones
constexpr std::size_t kMostCode = std::size_t{1} << 26;  // bytes of a compiled kernel

std::string hex(uint64_t value) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value));
  return digits;
}

// Of the size too: zeros at the end do not change a digest.
uint64_t digest_of(const std::string& text, uint64_t so_far = kDigestStart) {
  const uint64_t size = text.size();
  return digest(text.data(), text.size(), digest(&size, sizeof size, so_far));
}

std::vector<std::string> options_for(const char* kind, int architecture) {
  return {"--std=c++17", "--gpu-architecture=" + std::string(kind) + "_" + std::to_string(architecture)};
}

// A name for what these compile to. `compiler` is its version, if it matters.
std::string key_of(const Plan& plan, const std::vector<std::string>& options, const std::string& compiler) {
  uint64_t key = kDigestStart;
  for (const auto& [name, text] : sources_of(plan)) key = digest_of(text, digest_of(name, key));
  for (const std::string& option : options) key = digest_of(option, key);
  return hex(digest_of(compiler, key));
}

std::string name_of_ptx(const Plan& plan) {
  return "cuda." + key_of(plan, options_for("compute", kOldest), "") + ".ptx";
}

Compiled compile(const Plan& plan, const Nvrtc& nvrtc, const std::vector<std::string>& options, bool ptx) {
  std::map<std::string, std::string> headers = sources_of(plan);
  const std::string source = headers["step.cu"];
  headers.erase("step.cu");
  return nvrtc.compile(source, headers, options, ptx);
}

// The content of a regular file, empty if it cannot be read.
std::string read_file(const std::string& path) {
  try {
    const FileContent file(path);
    if (file.size > kMostCode) return "";
    return {reinterpret_cast<const char*>(file.data.get()), file.size};
  } catch (const LoadError&) {
    return "";
  }
}

// Content behind a line that ends with its digest; empty if it is damaged.
std::string checked(const std::string& content) {
  const std::size_t end = content.find('\n');
  if (end == std::string::npos || end < 16) return "";
  std::string rest = content.substr(end + 1);
  return content.compare(end - 16, 16, hex(digest_of(rest))) == 0 ? rest : "";
}

std::string with_digest(const std::string& before, const std::string& content) {
  return before + hex(digest_of(content)) + "\n" + content;
}

// The folder of the kernels of earlier starts; empty for a user without a home.
std::string cache_folder() {
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (cache && *cache) return std::string(cache) + "/multires-edge/kernels";
  return home && *home ? std::string(home) + "/.cache/multires-edge/kernels" : "";
}

// Makes a folder and those above it.
bool make_folder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return true;
  const std::size_t last = path.rfind('/');
  return errno == ENOENT && last != std::string::npos && last > 0 && make_folder(path.substr(0, last)) &&
         mkdir(path.c_str(), 0700) == 0;
}

// Writes a file for the next start, whole or not at all. A machine without a place for it compiles again.
void keep(const std::string& folder, const std::string& path, const std::string& content) {
  if (folder.empty() || !make_folder(folder)) return;
  std::string temporary = folder + "/.XXXXXX";
  const int file = mkstemp(temporary.data());
  if (file < 0) return;
  std::size_t done = 0;
  while (done < content.size()) {
    const ssize_t count = write(file, content.data() + done, content.size() - done);
    if (count <= 0 && errno != EINTR) break;
    if (count > 0) done += static_cast<std::size_t>(count);
  }
  const bool whole = close(file) == 0 && done == content.size();
  if (!whole || std::rename(temporary.c_str(), path.c_str()) != 0) unlink(temporary.c_str());
}

}  // namespace

std::map<std::string, std::string> sources_of(const Plan& plan) {
  std::map<std::string, std::string> sources;
  for (const SourceFile& file : kSources)
    sources[std::strcmp(file.name, "gpu.h") == 0 ? "platform.h" : file.name] = file.text;
  sources["network.h"] = plan.header;
  return sources;
}

std::string compile_kernel(const Plan& plan, const Nvrtc& nvrtc, int capability) {
  int newest = 0;
  for (const int known : nvrtc.architectures())
    if (known <= capability) newest = std::max(newest, known);
  if (newest == 0)
    throw Error(MULTIRES_DEVICE, "NVRTC " + nvrtc.version() + " does not know compute capability " +
                                     std::to_string(capability / 10) + "." + std::to_string(capability % 10) +
                                     ": install an older NVRTC, or use the native engine");
  const bool ptx = newest != capability;
  const std::vector<std::string> options = options_for(ptx ? "compute" : "sm", newest);
  const std::string folder = cache_folder();
  const std::string path = folder + "/" + key_of(plan, options, nvrtc.version()) + ".bin";
  std::string code = folder.empty() ? "" : checked(read_file(path));
  if (!code.empty()) return code;
  code = compile(plan, nvrtc, options, ptx).code;
  keep(folder, path, with_digest("", code));
  return code;
}

PtxFile compile_ptx(const Plan& plan, const Nvrtc& nvrtc) {
  std::string ptx = compile(plan, nvrtc, options_for("compute", kOldest), true).code;
  while (!ptx.empty() && ptx.back() == '\0') ptx.pop_back();
  return {name_of_ptx(plan), with_digest("// multires-edge, by NVRTC " + nvrtc.version() + ", digest ", ptx)};
}

std::string kernel_for(const Plan& plan, int capability, const std::string& engines,
                       const std::function<std::unique_ptr<Nvrtc>()>& find) {
  try {
    return compile_kernel(plan, *find(), capability);
  } catch (const Error& error) {
    const std::string path = engines + "/" + name_of_ptx(plan);
    const std::string content = engines.empty() ? "" : read_file(path);
    if (content.empty()) throw;
    const std::string ptx = checked(content);
    if (ptx.empty())
      throw Error(MULTIRES_DEVICE, path + ": is damaged; build it again: multires-edge build BUNDLE --target cuda");
    return ptx + '\0';
  }
}

}  // namespace cuda
}  // namespace v0
}  // namespace multires
