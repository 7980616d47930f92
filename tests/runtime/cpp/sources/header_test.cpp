// Checks of the C++ header:
//   header_test WEIGHTS OTHER_WEIGHTS
// Models and streams own their memory, windows can be chosen, a stream continues from a snapshot like the original, and
// a foreign or damaged snapshot is refused and changes nothing. Exits 0 on success.

#include <limits>
#include <type_traits>
#include <utility>

#include "streams.h"

namespace {

static_assert(noexcept(std::declval<Stream&>().step(static_cast<const float*>(nullptr), nullptr)), "real time");
static_assert(noexcept(std::declval<Stream&>().run(static_cast<const float*>(nullptr), 0, nullptr)), "real time");
static_assert(noexcept(std::declval<Stream&>().reset()), "real time");
static_assert(noexcept(std::declval<Stream&>().prepare()), "real time");
static_assert(noexcept(std::declval<Stream&>().commit()), "real time");
static_assert(std::is_nothrow_move_constructible<Stream>::value && !std::is_copy_constructible<Stream>::value, "");
static_assert(std::is_copy_constructible<Model>::value, "");

Stream stream_of_a_model_gone(const std::string& path) {
  const Model model(path);
  return Stream(model);
}

void check_ownership(const std::string& path) {
  const Model model(path);
  const Inputs inputs = random_inputs(model.info(), 1, 30, 8);
  Stream orphan = stream_of_a_model_gone(path), usual(model);
  const auto check_equal = [&](Stream& other, int from, int steps) {
    CHECK(same_bits(outputs(other, inputs, from, steps), outputs(usual, inputs, from, steps)));
  };
  check_equal(orphan, 0, 20);
  Stream moved = std::move(orphan);
  check_equal(moved, 20, 5);
  orphan = std::move(moved);
  check_equal(orphan, 25, 5);
  float y = 0;
  CHECK(moved.step(&y, &y) == MULTIRES_ARGUMENT && moved.reset() == MULTIRES_ARGUMENT);
  CHECK(moved.prepare() == MULTIRES_ARGUMENT && moved.commit() == MULTIRES_ARGUMENT);
  CHECK(moved.batch() == 0 && status_of([&] { moved.save(); }) == MULTIRES_ARGUMENT);
}

void check_windows(const Model& model) {
  Stream usual(model);
  CHECK(usual.batch() == 1 && usual.window() == model.info().window);
  CHECK(model.cost().multiply_adds > 0 && model.cost().weight_bytes > 0);
  CHECK(status_of([&] { Stream(model, 0); }) == MULTIRES_ARGUMENT);
  CHECK(status_of([&] { Stream(model, 1, -2); }) == MULTIRES_ARGUMENT);
  CHECK(status_of([&] { Stream(model, 1, (1 << 24) + 1); }) == MULTIRES_ARGUMENT);
  if (!model.info().takes_window) {
    CHECK(status_of([&] { Stream(model, 1, 5); }) == MULTIRES_ARGUMENT);
    CHECK(Stream(model, 1, 0).window() == 0);
    return;
  }
  // The window makes a difference only after the first step leaves it.
  constexpr int kWindow = 9;
  const int d_output = model.info().d_output;
  Stream all(model, 1, 0), last(model, 1, kWindow);
  CHECK(all.window() == 0 && last.window() == kWindow);
  const Inputs inputs = random_inputs(model.info(), 1, 30, 8);
  const std::vector<float> a = outputs(all, inputs, 0, 30), b = outputs(last, inputs, 0, 30);
  float within = 0, beyond = 0;
  for (int i = 0; i < 30 * d_output; ++i)
    (i < kWindow * d_output ? within : beyond) += std::fabs(a[static_cast<size_t>(i)] - b[static_cast<size_t>(i)]);
  CHECK(within < 1e-4f && beyond > 1e-3f);
}

void check_snapshots(const Model& model, const Model& other) {
  const Inputs inputs = random_inputs(model.info(), 3, 120, 8);
  for (const int window : {MULTIRES_DEFAULT_WINDOW, model.info().takes_window ? 6 : 0}) {
    Stream first(model, 3, window), second(model, 3, window);
    outputs(first, inputs, 0, 41);
    CHECK(first.reset(1) == MULTIRES_OK);  // rows at different positions
    outputs(first, inputs, 41, 7);
    outputs(second, inputs, 100, 11);
    const std::vector<unsigned char> saved = first.save(), before = second.save();
    CHECK(saved.size() == multires_snapshot_size(first.handle()));

    const auto refused = [&](const std::vector<unsigned char>& bytes) {
      const multires_status status = status_of([&] { second.load(bytes); });
      CHECK(second.save() == before);
      return status;
    };
    for (const size_t size : {size_t{0}, size_t{7}, size_t{47}, size_t{48}, saved.size() - 1})
      CHECK(refused({saved.begin(), saved.begin() + static_cast<std::ptrdiff_t>(size)}) == MULTIRES_MALFORMED);
    for (size_t i = 0; i < saved.size(); i += i < 64 ? 1 : 97) {
      std::vector<unsigned char> damaged = saved;
      damaged[i] ^= static_cast<unsigned char>(1u << i % 8);
      CHECK(refused(damaged) != MULTIRES_OK);
    }
    std::vector<unsigned char> longer = saved;
    longer.push_back(0);
    CHECK(refused(longer) == MULTIRES_MALFORMED);
    CHECK(refused(Stream(model, 2, window).save()) == MULTIRES_MISMATCH);
    CHECK(refused(Stream(other, 3).save()) == MULTIRES_MISMATCH);
    if (model.info().takes_window) CHECK(refused(Stream(model, 3, 8).save()) == MULTIRES_MISMATCH);

    second.load(saved);
    CHECK(second.save() == saved);
    CHECK(same_bits(outputs(first, inputs, 48, 60), outputs(second, inputs, 48, 60)));
  }
  CHECK(multires_snapshot_save(Stream(model).handle(), nullptr, 1 << 30) == MULTIRES_ARGUMENT);
  std::vector<unsigned char> small(20);
  CHECK(multires_snapshot_save(Stream(model).handle(), small.data(), small.size()) == MULTIRES_ARGUMENT);
}

// A state that was bad when it was saved, with a valid digest.
void check_bad_states(const Model& model) {
  Stream bad(model), good(model);
  const auto refuse = [&](auto* value, auto... wrong) {
    const auto before = *value;
    for (const auto each : {wrong...}) {
      *value = each;
      CHECK(status_of([&] { good.load(bad.save()); }) == MULTIRES_MALFORMED);
    }
    *value = before;
  };
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr int64_t most = static_cast<int64_t>(1) << 62, largest = std::numeric_limits<int64_t>::max();
  int64_t* position = nullptr;
  for (int32_t i = 0; i < multires_state_parts(bad.handle()); ++i) {
    multires_part part;
    CHECK(multires_state_part(bad.handle(), i, &part) == MULTIRES_OK);
    if (part.dtype == MULTIRES_INT64)
      position = static_cast<int64_t*>(part.data);
    else if (part.dtype == MULTIRES_FLOAT32)
      refuse(static_cast<float*>(part.data), std::numeric_limits<float>::quiet_NaN(), -infinity);
    else if (part.dtype == MULTIRES_FLOAT16)  // the same in float16
      refuse(static_cast<uint16_t*>(part.data), static_cast<uint16_t>(0x7e00), static_cast<uint16_t>(0xfc00));
  }
  CHECK(position);
  refuse(position, int64_t{-1}, most + 1, largest);
  for (const int64_t wrong : {int64_t{-1}, most + 1, largest}) {
    *position = wrong;
    CHECK(multires_state_changed(bad.handle()) == MULTIRES_ARGUMENT);
  }
  *position = most;
  CHECK(multires_state_changed(bad.handle()) == MULTIRES_OK);
  good.load(bad.save());
  for (const float y : outputs(good, random_inputs(model.info(), 1, 40, 8), 0, 40)) CHECK(std::isfinite(y));
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 3);
  CHECK(std::strlen(multires::version()) >= 5);
  for (int status = MULTIRES_OK; status <= MULTIRES_DEVICE + 1; ++status)
    CHECK(std::strlen(multires::text(static_cast<multires_status>(status))) > 5);
  const Model model(arguments[1]), other(arguments[2]);
  CHECK(model.metadata("format") == std::string("multires-weights") && !model.metadata("nonsense"));
  CHECK(model.metadata_lines("nonsense").empty());
  // As tests/runtime/cpp/networks.py wrote them; a line break in a name has become a space.
  CHECK((model.metadata_lines("labels") == std::vector<std::string>{"N\"", "\u00b5", "\U0001d11e "}));
  check_ownership(arguments[1]);
  check_windows(model);
  check_snapshots(model, other);
  check_bad_states(model);
  std::puts("all checks passed");
  return 0;
}
