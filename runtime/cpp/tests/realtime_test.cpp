// The real-time promises of multires.h, on Linux with glibc:
//   realtime_test WEIGHTS
// 10,000 steps, one by one and in chunks, with restarts and with refused calls, allocate nothing. A process that the
// kernel would kill at any system call survives the same steps. Exits 0 on success.

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "testing.h"

namespace {
std::atomic<long> allocations{0};
}

// These replace glibc's functions, so every allocation is counted, also by operator new.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

void* malloc(size_t size) { return ++allocations, __libc_malloc(size); }
void* calloc(size_t count, size_t size) { return ++allocations, __libc_calloc(count, size); }
void* realloc(void* memory, size_t size) { return ++allocations, __libc_realloc(memory, size); }
void* memalign(size_t alignment, size_t size) { return ++allocations, __libc_memalign(alignment, size); }
void* aligned_alloc(size_t alignment, size_t size) { return ++allocations, __libc_memalign(alignment, size); }
int posix_memalign(void** memory, size_t alignment, size_t size) {
  ++allocations;
  *memory = __libc_memalign(alignment, size);
  return *memory ? 0 : ENOMEM;
}
void free(void* memory) {
  if (memory) ++allocations;
  __libc_free(memory);
}
}

namespace {

constexpr int kSteps = 10000, kInputs = 64;

// Calls each real-time function; false if one of them fails.
bool steps(multires_state* state, const multires_info& info, const Inputs& inputs, int batch, float* y) {
  const size_t each = static_cast<size_t>(batch) * static_cast<size_t>(info.n_tokens > 0 ? 1 : info.d_input);
  bool good = true;
  for (int t = 0; t < kSteps;) {
    const int from = t % kInputs, chunk = std::min(t % 5 + 1, kInputs - from);
    const size_t at = static_cast<size_t>(from) * each;
    if (t % 3 == 0) {
      good &= feed(state, info, inputs, batch, from, chunk, y) == MULTIRES_OK;
      t += chunk;
    } else {
      good &= (info.n_tokens > 0 ? multires_step_tokens(state, inputs.tokens.data() + at, y)
                                 : multires_step(state, inputs.x.data() + at, y)) == MULTIRES_OK;
      ++t;
    }
    if (t % 97 == 0) good &= multires_reset(state, t % batch) == MULTIRES_OK;
    if (t % 101 == 0) good &= multires_step(state, nullptr, y) == MULTIRES_ARGUMENT;
  }
  return good && multires_reset(state, -1) == MULTIRES_OK;
}

// In strict mode the kernel kills a process at any system call except read, write, _exit and sigreturn.
[[noreturn]] void steps_without_system_calls(multires_state* state, const multires_info& info, const Inputs& inputs,
                                             int batch, float* y, bool cheats) {
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) syscall(SYS_exit, 2);
  const bool good = steps(state, info, inputs, batch, y);
  if (cheats) syscall(SYS_getppid);
  syscall(SYS_exit, good ? 0 : 1);
  std::abort();
}

int status_of_child(multires_state* state, const multires_info& info, const Inputs& inputs, int batch, float* y,
                    bool cheats) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) steps_without_system_calls(state, info, inputs, batch, y, cheats);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  return status;
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 2);
  multires_model* model = load_model(arguments[1]);
  const multires_info info = multires_model_info(model);
  for (int batch : {1, 3, 33}) {
    const Inputs inputs = random_inputs(info, batch, kInputs, 5);
    std::vector<float> y(static_cast<size_t>(batch) * static_cast<size_t>(info.d_output) * kInputs);
    long before = allocations;
    multires_state* state = new_state(model, batch);
    CHECK(allocations > before);  // allocations are counted
    before = allocations;
    CHECK(steps(state, info, inputs, batch, y.data()));
    CHECK(allocations == before);
    const int status = status_of_child(state, info, inputs, batch, y.data(), false);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
      std::fputs("this system has no seccomp\n", stderr);
      return 2;
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(WIFSIGNALED(status_of_child(state, info, inputs, batch, y.data(), true)));  // system calls are found
    multires_state_free(state);
  }
  std::printf("%d steps: no allocation, no system call on %s\n", kSteps, multires_model_isa(model));
  multires_model_free(model);
  return 0;
}
