#pragma once

// One layer of a bounded multi-state RNN in double precision, written from the published rules and from nothing of the
// library: attend over everything held, in position order; then, if more than k are held, really erase.
//
// Each KV head has a std::vector of its own. Where a layer decides, every head is given the same scores and so erases
// the same states.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace reference {

enum class rule { full, window, h2o, h2o_layer, tova, tova_head };
inline constexpr const char* names[] = {"full", "window", "h2o", "h2o_layer", "tova", "tova_head"};
inline const char* name(rule r) { return names[static_cast<std::size_t>(r)]; }
inline constexpr rule every_rule[] = {rule::full,      rule::window, rule::h2o,
                                      rule::h2o_layer, rule::tova,   rule::tova_head};

struct setting {
    rule forgets_by = rule::window;
    std::size_t heads = 1;
    std::size_t kv_heads = 1;
    std::size_t head_dim = 1;
    std::size_t value_dim = 1;
    std::size_t states = 1;
    std::size_t sinks = 0;
    std::optional<std::size_t> recent = {};
    double scale = 1;
    double softcap = 0;
};

struct state {
    int position;
    std::vector<double> key;
    std::vector<double> value;
    double score;
};

class naive_model {
  public:
    explicit naive_model(const setting& s) : setting_(s), held_(s.kv_heads), attended_(s.kv_heads) {}

    /// One token: attends, then forgets one if more than k are held. Returns the outputs [heads, value_dim].
    std::vector<double> step(int position, std::span<const float> q, std::span<const float> k,
                             std::span<const float> v) {
        return block(position, 1, q, k, v);
    }

    /// Tokens that attend to the survivors and causally to each other; then the layer shrinks to k once. Returns the
    /// outputs [tokens, heads, value_dim].
    std::vector<double> block(int first, std::size_t tokens, std::span<const float> q, std::span<const float> k,
                              std::span<const float> v) {
        const setting& s = setting_;
        std::vector<double> out;
        for (std::size_t t = 0; t < tokens; ++t) {
            newest_ = first + static_cast<int>(t);
            place(k.subspan(t * s.kv_heads * s.head_dim), v.subspan(t * s.kv_heads * s.value_dim));
            const auto attention = attend(q.subspan(t * s.heads * s.head_dim), out);
            score(attention);
        }
        attended_ = held_;
        shrink();
        return out;
    }

    void clear() {
        for (auto& head : held_) head.clear();
        decided_by_.clear();
    }

    /// Positions in ascending order: held after the last decision, or seen by the last token's attention.
    std::vector<int> held(std::size_t kv_head) const { return positions(held_[kv_head]); }
    std::vector<int> attended(std::size_t kv_head) const { return positions(attended_[kv_head]); }
    /// KV head and position of every state erased since construction or clear, with the newest position at that time.
    using decision_map = std::map<std::pair<std::size_t, int>, int>;
    const decision_map& decisions() const { return decided_by_; }
    /// The smallest relative distance, over all decisions so far, from the greatest score erased to the least score
    /// that could have been erased instead. Below the rounding of float32, the library may rightly decide otherwise.
    double margin() const { return margin_; }

  private:
    using head_states = std::vector<state>;

    void place(std::span<const float> k, std::span<const float> v) {
        const setting& s = setting_;
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
            const auto key = k.subspan(h * s.head_dim, s.head_dim);
            const auto value = v.subspan(h * s.value_dim, s.value_dim);
            held_[h].push_back({newest_, {key.begin(), key.end()}, {value.begin(), value.end()}, 0});
        }
    }

    /// Appends one token's outputs to `out`; returns the probabilities [heads][states held].
    std::vector<std::vector<double>> attend(std::span<const float> q, std::vector<double>& out) const {
        const setting& s = setting_;
        std::vector<std::vector<double>> attention;
        for (std::size_t i = 0; i < s.heads; ++i) {
            const head_states& held = held_[i / (s.heads / s.kv_heads)];
            attention.push_back(probabilities(q.subspan(i * s.head_dim, s.head_dim), held));
            for (std::size_t c = 0; c < s.value_dim; ++c) {
                double sum = 0;
                for (std::size_t j = 0; j < held.size(); ++j) sum += attention.back()[j] * held[j].value[c];
                out.push_back(sum);
            }
        }
        return attention;
    }

    std::vector<double> probabilities(std::span<const float> q, const head_states& held) const {
        std::vector<double> p;
        for (const state& one : held) {
            double dot = 0;
            for (std::size_t c = 0; c < q.size(); ++c) dot += static_cast<double>(q[c]) * one.key[c];
            const double logit = setting_.scale * dot;
            p.push_back(setting_.softcap == 0 ? logit : setting_.softcap * std::tanh(logit / setting_.softcap));
        }
        const double greatest = *std::max_element(p.begin(), p.end());
        double total = 0;
        for (double& x : p) total += x = std::exp(x - greatest);
        for (double& x : p) x /= total;
        return p;
    }

    /// H2O adds the probabilities to what was there, TOVA keeps those of this token only; a KV head sums over its
    /// group of query heads, a layer over all.
    void score(const std::vector<std::vector<double>>& attention) {
        const setting& s = setting_;
        const bool sums = s.forgets_by == rule::h2o || s.forgets_by == rule::h2o_layer;
        const bool whole_layer = s.forgets_by == rule::h2o_layer || s.forgets_by == rule::tova;
        const std::size_t group = s.heads / s.kv_heads;
        if (!scores()) return;
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
            for (std::size_t j = 0; j < held_[h].size(); ++j) {
                double sum = 0;
                for (std::size_t i = 0; i < s.heads; ++i) {
                    if (whole_layer || i / group == h) sum += attention[i][j];
                }
                held_[h][j].score = sums ? held_[h][j].score + sum : sum;
            }
        }
    }

    void shrink() {
        const setting& s = setting_;
        if (s.forgets_by == rule::full) return;
        const bool half = s.forgets_by == rule::h2o || s.forgets_by == rule::h2o_layer;
        const std::size_t recent = s.recent.value_or(half ? s.states / 2 : 0);
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
            head_states& held = held_[h];
            double worst = -std::numeric_limits<double>::infinity();
            while (held.size() > s.states) {
                std::size_t least = s.sinks;
                for (std::size_t j = s.sinks; j + recent < held.size(); ++j) {
                    if (held[j].score < held[least].score) least = j;  // of equals, the oldest
                }
                worst = held[least].score;
                decided_by_[{h, held[least].position}] = newest_;
                held.erase(held.begin() + static_cast<std::ptrdiff_t>(least));
            }
            if (!scores() || std::isinf(worst)) continue;
            for (std::size_t j = s.sinks; j + recent < held.size(); ++j) {
                margin_ = std::min(margin_, (held[j].score - worst) / std::max(held[j].score, worst));
            }
        }
    }

    bool scores() const { return setting_.forgets_by != rule::full && setting_.forgets_by != rule::window; }

    static std::vector<int> positions(const head_states& states) {
        std::vector<int> result;
        for (const state& one : states) result.push_back(one.position);
        return result;
    }

    setting setting_;
    std::vector<head_states> held_;
    std::vector<head_states> attended_;
    decision_map decided_by_;
    double margin_ = std::numeric_limits<double>::infinity();
    int newest_ = -1;
};

}  // namespace reference
