// The JSON of a safetensors header: an object of objects, whose values are strings, integers or arrays of
// integers. Anything else is an error. Strings are returned as UTF-8.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace multires {

struct HeaderValue {
  bool is_text = false;
  std::string text;
  std::vector<int64_t> numbers;
};

using HeaderObject = std::map<std::string, HeaderValue>;
using Header = std::map<std::string, HeaderObject>;

// Throws LoadError (MULTIRES_MALFORMED).
Header parse_header(const char* begin, const char* end);

}  // namespace multires
