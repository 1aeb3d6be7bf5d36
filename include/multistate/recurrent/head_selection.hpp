#pragma once

// Which query heads to replace by a recurrent cell, and which KV heads are left.
//
//     const ms::shape s{.layers = 32, .heads = 32, .kv_heads = 8, .head_dim = 128};
//     const auto heads = ms::heads_to_replace(s, recency, {.count = 512, .whole_groups = true});  // layer * 32 + head
//     const std::size_t left = ms::kept_kv_heads(s, heads);         // of the model's 256, those still in a cache
//
// `recency` [layers * heads] is the share of its attention that a query head gives to the last tokens. RecurFormer
// (arXiv 2410.12850) calls it the recency ratio; attention_profile::recency() measures it
// (budgets/attention_profile.hpp).
//
// With grouped-query attention, a KV head is stored as long as one query head of its group reads it. Replacing some
// heads of a group saves time but no cache; replacing all of them saves the KV head. So whole groups come first. The
// paper ranks single heads, which is the same without groups.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "multistate/core/errors.hpp"
#include "multistate/core/shape.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// How many query heads of a model to replace.
struct head_choice {
    std::size_t count;          ///< query heads in all layers together, at most layers * heads
    bool whole_groups = false;  ///< only whole groups: `count` rounded down to a multiple of the group size
};

namespace detail {

/// Throws unless `heads` are rising and less than `count`.
inline void require_heads(const char* who, std::span<const std::size_t> heads, std::size_t count) {
    for (std::size_t i = 0; i < heads.size(); ++i) {
        require(heads[i] < count, who, "heads", bound{"less than the number of query heads, ", count}, heads[i]);
        if (i > 0 && heads[i] <= heads[i - 1]) {
            refuse(who, "heads", "rising, each once",
                   std::to_string(heads[i]) + " after " + std::to_string(heads[i - 1]));
        }
    }
}

/// The indices of `ranks`, the greatest value first; of equal values the lowest index first.
template <class Number>
std::vector<std::size_t> ranked(const std::vector<Number>& ranks) {
    std::vector<std::size_t> order(ranks.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return ranks[a] > ranks[b]; });
    return order;
}

/// Kept KV heads of a layer whose groups keep the same number of query heads. `heads` and `kv_heads` are indices among
/// the kept heads of the layer, in the order in which the layer's projections write them.
struct kept_groups {
    std::vector<std::uint32_t> heads;     ///< query heads, rising
    std::vector<std::uint32_t> kv_heads;  ///< rising
    std::vector<std::uint32_t> columns;   ///< the same query heads, as indices among all of the layer
    std::vector<std::uint32_t> all;       ///< the same KV heads, as indices among all of the layer
};

/// The kept groups of a layer, those with the most query heads first; empty if all heads are replaced. `replaced` is
/// rising.
inline std::vector<kept_groups> groups_without(const shape& s, std::span<const std::size_t> replaced) {
    std::vector<kept_groups> by_size(s.group());
    std::uint32_t head = 0, kv_head = 0;
    for (std::size_t group = 0; group < s.kv_heads; ++group) {
        std::vector<std::uint32_t> columns;
        for (std::size_t i = group * s.group(); i < (group + 1) * s.group(); ++i) {
            if (!std::ranges::binary_search(replaced, i)) columns.push_back(static_cast<std::uint32_t>(i));
        }
        if (columns.empty()) continue;
        kept_groups& part = by_size[s.group() - columns.size()];
        part.kv_heads.push_back(kv_head++);
        part.all.push_back(static_cast<std::uint32_t>(group));
        for (const std::uint32_t column : columns) {
            part.heads.push_back(head++);
            part.columns.push_back(column);
        }
    }
    std::erase_if(by_size, [](const kept_groups& part) { return part.heads.empty(); });
    return by_size;
}

}  // namespace detail

/// The query heads to replace, as layer * heads + head, rising. First come whole groups with the greatest mean recency.
/// If `whole_groups` is false, single heads with the greatest recency fill the rest of `count`, which is less than a
/// group. Of equal groups or heads, the first is taken. Only layers, heads and kv_heads of `s` are read. Throws
/// std::invalid_argument if sizes do not fit or a number is NaN.
inline std::vector<std::size_t> heads_to_replace(const shape& s, std::span<const float> recency,
                                                 const head_choice& choice) {
    constexpr const char* who = "heads_to_replace";
    detail::require(s.kv_heads >= 1 && s.heads % s.kv_heads == 0 && s.heads >= 1, who, "heads",
                    detail::bound{"a multiple of kv_heads = ", s.kv_heads}, s.heads);
    const std::size_t all = detail::product(who, s.layers, s.heads), group = s.group();
    detail::require(recency.size() == all, who, "recency", detail::bound{"one number for each query head, ", all},
                    recency.size());
    detail::require(choice.count <= all, who, "count", detail::bound{"at most the query heads, ", all}, choice.count);
    for (const float each : recency) detail::require(each == each, who, "recency", "numbers", each);

    std::vector<double> of_groups(all / group);
    for (std::size_t i = 0; i < all; ++i) of_groups[i / group] += static_cast<double>(recency[i]);
    std::vector<std::size_t> heads;
    for (const std::size_t g : detail::ranked(of_groups)) {
        if (heads.size() + group > choice.count) break;
        for (std::size_t i = 0; i < group; ++i) heads.push_back(g * group + i);
    }
    std::ranges::sort(heads);
    if (choice.whole_groups) return heads;
    const std::vector<std::size_t> whole = heads;
    for (const std::size_t head : detail::ranked(std::vector<float>(recency.begin(), recency.end()))) {
        if (heads.size() == choice.count) break;
        if (!std::ranges::binary_search(whole, head)) heads.push_back(head);
    }
    std::ranges::sort(heads);
    return heads;
}

/// The number of KV heads, in all layers together, that are still stored when these query heads are replaced. `heads`
/// are layer * heads + head, rising; else std::invalid_argument is thrown.
inline std::size_t kept_kv_heads(const shape& s, std::span<const std::size_t> heads) {
    constexpr const char* who = "kept_kv_heads";
    detail::require(s.kv_heads >= 1 && s.heads % s.kv_heads == 0 && s.heads >= 1, who, "heads",
                    detail::bound{"a multiple of kv_heads = ", s.kv_heads}, s.heads);
    detail::require_heads(who, heads, detail::product(who, s.layers, s.heads));
    std::vector<std::size_t> replaced(s.layers * s.kv_heads);
    for (const std::size_t head : heads) ++replaced[head / s.group()];
    return static_cast<std::size_t>(std::ranges::count_if(replaced, [&](std::size_t n) { return n < s.group(); }));
}

}}  // namespace multistate::MULTISTATE_TARGET
