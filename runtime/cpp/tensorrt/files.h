// Whole files.
#pragma once

#include <fstream>
#include <sstream>
#include <string>

namespace multires {
inline namespace v0 {
namespace tensorrt {

// The content of a file; empty for one that cannot be read, such as a folder.
inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();  // throws nothing, unlike an iterator
  return content.str();
}

}  // namespace tensorrt
}  // namespace v0
}  // namespace multires
