// Threads of a block as fibers. Included by host.h.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <stdexcept>
#include <utility>

class Fibers {
 public:
  int thread = 0, block = 0;

  static Fibers& self() {
    static Fibers fibers;
    return fibers;
  }

  void seed(unsigned value) { random_ = 2 * value + 1; }

  // Runs a kernel in every block.
  template <typename Kernel>
  void run_grid(int blocks, int threads, Kernel kernel) {
    run_ = [](void* given) { (*static_cast<Kernel*>(given))(); };
    kernel_ = &kernel;
    fibers_.resize(static_cast<size_t>(threads));
    for (const int each : shuffled(0, blocks)) {
      block = each;
      run_block();
    }
  }

  // Called by the kernel: lets others run up to this barrier, which they must reach too.
  void wait(bool in_warp, int barrier = 0) {
    Fiber& fiber = fibers_[static_cast<size_t>(thread)];
    fiber.in_warp = in_warp, fiber.barrier = barrier;
    leave(fiber);
  }

  // Called by the kernel: ends the launch.
  void refuse(const char* why) {
    why_ = why;
    leave(fibers_[static_cast<size_t>(thread)]);
  }

  // Whether no other thread of the block has begun.
  bool is_first() const { return begun_ == 1; }

 private:
  struct Fiber {
    static constexpr size_t kStack = 64 << 10;
    std::vector<char> stack = std::vector<char>(kStack);
    jmp_buf place;
    int barrier = 0;
    bool begun = false, done = false, in_warp = false;  // waits for its warp, not for the block
  };

  static void enter() {
    Fibers& fibers = self();
    fibers.run_(fibers.kernel_);
    Fiber& fiber = fibers.fibers_[static_cast<size_t>(fibers.thread)];
    fiber.done = true;
    fibers.leave(fiber);
  }

  // Contexts begin a fiber; jumps switch without a system call.
  void leave(Fiber& fiber) {
    if (_setjmp(fiber.place) == 0) _longjmp(scheduler_, 1);
  }
  void resume(Fiber& fiber) {
    if (_setjmp(scheduler_) != 0) return;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true, ++begun_;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.data();
    context.uc_stack.ss_size = Fiber::kStack;
    context.uc_link = nullptr;
    makecontext(&context, enter, 0);
    setcontext(&context);
  }

  std::vector<int> shuffled(int first, int count) {
    std::vector<int> order(static_cast<size_t>(count));
    std::iota(order.begin(), order.end(), first);
    for (size_t left = order.size(); left > 1; --left) {
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      std::swap(order[left - 1], order[(random_ >> 33) % left]);
    }
    return order;
  }

  // Lets the fibers of a warp run until all of them wait for the block, or end. They must do so together.
  void run_warp(int warp) {
    const int first = warp * kWarp;
    do {
      for (const int each : shuffled(first, kWarp)) {
        thread = each;
        resume(fibers_[static_cast<size_t>(each)]);
        if (why_) throw std::runtime_error(std::exchange(why_, nullptr));
      }
      for (int i = first; i < first + kWarp; ++i) check_together(i, first);
    } while (fibers_[static_cast<size_t>(first)].in_warp && !fibers_[static_cast<size_t>(first)].done);
  }

  void run_block() {
    for (Fiber& fiber : fibers_) fiber.begun = fiber.done = false;
    begun_ = 0;
    const int warps = static_cast<int>(fibers_.size()) / kWarp;
    do {
      for (const int warp : shuffled(0, warps)) run_warp(warp);
      for (int warp = 0; warp < warps; ++warp) check_together(warp * kWarp, 0);
    } while (!fibers_[0].done);
  }

  void check_together(int one, int other) const {
    const Fiber &a = fibers_[static_cast<size_t>(one)], &b = fibers_[static_cast<size_t>(other)];
    if (a.done != b.done || (!a.done && (a.in_warp != b.in_warp || a.barrier != b.barrier)))
      throw std::runtime_error("not all threads come to a barrier");
  }

  std::vector<Fiber> fibers_;
  jmp_buf scheduler_;
  int begun_ = 0;
  const char* why_ = nullptr;
  unsigned long long random_ = 1;
  void (*run_)(void*) = nullptr;
  void* kernel_ = nullptr;
};

inline int thread_index() { return Fibers::self().thread; }
inline int block_index() { return Fibers::self().block; }
inline void barrier() { Fibers::self().wait(false); }
inline void warp_barrier() { Fibers::self().wait(true); }
inline void seed_order(unsigned seed) { Fibers::self().seed(seed); }
template <typename Kernel>
void run_grid(int blocks, int threads, Kernel kernel) {
  Fibers::self().run_grid(blocks, threads, kernel);
}
