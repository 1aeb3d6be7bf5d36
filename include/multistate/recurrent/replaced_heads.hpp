#pragma once

// A layer of RecurFormer: a recurrent cell serves some query heads, attention over a cache serves the others.
//
//     // 32 query heads on 8 KV heads of 128; the cell serves heads 0 to 3, all of the first KV head, and head 9
//     const std::vector<std::size_t> heads = {0, 1, 2, 3, 9};
//     const ms::selective cell({.inputs = 4096, .units = 1280, .outputs = 5 * 128}, parameters);
//     ms::replaced_heads<ms::tova, ms::bf16> layer(
//         {.layers = 1, .heads = 32, .kv_heads = 8, .head_dim = 128, .states = 512}, {.heads = heads, .cell = cell});
//     ms::replaced_heads_workspace scratch(layer);            // one per worker; scratch.reserve(next_layer)
//
//     // x: the input of the layer's query projection. q, k, v: of the kept heads only, after RoPE. out: all 32 heads
//     bool done = layer.step(position, {.x = x, .q = q, .k = k, .v = v}, out, scratch);
//
//     paper    Yan et al. 2024, RecurFormer: Not All Transformer Heads Need Self-Attention, arXiv 2410.12850
//     rule     heads that attend to the last tokens get a linear recurrent cell (Mamba); the others keep their cache
//     differs  one cell serves all replaced heads of a layer. The others may be bounded by any policy, with any codec;
//              the paper keeps their caches whole (ms::full)
//
// The caches and the policy know the kept heads only. A KV head is stored as long as a query head of its group is kept
// (head_selection.hpp chooses heads with that in mind). In a cache all KV heads have the same number of query heads, so
// a layer has one cache for each number of query heads that its groups keep: one if only whole groups are replaced. A
// policy that decides for all heads of a layer then decides for the heads of each cache separately.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "multistate/attention/prefill.hpp"
#include "multistate/cache/cache.hpp"
#include "multistate/recurrent/cell.hpp"
#include "multistate/recurrent/head_selection.hpp"
#include "multistate/recurrent/min_gru.hpp"
#include "multistate/recurrent/replaced_heads_workspace.hpp"
#include "multistate/recurrent/selective.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// The cells that can serve heads.
using replacing_cell = std::variant<selective, min_gru>;

namespace detail {

/// As std::visit, without its exception for a valueless variant.
template <class F>
auto visit_cell(const replacing_cell& cell, F f) noexcept {
    if (const auto* const chosen = std::get_if<selective>(&cell)) return f(*chosen);
    return f(*std::get_if<min_gru>(&cell));
}

}  // namespace detail

/// The query heads of a layer that are replaced, and the cell that serves them.
struct replacement {
    /// Indices within the layer, rising; may be empty. (heads_to_replace counts through all layers.)
    std::span<const std::size_t> heads = {};
    /// Its output_size() is heads.size() * value_dim. Empty if and only if `heads` is.
    std::optional<replacing_cell> cell = {};
};

/// The inputs of one layer.
struct replaced_heads_input {
    std::span<const float> x;  ///< [tokens, input_size of the cell]; empty without a cell
    std::span<const float> q;  ///< [tokens, kept query heads, head_dim]
    std::span<const float> k;  ///< [tokens, kept KV heads, head_dim]
    std::span<const float> v;  ///< [tokens, kept KV heads, value_dim]
};

/// One layer of one sequence. The state of the cell lies beside the caches: clear, clone and memory_bytes mean both.
/// Only the constructor and clone allocate. The parameters of the cell must outlive the layer.
template <policy P, codec KeyCodec = f32, codec ValueCodec = KeyCodec>
class replaced_heads {
  public:
    using cache_type = cache<P, KeyCodec, ValueCodec>;

    /// A cache, and the KV heads of the layer that it stores.
    struct part {
        cache_type cache;          ///< of one layer
        detail::kept_groups kept;  ///< the query heads and KV heads that it serves
    };

    /// `given` is the layer before heads are replaced, with layers = 1. To the policy, each cache is layer 0 of a model
    /// of its own. A policy with data per layer or head needs the data of this layer and of the kept heads; a policy
    /// that draws random numbers needs a seed per layer. Throws std::invalid_argument for a shape that a cache refuses,
    /// for heads that are not rising or out of range, and for a cell that does not fit the heads.
    replaced_heads(const multistate::shape& given, const replacement& replaced, const P& policy = {})
        : shape_(checked_shape(given, replaced)), cell_(replaced.cell), state_(cell_state_size(replaced)) {
        for (const std::size_t head : replaced.heads) columns_.push_back(static_cast<std::uint32_t>(head));
        for (detail::kept_groups& kept : detail::groups_without(shape_, replaced.heads)) {
            cache_type made(shape_of(shape_, kept), policy);
            parts_.push_back({std::move(made), std::move(kept)});
        }
    }

    replaced_heads(replaced_heads&&) noexcept = default;
    replaced_heads& operator=(replaced_heads&&) noexcept = default;
    /// A copy that continues identically.
    replaced_heads clone() const {
        replaced_heads other(shape_, cell_, state_, columns_);
        other.next_ = next_;
        for (const part& each : parts_) other.parts_.push_back({each.cache.clone(), each.kept});
        return other;
    }

    /// The layer before heads were replaced.
    const multistate::shape& shape() const noexcept { return shape_; }
    std::size_t kept_heads() const noexcept { return shape_.heads - columns_.size(); }
    std::size_t kept_kv_heads() const noexcept {
        std::size_t count = 0;
        for (const part& each : parts_) count += each.kept.kv_heads.size();
        return count;
    }

    /// The caches, groups with the most query heads first: for an attention kernel of one's own, rebudget, and
    /// statistics. Empty if all heads are replaced.
    std::span<part> parts() noexcept { return parts_; }
    std::span<const part> parts() const noexcept { return parts_; }
    const std::optional<replacing_cell>& cell() const noexcept { return cell_; }
    /// The state of the cell, without the caches: to save, and to continue from later. Empty without a cell.
    std::span<float> cell_state() noexcept { return state_; }
    std::span<const float> cell_state() const noexcept { return state_; }

    /// Forgets everything and keeps the memory.
    void clear() noexcept {
        std::ranges::fill(state_, 0.0f);
        for (part& each : parts_) each.cache.clear();
        next_ = 0;
    }

    /// Memory of the caches and of the cell's state; not of the cell's parameters, which all sequences share.
    std::size_t memory_bytes() const noexcept {
        std::size_t bytes = state_.size() * sizeof(float);
        for (const part& each : parts_) bytes += each.cache.memory_bytes();
        return bytes;
    }
    /// Predicts memory_bytes() of such a layer. Throws as the constructor.
    static std::size_t bytes_for(const multistate::shape& given, const replacement& replaced, const P& policy = {}) {
        const multistate::shape s = checked_shape(given, replaced);
        std::size_t bytes = cell_state_size(replaced) * sizeof(float);
        for (const detail::kept_groups& kept : detail::groups_without(s, replaced.heads)) {
            bytes = detail::sum(who, bytes, cache_type::bytes_for(shape_of(s, kept), policy));
        }
        return bytes;
    }

    /// One token; out [heads, value_dim] of all query heads. If the policy never forgets and the rows are used up,
    /// returns false and changes nothing. Allocates nothing.
    template <executor E = serial>
    [[nodiscard]] bool step(position p, const replaced_heads_input& in, std::span<float> out,
                            replaced_heads_workspace& scratch, E&& run = E{}) noexcept {
        detail::expect_floats(who, "out", "[heads, value_dim] floats, ", out.size(), shape_.heads * shape_.value_dim);
        return prefill(p, in, out, scratch, prefill_mode::exact, run);
    }

    /// Tokens at consecutive positions from `first`, at most `block` of them; out [tokens, heads, value_dim] must not
    /// overlap the inputs. The caches work as in ms::prefill. If one of them has no room, returns false and changes
    /// nothing. Allocates nothing.
    template <executor E = serial>
    [[nodiscard]] bool prefill(position first, const replaced_heads_input& in, std::span<float> out,
                               replaced_heads_workspace& scratch, prefill_mode mode = prefill_mode::exact,
                               E&& run = E{}) noexcept {
        const std::size_t tokens = expect(first, in, out);
        for (part& each : parts_) {
            if (!each.cache.layer(0).has_room(tokens)) return false;
        }
        advance_cell(in.x, tokens, out, scratch, run);
        bool done = true;
        for (part& each : parts_) done = attend(each, {first, tokens}, in, out, scratch, mode, run) && done;
        next_ = first + static_cast<position>(tokens);
        return done;
    }

    /// The cell alone, for an attention kernel of one's own: advances its state over x [tokens, input_size] and writes
    /// the columns of the replaced heads in out [tokens, heads, value_dim]. At most `block` tokens. Without a
    /// cell, does nothing.
    template <executor E = serial>
    void advance_cell(std::span<const float> x, std::size_t tokens, std::span<float> out,
                      replaced_heads_workspace& scratch, E&& run = E{}) noexcept {
        detail::expect_floats(who, "out", "[tokens, heads, value_dim] floats, ", out.size(),
                              tokens * shape_.heads * shape_.value_dim);
        if (!cell_) return;
        const std::span<float> served = scratch.floats(tokens * columns_.size() * shape_.value_dim);
        detail::visit_cell(*cell_, [&](const auto& cell) {
            if (tokens == 1) {
                cell.step({.x = x, .state = state_, .out = served}, scratch.cell());
            } else {
                cell.scan({.x = x, .state = state_, .out = served}, scratch.cell(), run);
            }
        });
        scatter({served.data(), tokens, columns_.size() * shape_.value_dim, columns_.size() * shape_.value_dim},
                columns_, out);
    }

  private:
    static constexpr const char* who = "replaced_heads";
    struct token_span {
        position first;
        std::size_t count;
    };

    replaced_heads(const multistate::shape& s, const std::optional<replacing_cell>& cell,
                   const std::vector<float>& state, const std::vector<std::uint32_t>& columns)
        : shape_(s), cell_(cell), state_(state), columns_(columns) {}

    static multistate::shape checked_shape(const multistate::shape& given, const replacement& replaced) {
        const multistate::shape s = detail::checked(given);
        detail::require(s.layers == 1, who, "layers", "1", s.layers);
        detail::require_size(who, "block", s.block);
        detail::require_heads(who, replaced.heads, s.heads);
        detail::require(replaced.cell.has_value() == !replaced.heads.empty(), who, "cell",
                        "given if and only if heads are replaced, whose number", replaced.heads.size());
        if (!replaced.cell) return s;
        const std::size_t outputs =
            detail::visit_cell(*replaced.cell, [](const auto& cell) { return cell.output_size(); });
        const std::size_t wanted = detail::product(who, replaced.heads.size(), s.value_dim);
        detail::require(outputs == wanted, who, "output_size() of the cell",
                        detail::bound{"value_dim for each replaced head, ", wanted}, outputs);
        return s;
    }
    static std::size_t cell_state_size(const replacement& replaced) {
        if (!replaced.cell) return 0;
        return detail::visit_cell(*replaced.cell, [](const auto& cell) { return cell.state_size(); });
    }
    static multistate::shape shape_of(multistate::shape s, const detail::kept_groups& kept) noexcept {
        s.heads = kept.heads.size();
        s.kv_heads = kept.kv_heads.size();
        return s;
    }

    /// Checks the arguments of a step; returns the number of tokens.
    std::size_t expect(position first, const replaced_heads_input& in, std::span<const float> out) const noexcept {
        const std::size_t tokens = detail::tokens_of(who, "out", "[tokens, heads, value_dim] floats, a multiple of ",
                                                     out.size(), shape_.heads * shape_.value_dim, shape_.block);
        const std::size_t width =
            cell_ ? detail::visit_cell(*cell_, [](const auto& cell) { return cell.input_size(); }) : 0;
        const std::size_t kv_heads = kept_kv_heads();
        detail::expect_floats(who, "x", "[tokens, input_size of the cell] floats, ", in.x.size(), tokens * width);
        detail::expect_floats(who, "q", "[tokens, kept query heads, head_dim] floats, ", in.q.size(),
                              tokens * kept_heads() * shape_.head_dim);
        detail::expect_floats(who, "k", "[tokens, kept KV heads, head_dim] floats, ", in.k.size(),
                              tokens * kv_heads * shape_.head_dim);
        detail::expect_floats(who, "v", "[tokens, kept KV heads, value_dim] floats, ", in.v.size(),
                              tokens * kv_heads * shape_.value_dim);
        detail::expect_apart(who, "x", in.x, out);
        detail::check(first >= next_, who, "position", detail::bound{"greater than all before, at least ", next_},
                      first);
        detail::check(tokens <= static_cast<std::size_t>(last_position - first) + 1, who, "position",
                      detail::bound{"for all tokens at most ", last_position}, first);
        return tokens;
    }

    /// Writes the heads of `from` [tokens, heads * value_dim] into their columns of out.
    void scatter(rows from, std::span<const std::uint32_t> columns, std::span<float> out) const noexcept {
        const std::size_t width = shape_.value_dim;
        for (std::size_t t = 0; t < from.count; ++t) {
            for (std::size_t i = 0; i < columns.size(); ++i) {
                std::copy_n(from.data + t * from.stride + i * width, width,
                            out.data() + (t * shape_.heads + columns[i]) * width);
            }
        }
    }

    template <class E>
    bool attend(part& to, token_span tokens, const replaced_heads_input& in, std::span<float> out,
                replaced_heads_workspace& scratch, prefill_mode mode, E& run) noexcept {
        const auto layer = to.cache.layer(0);
        workspace& attention = scratch.attention(layer.shape());
        const qkv all{in.q, in.k, in.v};
        if (columns_.empty()) return multistate::prefill(layer, tokens.first, all, out, attention, mode, run);
        const auto& [heads, kv_heads, columns, unused] = to.kept;
        const std::size_t width = heads.size() * shape_.value_dim;
        detail::head_buffers buffers(scratch.floats(detail::head_floats(shape_, tokens.count)));
        const std::span<float> attended = buffers.take(tokens.count * width);
        const qkv part_of_heads = parts_.size() == 1
                                      ? all
                                      : qkv{buffers.gather(in.q, heads, {tokens.count, shape_.head_dim}),
                                            buffers.gather(in.k, kv_heads, {tokens.count, shape_.head_dim}),
                                            buffers.gather(in.v, kv_heads, {tokens.count, shape_.value_dim})};
        const bool done = multistate::prefill(layer, tokens.first, part_of_heads, attended, attention, mode, run);
        scatter({attended.data(), tokens.count, width, width}, columns, out);
        return done;
    }

    multistate::shape shape_;
    std::optional<replacing_cell> cell_;
    std::vector<float> state_;
    std::vector<std::uint32_t> columns_;  // the replaced heads
    std::vector<part> parts_;
    position next_ = 0;
};

}}  // namespace multistate::MULTISTATE_TARGET
