#pragma once

// Who runs the work. The library starts no thread: functions that can share work take an executor as a last argument,
// anything that can be called with a number of tasks and a task:
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
// An object with a member `run(n, task)` will do, too; the executors of the library have one.
//
// What a run must guarantee:
//
//   - Every task runs exactly once, and all are done when the call returns.
//   - What was written before the run is seen by every task, and what tasks wrote is seen after it (happens-before;
//     any pool that waits for its tasks gives this).
//   - A run of 0 tasks calls nothing.
//
// What it may rely on: tasks throw nothing, never wait for each other (so one thread is enough, and any order), never
// write to the same memory, and start no run themselves. Only engines nest runs, when a task of theirs calls ms::step
// with the same executor: both executors of the library then run the inner tasks on the thread they are on.
//
// Work is cut by shape (one task per KV head), never by the number of threads, so every executor gives the same bits as
// `serial`. A decoding step hands over as many tasks as the layer has KV heads, some ten microseconds each.
#include <concepts>
#include <cstddef>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

/// Stands for the tasks of the library, none of which is a function pointer.
struct some_task {
    void operator()(std::size_t) const noexcept {}
};

/// Calls task(0) … task(n - 1) by an executor.
template <class E, class Task>
void run_tasks(E& by, std::size_t n, const Task& task) {
    if constexpr (requires { by.run(n, task); }) {
        by.run(n, task);
    } else {
        by(n, task);
    }
}

}  // namespace detail

/// Runs n independent tasks and returns when all are done; the guarantees are above.
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
