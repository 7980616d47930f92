// Checks of the C interface on a real weights file, meant to run under sanitizers:
//   engine_test WEIGHTS SCRATCH [ROUNDS]
// Steps and chunks agree to the last bit, rows are independent, a file and a buffer give the same model, rounding modes
// change nothing, wrong arguments are refused, and a damaged file is an error. ROUNDS is the number of damaged files.
// Exits 0 on success.

#include <algorithm>
#include <cfenv>
#include <cstring>

#include "testing.h"

namespace {

constexpr int kSteps = 75;

void check_streams(const multires_model* model, int batch) {
  const multires_info info = multires_model_info(model);
  const size_t row = static_cast<size_t>(batch) * static_cast<size_t>(info.d_output);
  const Inputs inputs = random_inputs(info, batch, kSteps, 1);
  std::vector<float> whole(row * kSteps), pieces(row * kSteps);
  multires_state *a = new_state(model, batch), *b = new_state(model, batch);
  CHECK(feed(a, info, inputs, batch, 0, kSteps, whole.data()) == MULTIRES_OK);
  for (int t = 0, n = 1; t < kSteps; t += n, n = n % 7 + 1) {
    n = std::min(n, kSteps - t);
    CHECK(feed(b, info, inputs, batch, t, n, pieces.data() + row * static_cast<size_t>(t)) == MULTIRES_OK);
  }
  CHECK(multires_reset(b, batch - 1) == MULTIRES_OK);
  CHECK(std::memcmp(whole.data(), pieces.data(), whole.size() * sizeof(float)) == 0);

  // The restarted row begins again; the others continue unchanged.
  std::vector<float> on(row * kSteps), restarted(row * kSteps);
  CHECK(feed(a, info, inputs, batch, 0, kSteps, on.data()) == MULTIRES_OK);
  CHECK(feed(b, info, inputs, batch, 0, kSteps, restarted.data()) == MULTIRES_OK);
  for (size_t t = 0; t < kSteps; ++t)
    for (size_t i = 0; i < row; ++i) {
      const bool last = i >= row - static_cast<size_t>(info.d_output);
      CHECK(restarted[t * row + i] == (last ? whole : on)[t * row + i]);
    }

  // A state that is copied part by part continues like the original.
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

// In any rounding mode the bits are the same, and the mode is restored.
void check_rounding(const char* path) {
  std::vector<float> expected;
  for (const int mode : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    CHECK(std::fesetround(mode) == 0);
    multires_model* model = load_model(path);
    CHECK(std::fegetround() == mode);
    const multires_info info = multires_model_info(model);
    std::fesetround(FE_TONEAREST);
    const Inputs inputs = random_inputs(info, 2, kSteps, 3);
    std::vector<float> y(2 * kSteps * static_cast<size_t>(info.d_output));
    std::fesetround(mode);
    multires_state* state = new_state(model, 2);
    CHECK(feed(state, info, inputs, 2, 0, kSteps, y.data()) == MULTIRES_OK);
    CHECK(std::fegetround() == mode);
    if (mode == FE_TONEAREST) expected = y;
    CHECK(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)) == 0);
    multires_state_free(state);
    multires_model_free(model);
  }
  std::fesetround(FE_TONEAREST);
}

void check_refusals(const multires_model* model) {
  const multires_info info = multires_model_info(model);
  multires_state* state;
  CHECK(multires_state_new(model, 0, MULTIRES_DEFAULT_WINDOW, &state, nullptr, 0) == MULTIRES_ARGUMENT);
  CHECK(multires_state_new(nullptr, 1, MULTIRES_DEFAULT_WINDOW, &state, nullptr, 0) == MULTIRES_ARGUMENT);
  state = new_state(model, 1);
  std::vector<float> y(static_cast<size_t>(info.d_output));
  CHECK(multires_step(state, nullptr, y.data()) == MULTIRES_ARGUMENT);
  CHECK(multires_step(nullptr, y.data(), y.data()) == MULTIRES_ARGUMENT);
  CHECK(multires_run(state, y.data(), -1, y.data()) == MULTIRES_ARGUMENT);
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

// A model from memory, at any address and freed afterwards, equals the model from the file.
void check_buffer(const multires_model* model, const std::string& whole) {
  const multires_info info = multires_model_info(model);
  const Inputs inputs = random_inputs(info, 1, 40, 4);
  const size_t values = static_cast<size_t>(info.d_output) * 40;
  std::vector<float> expected(values), got(values);
  multires_state* state = new_state(model, 1);
  CHECK(feed(state, info, inputs, 1, 0, 40, expected.data()) == MULTIRES_OK);
  multires_state_free(state);
  multires_model* loaded = nullptr;
  for (size_t shift = 0; shift < 4; ++shift) {
    {
      const std::string buffer = std::string(shift, ' ') + whole;
      CHECK(multires_model_load_buffer(buffer.data() + shift, whole.size(), &loaded, nullptr, 0) == MULTIRES_OK);
    }
    state = new_state(loaded, 1);
    CHECK(feed(state, info, inputs, 1, 0, 40, got.data()) == MULTIRES_OK);
    CHECK(std::memcmp(expected.data(), got.data(), values * sizeof(float)) == 0);
    multires_state_free(state);
    multires_model_free(loaded);
  }
  char why[100] = "";
  for (size_t size = 0; size < 16; ++size) {
    CHECK(multires_model_load_buffer(whole.data(), size, &loaded, why, sizeof why) == MULTIRES_MALFORMED);
    CHECK(!loaded && why[0]);
  }
  CHECK(multires_model_load_buffer(nullptr, 0, &loaded, nullptr, 0) == MULTIRES_ARGUMENT);
  CHECK(multires_model_load_buffer(whole.data(), whole.size(), nullptr, nullptr, 0) == MULTIRES_ARGUMENT);
}

void check_damage(const std::string& whole, const std::string& scratch, int rounds) {
  std::mt19937 random(2);
  const size_t header = 8 + static_cast<unsigned char>(whole[0]) + 256 * static_cast<unsigned char>(whole[1]);
  for (int round = 0; round < rounds; ++round) {
    std::string damaged = whole;
    for (unsigned n = random() % 4 + 1; n > 0; --n) {
      const size_t where = random() % (round % 8 ? header : whole.size());
      // Replacing digits by digits reaches more checks than noise does.
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

// Bounds for every network; Python tests compare the exact figures with the configuration.
void check_cost(const multires_model* model, const multires_info& info) {
  const multires_cost cost = multires_model_cost(model);
  const std::string precision = multires_model_metadata(model, "precision");
  const std::string queues = multires_model_metadata(model, "queues");
  const int64_t d = info.d_model, row = (queues == "int8" ? 1 : queues == "float16" ? 2 : 4) * info.n_layers * d;
  const int64_t convolutions = (info.autoregressive ? 3 : 2) * d * d * info.n_layers, head = d * info.d_output;
  const int64_t each = precision == "fp32" ? 4 : precision == "fp16" ? 2 : 1;
  CHECK(cost.multiply_adds + cost.int8_multiply_adds > convolutions + head);
  CHECK(cost.int8_multiply_adds == (precision == "int8" ? convolutions : 0));
  CHECK(cost.weight_bytes >= each * convolutions + 4 * head);
  CHECK(cost.tap_bytes >= info.depth * (info.kernel_size - 1) * row);
  CHECK(cost.push_bytes == info.depth * row);
  CHECK(multires_model_cost(nullptr).multiply_adds == 0);
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 3 || count == 4);
  multires_model* model;
  char message[300];
  CHECK(multires_model_load("/nowhere", &model, message, sizeof message) == MULTIRES_IO && message[0]);
  model = load_model(arguments[1]);
  for (int batch : {1, 3, 32, 33}) check_streams(model, batch);
  check_rounding(arguments[1]);
  check_refusals(model);
  check_cost(model, multires_model_info(model));
  const std::string whole = read_file(arguments[1]);
  check_buffer(model, whole);
  check_damage(whole, arguments[2], count == 4 ? std::atoi(arguments[3]) : 400);
  std::printf("all checks passed on %s\n", multires_model_isa(model));
  multires_model_free(model);
  return 0;
}
