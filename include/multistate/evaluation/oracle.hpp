#pragma once

// The attention oracle: forgets the state with the least attention still to come. It needs two passes over a text.
//
//     ms::attention_record record({.layers = 32, .kv_heads = 8, .tokens = 1024});
//     ms::cache<ms::attention_recorder> first(shape_for_1024_states, {&record});
//     …                                                       // pass 1: every token, full attention
//     record.finish();
//     ms::cache<ms::attention_oracle> second(shape, {&record});
//     …                                                       // pass 2: the same tokens, `states` of them survive
//
//   rule     score[j] = sum of a[i][t'][j] over the query heads i of the table and all later tokens t' of pass 1; the
//            oracle of a layer is composed<attention_oracle, per_layer>
//   paper    none. "A study of replacement algorithms" (Belady 1966) evicts the page whose next use is farthest away.
//            Attention is a weight, so here the state with the least attention to come is forgotten
//   cost     4 bytes for each KV head of each layer and pair of tokens, T (T + 1) / 2 pairs; one addition per row and
//            KV head
//   differs  it is no bound: a policy may have a lower perplexity. It knows the attention of the full cache, which
//            changes once states are forgotten; it decides one state at a time; and forgetting can lower a perplexity
#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "multistate/core/errors.hpp"
#include "multistate/core/shape.hpp"
#include "multistate/modifiers/scope.hpp"
#include "multistate/policy/composed.hpp"
#include "multistate/policy/policy.hpp"
#include "multistate/simd/elementwise.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct attention_record_shape {
    std::size_t layers;
    std::size_t kv_heads;
    std::size_t tokens;  ///< the maximum length of a sequence
};

/// The attention of one text: for every KV head and every pair of tokens, the sum over the query heads of its group.
/// Filled by attention_recorder, read by attention_oracle. Layers may be recorded concurrently.
class attention_record {
  public:
    /// Allocates. Throws std::invalid_argument if a size is 0 or if the record exceeds the machine's memory.
    explicit attention_record(const attention_record_shape& s) : shape_(s), sums_(checked_size(s)) {}

    const attention_record_shape& shape() const noexcept { return shape_; }
    std::size_t memory_bytes() const noexcept { return sums_.size() * sizeof(float); }

    /// One token in one KV head.
    struct row {
        std::size_t layer;
        std::size_t kv_head;
        position token;
    };
    /// Before finish(): the attention of the token at position t to the positions 0 to t.
    std::span<float> attention(const row& r) noexcept {
        return {sums_.data() + offset(r), static_cast<std::size_t>(r.token) + 1};
    }
    /// After finish(): the summed attention of all tokens from position t on, to the positions 0 to t.
    std::span<const float> attention_from(const row& r) const noexcept {
        detail::check(finished_, who, "the record", "finished: call finish() after pass 1", "not");
        return {sums_.data() + offset(r), static_cast<std::size_t>(r.token) + 1};
    }

    /// Ends pass 1; call once. Replaces the attention of each token by the sum over that token and all later ones.
    void finish() noexcept {
        detail::check(!finished_, who, "finish", "called once for each text", "called again");
        finished_ = true;
        for (std::size_t table = 0; table < shape_.layers * shape_.kv_heads; ++table) {
            for (std::size_t t = shape_.tokens - 1; t-- > 0;) {
                const auto at = static_cast<position>(t);
                const auto later = attention({table / shape_.kv_heads, table % shape_.kv_heads, at + 1});
                const auto now = attention({table / shape_.kv_heads, table % shape_.kv_heads, at});
                simd::add({later.data(), now.size()}, now);
            }
        }
    }
    /// Call before pass 1 of another text: sets all attention to 0 and keeps the memory.
    void clear() noexcept {
        std::ranges::fill(sums_, 0.0f);
        finished_ = false;
    }

  private:
    static constexpr const char* who = "attention_record";

    static std::size_t pairs(std::size_t tokens) noexcept { return tokens * (tokens + 1) / 2; }
    static std::size_t checked_size(const attention_record_shape& s) {
        detail::require_size(who, "layers", s.layers);
        detail::require_size(who, "kv_heads", s.kv_heads);
        detail::require_size(who, "tokens", s.tokens);
        const std::size_t square = detail::product(who, s.tokens, detail::sum(who, s.tokens, 1));
        const std::size_t size = detail::product(who, detail::product(who, s.layers, s.kv_heads), square) / 2;
        detail::require_memory(who, detail::bytes<float>(who, size));
        return size;
    }
    std::size_t offset(const row& r) const noexcept {
        const auto token = static_cast<std::size_t>(r.token);
        detail::check(r.layer < shape_.layers, who, "layer", detail::bound{"less than layers = ", shape_.layers},
                      r.layer);
        detail::check(r.kv_head < shape_.kv_heads, who, "kv_head",
                      detail::bound{"less than kv_heads = ", shape_.kv_heads}, r.kv_head);
        detail::check(token < shape_.tokens, who, "position", detail::bound{"less than tokens = ", shape_.tokens},
                      r.token);
        return (r.layer * shape_.kv_heads + r.kv_head) * pairs(shape_.tokens) + pairs(token);
    }

    attention_record_shape shape_;
    bool finished_ = false;
    std::vector<float> sums_;  // [layers, kv_heads, pairs]: row t of t + 1 floats for each token
};

namespace detail {

template <class P>
void require_record(const attention_record* record, const table_shape& s) {
    const std::string who(P::name);
    if (record == nullptr) refuse(who.c_str(), "record", "given", "null");
    require(s.layer < record->shape().layers, who.c_str(), "layers of the record", bound{"more than ", s.layer},
            record->shape().layers);
    require(s.kv_head + s.kv_heads <= record->shape().kv_heads, who.c_str(), "kv_heads of the record",
            bound{"at least ", s.kv_head + s.kv_heads}, record->shape().kv_heads);
}

}  // namespace detail

/// Pass 1: forgets nothing and records the attention. Positions must be less than the record's `tokens`.
struct attention_recorder {
    static constexpr std::string_view name = "attention_recorder";
    static constexpr per forgets() noexcept { return per::never; }

    attention_record* record = nullptr;  ///< must outlive the cache

    void check_shape(const table_shape& s) const { detail::require_record<attention_recorder>(record, s); }
    void on_attention(rows probabilities, view states) const noexcept {
        const std::size_t group = states.shape.group();
        for (std::size_t h = 0; h < states.shape.kv_heads; ++h) {
            const auto to = record->attention({states.shape.layer, states.shape.kv_head + h, states.newest});
            for (std::size_t i = h * group; i < (h + 1) * group; ++i) {
                for (std::size_t j = 0; j < states.size(); ++j) {
                    to[static_cast<std::size_t>(states.position[j])] += probabilities[i][j];
                }
            }
        }
    }
};
static_assert(policy<attention_recorder> && hooks_of<attention_recorder> == (hook::check_shape | hook::on_attention));

/// Pass 2: reads the record after finish(). The text must be the same.
struct attention_oracle {
    static constexpr std::string_view name = "attention_oracle";
    static constexpr per forgets() noexcept { return per::head; }
    static constexpr bool replaces_scores = true;

    const attention_record* record = nullptr;  ///< must outlive the cache

    void check_shape(const table_shape& s) const { detail::require_record<attention_oracle>(record, s); }
    void on_attention(rows, view states) const noexcept {
        std::ranges::fill(states.score, 0.0f);
        const position next = states.newest + 1;
        if (static_cast<std::size_t>(next) >= record->shape().tokens) return;  // nothing is still to come
        for (std::size_t h = 0; h < states.shape.kv_heads; ++h) {
            const auto later = record->attention_from({states.shape.layer, states.shape.kv_head + h, next});
            for (std::size_t j = 0; j < states.size(); ++j) {
                states.score[j] += later[static_cast<std::size_t>(states.position[j])];
            }
        }
    }
};
static_assert(policy<attention_oracle> && hooks_of<attention_oracle> == (hook::check_shape | hook::on_attention));

/// All KV heads of a layer forget the same states.
using attention_oracle_layer = composed<attention_oracle, per_layer>;

}}  // namespace multistate::MULTISTATE_TARGET
