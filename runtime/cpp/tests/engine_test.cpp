// Checks of the C interface on a real weights file, meant to run under sanitizers:
//   engine_test WEIGHTS SCRATCH
// Steps and chunks agree to the last bit, rows are independent, steps allocate nothing, wrong arguments
// are refused, and no damage to the file does more than give an error. Exits 0 when all of it holds.

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "multires.h"

static std::atomic<long> allocations{0};

void* operator new(size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) {                                                      \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);   \
      std::exit(1);                                                          \
    }                                                                        \
  } while (0)

namespace {

struct Inputs {
  std::vector<float> x;
  std::vector<int64_t> tokens;
};

Inputs random_inputs(const multires_info& info, int batch, int steps, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> noise;
  Inputs inputs;
  const size_t rows = static_cast<size_t>(batch) * static_cast<size_t>(steps);
  for (size_t i = 0; i < rows * static_cast<size_t>(info.d_input); ++i) inputs.x.push_back(noise(random));
  if (info.n_tokens > 0)
    for (size_t i = 0; i < rows; ++i)
      inputs.tokens.push_back(static_cast<int64_t>(random() % static_cast<unsigned>(info.n_tokens)));
  return inputs;
}

multires_status feed(multires_state* state, const multires_info& info, const Inputs& inputs, int batch, int from, int steps,
                     float* y) {
  if (info.n_tokens > 0) return multires_run_tokens(state, inputs.tokens.data() + from * batch, steps, y);
  return multires_run(state, inputs.x.data() + from * batch * info.d_input, steps, y);
}

void check_streams(const multires_model* model, int batch) {
  const multires_info info = multires_model_info(model);
  constexpr int kSteps = 75;
  const size_t row = static_cast<size_t>(batch) * static_cast<size_t>(info.d_output);
  const Inputs inputs = random_inputs(info, batch, kSteps, 1);
  std::vector<float> whole(row * kSteps), pieces(row * kSteps);
  multires_state *a, *b;
  CHECK(multires_state_new(model, batch, MULTIRES_DEFAULT_WINDOW, &a, nullptr, 0) == MULTIRES_OK);
  CHECK(multires_state_new(model, batch, MULTIRES_DEFAULT_WINDOW, &b, nullptr, 0) == MULTIRES_OK);
  const long before = allocations;
  CHECK(feed(a, info, inputs, batch, 0, kSteps, whole.data()) == MULTIRES_OK);
  for (int t = 0, n = 1; t < kSteps; t += n, n = n % 7 + 1) {
    n = std::min(n, kSteps - t);
    CHECK(feed(b, info, inputs, batch, t, n, pieces.data() + row * static_cast<size_t>(t)) == MULTIRES_OK);
  }
  CHECK(multires_reset(b, batch - 1) == MULTIRES_OK);
  CHECK(allocations == before);
  CHECK(std::memcmp(whole.data(), pieces.data(), whole.size() * sizeof(float)) == 0);

  // The restarted row begins anew; the others go on as they would have.
  std::vector<float> on(row * kSteps), restarted(row * kSteps);
  CHECK(feed(a, info, inputs, batch, 0, kSteps, on.data()) == MULTIRES_OK);
  CHECK(feed(b, info, inputs, batch, 0, kSteps, restarted.data()) == MULTIRES_OK);
  for (size_t t = 0; t < kSteps; ++t)
    for (size_t i = 0; i < row; ++i) {
      const bool last = i >= row - static_cast<size_t>(info.d_output);
      CHECK(restarted[t * row + i] == (last ? whole : on)[t * row + i]);
    }

  // A state copied part by part goes on as the original does.
  CHECK(multires_reset(b, -1) == MULTIRES_OK);
  for (int32_t i = 0; i < multires_state_parts(a); ++i) {
    multires_part from, to;
    CHECK(multires_state_part(a, i, &from) == MULTIRES_OK && multires_state_part(b, i, &to) == MULTIRES_OK);
    CHECK(std::strcmp(from.name, to.name) == 0 && from.bytes == to.bytes);
    std::memcpy(to.data, from.data, from.bytes);
  }
  CHECK(multires_state_changed(b) == MULTIRES_OK);
  CHECK(feed(a, info, inputs, batch, 0, 9, on.data()) == MULTIRES_OK);
  CHECK(feed(b, info, inputs, batch, 0, 9, restarted.data()) == MULTIRES_OK);
  CHECK(std::memcmp(on.data(), restarted.data(), row * 9 * sizeof(float)) == 0);
  multires_state_free(a);
  multires_state_free(b);
}

void check_refusals(const multires_model* model) {
  const multires_info info = multires_model_info(model);
  multires_state* state;
  CHECK(multires_state_new(model, 0, MULTIRES_DEFAULT_WINDOW, &state, nullptr, 0) == MULTIRES_ARGUMENT);
  CHECK(multires_state_new(nullptr, 1, MULTIRES_DEFAULT_WINDOW, &state, nullptr, 0) == MULTIRES_ARGUMENT);
  CHECK(multires_state_new(model, 1, MULTIRES_DEFAULT_WINDOW, &state, nullptr, 0) == MULTIRES_OK);
  std::vector<float> y(static_cast<size_t>(info.d_output));
  CHECK(multires_step(state, nullptr, y.data()) == MULTIRES_ARGUMENT);
  CHECK(multires_step(nullptr, y.data(), y.data()) == MULTIRES_ARGUMENT);
  CHECK(multires_reset(state, 1) == MULTIRES_ARGUMENT);
  CHECK(multires_reset(state, -2) == MULTIRES_ARGUMENT);
  multires_part part;
  CHECK(multires_state_part(state, 99, &part) == MULTIRES_ARGUMENT);
  if (info.n_tokens > 0) {
    const int64_t wrong[] = {-1, info.n_tokens};
    for (const int64_t& token : wrong) CHECK(multires_step_tokens(state, &token, y.data()) == MULTIRES_ARGUMENT);
  }
  multires_state_free(state);
  multires_state_free(nullptr);
  multires_model_free(nullptr);
}

void check_damage(const std::string& weights, const std::string& scratch) {
  std::ifstream file(weights, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::mt19937 random(2);
  const size_t header = 8 + static_cast<unsigned char>(whole[0]) + 256 * static_cast<unsigned char>(whole[1]);
  for (int round = 0; round < 400; ++round) {
    std::string damaged = whole;
    for (unsigned n = random() % 4 + 1; n > 0; --n) {
      const size_t where = random() % (round % 8 ? header : whole.size());
      // Digits for digits reach further into the checks than noise does.
      damaged[where] = static_cast<char>(round % 2 ? '0' + random() % 10 : random());
    }
    if (round % 5 == 0) damaged.resize(random() % damaged.size());
    std::ofstream(scratch, std::ios::binary).write(damaged.data(), static_cast<std::streamsize>(damaged.size()));
    multires_model* model = nullptr;
    char message[200];
    const multires_status status = multires_model_load(scratch.c_str(), &model, message, sizeof message);
    CHECK((status == MULTIRES_OK) == (model != nullptr));
    CHECK((status == MULTIRES_OK) == (message[0] == '\0'));
    multires_state* state = nullptr;
    if (model && multires_state_new(model, 2, MULTIRES_DEFAULT_WINDOW, &state, nullptr, 0) == MULTIRES_OK) {
      const multires_info info = multires_model_info(model);
      const Inputs inputs = random_inputs(info, 2, 5, 3);
      std::vector<float> y(static_cast<size_t>(info.d_output) * 10);
      CHECK(feed(state, info, inputs, 2, 0, 5, y.data()) == MULTIRES_OK);
    }
    multires_state_free(state);
    multires_model_free(model);
  }
}

}  // namespace

// What holds of every network; the exact figures are compared with the configuration's from Python.
void check_cost(const multires_model* model, const multires_info& info) {
  const multires_cost cost = multires_model_cost(model);
  const int64_t d = info.d_model, row = static_cast<int64_t>(sizeof(float)) * info.n_layers * d;
  CHECK(cost.multiply_adds > 2 * d * d * info.n_layers + d * info.d_output);
  CHECK(cost.weight_bytes >= static_cast<int64_t>(sizeof(float)) * d * (2 * d * info.n_layers + info.d_output));
  CHECK(cost.tap_bytes >= info.depth * (info.kernel_size - 1) * row);
  CHECK(cost.push_bytes == info.depth * row);
  CHECK(multires_model_cost(nullptr).multiply_adds == 0);
}

int main(int count, char** arguments) {
  CHECK(count == 3);
  multires_model* model;
  char message[300];
  CHECK(multires_model_load("/nowhere", &model, message, sizeof message) == MULTIRES_IO && message[0]);
  if (multires_model_load(arguments[1], &model, message, sizeof message) != MULTIRES_OK) {
    std::fprintf(stderr, "%s\n", message);
    return 1;
  }
  for (int batch : {1, 3, 32, 33}) check_streams(model, batch);
  check_refusals(model);
  check_cost(model, multires_model_info(model));
  multires_model_free(model);
  check_damage(arguments[1], arguments[2]);
  std::puts("all checks passed");
  return 0;
}
