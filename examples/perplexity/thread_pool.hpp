// A small pool of threads, in the form that multistate takes as an executor.
//
//     demo::thread_pool pool(2);
//     pool.run(n, [&](std::size_t i) { ... });      // task(0) … task(n - 1) on both threads, then returns
//
// Tasks are cut by shape, never by the number of threads, so results do not depend on it. A run inside a task stays on
// that task's thread, so that code which shares its work can itself be shared.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace demo {

class thread_pool {
  public:
    /// The calling thread is one of `threads`.
    explicit thread_pool(std::size_t threads) {
        try {
            for (std::size_t i = 1; i < threads; ++i) {
                helpers_.emplace_back([this](const std::stop_token& stop) { help(stop); });
            }
        } catch (...) {  // no more threads to be had: those that started must not wait for ever
            stop();
            throw;
        }
    }
    ~thread_pool() { stop(); }
    thread_pool(const thread_pool&) = delete;
    thread_pool& operator=(const thread_pool&) = delete;

    [[nodiscard]] std::size_t threads() const noexcept { return helpers_.size() + 1; }

    /// Runs task(0) … task(n - 1), in any order, and returns when all are done. Tasks must not throw.
    template <class Task>
    void run(std::size_t n, Task&& task) {
        if (helpers_.empty() || n <= 1 || inside_task_) {
            for (std::size_t i = 0; i < n; ++i) task(i);
            return;
        }
        task_ = std::addressof(task);
        call_ = [](const void* t, std::size_t i) {
            (*static_cast<std::remove_reference_t<Task>*>(const_cast<void*>(t)))(i);
        };
        size_ = n;
        next_.store(0, std::memory_order_relaxed);
        busy_.store(helpers_.size(), std::memory_order_relaxed);
        start_round();
        work();
        for (std::size_t left = busy_; left != 0; left = busy_) wait_for_change(busy_, left);
    }

  private:
    void help(const std::stop_token& stop) {
        for (std::uint64_t seen = 0;;) {
            wait_for_change(round_, seen);
            seen = round_;
            if (stop.stop_requested()) return;
            work();
            if (busy_.fetch_sub(1) == 1) busy_.notify_one();
        }
    }

    void work() {
        inside_task_ = true;
        for (std::size_t i = next_++; i < size_; i = next_++) call_(task_, i);
        inside_task_ = false;
    }

    void stop() {
        for (auto& helper : helpers_) helper.request_stop();
        start_round();
    }

    void start_round() {
        ++round_;
        round_.notify_all();
    }

    /// Rounds follow each other within microseconds: looking for a while is quicker than sleeping at once.
    template <class T>
    static void wait_for_change(const std::atomic<T>& value, T old) {
        for (int look = 0; look < 2000; ++look) {
            if (value.load(std::memory_order_acquire) != old) return;
        }
        value.wait(old);
    }

    static inline thread_local bool inside_task_ = false;

    std::atomic<std::uint64_t> round_{0};
    std::atomic<std::size_t> next_{0};
    std::atomic<std::size_t> busy_{0};
    std::size_t size_ = 0;
    const void* task_ = nullptr;
    void (*call_)(const void*, std::size_t) = nullptr;
    std::vector<std::jthread> helpers_;  // last: joined before the rest goes
};

}  // namespace demo
