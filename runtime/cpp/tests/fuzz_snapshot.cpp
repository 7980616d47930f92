// libFuzzer: any bytes as a snapshot give an error that does not change the state, or a state that runs.
//   MULTIRES_FUZZ_WEIGHTS=weights.safetensors fuzz_snapshot CORPUS
// Random changes never pass the digests, so most mutations change the contents and repair the digest.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "digest.h"
#include "multires.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

constexpr int kBatch = 2, kWindow = 5, kSteps = 9;
constexpr size_t kHeader = 48, kPartsBytes = 32, kPartsDigest = 40;  // see snapshot.h

const multires_model* g_model;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

struct Free {
  void operator()(multires_state* state) const { multires_state_free(state); }
};

std::unique_ptr<multires_state, Free> new_state() {
  const int window = multires_model_info(g_model).autoregressive ? 0 : kWindow;
  multires_state* state;
  if (multires_state_new(g_model, kBatch, window, &state, nullptr, 0) != MULTIRES_OK) fail("no state");
  return std::unique_ptr<multires_state, Free>(state);
}

void step(multires_state* state) {
  const multires_info info = multires_model_info(g_model);
  std::vector<float> x(static_cast<size_t>(kBatch * info.d_input), 0.5f),
      y(static_cast<size_t>(kBatch * info.d_output));
  const std::vector<int64_t> tokens(kBatch);
  const multires_status status =
      info.n_tokens ? multires_step_tokens(state, tokens.data(), y.data()) : multires_step(state, x.data(), y.data());
  if (status != MULTIRES_OK) fail("a step failed");
}

std::vector<uint8_t> save(const multires_state* state) {
  std::vector<uint8_t> bytes(multires_snapshot_size(state));
  if (multires_snapshot_save(state, bytes.data(), bytes.size()) != MULTIRES_OK) fail("cannot save");
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* path = std::getenv("MULTIRES_FUZZ_WEIGHTS");
  multires_model* model;
  char why[300];
  if (!path) fail("MULTIRES_FUZZ_WEIGHTS does not name a weights file");
  if (multires_model_load(path, &model, why, sizeof why) != MULTIRES_OK) fail(why);
  g_model = model;
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  std::mt19937 random(seed);
  // An empty corpus begins with a valid snapshot.
  if (size < kHeader) {
    const auto state = new_state();
    for (int t = 0; t < kSteps; ++t) step(state.get());
    const std::vector<uint8_t> whole = save(state.get());
    if (whole.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
    std::memcpy(data, whole.data(), whole.size());
    return whole.size();
  }
  if (random() % 4 == 0) return LLVMFuzzerMutate(data, size, max_size);
  static constexpr uint64_t kWords[] = {0,
                                        1,
                                        0x3fffffffffffffff,
                                        0x4000000000000000,
                                        0x4000000000000001,
                                        0xffffffffffffffff,
                                        0x7f8000007f800000,
                                        0x7f7fffffff7fffff,
                                        0x8000000000000000};
  for (unsigned n = random() % 6 + 1; n > 0 && size >= kHeader + sizeof(uint64_t); --n) {
    const uint64_t word = random() % 2 ? kWords[random() % (sizeof kWords / sizeof *kWords)] : random();
    std::memcpy(data + kHeader + random() % (size - kHeader - sizeof word + 1), &word, sizeof word);
  }
  const uint64_t parts = size - kHeader, digest = multires::digest(data + kHeader, parts);
  if (random() % 8) std::memcpy(data + kPartsBytes, &parts, sizeof parts);
  std::memcpy(data + kPartsDigest, &digest, sizeof digest);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto state = new_state();
  step(state.get());
  const std::vector<uint8_t> before = save(state.get());
  if (multires_snapshot_load(state.get(), data, size) == MULTIRES_OK) {
    for (int t = 0; t < 3; ++t) step(state.get());
    if (multires_reset(state.get(), 1) != MULTIRES_OK) fail("cannot reset");
  } else if (save(state.get()) != before) {
    fail("a refused snapshot changed the state");
  }
  return 0;
}
