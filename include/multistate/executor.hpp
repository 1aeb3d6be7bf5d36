#pragma once

// Who runs the work. The library starts no thread: functions that can share work take an executor, anything with
//
//     void run(std::size_t n, auto&& task);   // calls task(0) … task(n - 1), in any order and on any threads
//
// and hand it tasks that never touch the same memory. Work is cut by shape (one task per KV head), never by the number
// of threads, so every executor gives the same bits as `serial`.
#include <concepts>
#include <cstddef>

#include "multistate/target.hpp"

namespace multistate::inline MULTISTATE_TARGET {

/// Runs n independent tasks and returns when all are done.
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
