#pragma once

// A prompt of numbers that any language computes alike, in one block, and the one decision after it: what public codes
// decided on the same numbers is what a test expects.
#include <algorithm>
#include <cstddef>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/prefill.hpp>
#include <multistate/cache/cache.hpp>

namespace support {

inline std::vector<float> prompt_numbers(std::size_t first, std::size_t count) {
    std::vector<float> result(count);
    for (std::size_t i = 0; i < count; ++i) {
        result[i] = static_cast<float>(static_cast<double>(((first + i) * 7919 + 13) % 1009) / 504.5 - 1);
    }
    return result;
}

struct compressed_prompt {
    std::vector<int> kept;      ///< positions, ascending
    std::vector<float> scores;  ///< of these
};

/// 24 tokens, 2 query heads on one KV head, head_dim 4, value_dim 3; 16 states remain.
template <class P>
compressed_prompt compress_prompt(const P& policy) {
    constexpr std::size_t n = 24, heads = 2, d = 4, v = 3;
    multistate::cache<P> cache(
        {.layers = 1, .heads = heads, .kv_heads = 1, .head_dim = d, .value_dim = v, .states = 16, .block = n}, policy);
    multistate::workspace scratch(cache.shape());
    std::vector<float> out(n * heads * v);
    EXPECT_TRUE(multistate::prefill(
        cache.layer(0), 0, {prompt_numbers(1, n * heads * d), prompt_numbers(5000, n * d), prompt_numbers(9000, n * v)},
        out, scratch, multistate::prefill_mode::block));
    cache.layer(0).forget();
    compressed_prompt result;
    result.kept.assign(cache.layer(0).positions(0).begin(), cache.layer(0).positions(0).end());
    std::ranges::sort(result.kept);
    for (const int p : result.kept) {
        const auto row = std::ranges::find(cache.layer(0).positions(0), p) - cache.layer(0).positions(0).begin();
        result.scores.push_back(cache.layer(0).scores(0)[static_cast<std::size_t>(row)]);
    }
    return result;
}

/// `scores` are those of the first states kept.
inline void expect_prompt(const compressed_prompt& found, const std::vector<int>& kept,
                          const std::vector<double>& scores) {
    EXPECT_EQ(found.kept, kept);
    ASSERT_GE(found.scores.size(), scores.size());
    for (std::size_t i = 0; i < scores.size(); ++i) EXPECT_NEAR(found.scores[i], scores[i], 2e-6) << found.kept[i];
}

}  // namespace support
