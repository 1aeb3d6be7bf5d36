#pragma once

// Measures the recency of each query head: the share of its attention on the last tokens and the sinks. Gives
// training-free scores for duo_budget and lazy_layers_budget (duo.hpp, lazy_layers.hpp), and the heads that a recurrent
// cell can serve (recurrent/head_selection.hpp).
//
//     ms::attention_profile profile({.layers = 32, .heads = 32, .kv_heads = 8});  // sinks 128, recent 256
//     const auto layer = cache.layer(i);
//     profile.observe(layer, ms::attend(layer, q, out, scratch));  // the tokens to judge by, any number
//     const auto budget = ms::duo_budget(profile.retrieval(), 0.1f, 32768);
//     ms::cache<ms::composed<ms::window, ms::per_head>> duo(shape, {}, budget);
//
//     ms::attention_profile recency(heads, {.sinks = 0, .recent = 64}, ms::own_token::left_out);
//     for (const auto& head : recency.ranked()) { … head.layer, head.head, head.recency … }  // the greatest first
//
//   rule     recency = the sum of a[i][t][j] over the states j that are among the first `sinks` positions or among the
//            `recent` newest, divided by the sum over all j; both sums also run over the observed tokens. t itself is
//            the newest state. With own_token::left_out, t is in no sum, and `recent` counts from the state before it.
//            retrieval = 1 - the mean over the query heads of a KV head; laziness = the mean over those of a layer
//   papers   SimLayerKV (arXiv 2410.13846) calls a layer lazy if its recency is high: sinks 4, recent 1024. For a KV
//            head, retrieval stands for the trained gates of DuoAttention (arXiv 2410.10819). With sinks = 0, recency
//            is the share of attention on the last tokens by which RecurFormer (2410.12850) finds its recency-aware
//            heads
//   differs  kvpress's SimLayerKV leaves out a token's attention to itself: own_token::left_out. For RecurFormer we
//            follow the description of its recency ratio, not its formula: the caller chooses how many tokens are
//            recent, and whether the token itself counts. Tokens before position sinks + recent are not counted: they
//            have no other states
//
// The observed cache must forget nothing: no attention is measured to forgotten states.
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "multistate/table/table_layer.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Whether a token's attention to itself counts.
enum class own_token { counted, left_out };

/// The heads of a model: `heads` query heads in each layer, a multiple of kv_heads.
struct profile_shape {
    std::size_t layers;
    std::size_t heads;
    std::size_t kv_heads;
};

class attention_profile {
  public:
    /// Throws std::invalid_argument unless layers, kv_heads and sinks + recent are at least 1 and heads is a multiple
    /// of kv_heads.
    explicit attention_profile(profile_shape shape, guards kept = {.sinks = 128, .recent = 256},
                               own_token own = own_token::counted)
        : shape_(shape), kept_(kept), own_(own), near_(checked_size(shape, kept)), all_(near_) {}

    /// A KV head of a layer.
    struct head {
        std::size_t layer;
        std::size_t kv_head;
    };
    /// One token of one KV head: probabilities [heads / kv_heads, n] and positions [n] of the n states, including its
    /// own. A token whose probabilities are not finite is not counted. Different KV heads may be observed concurrently.
    void observe(head of, rows probabilities, std::span<const position> positions) noexcept {
        constexpr const char* who = "attention_profile::observe";
        expect(who, of.layer);
        detail::check(of.kv_head < shape_.kv_heads, who, "kv_head",
                      detail::bound{"less than kv_heads = ", shape_.kv_heads}, of.kv_head);
        detail::check(!positions.empty(), who, "positions", "at least 1", positions.size());
        detail::check(probabilities.count == group(), who, "probabilities",
                      detail::bound{"one row for each query head of the group: ", group()}, probabilities.count);
        detail::check(probabilities.width >= positions.size(), who, "probabilities",
                      detail::bound{"one for each position, ", positions.size()}, probabilities.width);
        const position newest = *std::ranges::max_element(positions);
        const auto first = static_cast<position>(kept_.sinks);
        const position last = newest - static_cast<position>(kept_.recent + (counts_itself() ? 0 : 1));  // the last far
        if (last < first) return;
        const std::size_t begin = (of.layer * shape_.kv_heads + of.kv_head) * group();
        for (std::size_t i = 0; i < group(); ++i) {
            double distant = 0, all = 0;
            for (std::size_t j = 0; j < positions.size(); ++j) {
                if (!counts_itself() && positions[j] == newest) continue;
                const auto a = static_cast<double>(probabilities[i][j]);
                all += a;
                if (positions[j] >= first && positions[j] <= last) distant += a;
            }
            if (!std::isfinite(all)) continue;
            near_[begin + i] += all - distant;
            all_[begin + i] += all;
        }
    }
    /// Observes all heads of a layer for the token that attended last: probabilities as ms::attend returns them.
    template <class Tables>
    void observe(const table_layer<Tables>& layer, rows probabilities) noexcept {
        constexpr const char* who = "attention_profile::observe";
        const shape& s = layer.shape();
        expect(who, layer.index());
        detail::check(s.kv_heads == shape_.kv_heads, who, "kv_heads of the cache",
                      detail::bound{"as here, ", shape_.kv_heads}, s.kv_heads);
        detail::check(probabilities.count == s.heads, who, "probabilities",
                      detail::bound{"one row for each query head: ", s.heads}, probabilities.count);
        for (std::size_t h = 0; h < shape_.kv_heads; ++h) {
            const rows own{probabilities[h * s.group()].data(), s.group(), layer.size(h), probabilities.stride};
            observe(head{layer.index(), h}, own, layer.positions(h));
        }
    }

    /// For each query head [layers * heads], the share of its attention on the sinks and the last tokens, from 0 to 1
    /// (with sinks = 0, the recency ratio of RecurFormer). It is 0 if no token was counted, so that such a head keeps
    /// its attention.
    std::vector<float> recency() const {
        std::vector<float> result;
        for (std::size_t i = 0; i < near_.size(); ++i) {
            result.push_back(all_[i] > 0 ? static_cast<float>(near_[i] / all_[i]) : 0.0f);
        }
        return result;
    }
    /// A query head of a layer, and recency() of it.
    struct ranked_head {
        std::size_t layer;
        std::size_t head;
        float recency;
    };
    /// All query heads, the greatest recency first. Of equal heads, the first layer and head comes first.
    std::vector<ranked_head> ranked() const {
        std::vector<ranked_head> result;
        for (const float share : recency()) {
            result.push_back({result.size() / shape_.heads, result.size() % shape_.heads, share});
        }
        std::ranges::stable_sort(result, std::greater(), &ranked_head::recency);
        return result;
    }

    /// For each KV head [layers * kv_heads], the share of its attention on all other states, from 0 to 1. It is 1 if no
    /// token was counted, so that such a head keeps all states.
    std::vector<float> retrieval() const { return means_of_far(group()); }
    /// For each layer [layers], the mean recency of its query heads, from 0 to 1. It is 0 if no token was counted.
    std::vector<float> laziness() const {
        std::vector<float> result = means_of_far(shape_.heads);
        for (float& share : result) share = 1 - share;
        return result;
    }

  private:
    std::size_t group() const noexcept { return shape_.heads / shape_.kv_heads; }
    bool counts_itself() const noexcept { return own_ == own_token::counted; }
    /// The mean of 1 - recency() over each `count` heads.
    std::vector<float> means_of_far(std::size_t count) const {
        const std::vector<float> shares = recency();
        std::vector<float> result;
        for (std::size_t first = 0; first < shares.size(); first += count) {
            double sum = 0;
            for (std::size_t i = first; i < first + count; ++i) sum += 1 - static_cast<double>(shares[i]);
            result.push_back(static_cast<float>(sum / static_cast<double>(count)));
        }
        return result;
    }
    static std::size_t checked_size(profile_shape s, guards kept) {
        constexpr const char* who = "attention_profile";
        detail::require(s.layers >= 1, who, "layers", "at least 1", s.layers);
        detail::require(s.kv_heads >= 1, who, "kv_heads", "at least 1", s.kv_heads);
        detail::require(s.heads >= 1 && s.heads % s.kv_heads == 0, who, "heads",
                        detail::bound{"a multiple of kv_heads = ", s.kv_heads}, s.heads);
        detail::require_size(who, "sinks + recent", detail::sum(who, kept.sinks, kept.recent));
        const std::size_t heads = detail::product(who, s.layers, s.heads);
        detail::require_memory(who, detail::product(who, heads, 2 * sizeof(double)));
        return heads;
    }
    void expect(const char* who, std::size_t layer) const noexcept {
        detail::check(layer < shape_.layers, who, "layer", detail::bound{"less than layers = ", shape_.layers}, layer);
    }

    profile_shape shape_;
    guards kept_;
    own_token own_;
    std::vector<double> near_;  // [layers * heads], summed over tokens
    std::vector<double> all_;
};

}}  // namespace multistate::MULTISTATE_TARGET
