#pragma once

// Prefetching of stored rows, which are read in blocks:
//
//     for (each block of block_rows(bytes of a row) rows) {
//         rows_ahead ahead(end of the block);
//         for (each pass over the block) for (each row) multiply(row), ahead.next(bytes of a row / passes);
//     }
//
// The next block is prefetched in order, evenly over all passes: memory stays busy in each of them. Into the
// first-level cache, which holds both blocks.
#include <cstddef>
#include <cstdint>

#include "multistate/core/target.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace simd { namespace detail {

/// The most rows in a block.
inline constexpr std::size_t most_block_rows = 128;
/// Rows that all queries use before the next are touched: about 8 KiB, so that two blocks fit into the first-level
/// cache.
constexpr std::size_t block_rows(std::size_t row_bytes) noexcept {
    return row_bytes <= 68 ? 128 : row_bytes <= 128 ? 64 : row_bytes <= 256 ? 32 : 16;
}

/// Whether prefetching pays: steps are 1.3 to 1.8 times as fast on a Zen 5, 1.1 times on an Emerald Rapids; on a Zen 4
/// they took up to 1.36 times as long. GCC 12 takes a Zen 5 for a Zen 3 with AVX-VNNI.
#if defined(__znver1__) || defined(__znver2__) || defined(__znver4__) || (defined(__znver3__) && !defined(__AVXVNNI__))
inline constexpr bool prefetches = false;
#else
inline constexpr bool prefetches = true;
#endif

class rows_ahead {
  public:
    explicit rows_ahead(const void* begin) noexcept : line_(reinterpret_cast<std::uintptr_t>(begin)) {}

    MULTISTATE_INLINE void next(std::size_t bytes) noexcept {
        if constexpr (prefetches) {
            for (std::size_t byte = 0; byte < bytes; byte += 64) {
                __builtin_prefetch(reinterpret_cast<const char*>(line_ + byte), 0, 3);
            }
            line_ += bytes;
        }
    }

  private:
    std::uintptr_t line_;  // may lie behind the rows, where there is no valid pointer
};

}}}}  // namespace multistate::MULTISTATE_TARGET::simd::detail
