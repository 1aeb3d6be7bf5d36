#pragma once

// The scratch memory of layers whose heads are partly replaced (replaced_heads.hpp).
//
//     ms::replaced_heads_workspace scratch(layers[0]);        // one per worker
//     for (const auto& layer : layers) scratch.reserve(layer);
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "multistate/attention/workspace.hpp"
#include "multistate/core/aligned_array.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/recurrent/cell.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

namespace detail {

/// Floats for the inputs and outputs of part of a layer's heads.
inline std::size_t head_floats(const shape& s, std::size_t tokens) noexcept {
    return tokens * ((s.heads + s.kv_heads) * (s.head_dim + s.value_dim));
}

/// Copies selected heads of [tokens, heads, width] into contiguous memory.
class head_buffers {
  public:
    explicit head_buffers(std::span<float> rest) noexcept : rest_(rest) {}

    std::span<float> take(std::size_t n) noexcept {
        const std::span<float> first = rest_.first(n);
        rest_ = rest_.subspan(n);
        return first;
    }
    /// The number of tokens, and the floats of one head of one token.
    struct sizes {
        std::size_t tokens, width;
    };
    std::span<const float> gather(std::span<const float> from, std::span<const std::uint32_t> heads,
                                  sizes of) noexcept {
        const std::span<float> to = take(of.tokens * heads.size() * of.width);
        const std::size_t stride = from.size() / of.tokens;
        float* next = to.data();
        for (std::size_t t = 0; t < of.tokens; ++t) {
            for (const std::uint32_t head : heads) {
                next = std::copy_n(from.data() + t * stride + head * of.width, of.width, next);
            }
        }
        return to;
    }

  private:
    std::span<float> rest_;
};

}  // namespace detail

/// The scratch memory of one worker. Layers use it in turn; concurrent calls need one each. It holds as much as the
/// largest layer needs, with one attention workspace for each number of kept heads.
class replaced_heads_workspace {
  public:
    replaced_heads_workspace() = default;
    template <class Layer>
    explicit replaced_heads_workspace(const Layer& layer) {
        reserve(layer);
    }

    /// Makes room for one more layer. Throws std::invalid_argument if that exceeds the machine's memory.
    template <class Layer>
    void reserve(const Layer& layer) {
        const shape& s = layer.shape();
        const std::size_t floats = detail::head_floats(s, s.block);
        if (floats * sizeof(float) > heads_.bytes()) heads_ = aligned_array<float>(floats);
        if (layer.cell()) std::visit([&](const auto& cell) { cell_.reserve(cell, {1, s.block}); }, *layer.cell());
        for (const auto& part : layer.parts()) {
            if (find(part.cache.shape()) != nullptr) continue;
            workspace made(part.cache.shape());
            std::erase_if(attention_, [&](const sized& each) { return made.fits(each.of); });  // smaller ones
            attention_.push_back({part.cache.shape(), std::move(made)});
        }
    }

    std::size_t memory_bytes() const noexcept {
        std::size_t bytes = cell_.memory_bytes() + heads_.bytes();
        for (const sized& each : attention_) bytes += each.scratch.memory_bytes();
        return bytes;
    }

    // The members below are called by layers.

    cell_workspace& cell() noexcept { return cell_; }
    std::span<float> floats(std::size_t n) noexcept {
        detail::check(n * sizeof(float) <= heads_.bytes(), who, "the workspace", "reserved for this layer", "not");
        return {heads_.data(), n};
    }
    workspace& attention(const shape& s) noexcept {
        workspace* const found = find(s);
        detail::check(found != nullptr, who, "the workspace", "reserved for this layer", "not");
        return *found;
    }

  private:
    static constexpr const char* who = "replaced_heads";

    struct sized {
        shape of;
        workspace scratch;
    };

    workspace* find(const shape& s) noexcept {
        const auto found = std::ranges::find_if(attention_, [&](const sized& each) { return each.scratch.fits(s); });
        return found == attention_.end() ? nullptr : &found->scratch;
    }

    cell_workspace cell_;
    aligned_array<float> heads_;
    std::vector<sized> attention_;  // one for each number of kept heads
};

}}  // namespace multistate::MULTISTATE_TARGET
