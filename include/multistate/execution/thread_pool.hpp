#pragma once

// An executor for engines without threads of their own.
//
//     #include <multistate/execution/thread_pool.hpp>         // not part of multistate.hpp: only you start threads
//
//     ms::thread_pool pool(4);                                // this thread and three helpers
//     ms::step(layer, position, inputs, out, scratch, pool);
//     pool.run(n, [&](std::size_t i) { ... });                // for work of your own
//
// Made for decoding: a run has a few tens of tasks of about ten microseconds each. Helpers look for work for a while
// before they sleep. A run does not wait for helpers that came too late to get a task.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "multistate/execution/executor.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

/// Tells the processor that this thread is only waiting.
inline void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

/// Divides [0, n) into pieces of at most `most`, and calls f(first, count) for each.
template <class F>
void in_pieces(std::size_t n, std::size_t most, F f) noexcept {
    for (std::size_t first = 0, count = 0; first < n; first += count) f(first, count = (std::min)(most, n - first));
}

}  // namespace detail

/// A fixed number of threads that share the tasks of one run.
///
/// Any thread may call `run`. While a run is in progress, other runs stay on their callers' threads: runs started by
/// its tasks, and runs of other threads. Between runs a helper looks for work for 50 µs, then sleeps; waking it costs
/// the next run about 10 µs. More threads than cores slow every run down.
class thread_pool {
  public:
    /// The thread that calls `run` is one of `threads`; 0 counts as 1. Throws std::system_error if the system has no
    /// more threads.
    explicit thread_pool(std::size_t threads) {
        for (std::size_t i = 1; i < threads; ++i) helpers_.emplace_back([this] { help(); });
    }
    /// Must not be called during a run.
    ~thread_pool() = default;
    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;

    std::size_t threads() const noexcept { return helpers_.size() + 1; }

    /// Calls task(0) … task(n - 1) once each and returns when all are done. A task that throws ends the program.
    /// Allocates nothing.
    template <class Task>
    void run(std::size_t n, Task&& task) noexcept {
        if (helpers_.empty() || n <= 1 || taken_.test_and_set(std::memory_order_acquire)) {
            for (std::size_t i = 0; i < n; ++i) task(i);
            return;
        }
        using plain = std::remove_reference_t<Task>;
        task_ = const_cast<std::remove_const_t<plain>*>(std::addressof(task));  // call_ restores the const
        call_ = [](void* t, std::size_t i) { (*static_cast<plain*>(t))(i); };
        detail::in_pieces(n, stopping - 1, [&](std::size_t first, std::size_t count) {
            first_ = first;
            size_ = static_cast<std::uint32_t>(count);
            unfinished_.store(size_, std::memory_order_relaxed);
            unclaimed_.store(size_);
            unclaimed_.notify_all();
            work();
            for (std::uint32_t left = unfinished_; left != 0; left = unfinished_) wait_while(unfinished_, left);
        });
        taken_.clear(std::memory_order_release);
    }

  private:
    static constexpr std::uint32_t stopping = (std::numeric_limits<std::uint32_t>::max)();

    void help() noexcept {
        for (;;) {
            wait_while(unclaimed_, 0);
            if (unclaimed_ == stopping) return;
            work();
        }
    }

    /// Claims tasks until none is left. Only the holder of a claimed task may read the description of the run: the run
    /// cannot end before that task is done, so the next run cannot overwrite it.
    void work() noexcept {
        std::uint32_t left = unclaimed_.load(std::memory_order_relaxed);
        while (left != 0 && left != stopping) {
            if (!unclaimed_.compare_exchange_weak(left, left - 1)) continue;
            call_(task_, first_ + (size_ - left));
            if (unfinished_.fetch_sub(1) == 1) unfinished_.notify_one();
            left = unclaimed_.load(std::memory_order_relaxed);
        }
    }

    void stop() noexcept {
        unclaimed_ = stopping;
        unclaimed_.notify_all();
    }

    /// Runs follow each other within microseconds: looking for work for a while is faster than sleeping at once.
    static void wait_while(const std::atomic<std::uint32_t>& value, std::uint32_t old) noexcept {
        const auto enough = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
        while (value.load(std::memory_order_acquire) == old) {
            detail::pause();
            if (std::chrono::steady_clock::now() > enough) return value.wait(old);
        }
    }

    // 32 bits, because operating systems wait on 32 bits. On separate cache lines, because all threads write to them.
    alignas(64) std::atomic<std::uint32_t> unclaimed_{0};
    alignas(64) std::atomic<std::uint32_t> unfinished_{0};
    alignas(64) std::atomic_flag taken_;
    std::size_t first_ = 0;  // tasks [first_, first_ + size_) are being run
    std::uint32_t size_ = 0;
    void* task_ = nullptr;
    void (*call_)(void*, std::size_t) = nullptr;
    std::vector<std::jthread> helpers_;  // joined before the other members are destroyed
    struct stopper {
        thread_pool& pool;
        ~stopper() { pool.stop(); }
    } stop_first_{*this};  // last: stops helpers before they are joined, also if the constructor ran out of threads
};
static_assert(executor<thread_pool>);

}}  // namespace multistate::MULTISTATE_TARGET
