// Checks of the C++ header:
//   header_test WEIGHTS OTHER_WEIGHTS
// Models and streams own their memory, windows can be chosen, a stream continues from a snapshot like the original, a
// foreign or damaged snapshot is refused and changes nothing, and real-time functions make no system call. Exits 0 on
// success.

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "multires.hpp"

#define CHECK(condition)                                                   \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                        \
    }                                                                      \
  } while (0)

namespace {

using multires::Model;
using multires::Stream;

static_assert(noexcept(std::declval<Stream&>().step(static_cast<const float*>(nullptr), nullptr)), "real time");
static_assert(noexcept(std::declval<Stream&>().run(static_cast<const float*>(nullptr), 0, nullptr)), "real time");
static_assert(noexcept(std::declval<Stream&>().reset()), "real time");
static_assert(std::is_nothrow_move_constructible<Stream>::value && !std::is_copy_constructible<Stream>::value, "");
static_assert(std::is_copy_constructible<Model>::value, "");

template <typename Function>
multires_status status_of(Function function) {
  try {
    function();
  } catch (const multires::Error& error) {
    CHECK(*error.what() != '\0');
    return error.status();
  }
  return MULTIRES_OK;
}

// The outputs of `steps` steps of all rows; inputs depend on the step, counted from `start`, and the row.
std::vector<float> feed(const Model& model, Stream& stream, int start, int steps) {
  const multires_info info = model.info();
  const int rows = stream.batch();
  std::vector<float> y(static_cast<size_t>(steps * rows * info.d_output));
  std::vector<float> x;
  std::vector<int64_t> tokens;
  for (int t = start; t < start + steps; ++t)
    for (int row = 0; row < rows; ++row) {
      if (info.n_tokens > 0) tokens.push_back((7 * t + 3 * row) % info.n_tokens);
      for (int i = 0; i < info.d_input; ++i) x.push_back(std::sin(static_cast<float>(t * (i + 1) + row)));
    }
  const bool takes_tokens = info.n_tokens > 0;
  CHECK((takes_tokens ? stream.run(tokens.data(), steps, y.data()) : stream.run(x.data(), steps, y.data())) ==
        MULTIRES_OK);
  return y;
}

Stream stream_of_a_model_gone(const std::string& path) {
  const Model model(path);
  return Stream(model);
}

void check_ownership(const std::string& path) {
  const Model model(path);
  Stream orphan = stream_of_a_model_gone(path), usual(model);
  CHECK(feed(model, orphan, 0, 20) == feed(model, usual, 0, 20));
  Stream moved = std::move(orphan);
  CHECK(feed(model, moved, 20, 5) == feed(model, usual, 20, 5));
  orphan = std::move(moved);
  CHECK(feed(model, orphan, 25, 5) == feed(model, usual, 25, 5));
  std::vector<float> y(static_cast<size_t>(model.info().d_output));
  CHECK(moved.step(y.data(), y.data()) == MULTIRES_ARGUMENT && moved.reset() == MULTIRES_ARGUMENT);
  CHECK(moved.batch() == 0 && status_of([&] { moved.save(); }) == MULTIRES_ARGUMENT);
}

void check_windows(const Model& model) {
  Stream usual(model);
  CHECK(usual.batch() == 1 && usual.window() == model.info().window);
  CHECK(model.cost().multiply_adds > 0 && model.cost().weight_bytes > 0);
  CHECK(status_of([&] { Stream(model, 0); }) == MULTIRES_ARGUMENT);
  CHECK(status_of([&] { Stream(model, 1, -2); }) == MULTIRES_ARGUMENT);
  CHECK(status_of([&] { Stream(model, 1, (1 << 24) + 1); }) == MULTIRES_ARGUMENT);
  if (model.info().autoregressive) {
    CHECK(status_of([&] { Stream(model, 1, 5); }) == MULTIRES_ARGUMENT);
    CHECK(Stream(model, 1, 0).window() == 0);
    return;
  }
  // The window makes a difference only after the first step leaves it.
  constexpr int kWindow = 9;
  const int d_output = model.info().d_output;
  Stream all(model, 1, 0), last(model, 1, kWindow);
  CHECK(all.window() == 0 && last.window() == kWindow);
  const std::vector<float> a = feed(model, all, 0, 30), b = feed(model, last, 0, 30);
  float within = 0, beyond = 0;
  for (int i = 0; i < 30 * d_output; ++i)
    (i < kWindow * d_output ? within : beyond) += std::fabs(a[static_cast<size_t>(i)] - b[static_cast<size_t>(i)]);
  CHECK(within < 1e-4f && beyond > 1e-3f);
}

void check_snapshots(const Model& model, const Model& other) {
  for (const int window : {MULTIRES_DEFAULT_WINDOW, model.info().autoregressive ? 0 : 6}) {
    Stream first(model, 3, window), second(model, 3, window);
    feed(model, first, 0, 41);
    CHECK(first.reset(1) == MULTIRES_OK);  // rows at different positions
    feed(model, first, 41, 7);
    feed(model, second, 100, 11);
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
    if (!model.info().autoregressive) CHECK(refused(Stream(model, 3, 8).save()) == MULTIRES_MISMATCH);

    second.load(saved);
    CHECK(second.save() == saved);
    CHECK(feed(model, first, 48, 60) == feed(model, second, 48, 60));
  }
  CHECK(multires_snapshot_save(Stream(model).handle(), nullptr, 1 << 30) == MULTIRES_ARGUMENT);
  std::vector<unsigned char> small(20);
  CHECK(multires_snapshot_save(Stream(model).handle(), small.data(), small.size()) == MULTIRES_ARGUMENT);
}

// A state that was bad when it was saved, with a valid digest.
void check_bad_states(const Model& model) {
  Stream bad(model), good(model);
  float* value = nullptr;
  uint16_t* half = nullptr;
  int64_t* at = nullptr;
  for (int32_t i = 0; i < multires_state_parts(bad.handle()); ++i) {
    multires_part part;
    CHECK(multires_state_part(bad.handle(), i, &part) == MULTIRES_OK);
    if (part.dtype == MULTIRES_INT64)
      at = static_cast<int64_t*>(part.data);
    else if (part.dtype == MULTIRES_FLOAT32)
      value = static_cast<float*>(part.data);
    else if (part.dtype == MULTIRES_FLOAT16)
      half = static_cast<uint16_t*>(part.data);
  }
  CHECK(at);
  if (value) {
    for (const float wrong : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
      *value = wrong;
      CHECK(status_of([&] { good.load(bad.save()); }) == MULTIRES_MALFORMED);
    }
    *value = 1;
  }
  if (half) {
    for (const uint16_t wrong : {0x7e00, 0xfc00}) {  // the same in float16
      *half = wrong;
      CHECK(status_of([&] { good.load(bad.save()); }) == MULTIRES_MALFORMED);
    }
    *half = 0x3c00;
  }
  const int64_t most = static_cast<int64_t>(1) << 62;
  for (const int64_t wrong : {int64_t{-1}, most + 1, std::numeric_limits<int64_t>::max()}) {
    *at = wrong;
    CHECK(multires_state_changed(bad.handle()) == MULTIRES_ARGUMENT);
    CHECK(status_of([&] { good.load(bad.save()); }) == MULTIRES_MALFORMED);
  }
  *at = most;
  CHECK(multires_state_changed(bad.handle()) == MULTIRES_OK);
  good.load(bad.save());
  for (const float y : feed(model, good, 0, 40)) CHECK(std::isfinite(y));
}

// A process that may only read, write and exit does steps, runs, resets and snapshots: any other system call would kill
// it.
void check_real_time(const Model& model) {
  Stream stream(model, 2);
  std::vector<unsigned char> snapshot(multires_snapshot_size(stream.handle()));
  const multires_info info = model.info();
  const std::vector<float> x(static_cast<size_t>(2 * 40 * info.d_input));
  const std::vector<int64_t> tokens(2 * 40);
  std::vector<float> y(static_cast<size_t>(2 * 40 * info.d_output));
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) syscall(SYS_exit, 2);
    bool good = true;
    for (int round = 0; round < 100; ++round) {
      const bool takes_tokens = info.n_tokens > 0;
      good &= (takes_tokens ? stream.step(tokens.data(), y.data()) : stream.step(x.data(), y.data())) == MULTIRES_OK;
      good &=
          (takes_tokens ? stream.run(tokens.data(), 40, y.data()) : stream.run(x.data(), 40, y.data())) == MULTIRES_OK;
      good &= stream.reset(round % 2) == MULTIRES_OK;
      good &= multires_snapshot_save(stream.handle(), snapshot.data(), snapshot.size()) == MULTIRES_OK;
      good &= multires_snapshot_load(stream.handle(), snapshot.data(), snapshot.size()) == MULTIRES_OK;
    }
    syscall(SYS_exit, good ? 0 : 1);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  if (WEXITSTATUS(status) == 2) std::puts("system calls: not checked, this kernel does not restrict them");
  CHECK(WEXITSTATUS(status) != 1);
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 3);
  CHECK(status_of([] { Model("/nowhere"); }) == MULTIRES_IO);
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
  check_real_time(model);
  std::puts("all checks passed");
  return 0;
}
