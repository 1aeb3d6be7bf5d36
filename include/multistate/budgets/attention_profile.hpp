#pragma once

// Measures where each KV head looks: the share of its attention to states between both ends of the text. Gives
// training-free scores for duo_budget and lazy_layers_budget (duo.hpp, lazy_layers.hpp).
//
//     ms::attention_profile profile(32, 8);                   // 32 layers of 8 KV heads; sinks 128, recent 256
//     const auto layer = cache.layer(i);
//     profile.observe(layer, ms::attend(layer, q, out, scratch));  // the tokens to judge by, any number
//     const auto budget = ms::duo_budget(profile.retrieval(), 0.1f, 32768);
//     ms::cache<ms::composed<ms::window, ms::per_head>> duo(shape, {}, budget);
//
//   rule     far = the sum of a[i][t][j] over the states j that are neither among the first `sinks` positions nor among
//            the `recent` newest (t itself is the newest); its mean over the observed tokens and the query heads i of
//            the group
//   papers   SimLayerKV (arXiv 2410.13846) calls a layer lazy if 1 - far is high: sinks 4, recent 1024. For a head, it
//            stands for the trained gates of DuoAttention (arXiv 2410.10819) and, with sinks = 0, for the
//            recency-awareness of RecurFormer (2410.12850): inspired by them, but not their numbers
//   differs  kvpress's SimLayerKV excludes a token's attention to itself, so its layers are less lazy, and counts
//            `recent` from the previous state. Here the token itself is the first recent state. Tokens before position
//            sinks + recent have no far states and are not counted
//
// The observed cache must forget nothing: forgotten states cannot be looked at.
#include <algorithm>
#include <cmath>
#include <vector>

#include "multistate/table/table_layer.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

class attention_profile {
  public:
    /// Throws std::invalid_argument unless layers, kv_heads and sinks + recent are at least 1.
    attention_profile(std::size_t layers, std::size_t kv_heads, guards kept = {.sinks = 128, .recent = 256})
        : kept_(kept), kv_heads_(kv_heads), far_(checked_size(layers, kv_heads, kept)), seen_(far_) {}

    /// A KV head of a layer.
    struct head {
        std::size_t layer;
        std::size_t kv_head;
    };
    /// One token of one KV head: probabilities [query heads of its group, n] and positions [n] of the n states,
    /// including its own. A token whose probabilities are not finite is not counted.
    void observe(head of, rows probabilities, std::span<const position> positions) noexcept {
        constexpr const char* who = "attention_profile::observe";
        expect(who, of.layer);
        detail::check(of.kv_head < kv_heads_, who, "kv_head", detail::bound{"less than kv_heads = ", kv_heads_},
                      of.kv_head);
        detail::check(!positions.empty(), who, "positions", "at least 1", positions.size());
        detail::check(probabilities.count >= 1 && probabilities.width >= positions.size(), who, "probabilities",
                      detail::bound{"one for each position, ", positions.size()}, probabilities.width);
        const auto first = static_cast<position>(kept_.sinks);
        const auto behind = *std::ranges::max_element(positions) - static_cast<position>(kept_.recent);  // the last far
        if (behind < first) return;
        double sum = 0;
        for (std::size_t i = 0; i < probabilities.count; ++i) {
            for (std::size_t j = 0; j < positions.size(); ++j) {
                if (positions[j] >= first && positions[j] <= behind) sum += static_cast<double>(probabilities[i][j]);
            }
        }
        if (!std::isfinite(sum)) return;
        far_[of.layer * kv_heads_ + of.kv_head] += sum / static_cast<double>(probabilities.count);
        seen_[of.layer * kv_heads_ + of.kv_head] += 1;
    }
    /// Observes all heads of a layer for the token that attended last: probabilities as ms::attend returns them.
    template <class Tables>
    void observe(const table_layer<Tables>& layer, rows probabilities) noexcept {
        constexpr const char* who = "attention_profile::observe";
        const shape& s = layer.shape();
        expect(who, layer.index());
        detail::check(s.kv_heads == kv_heads_, who, "kv_heads of the cache", detail::bound{"as here, ", kv_heads_},
                      s.kv_heads);
        detail::check(probabilities.count == s.heads, who, "probabilities",
                      detail::bound{"one row for each query head: ", s.heads}, probabilities.count);
        for (std::size_t h = 0; h < kv_heads_; ++h) {
            const rows own{probabilities[h * s.group()].data(), s.group(), layer.size(h), probabilities.stride};
            observe(head{layer.index(), h}, own, layer.positions(h));
        }
    }

    /// For each KV head [layers * kv_heads], the share of its attention that goes far, from 0 to 1. It is 1 if no token
    /// was counted, so that such a head keeps all states.
    std::vector<float> retrieval() const {
        std::vector<float> result;
        for (std::size_t i = 0; i < far_.size(); ++i) {
            result.push_back(seen_[i] > 0 ? static_cast<float>(far_[i] / seen_[i]) : 1.0f);
        }
        return result;
    }
    /// For each layer, the share of its attention that stays near (the mean over its heads). It is 0 if no token was
    /// counted.
    std::vector<float> laziness() const {
        const std::vector<float> retrieved = retrieval();
        std::vector<float> result;
        for (std::size_t first = 0; first < retrieved.size(); first += kv_heads_) {
            float sum = 0;
            for (std::size_t h = 0; h < kv_heads_; ++h) sum += 1 - retrieved[first + h];
            result.push_back(sum / static_cast<float>(kv_heads_));
        }
        return result;
    }

  private:
    static std::size_t checked_size(std::size_t layers, std::size_t kv_heads, guards kept) {
        constexpr const char* who = "attention_profile";
        detail::require(layers >= 1, who, "layers", "at least 1", layers);
        detail::require(kv_heads >= 1, who, "kv_heads", "at least 1", kv_heads);
        detail::require_size(who, "sinks + recent", detail::sum(who, kept.sinks, kept.recent));
        const std::size_t heads = detail::product(who, layers, kv_heads);
        detail::require_memory(who, detail::product(who, heads, 2 * sizeof(double)));
        return heads;
    }
    void expect(const char* who, std::size_t layer) const noexcept {
        detail::check(layer < far_.size() / kv_heads_, who, "layer",
                      detail::bound{"less than layers = ", far_.size() / kv_heads_}, layer);
    }

    guards kept_;
    std::size_t kv_heads_;
    std::vector<double> far_;  // [layers * kv_heads], summed over tokens
    std::vector<double> seen_;
};

}}  // namespace multistate::MULTISTATE_TARGET
