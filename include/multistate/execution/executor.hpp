#pragma once

// Multithreading. The library starts no threads: functions that can share work take an executor as the last argument.
// An executor is anything that can be called with a number of tasks and a task:
//
//     ms::step(layer, position, inputs, out, scratch);                // on the caller's thread: ms::serial
//     ms::step(layer, position, inputs, out, scratch, pool);          // ms::thread_pool, in thread_pool.hpp
//     ms::step(layer, position, inputs, out, scratch, ms::openmp{});  // openmp.hpp
//
//     const auto mine = [&](std::size_t n, auto&& task) {            // an engine's own threads
//         threads.for_each_index(n, task);                           // task(0) … task(n - 1); returns after the last
//     };
//     ms::step(layer, position, inputs, out, scratch, mine);
//
// An object with a member `run(n, task)` is also an executor; the library's executors have one.
//
// An executor must guarantee:
//
//   - Every task runs exactly once, and all are done when the call returns.
//   - Every task sees what was written before the run, and the caller sees what tasks wrote after it (happens-before;
//     any pool that waits for its tasks guarantees this).
//   - A run of 0 tasks calls nothing.
//
// An executor may rely on these properties. Tasks never throw. They never wait for each other, so one thread and any
// order are enough. They never write to the same memory. They start no runs. Only engines nest runs: if an engine's
// task calls ms::step with the same executor, the library's executors run the inner tasks on the current thread.
//
// Work is divided by shape (one task per KV head), never by the number of threads, so every executor gives the same
// bits as `serial`. A decoding step has one task per KV head of the layer, of about ten microseconds each. Give a
// thread the same tasks in each run of the same size: the scratch of a KV head then stays in the cache of one core.
// Steps at 256 states took 1.2 to 1.5 times as long where any thread took the next task.
#include <concepts>
#include <cstddef>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

/// Stands for any of the library's tasks in the concept below. None of them is a function pointer.
struct some_task {
    void operator()(std::size_t) const noexcept {}
};

/// Runs task(0) … task(n - 1) with an executor.
template <class E, class Task>
void run_tasks(E& by, std::size_t n, const Task& task) {
    if constexpr (requires { by.run(n, task); }) {
        by.run(n, task);
    } else {
        by(n, task);
    }
}

}  // namespace detail

/// Runs n independent tasks and returns when all are done. The guarantees are listed above.
template <class E>
concept executor = std::invocable<E&, std::size_t, const detail::some_task&> ||
    requires(E& e, std::size_t n, const detail::some_task& task) {
    e.run(n, task);
};

/// The default: one task after another on the caller's thread.
struct serial {
    void run(std::size_t n, auto&& task) const noexcept {
        for (std::size_t i = 0; i < n; ++i) task(i);
    }
};
static_assert(executor<const serial>);

}}  // namespace multistate::MULTISTATE_TARGET
