#include "header_parser.h"

#include <charconv>

#include "weights_file.h"

namespace multires {
namespace {

class Parser {
 public:
  Parser(const char* begin, const char* end) : at_(begin), end_(end) {}

  Header header() {
    Header header = object(&Parser::entry);
    skip_space();
    if (at_ != end_) fail("text follows its end");
    return header;
  }

 private:
  HeaderObject entry() { return object(&Parser::value); }

  template <typename Value>
  std::map<std::string, Value> object(Value (Parser::*value)()) {
    std::map<std::string, Value> object;
    list('{', '}', [&] {
      std::string name = string();
      expect(':');
      if (!object.emplace(std::move(name), (this->*value)()).second) fail("a name occurs twice");
    });
    return object;
  }

  HeaderValue value() {
    HeaderValue value;
    skip_space();
    const char first = at_ != end_ ? *at_ : '\0';
    if (first == '"') {
      value.is_text = true;
      value.text = string();
    } else if (first == '[') {
      list('[', ']', [&] { value.numbers.push_back(number()); });
    } else {
      value.numbers.push_back(number());
    }
    return value;
  }

  template <typename Element>
  void list(char open, char close, Element element) {
    expect(open);
    if (accept(close)) return;
    do element();
    while (accept(','));
    expect(close);
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
    if (end_ - at_ < 4) fail("it ends early");
    uint32_t value = 0;
    const char* const after = at_ + 4;
    at_ = std::from_chars(at_, after, value, 16).ptr;
    if (at_ != after) fail("an escape that is not supported");
    return value;
  }

  void append_utf8(std::string& text, uint32_t code) {
    const bool turns = (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);  // the text around
    if (code < 0x20 || (code >= 0x7f && code < 0xa0) || turns) fail("a string has a control character");
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;  // bytes after the first
    constexpr uint32_t kFirst[] = {0, 0xc0, 0xe0, 0xf0};
    text += static_cast<char>(kFirst[more] | code >> 6 * more);
    for (int i = more; i-- > 0;) text += static_cast<char>(0x80 | (code >> 6 * i & 0x3f));
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
