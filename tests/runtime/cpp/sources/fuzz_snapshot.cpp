// libFuzzer: any bytes as a snapshot give an error that does not change the state, or a state that runs.
//   MULTIRES_FUZZ_WEIGHTS=weights.safetensors fuzz_snapshot CORPUS
// Random changes never pass the digests, so most mutations change the contents and repair the digest.

#include "digest.h"
#include "streams.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

constexpr int kBatch = 2, kWindow = 5, kSteps = 9;
constexpr size_t kHeader = 48, kPartsBytes = 32, kPartsDigest = 40;  // see snapshot.h

const Model& model() {
  static const char* const path = std::getenv("MULTIRES_FUZZ_WEIGHTS");
  CHECK(path);
  static const Model loaded(path);
  return loaded;
}

// A stream after some steps.
Stream stream_after(int steps) {
  const multires_info info = model().info();
  Stream stream(model(), kBatch, info.takes_window ? kWindow : 0);
  outputs(stream, random_inputs(info, kBatch, steps, 1), 0, steps);
  return stream;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  std::mt19937 random(seed);
  // An empty corpus begins with a valid snapshot.
  if (size < kHeader) {
    const std::vector<uint8_t> whole = stream_after(kSteps).save();
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
  Stream stream = stream_after(1);
  const std::vector<uint8_t> before = stream.save();
  if (multires_snapshot_load(stream.handle(), data, size) == MULTIRES_OK) {
    outputs(stream, random_inputs(model().info(), kBatch, 3, 2), 0, 3);
    CHECK(stream.reset(1) == MULTIRES_OK);
  } else {
    CHECK(stream.save() == before);  // a refused snapshot changes nothing
  }
  return 0;
}
