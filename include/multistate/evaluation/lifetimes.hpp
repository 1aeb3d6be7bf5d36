#pragma once

// How long each state of a text was held.
//
//     ms::lifetimes lives({.layers = 32, .kv_heads = 8, .tokens = 1024});
//     for (const ms::forgotten_state& f : layer.forgotten(kv_head)) {         // after every append
//         lives.forget({.layer = i, .kv_head = kv_head, .position = f.position, .step = f.decided_by});
//     }
//     lives.last_steps(i, kv_head)                            // [tokens]: the retained-token map of figures 7 to 9 of
//                                                             // arXiv 2401.06104: j is dark from step j to last[j]
//     lives.held_share(j)                                     // 0.4: of the steps from j to the end, 40 %
//     lives.recent_share(512)                                 // 0.75: of the survivors, 75 % are among the newest 512
//
// The step of a token is its position. A state takes part in the step of its own token and in all steps up to its last.
// A state that was never forgotten has the last token of the text as its last step.
#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "multistate/core/errors.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/core/types.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct lifetimes_shape {
    std::size_t layers;
    std::size_t kv_heads;
    std::size_t tokens;  ///< the length of the text
};

/// The last step of each state of one text: 4 bytes for each token and KV head of each layer.
class lifetimes {
  public:
    /// Throws std::invalid_argument if a size is 0 or if the numbers exceed the machine's memory.
    explicit lifetimes(const lifetimes_shape& s)
        : shape_(s), last_(checked_size(s), static_cast<position>(s.tokens - 1)) {}

    const lifetimes_shape& shape() const noexcept { return shape_; }

    /// A state that a KV head forgot.
    struct forgotten {
        std::size_t layer;
        std::size_t kv_head;
        multistate::position position;
        multistate::position step;  ///< the last step that it took part in
    };
    /// Records one forgotten state. Positions and steps are less than shape().tokens; a step is not before its state.
    void forget(const forgotten& f) noexcept {
        const std::size_t j = place(f.position);
        detail::check(f.step >= f.position, who, "step", detail::bound{"at least the position, ", f.position}, f.step);
        detail::check(f.step < static_cast<position>(shape_.tokens), who, "step",
                      detail::bound{"less than tokens = ", shape_.tokens}, f.step);
        last_[table(f.layer, f.kv_head) + j] = f.step;
    }
    /// [tokens]: the last step of each state.
    std::span<const position> last_steps(std::size_t layer, std::size_t kv_head) const noexcept {
        return std::span(last_).subspan(table(layer, kv_head), shape_.tokens);
    }
    /// The steps that the state at position j was held, as a share (0 to 1) of those from j to the end; the mean over
    /// layers and KV heads.
    double held_share(position j) const noexcept {
        const std::size_t at = place(j);
        double steps = 0;
        for (std::size_t i = at; i < last_.size(); i += shape_.tokens) steps += static_cast<double>(last_[i] - j + 1);
        const std::size_t possible = (shape_.tokens - at) * shape_.layers * shape_.kv_heads;
        return steps / static_cast<double>(possible);
    }

    /// Of the states that survive a step, the share (0 to 1) that is among the newest `newest` positions: over all steps
    /// from `newest` on, layers and KV heads. NaN if no state survives such a step.
    double recent_share(std::size_t newest) const noexcept {
        const std::size_t n = shape_.tokens;
        std::size_t all = 0, recent = 0;
        for (std::size_t i = 0; i < last_.size(); ++i) {
            // State j survives the steps from j to before its last, and is recent in those before j + newest. The end
            // of the text is no decision: a state held there survives the step before it.
            const std::size_t j = i % n, begin = (std::max)(j, newest), end = static_cast<std::size_t>(last_[i]);
            if (end <= begin) continue;
            all += end - begin;
            recent += (std::max)((std::min)(end, j + newest), begin) - begin;
        }
        if (all == 0) return std::numeric_limits<double>::quiet_NaN();
        return static_cast<double>(recent) / static_cast<double>(all);
    }

  private:
    static constexpr const char* who = "lifetimes";

    static std::size_t checked_size(const lifetimes_shape& s) {
        detail::require_size(who, "layers", s.layers);
        detail::require_size(who, "kv_heads", s.kv_heads);
        detail::require_size(who, "tokens", s.tokens);
        const std::size_t size = detail::product(who, detail::product(who, s.layers, s.kv_heads), s.tokens);
        detail::require_memory(who, detail::bytes<position>(who, size));
        return size;
    }
    std::size_t place(position j) const noexcept {
        detail::check(static_cast<std::size_t>(j) < shape_.tokens, who, "position",
                      detail::bound{"less than tokens = ", shape_.tokens}, j);
        return static_cast<std::size_t>(j);
    }
    std::size_t table(std::size_t layer, std::size_t kv_head) const noexcept {
        detail::check(layer < shape_.layers, who, "layer", detail::bound{"less than layers = ", shape_.layers}, layer);
        detail::check(kv_head < shape_.kv_heads, who, "kv_head",
                      detail::bound{"less than kv_heads = ", shape_.kv_heads}, kv_head);
        return (layer * shape_.kv_heads + kv_head) * shape_.tokens;
    }

    lifetimes_shape shape_;
    std::vector<position> last_;  // [layers, kv_heads, tokens]
};

}}  // namespace multistate::MULTISTATE_TARGET
