#pragma once

// What global operator new handed out in this program: counting.cpp replaces it.
#include <cstddef>

namespace counting {

/// Bytes handed out and not given back, exactly as many as were asked for.
std::size_t live_bytes() noexcept;
/// Calls of any operator new since the program began.
std::size_t allocations() noexcept;

}  // namespace counting
