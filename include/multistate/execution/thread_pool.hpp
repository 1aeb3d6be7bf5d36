#pragma once

// An executor for engines without threads of their own.
//
//     #include <multistate/execution/thread_pool.hpp>         // not part of multistate.hpp: only you start threads
//
//     ms::thread_pool pool(4);                                // this thread and three helpers
//     ms::step(layer, position, inputs, out, scratch, pool);
//     pool.run(n, [&](std::size_t i) { ... });                // for work of your own
//
// Made for decoding: a run has a few tens of tasks of about ten microseconds each. Each thread takes the same tasks in
// each run of the same size, so that a KV head's scratch stays in the cache of one core; a thread that is done takes
// tasks of others. Helpers look for work for a while before they sleep. A run does not wait for helpers that came too
// late to get a task.
//
// Several sequences: give each thread whole steps. No thread then waits for another between the tokens of a layer.
//
//     pool.run(sequences, [&](std::size_t i) {                // one workspace per task
//         done[i] = ms::step(caches[i].layer(layer), positions[i], inputs[i], outputs[i], scratch[i]);
//     });
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

/// The tasks of one thread that nobody has claimed, [begin, end). On a cache line of its own: other threads come only
/// when they have no tasks left.
class alignas(64) task_range {
  public:
    static constexpr std::uint32_t none = (std::numeric_limits<std::uint32_t>::max)();

    void set(std::size_t begin, std::size_t end) noexcept { range_.store(pack(begin, end), std::memory_order_release); }

    /// Claims the first task or the last; `none` if none is left. Sees what was written before set().
    std::uint32_t claim(bool first) noexcept {
        std::uint64_t old = range_.load(std::memory_order_relaxed);
        for (;;) {
            const auto begin = static_cast<std::uint32_t>(old), end = static_cast<std::uint32_t>(old >> 32);
            if (begin == end) return none;
            const std::uint64_t rest = first ? pack(begin + 1, end) : pack(begin, end - 1);
            if (range_.compare_exchange_weak(old, rest, std::memory_order_acquire, std::memory_order_relaxed)) {
                return first ? begin : end - 1;
            }
        }
    }

  private:
    static std::uint64_t pack(std::uint64_t begin, std::uint64_t end) noexcept { return end << 32 | begin; }

    std::atomic<std::uint64_t> range_{0};
};

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
    explicit thread_pool(std::size_t threads) : unclaimed_((std::max<std::size_t>)(threads, 1)) {
        for (std::size_t i = 1; i < threads; ++i) helpers_.emplace_back([this, i] { help(i); });
    }
    /// Must not be called during a run.
    ~thread_pool() = default;
    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;

    std::size_t threads() const noexcept { return unclaimed_.size(); }

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
        detail::in_pieces(n, detail::task_range::none, [&](std::size_t first, std::size_t count) {
            first_ = first;
            unfinished_.store(static_cast<std::uint32_t>(count), std::memory_order_relaxed);
            for (std::size_t i = 0; i < threads(); ++i) {
                unclaimed_[i].set(count * i / threads(), count * (i + 1) / threads());
            }
            announce();
            work(0);
            for (std::uint32_t left = unfinished_; left != 0; left = unfinished_) wait_while(unfinished_, left);
        });
        taken_.clear(std::memory_order_release);
    }

  private:
    /// Thread i, from 1 on.
    void help(std::size_t i) noexcept {
        for (std::uint32_t seen = 0;;) {
            wait_while(announced_, seen);
            seen = announced_;
            if (stopping_) return;
            work(i);
        }
    }

    /// Claims tasks until none is left: first its own, then those of other threads, from the far end. Only the holder
    /// of a claimed task may read the description of the run: the run cannot end before that task counts as done, so
    /// the next run cannot overwrite it.
    void work(std::size_t self) noexcept {
        std::uint32_t done = 0;
        for (std::size_t i = 0; i < threads(); ++i) {
            detail::task_range& range = unclaimed_[(self + i) % threads()];
            for (auto t = range.claim(i == 0); t != detail::task_range::none; t = range.claim(i == 0)) {
                call_(task_, first_ + t);
                ++done;
            }
        }
        if (done > 0 && unfinished_.fetch_sub(done) == done) unfinished_.notify_one();
    }

    /// Tells helpers that there is something to do.
    void announce() noexcept {
        ++announced_;
        announced_.notify_all();
    }
    void stop() noexcept {
        stopping_ = true;
        announce();
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
    alignas(64) std::atomic<std::uint32_t> announced_{0};  // changes with each run
    std::atomic<bool> stopping_{false};
    alignas(64) std::atomic<std::uint32_t> unfinished_{0};
    alignas(64) std::atomic_flag taken_;
    std::size_t first_ = 0;  // the number of the first task of this piece
    void* task_ = nullptr;
    void (*call_)(void*, std::size_t) = nullptr;
    std::vector<detail::task_range> unclaimed_;  // one for each thread
    std::vector<std::jthread> helpers_;          // joined before the other members are destroyed
    struct stopper {
        thread_pool& pool;
        ~stopper() { pool.stop(); }
    } stop_first_{*this};  // last: stops helpers before they are joined, also if the constructor ran out of threads
};
static_assert(executor<thread_pool>);

}}  // namespace multistate::MULTISTATE_TARGET
