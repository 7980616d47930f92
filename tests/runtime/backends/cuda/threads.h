// Threads of a block as threads of the system, for the thread sanitizer: it finds every pair of accesses that no
// barrier separates, in whatever order they happen. Included by host.h.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const long long turn = turn_;
    if (++arrived_ == count_) {
      arrived_ = 0;
      ++turn_;
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return turn_ != turn; });
  }

 private:
  const int count_;
  int arrived_ = 0;
  long long turn_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
};

inline thread_local int current_thread = 0;
inline int current_block = 0;
inline Barrier* block_barrier = nullptr;
inline std::vector<std::unique_ptr<Barrier>>* warp_barriers = nullptr;

inline int thread_index() { return current_thread; }
inline int block_index() { return current_block; }
inline void barrier() { block_barrier->wait(); }
inline void warp_barrier() { (*warp_barriers)[static_cast<size_t>(current_thread / kWarp)]->wait(); }

inline void seed_order(unsigned) {}

template <typename Kernel>
void run_grid(int blocks, int threads, Kernel kernel) {
  for (current_block = 0; current_block < blocks; ++current_block) {
    Barrier all(threads);
    std::vector<std::unique_ptr<Barrier>> warps;
    for (int i = 0; i < threads; i += kWarp) warps.push_back(std::make_unique<Barrier>(kWarp));
    block_barrier = &all;
    warp_barriers = &warps;
    std::vector<std::thread> running;
    for (int i = 0; i < threads; ++i)
      running.emplace_back([&, i] {
        current_thread = i;
        kernel();
      });
    for (std::thread& thread : running) thread.join();
  }
}
