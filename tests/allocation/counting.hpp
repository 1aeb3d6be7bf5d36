#pragma once

// What global operator new handed out in this program: counting.cpp replaces it.
#include <cstddef>

namespace counting {

/// Bytes handed out and not given back, exactly as many as were asked for.
std::size_t live_bytes() noexcept;
/// Calls of any operator new since the program began.
std::size_t allocations() noexcept;
/// The allocation after the next `count` throws std::bad_alloc, once. never_fail() takes that back.
void fail_after(std::size_t count) noexcept;
void never_fail() noexcept;

}  // namespace counting
