// The real-time promises of multires.h, on Linux with glibc:
//   realtime_test WEIGHTS
// 10,000 steps, one by one and in chunks, with and without look-ahead, with restarts, snapshots and refused calls,
// allocate nothing. A process that the kernel would kill at any system call survives the same steps. Exits 0 on
// success.

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "streams.h"

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

// What the steps need, created before.
struct Case {
  Case(const Model& model, int batch)
      : stream(model, batch), inputs(random_inputs(model.info(), batch, kInputs, 5)),
        y(static_cast<size_t>(batch * model.info().d_output * kInputs)), snapshot(stream.save()) {}
  Stream stream;
  Inputs inputs;
  std::vector<float> y;
  std::vector<unsigned char> snapshot;
};

// Calls each real-time function; false if one of them fails.
bool steps(Case& c) {
  const int batch = c.inputs.batch;
  float* y = c.y.data();
  bool good = true;
  for (int t = 0; t < kSteps;) {
    const int from = t % kInputs, chunk = std::min(t % 5 + 1, kInputs - from);
    if (t % 3 == 0) {
      good &= feed(c.stream, c.inputs, from, chunk, y) == MULTIRES_OK;
      t += chunk;
    } else {
      if (t % 2 == 0) good &= c.stream.prepare() == MULTIRES_OK;
      good &= step(c.stream, c.inputs, from, y) == MULTIRES_OK;
      if (t % 4 == 0) good &= c.stream.commit() == MULTIRES_OK;
      ++t;
    }
    if (t % 97 == 0) good &= c.stream.reset(t % batch) == MULTIRES_OK;
    if (t % 101 == 0) good &= multires_step(c.stream.handle(), nullptr, y) == MULTIRES_ARGUMENT;
    if (t % 103 == 0) {
      good &= multires_snapshot_save(c.stream.handle(), c.snapshot.data(), c.snapshot.size()) == MULTIRES_OK;
      good &= multires_snapshot_load(c.stream.handle(), c.snapshot.data(), c.snapshot.size()) == MULTIRES_OK;
    }
  }
  return good && c.stream.reset() == MULTIRES_OK;
}

// The status of a process that does the steps. In strict mode the kernel kills it at any system call except read,
// write, _exit and sigreturn.
int status_of_child(Case& c, bool cheats) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) syscall(SYS_exit, 2);
    const bool good = steps(c);
    if (cheats) syscall(SYS_getppid);
    syscall(SYS_exit, good ? 0 : 1);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  return status;
}

}  // namespace

int main(int count, char** arguments) {
  CHECK(count == 2);
  const Model model(arguments[1]);
  for (int batch : {1, 3, 33}) {
    long before = allocations;
    Case c(model, batch);
    CHECK(allocations > before);  // allocations are counted
    before = allocations;
    CHECK(steps(c));
    CHECK(allocations == before);
    const int status = status_of_child(c, false);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
      std::fputs("this system has no seccomp\n", stderr);
      return 2;
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(WIFSIGNALED(status_of_child(c, true)));  // system calls are found
  }
  std::printf("%d steps: no allocation, no system call on %s\n", kSteps, model.isa());
  return 0;
}
