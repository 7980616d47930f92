// Threads that share one model, meant to run under the thread sanitizer:
//   threads_test WEIGHTS
// Each thread runs its own state while all threads create and free states and models. Exits 0 if every output equals,
// to the last bit, that of one thread alone.

#include <atomic>
#include <thread>

#include "streams.h"

namespace {

constexpr int kThreads = 4, kRounds = 3, kSteps = 60;

std::vector<float> in_chunks(const Model& model, int batch) {
  const Inputs inputs = random_inputs(model.info(), batch, kSteps, static_cast<unsigned>(batch));
  Stream stream(model, batch);
  std::vector<float> y;
  for (int t = 0; t < kSteps; t += 4) {
    const std::vector<float> chunk = outputs(stream, inputs, t, 4);
    y.insert(y.end(), chunk.begin(), chunk.end());
  }
  CHECK(stream.reset() == MULTIRES_OK);
  return y;
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 2);
  const Model shared(arguments[1]);
  const std::string whole = read_file(arguments[1]);
  std::vector<std::vector<float>> alone;
  for (int i = 0; i < kThreads; ++i) alone.push_back(in_chunks(shared, i + 1));

  std::atomic<int> ready{0}, differing{0};
  const auto work = [&](int i) {
    ++ready;
    while (ready < kThreads) std::this_thread::yield();  // all at once
    for (int round = 0; round < kRounds; ++round)
      for (const Model& model : {shared, Model(arguments[1]), Model(whole.data(), whole.size())})
        if (!same_bits(in_chunks(model, i + 1), alone[static_cast<size_t>(i)])) ++differing;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  CHECK(differing == 0);
  std::puts("all threads agree");
  return 0;
}
