// Checks of the engine on a real weights file, meant to run under sanitizers:
//   engine_test WEIGHTS SCRATCH [brief]
// Steps, chunks and steps that look ahead agree to the last bit, rows are independent, a file and a buffer give the
// same model, rounding modes change nothing, wrong arguments are refused, and a damaged file is an error. With `brief`
// there are fewer damaged files and fewer steps of many rows. Exits 0 on success.

#include <sys/stat.h>

#include <cfenv>

#include "streams.h"

namespace {

constexpr int kSteps = 75, kFewSteps = 12;

// Calls function() with the parts of the same name of two streams.
template <typename Function>
void for_each_part(Stream& a, Stream& b, Function function) {
  for (int32_t i = 0; i < multires_state_parts(a.handle()); ++i) {
    multires_part of_a, of_b;
    CHECK(multires_state_part(a.handle(), i, &of_a) == MULTIRES_OK);
    CHECK(multires_state_part(b.handle(), i, &of_b) == MULTIRES_OK);
    CHECK(std::strcmp(of_a.name, of_b.name) == 0 && of_a.bytes == of_b.bytes);
    function(of_a, of_b);
  }
}

void copy_parts(Stream& from, Stream& to) {
  for_each_part(from, to, [](const multires_part& a, const multires_part& b) { std::memcpy(b.data, a.data, a.bytes); });
  CHECK(multires_state_changed(to.handle()) == MULTIRES_OK);
}

void check_same_parts(Stream& a, Stream& b) {
  for_each_part(a, b, [](const multires_part& of_a, const multires_part& of_b) {
    CHECK(std::memcmp(of_a.data, of_b.data, of_a.bytes) == 0);
  });
}

void check_streams(const Model& model, int batch, int steps) {
  const Inputs inputs = random_inputs(model.info(), batch, steps, 1);
  Stream a(model, batch), b(model, batch);
  const std::vector<float> whole = outputs(a, inputs, 0, steps);
  std::vector<float> pieces;
  for (int t = 0, n = 1; t < steps; t += n, n = n % 7 + 1) {
    n = std::min(n, steps - t);
    const std::vector<float> piece = outputs(b, inputs, t, n);
    pieces.insert(pieces.end(), piece.begin(), piece.end());
  }
  CHECK(b.reset(batch - 1) == MULTIRES_OK);
  CHECK(same_bits(whole, pieces));

  // The restarted row begins again; the others continue unchanged.
  const std::vector<float> on = outputs(a, inputs, 0, steps), restarted = outputs(b, inputs, 0, steps);
  const size_t d_output = static_cast<size_t>(model.info().d_output), row = static_cast<size_t>(batch) * d_output;
  for (size_t i = 0; i < on.size(); ++i) CHECK(restarted[i] == (i % row >= row - d_output ? whole : on)[i]);

  // A state that is copied part by part continues like the original.
  CHECK(b.reset() == MULTIRES_OK);
  copy_parts(a, b);
  CHECK(same_bits(outputs(a, inputs, 0, 9), outputs(b, inputs, 0, 9)));
}

// A stream that looks ahead, in any order of calls, has the outputs and the state of a stream that does not.
void check_look_ahead(const Model& model, int batch, int steps) {
  const Inputs inputs = random_inputs(model.info(), batch, steps, 5);
  std::mt19937 random(6);
  Stream ahead(model, batch), plain(model, batch);
  const auto maybe = [&](unsigned of) { return random() % of == 0; };
  for (int t = 0; t < steps;) {
    for (int prepared = maybe(4) ? 0 : 1 + maybe(5); prepared > 0; --prepared) CHECK(ahead.prepare() == MULTIRES_OK);
    if (maybe(9)) CHECK(ahead.commit() == MULTIRES_OK);  // keeps the preparation
    if (maybe(9)) {
      const int32_t row = static_cast<int32_t>(random() % static_cast<unsigned>(batch + 1)) - 1;
      CHECK(ahead.reset(row) == MULTIRES_OK && plain.reset(row) == MULTIRES_OK);
    }
    if (maybe(9)) {
      const std::vector<unsigned char> saved = ahead.save();
      ahead.load(saved);
    }
    const int n = maybe(6) ? std::min(3, steps - t) : 1;
    std::vector<float> y(static_cast<size_t>(n * batch * model.info().d_output));
    CHECK((n == 1 ? step(ahead, inputs, t, y.data()) : feed(ahead, inputs, t, n, y.data())) == MULTIRES_OK);
    CHECK(same_bits(y, outputs(plain, inputs, t, n)));
    t += n;
    if (maybe(3)) {
      CHECK(ahead.commit() == MULTIRES_OK && ahead.commit() == MULTIRES_OK);
      check_same_parts(ahead, plain);
    }
    if (maybe(5)) CHECK(ahead.save() == plain.save());
  }
  // What was written into the parts of a state counts, whatever was known before.
  CHECK(ahead.commit() == MULTIRES_OK && ahead.prepare() == MULTIRES_OK);
  Stream other(model, batch);
  outputs(other, inputs, 3, steps - 3);
  copy_parts(other, ahead);
  CHECK(same_bits(outputs(ahead, inputs, 0, 9), outputs(other, inputs, 0, 9)));
}

// In any rounding mode the bits are the same, and the mode is restored.
void check_rounding(const char* path) {
  std::vector<float> expected;
  for (const int mode : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    CHECK(std::fesetround(mode) == 0);
    const Model model(path);
    CHECK(std::fegetround() == mode);
    std::fesetround(FE_TONEAREST);
    const Inputs inputs = random_inputs(model.info(), 2, kSteps, 3);
    std::fesetround(mode);
    Stream stream(model, 2);
    const std::vector<float> y = outputs(stream, inputs, 0, kSteps);
    CHECK(std::fegetround() == mode);
    if (mode == FE_TONEAREST) expected = y;
    CHECK(same_bits(y, expected));
  }
  std::fesetround(FE_TONEAREST);
}

void check_refusals(const Model& model) {
  const multires_info info = model.info();
  multires_state* none;
  CHECK(multires_state_new(nullptr, 1, MULTIRES_DEFAULT_WINDOW, &none, nullptr, 0) == MULTIRES_ARGUMENT);
  CHECK(multires_state_new(model.handle(), 0, MULTIRES_DEFAULT_WINDOW, &none, nullptr, 0) == MULTIRES_ARGUMENT);
  char why[256] = "";
  CHECK(multires_state_new(model.handle(), INT32_MAX, 0, &none, why, sizeof why) == MULTIRES_MEMORY);
  CHECK(std::strstr(why, "a state needs ") && !none);
  const Stream stream(model);
  multires_state* state = stream.handle();
  std::vector<float> y(static_cast<size_t>(info.d_output));
  CHECK(multires_step(state, nullptr, y.data()) == MULTIRES_ARGUMENT);
  CHECK(multires_step(nullptr, y.data(), y.data()) == MULTIRES_ARGUMENT);
  CHECK(multires_run(state, y.data(), -1, y.data()) == MULTIRES_ARGUMENT);
  CHECK(multires_reset(state, 1) == MULTIRES_ARGUMENT);
  CHECK(multires_reset(state, -2) == MULTIRES_ARGUMENT);
  CHECK(multires_prepare(nullptr) == MULTIRES_ARGUMENT && multires_commit(nullptr) == MULTIRES_ARGUMENT);
  multires_part part;
  CHECK(multires_state_part(state, 99, &part) == MULTIRES_ARGUMENT);
  if (info.n_tokens > 0) {
    const int64_t wrong[] = {-1, info.n_tokens};
    for (const int64_t& token : wrong) CHECK(multires_step_tokens(state, &token, y.data()) == MULTIRES_ARGUMENT);
  }
  multires_state_free(nullptr);
  multires_model_free(nullptr);
}

// A model from memory, at any address and freed afterwards, equals the model from the file.
void check_buffer(const Model& model, const std::string& whole) {
  const Inputs inputs = random_inputs(model.info(), 1, 40, 4);
  Stream of_file(model);
  const std::vector<float> expected = outputs(of_file, inputs, 0, 40);
  for (size_t shift = 0; shift < 4; ++shift) {
    std::string buffer = std::string(shift, ' ') + whole;
    const Model loaded(buffer.data() + shift, whole.size());
    std::fill(buffer.begin(), buffer.end(), '\0');
    Stream stream(loaded);
    CHECK(same_bits(outputs(stream, inputs, 0, 40), expected));
  }
  multires_model* loaded = nullptr;
  char why[100] = "";
  for (size_t size = 0; size < 16; ++size) {
    CHECK(multires_model_load_buffer(whole.data(), size, &loaded, why, sizeof why) == MULTIRES_MALFORMED);
    CHECK(!loaded && why[0]);
  }
  CHECK(multires_model_load_buffer(nullptr, 0, &loaded, nullptr, 0) == MULTIRES_ARGUMENT);
  CHECK(multires_model_load_buffer(whole.data(), whole.size(), nullptr, nullptr, 0) == MULTIRES_ARGUMENT);
}

// What is no file is refused without waiting for its content.
void check_no_file(const std::string& scratch) {
  const std::string pipe = scratch + ".pipe";
  CHECK(mkfifo(pipe.c_str(), 0600) == 0);
  for (const std::string& path : {pipe, std::string("/dev/zero")})
    CHECK(status_of([&] { const Model model(path); }) == MULTIRES_MALFORMED);
  std::remove(pipe.c_str());
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
    multires_model* loaded = nullptr;
    char message[200];
    const multires_status status = multires_model_load(scratch.c_str(), &loaded, message, sizeof message);
    CHECK((status == MULTIRES_OK) == (loaded != nullptr));
    CHECK((status == MULTIRES_OK) == (message[0] == '\0'));
    multires_model_free(loaded);
    status_of([&] {
      const Model model(scratch);
      Stream stream(model, 2);
      outputs(stream, random_inputs(model.info(), 2, 5, 3), 0, 5);
    });
  }
}

// Bounds for every network; Python tests compare the exact figures with the configuration.
void check_cost(const Model& model) {
  const multires_info info = model.info();
  const multires_cost cost = model.cost();
  const std::string precision = model.metadata("precision"), queues = model.metadata("queues");
  const int64_t d = info.d_model, row = (queues == "int8" ? 1 : queues == "float16" ? 2 : 4) * info.n_layers * d;
  const int64_t second = d * d * info.n_layers, head = d * info.d_output;  // convolution after the mixing, if any
  const char* const kind = model.metadata("mixing");
  const int64_t mixing = (kind && std::string(kind) == "plain" ? 1 : 2) * second;
  const int64_t each = precision == "fp32" ? 4 : precision == "fp16" ? 2 : 1, int8 = cost.int8_multiply_adds;
  CHECK(cost.multiply_adds + int8 > mixing + head);
  CHECK(precision == "int8" ? int8 == mixing || int8 == mixing + second : int8 == 0);
  CHECK(cost.weight_bytes >= each * mixing + 4 * head);
  CHECK(cost.tap_bytes >= info.depth * (info.kernel_size - 1) * row);
  CHECK(cost.push_bytes >= info.depth * row);
  CHECK(multires_model_cost(nullptr).multiply_adds == 0);
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 3 || count == 4);
  CHECK(status_of([] { Model("/nowhere"); }) == MULTIRES_IO);
  const Model model(arguments[1]);
  const bool brief = count == 4;
  for (int batch : {1, 3, 32, 33}) {
    const int steps = brief && batch > 3 ? kFewSteps : kSteps;
    check_streams(model, batch, steps);
    check_look_ahead(model, batch, steps);
  }
  check_rounding(arguments[1]);
  check_refusals(model);
  check_cost(model);
  const std::string whole = read_file(arguments[1]);
  check_buffer(model, whole);
  check_no_file(arguments[2]);
  check_damage(whole, arguments[2], brief ? 20 : 400);
  std::printf("all checks passed on %s\n", model.isa());
  return 0;
}
