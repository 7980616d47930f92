#include "header_parser.h"

#include "weights_file.h"

namespace multires {
namespace {

class Parser {
 public:
  Parser(const char* begin, const char* end) : at_(begin), end_(end) {}

  Header header() {
    Header header;
    expect('{');
    if (!accept('}')) {
      do {
        std::string name = string();
        expect(':');
        if (!header.emplace(std::move(name), object()).second) fail("a name stands twice");
      } while (accept(','));
      expect('}');
    }
    skip_space();
    if (at_ != end_) fail("something follows the header");
    return header;
  }

 private:
  HeaderObject object() {
    HeaderObject object;
    expect('{');
    if (accept('}')) return object;
    do {
      std::string name = string();
      expect(':');
      if (!object.emplace(std::move(name), value()).second) fail("a key stands twice");
    } while (accept(','));
    expect('}');
    return object;
  }

  HeaderValue value() {
    HeaderValue value;
    skip_space();
    if (at_ != end_ && *at_ == '"') {
      value.is_text = true;
      value.text = string();
    } else if (accept('[')) {
      if (accept(']')) return value;
      do value.numbers.push_back(number());
      while (accept(','));
      expect(']');
    } else {
      value.numbers.push_back(number());
    }
    return value;
  }

  std::string string() {
    expect('"');
    std::string text;
    while (true) {
      const char c = next();
      if (c == '"') return text;
      // Nothing that this engine writes needs more than ASCII, and messages may quote what stands here.
      if (c < 0x20 || c > 0x7e) fail("a string holds a character that is not printable ASCII");
      text += c == '\\' ? escaped() : c;
    }
  }

  char escaped() {
    switch (next()) {
      case '"': return '"';
      case '\\': return '\\';
      case '/': return '/';
      case 'n': return '\n';
      case 't': return '\t';
      default: fail("an escape that is not supported");
    }
  }

  int64_t number() {
    skip_space();
    int64_t value = 0;
    int digits = 0;
    for (; at_ != end_ && *at_ >= '0' && *at_ <= '9'; ++at_) {
      if (++digits > 18) fail("a number is too large");
      value = value * 10 + (*at_ - '0');
    }
    if (digits == 0) fail("a whole number is missing");
    return value;
  }

  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  char next() {
    if (at_ == end_) fail("it ends too early");
    return *at_++;
  }

  bool accept(char wanted) {
    skip_space();
    if (at_ == end_ || *at_ != wanted) return false;
    ++at_;
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) fail(std::string("'") + wanted + "' is missing");
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw LoadError(MULTIRES_MALFORMED, "the header is not that of a weights file: " + what);
  }

  const char* at_;
  const char* end_;
};

}  // namespace

Header parse_header(const char* begin, const char* end) { return Parser(begin, end).header(); }

}  // namespace multires
