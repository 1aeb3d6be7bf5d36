#pragma once

// Who runs the work. The library starts no thread: functions that can share work take an executor, anything with
//
//     void run(std::size_t n, auto&& task);   // calls task(0) … task(n - 1), in any order and on any threads
//
//     ms::step(cache, layer, position, q, k, v, out);             // on the caller's thread: ms::serial
//     ms::step(cache, layer, position, q, k, v, out, pool);       // ms::thread_pool, in thread_pool.hpp
//     ms::step(cache, layer, position, q, k, v, out, ms::openmp{});  // openmp.hpp
//     ms::step(cache, layer, position, q, k, v, out, mine);       // an engine's own threads, six lines:
//
//     struct my_executor {
//         my_threads& threads;
//         void run(std::size_t n, auto&& task) {
//             threads.for_each_index(n, [&](std::size_t i) { task(i); });   // returns when all are done
//         }
//     };
//
// What a run must guarantee:
//
//   - Every task runs exactly once, and all are done when `run` returns.
//   - What was written before `run` is seen by every task, and what tasks wrote is seen after `run` (happens-before;
//     any pool that waits for its tasks gives this).
//   - run(0, task) calls nothing.
//
// What it may rely on: tasks throw nothing, never wait for each other (so one thread is enough, and any order), never
// write to the same memory, and start no run themselves. Only engines nest runs, when a task of theirs calls ms::step
// with the same executor: both executors of the library then run the inner tasks on the thread they are on.
//
// Work is cut by shape (one task per KV head), never by the number of threads, so every executor gives the same bits as
// `serial`. A decoding step hands over as many tasks as the layer has KV heads, some ten microseconds each.
#include <concepts>
#include <cstddef>

#include "multistate/target.hpp"

namespace multistate::inline MULTISTATE_TARGET {

/// Runs n independent tasks and returns when all are done; the guarantees are above.
template <class E>
concept executor = requires(E& e, std::size_t n, void (*task)(std::size_t)) {
    e.run(n, task);
};

/// The default: one task after another on the caller's thread.
struct serial {
    void run(std::size_t n, auto&& task) const noexcept {
        for (std::size_t i = 0; i < n; ++i) task(i);
    }
};
static_assert(executor<const serial>);

}  // namespace multistate::inline MULTISTATE_TARGET
