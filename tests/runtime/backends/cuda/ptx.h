// What the instructions of PTX do, for the C++ that ptx.py writes of a module. The name of a function is that of the
// instruction without its type, which is the parameter of the template: an instruction that has no function here, or
// none of its type, does not compile. The threads of a block are fibers, which run in an order that a seed draws.
#pragma once

#include <cfenv>
#include <concepts>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "host.h"

#define EXPORTED __attribute__((visibility("default")))

using pred = bool;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using b16 = u16;
using b32 = u32;
using b64 = u64;
using f32 = float;
struct f16 {
  u16 bits;
};

template <typename T>
concept Integer = std::integral<T> && !std::same_as<T, pred>;
template <typename T>
concept Number = Integer<T> || std::same_as<T, f32>;
template <typename T>
concept Bits = std::unsigned_integral<T>;  // a predicate too

// The launch that runs. The line is that of the instruction which runs.
constexpr int kMostJumps = 10'000'000;  // it would not end
static int line, jumps, grid_x, block_x;
alignas(16) static unsigned char parameters[4096];
extern "C" {
EXPORTED bool (*multires_owns)(const void*, size_t);  // whether the driver has allocated so many bytes; set by it
EXPORTED int multires_change;
EXPORTED extern unsigned char multires_seen[];  // 1 for each line of the text that has run
EXPORTED extern const char* const multires_kernels[];
}

inline void refuse_if(bool wrong, const char* why) {
  if (wrong) Fibers::self().refuse(why);
}
inline void jumped() { refuse_if(++jumps > kMostJumps, "it does not end"); }

template <typename T, typename Register>
concept Fits = std::same_as<T, pred> == std::same_as<Register, pred> && sizeof(T) <= sizeof(Register);
// A register, or a number, as a value of a type that may be smaller: its low bytes.
template <typename T, typename Register>
  requires Fits<T, Register>
T as(Register from) {
  T value;
  std::memcpy(&value, &from, sizeof value);
  return value;
}
// Writes a register. A smaller integer is extended to all of it, by its sign.
template <typename Register, typename T>
  requires Fits<T, Register>
void put(Register& to, T value) {
  if constexpr (Integer<T> && Integer<Register>)
    to = static_cast<Register>(value);
  else
    std::memcpy(&to, &value, sizeof value);
}
// Values that nobody has written are NaN.
template <typename T>
void spoil(T& memory) {
  std::memset(&memory, 255, sizeof memory);
}

// State spaces.
struct Array {
  const void* first;
  size_t size;
};
struct Global {
  bool has(const unsigned char* address, size_t size) const { return multires_owns(address, size); }
};
constexpr Global space_global;
template <size_t count>
struct Arrays {
  Array arrays[count];
  bool has(const unsigned char* address, size_t size) const {
    return std::any_of(arrays, arrays + count, [=](const Array& array) {
      const auto* first = static_cast<const unsigned char*>(array.first);
      return address >= first && address + size <= first + array.size;
    });
  }
};
template <typename... More>
Arrays(More...) -> Arrays<sizeof...(More)>;

template <typename T, size_t count, typename Space>
T* cells(const Space& space, u64 address) {
  constexpr size_t size = sizeof(T) * count;
  refuse_if(address % size, "an address that is not a multiple of the size");
  refuse_if(!space.has(reinterpret_cast<unsigned char*>(address), size), "an address outside of all allocations");
  return reinterpret_cast<T*>(address);
}

// What threads do together.
inline void bar_sync() { Fibers::self().wait(false, line); }
// Each thread gets the value of that of its warp whose number differs in the bits of the mask.
inline void shfl_bfly(b32& to, pred& found, b32 value, u32 mask, u32 last, u32 members) {
  static b32 lanes[1024];
  refuse_if(last != kWarp - 1 || members != ~0u || mask >= kWarp, "only whole warps");
  lanes[thread_index()] = value;
  Fibers::self().wait(true, line);
  const b32 other = lanes[static_cast<u32>(thread_index()) ^ mask];
  Fibers::self().wait(true, line);
  to = other;
  found = true;
}

// What each thread computes. All results but those of 2^x are exact, or rounded once.
#define OP(Kind, name, ...) \
  template <Kind T>         \
  T op_##name(__VA_ARGS__)
OP(Number, add, T a, T b) { return a + b; }
OP(Number, sub, T a, T b) { return a - b; }
OP(Number, neg, T a) { return -a; }
OP(Number, abs, T a) { return std::abs(a); }
OP(std::floating_point, mul, T a, T b) { return a * b; }
OP(std::floating_point, fma_rn, T a, T b, T c) { return std::fma(a, b, c); }
OP(std::floating_point, fma_rm, T a, T b, T c) {
  const volatile T x = a, y = b, z = c;
  std::fesetround(FE_DOWNWARD);
  const volatile T result = std::fma(x, y, z);
  std::fesetround(FE_TONEAREST);
  return result;
}
OP(std::floating_point, div_rn, T a, T b) { return a / b; }
OP(std::floating_point, rcp_rn, T a) { return 1 / a; }
OP(std::floating_point, sqrt_rn, T a) { return std::sqrt(a); }
OP(std::floating_point, copysign, T sign, T a) { return std::copysign(a, sign); }
OP(std::floating_point, ex2_approx_ftz, T a) { return std::exp2(a); }
OP(std::floating_point, min, T a, T b) { return std::fmin(a, b); }  // of a number and none, the number
OP(std::floating_point, max, T a, T b) { return std::fmax(a, b); }
OP(Integer, min, T a, T b) { return std::min(a, b); }
OP(Integer, max, T a, T b) { return std::max(a, b); }
OP(Integer, mul_lo, T a, T b) { return a * b; }
OP(Integer, mad_lo, T a, T b, T c) { return a * b + c; }
OP(Integer, mul_hi, T a, T b) {
  using Wide = std::conditional_t<std::signed_integral<T>, __int128, unsigned __int128>;
  return static_cast<T>(Wide{a} * b >> 8 * sizeof(T));
}
OP(Integer, rem, T a, T b) { return refuse_if(b == 0, "a division by 0"), a % b; }
OP(Bits, and, T a, T b) { return a & b; }
OP(Bits, or, T a, T b) { return a | b; }
OP(Bits, xor, T a, T b) { return a ^ b; }
OP(Bits, not, T a) { return std::same_as<T, pred> ? !a : ~a; }
OP(Integer, shl, T a, u32 by) { return by < 8 * sizeof(T) ? a << by : 0; }
OP(Integer, shr, T a, u32 by) { return by < 8 * sizeof(T) ? a >> by : a < 0 ? -1 : 0; }
OP(typename, mov, T a) { return a; }
OP(typename, cvta_to_global, T a) { return a; }  // the addresses of all spaces differ
OP(typename, selp, T a, T b, pred which) { return which ? a : b; }
OP(std::same_as<s32>, dp4a_s32, T a, T b, T c) { return dot(a, b, c); }
template <Integer T>
auto op_mul_wide(T a, T b) {
  return std::conditional_t<std::signed_integral<T>, s64, u64>{a} * b;
}

// Comparisons. Those ending in u also hold if a value is NaN, and ne does not, unlike that of C++.
#define COMPARE(name, test)       \
  template <Number T>             \
  pred op_setp_##name(T a, T b) { \
    return test;                  \
  }
COMPARE(eq, a == b)
COMPARE(ne, a<b || a> b)
COMPARE(lt, a < b)
COMPARE(le, a <= b)
COMPARE(gt, a > b)
COMPARE(ge, a >= b)
COMPARE(ltu, !(a >= b))
COMPARE(leu, !(a > b))
COMPARE(gtu, !(a <= b))
COMPARE(geu, !(a < b))
COMPARE(equ, !(a < b || a > b))
COMPARE(neu, !(a == b))
COMPARE(nan, std::isnan(a) || std::isnan(b))

// Conversions, by their rounding.
#define CONVERT(rounding, To, From) \
  template <To Result, From T>      \
  Result op_cvt##rounding(T a)
CONVERT(, Integer, Integer) { return static_cast<Result>(a); }
CONVERT(, std::same_as<f32>, std::same_as<f16>) { return float_of_half(a.bits); }
CONVERT(_rn, std::same_as<f32>, Integer) { return static_cast<f32>(a); }
CONVERT(_rn, std::same_as<f16>, std::same_as<f32>) { return {half_bits(a)}; }
CONVERT(_rni, std::same_as<s32>, std::same_as<f32>) {
  return std::isnan(a) ? 0 : static_cast<s32>(std::clamp(std::nearbyint(double{a}), -0x1p31, 0x1p31 - 1));
}
CONVERT(_sat, std::same_as<f32>, std::same_as<f32>) { return std::isnan(a) ? 0 : std::clamp(a, 0.f, 1.f); }

// The module, as libcuda.cpp takes it.
struct Parameter {
  size_t offset, size;
};
struct Entry {
  const char* name;
  void (*run)();
  int most_threads;
  std::vector<Parameter> parameters;
};
extern const std::vector<Entry> entries;
template <size_t size>
auto& parameter(size_t offset) {
  return reinterpret_cast<unsigned char (&)[size]>(parameters[offset]);
}

struct Launch {
  const Entry* entry;
  unsigned char parameters[sizeof ::parameters];
};

extern "C" {
EXPORTED void multires_release(Launch* launch) { delete launch; }

EXPORTED Launch* multires_bind(const char* kernel, void** given) {
  const auto is_it = [kernel](const Entry& entry) { return std::strcmp(entry.name, kernel) == 0; };
  auto* launch = new Launch{&*std::find_if(entries.begin(), entries.end(), is_it), {}};
  for (const auto& [offset, size] : launch->entry->parameters) std::memcpy(launch->parameters + offset, *given++, size);
  return launch;
}

EXPORTED const char* multires_run(const Launch* launch, int x, int y, int threads, unsigned seed) {
  static std::string why;
  line = jumps = 0, grid_x = x, block_x = threads;
  std::memcpy(parameters, launch->parameters, sizeof parameters);
  if (threads % kWarp || threads > launch->entry->most_threads) return "so many threads in a block are not possible";
  try {
    seed_order(seed);
    run_grid(x * y, threads, launch->entry->run);
  } catch (const std::runtime_error& error) {
    return why = "line " + std::to_string(line) + ": " + error.what(), why.c_str();
  }
  return nullptr;
}
}
