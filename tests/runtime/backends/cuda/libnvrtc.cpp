// NVRTC without a GPU, for the package to load: it compiles the step kernel by the C++ compiler of this machine, into
// the library that libcuda.cpp takes for machine code and for PTX. HOST_FLAGS in the environment are more options of
// the compiler.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace {

namespace fs = std::filesystem;

struct Program {
  fs::path folder;
  std::string code, log;
};

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

int size_of(const std::string& text, size_t* size) { return *size = text.size() + 1, 0; }

int copy(const std::string& text, char* to) { return text.copy(to, text.size()), to[text.size()] = 0, 0; }

}  // namespace

extern "C" {
const char* nvrtcGetErrorString(int) { return "of the fake compiler"; }
int nvrtcVersion(int* major, int* minor) { return *major = 12, *minor = 0, 0; }
int nvrtcGetNumSupportedArchs(int* count) { return *count = 1, 0; }
int nvrtcGetSupportedArchs(int* known) { return *known = 87, 0; }

int nvrtcCreateProgram(Program** program, const char* source, const char* name, int count, const char** headers,
                       const char** names) {
  std::string folder = (fs::temp_directory_path() / "nvrtc-XXXXXX").string();
  if (!mkdtemp(folder.data())) return 1;
  *program = new Program{folder, {}, {}};
  std::ofstream((*program)->folder / name) << source;
  for (int i = 0; i < count; ++i) std::ofstream((*program)->folder / names[i]) << headers[i];
  std::ofstream((*program)->folder / "platform.h") << "#include \"host.h\"\n";
  return 0;
}

int nvrtcCompileProgram(Program* program, int, const char**) {
  const fs::path folder = program->folder, output = folder / "kernel", said = folder / "log";
  const char* more = std::getenv("HOST_FLAGS");
  const std::string command = HOST_COMPILER " -shared -fPIC " + std::string(more ? more : "") + " -I" +
                              folder.string() + " -o " + output.string() + " 2> " + said.string();
  const int failed = std::system(command.c_str());
  program->log = read(said), program->code = read(output);
  return failed ? 6 : 0;
}

int nvrtcGetProgramLogSize(Program* program, size_t* size) { return size_of(program->log, size); }
int nvrtcGetProgramLog(Program* program, char* to) { return copy(program->log, to); }
int nvrtcGetCUBINSize(Program* program, size_t* size) { return size_of(program->code, size); }
int nvrtcGetCUBIN(Program* program, char* to) { return copy(program->code, to); }
// A text ends with a line: the zeros at the end of the library are not taken for the end of a string.
int nvrtcGetPTXSize(Program* program, size_t* size) { return size_of(program->code + "\n", size); }
int nvrtcGetPTX(Program* program, char* to) { return copy(program->code + "\n", to); }
int nvrtcDestroyProgram(Program** program) {
  fs::remove_all((*program)->folder);
  delete *program;
  return 0;
}
}
