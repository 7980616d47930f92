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
        if (!header.emplace(std::move(name), object()).second) fail("a name occurs twice");
      } while (accept(','));
      expect('}');
    }
    skip_space();
    if (at_ != end_) fail("text follows its end");
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
      if (!object.emplace(std::move(name), value()).second) fail("a key occurs twice");
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
      // Exports write ASCII only, and error messages may quote these strings.
      if (c < 0x20 || c > 0x7e) fail("a string has a character that is not printable ASCII");
      if (c != '\\')
        text += c;
      else
        escaped(text);
    }
  }

  void escaped(std::string& text) {
    switch (next()) {
      case '"': text += '"'; return;
      case '\\': text += '\\'; return;
      case '/': text += '/'; return;
      case 'n': text += '\n'; return;
      case 't': text += '\t'; return;
      case 'u': append_utf8(text, code_point()); return;
      default: fail("an escape that is not supported");
    }
  }

  // After a backslash and a u: four hexadecimal digits, or a surrogate pair of two such escapes.
  uint32_t code_point() {
    const uint32_t first = hexadecimal();
    if (first >= 0xdc00 && first < 0xe000) fail("half a surrogate pair");
    if (first < 0xd800 || first >= 0xe000) return first;
    if (next() != '\\' || next() != 'u') fail("half a surrogate pair");
    const uint32_t second = hexadecimal();
    if (second < 0xdc00 || second >= 0xe000) fail("half a surrogate pair");
    return 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
  }

  uint32_t hexadecimal() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = next();
      const bool digit = c >= '0' && c <= '9', letter = (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
      if (!digit && !letter) fail("an escape that is not supported");
      value = value << 4 | static_cast<uint32_t>(digit ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
  }

  void append_utf8(std::string& text, uint32_t code) {
    if (code < 0x20 || (code >= 0x7f && code < 0xa0)) fail("a string has a control character");
    const auto put = [&](uint32_t byte) { text += static_cast<char>(byte); };
    const auto follow = [&](int shift) { put(0x80 | (code >> shift & 0x3f)); };
    if (code < 0x80) return put(code);
    if (code < 0x800) {
      put(0xc0 | code >> 6);
    } else {
      if (code < 0x10000) {
        put(0xe0 | code >> 12);
      } else {
        put(0xf0 | code >> 18);
        follow(12);
      }
      follow(6);
    }
    follow(0);
  }

  int64_t number() {
    skip_space();
    int64_t value = 0;
    int digits = 0;
    for (; at_ != end_ && *at_ >= '0' && *at_ <= '9'; ++at_) {
      if (++digits > 18) fail("a number is too large");
      value = value * 10 + (*at_ - '0');
    }
    if (digits == 0) fail("an integer is missing");
    return value;
  }

  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }

  char next() {
    if (at_ == end_) fail("it ends early");
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
    throw LoadError(MULTIRES_MALFORMED, "the header is not valid: " + what);
  }

  const char* at_;
  const char* end_;
};

}  // namespace

Header parse_header(const char* begin, const char* end) { return Parser(begin, end).header(); }

}  // namespace multires
