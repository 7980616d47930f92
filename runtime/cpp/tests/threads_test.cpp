// Threads that share one model, meant to run under the thread sanitizer:
//   threads_test WEIGHTS
// Each thread runs its own state while all threads create and free states and models. Exits 0 if every output equals,
// to the last bit, that of one thread alone.

#include <atomic>
#include <cstring>
#include <thread>

#include "testing.h"

namespace {

constexpr int kThreads = 4, kRounds = 3, kSteps = 60;

std::vector<float> outputs(const multires_model* model, int batch, unsigned seed) {
  const multires_info info = multires_model_info(model);
  const Inputs inputs = random_inputs(info, batch, kSteps, seed);
  const size_t row = static_cast<size_t>(batch) * static_cast<size_t>(info.d_output);
  std::vector<float> y(row * kSteps);
  multires_state* state = new_state(model, batch);
  for (int t = 0; t < kSteps; t += 4)
    CHECK(feed(state, info, inputs, batch, t, 4, y.data() + row * static_cast<size_t>(t)) == MULTIRES_OK);
  CHECK(multires_reset(state, -1) == MULTIRES_OK);
  multires_state_free(state);
  return y;
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 2);
  multires_model* shared = load_model(arguments[1]);
  const std::string whole = read_file(arguments[1]);
  std::vector<std::vector<float>> alone;
  for (int i = 0; i < kThreads; ++i) alone.push_back(outputs(shared, i + 1, static_cast<unsigned>(i)));

  std::atomic<int> ready{0}, differing{0};
  const auto work = [&](int i) {
    ++ready;
    while (ready < kThreads) std::this_thread::yield();  // all at once
    const auto same = [&](const multires_model* model) {
      const std::vector<float> y = outputs(model, i + 1, static_cast<unsigned>(i));
      const std::vector<float>& expected = alone[static_cast<size_t>(i)];
      if (std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) != 0) ++differing;
    };
    for (int round = 0; round < kRounds; ++round) {
      same(shared);
      multires_model* own = load_model(arguments[1]);
      same(own);
      multires_model_free(own);
      CHECK(multires_model_load_buffer(whole.data(), whole.size(), &own, nullptr, 0) == MULTIRES_OK);
      same(own);
      multires_model_free(own);
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  multires_model_free(shared);
  CHECK(differing == 0);
  std::puts("all threads agree");
  return 0;
}
