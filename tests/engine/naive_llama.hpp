// A Llama in double precision, one token after the other, that really erases what it forgets: what the demo must equal.
//
//     const demo::gguf file("model.gguf");
//     const demo::naive_llama naive(file);
//     const auto result = naive.run(tokens, {.name = "h2o", .states = 16});
//     result.nll;        // of tokens[1], tokens[2], …, in nats
//     result.forgotten;  // step, layer, KV head and position of each state forgotten
//     result.margin;     // of the closest decision
//
// It shares the readers of the file with the demo and nothing else: no Eigen, no cache, no tables, no library. Each KV
// head of each layer has a vector of states in the order of their arrival. A token attends to all of them and itself;
// then, where there are more than `states` and the slack, the one of least score is erased until `states` are left.
// Blocks decide after their last token instead. There is no reason to make this fast.
#pragma once

#include <algorithm>
#include <cmath>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "dequantize.hpp"
#include "gguf.hpp"

namespace demo {

struct naive_policy {
    std::string name = "full";
    std::size_t states = 0;
    std::size_t sinks = 0;
    std::optional<std::size_t> recent{};  ///< h2o's own half unless given
    std::size_t slack = 0;                ///< nothing is forgotten until more than states + slack are held
};

struct naive_forgetting {
    std::size_t step;
    std::size_t layer;
    std::size_t kv_head;
    std::size_t position;

    friend auto operator<=>(const naive_forgetting&, const naive_forgetting&) = default;
    friend std::ostream& operator<<(std::ostream& out, const naive_forgetting& f) {
        return out << "step " << f.step << " layer " << f.layer << " head " << f.kv_head << " position " << f.position;
    }
};

struct naive_result {
    std::vector<double> nll;
    std::vector<naive_forgetting> forgotten;
    /// The least distance of a score forgotten from the next larger one, relative to that: a computation in float32
    /// decides the same where this is well above its rounding.
    double margin = std::numeric_limits<double>::infinity();
};

class naive_llama {
  public:
    explicit naive_llama(const gguf& file) {
        const auto size = [&](const std::string& key, std::uint64_t fallback) {
            return static_cast<std::size_t>(file.integer("llama." + key, fallback));
        };
        width_ = size("embedding_length", 0);
        heads_ = size("attention.head_count", 0);
        kv_heads_ = size("attention.head_count_kv", heads_);
        key_dim_ = size("attention.key_length", width_ / heads_);
        value_dim_ = size("attention.value_length", width_ / heads_);
        epsilon_ = file.real("llama.attention.layer_norm_rms_epsilon");
        read_frequencies(file, size("rope.dimension_count", key_dim_));
        embedding_ = read(file, "token_embd");
        for (std::size_t i = 0; i < size("block_count", 0); ++i) {
            const std::string name = "blk." + std::to_string(i) + ".";
            layers_.push_back({read(file, name + "attn_norm").values, read(file, name + "ffn_norm").values,
                               read(file, name + "attn_q"), read(file, name + "attn_k"), read(file, name + "attn_v"),
                               read(file, name + "attn_output"), read(file, name + "ffn_gate"),
                               read(file, name + "ffn_up"), read(file, name + "ffn_down")});
        }
        final_norm_ = read(file, "output_norm").values;
        output_ = file.find_tensor("output.weight") != nullptr ? read(file, "output") : embedding_;
    }

    [[nodiscard]] std::size_t vocabulary() const { return embedding_.rows; }

    /// Decides after each of the `blocks`, which are lengths; after each token where those end.
    [[nodiscard]] naive_result run(std::span<const std::int32_t> tokens, const naive_policy& policy,
                                   std::span<const std::size_t> blocks = {}) const {
        naive_result result;
        memory held(layers_.size(), std::vector<std::vector<state>>(kv_heads_));
        std::size_t block = 0;
        std::size_t decision = 0;  // the step after which the next one falls
        for (std::size_t step = 0; step < tokens.size(); ++step) {
            if (step == 0 || step > decision) {
                decision = step + (block < blocks.size() ? blocks[block++] : 1) - 1;
            }
            const std::vector<double> hidden = advance(tokens[step], step, policy, held);
            if (step == std::min(decision, tokens.size() - 1)) forget(step, policy, held, result);
            if (step + 1 < tokens.size()) result.nll.push_back(loss(hidden, tokens[step + 1]));
        }
        return result;
    }

  private:
    using vector = std::vector<double>;

    struct matrix {
        std::size_t columns = 0;
        std::size_t rows = 0;
        vector values;
        vector bias;  ///< empty: none

        [[nodiscard]] vector operator*(const vector& x) const {
            vector y(rows);
            for (std::size_t i = 0; i < rows; ++i) {
                y[i] = bias.empty() ? 0.0 : bias[i];
                for (std::size_t j = 0; j < columns; ++j) y[i] += values[i * columns + j] * x[j];
            }
            return y;
        }
    };

    struct layer {
        vector attention_norm, feed_forward_norm;
        matrix query, key, value, output, gate, up, down;
    };

    struct state {
        std::size_t position;
        vector key;
        vector value;
        double score = 0;
    };
    using memory = std::vector<std::vector<std::vector<state>>>;  ///< [layer][kv_head], in order of arrival

    static vector read_values(const gguf& file, const std::string& name) {
        const tensor_view& tensor = file.tensor(name);
        std::vector<float> values(tensor.elements());
        dequantize(tensor.type, tensor.data, values);
        return {values.begin(), values.end()};
    }
    static matrix read(const gguf& file, const std::string& name) {
        const tensor_view& tensor = file.tensor(name + ".weight");
        matrix m{tensor.columns(), tensor.rows(), read_values(file, name + ".weight"), {}};
        if (file.find_tensor(name + ".bias") != nullptr) m.bias = read_values(file, name + ".bias");
        return m;
    }

    /// A pair turns `turns` times within the original length. YaRN keeps pairs that turn often, stretches those that
    /// turn seldom, and goes from one to the other in a straight line over the pairs between.
    void read_frequencies(const gguf& file, std::size_t rope_dim) {
        constexpr double circle = 6.283185307179586;
        const std::string rope = "llama.rope.";
        const double base = file.real(rope + "freq_base", 10000.0);
        const std::string_view type = file.string(rope + "scaling.type", "linear");
        double scale = file.real(rope + "scaling.factor", file.real(rope + "scale_linear", 1.0));
        if (type == "none") scale = 1.0;
        magnitude_ = file.real(rope + "scaling.attn_factor", 1.0);
        vector factors(rope_dim / 2, 1.0);
        if (file.find_tensor("rope_freqs.weight") != nullptr) factors = read_values(file, "rope_freqs.weight");
        double first = 0;
        double last = 0;
        if (type == "yarn") {
            if (scale > 1) magnitude_ *= 0.1 * std::log(scale) + 1;
            const auto length = static_cast<double>(
                file.integer(rope + "scaling.original_context_length", file.integer("llama.context_length", 0)));
            const auto place = [&](double turns) {  // where base^(-2 place / rope_dim) * length == turns * circle
                return std::log(length / circle / turns) / std::log(base) * static_cast<double>(rope_dim) / 2;
            };
            first = std::max(std::floor(place(file.real(rope + "scaling.yarn_beta_fast", 32.0))), 0.0);
            last = std::ceil(place(file.real(rope + "scaling.yarn_beta_slow", 1.0)));
            last = std::min(last, static_cast<double>(rope_dim) - 1);
        }
        for (std::size_t i = 0; i < rope_dim / 2; ++i) {
            const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(rope_dim);
            const double plain = 1.0 / (std::pow(base, exponent) * factors[i]);
            double stretched = 1;  // the share
            if (type == "yarn") {
                const double beyond = static_cast<double>(i) - first;
                stretched = beyond <= 0 ? 0.0 : std::min(1.0, beyond / std::max(last - first, 0.001));
            }
            frequencies_.push_back(plain * (1 - stretched) + plain / scale * stretched);
        }
    }

    [[nodiscard]] vector normalized(const vector& x, const vector& weight) const {
        double squares = 0;
        for (const double each : x) squares += each * each;
        const double length = std::sqrt(squares / static_cast<double>(x.size()) + epsilon_);
        vector y(x.size());
        for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] / length * weight[i];
        return y;
    }

    /// Head `i` of a projection, elements 2j and 2j + 1 turned by position * frequency j.
    [[nodiscard]] vector rotated_head(const vector& heads, std::size_t i, std::size_t position) const {
        vector x(heads.begin() + static_cast<std::ptrdiff_t>(i * key_dim_),
                 heads.begin() + static_cast<std::ptrdiff_t>((i + 1) * key_dim_));
        for (std::size_t j = 0; j < frequencies_.size(); ++j) {
            const double angle = static_cast<double>(position) * frequencies_[j];
            const double a = x[2 * j];
            const double b = x[2 * j + 1];
            x[2 * j] = magnitude_ * (a * std::cos(angle) - b * std::sin(angle));
            x[2 * j + 1] = magnitude_ * (b * std::cos(angle) + a * std::sin(angle));
        }
        return x;
    }

    /// One token through all layers; adds its states and what its attention adds to the scores.
    [[nodiscard]] vector advance(std::int32_t id, std::size_t position, const naive_policy& policy,
                                 memory& held) const {
        const auto first = embedding_.values.begin() +
                           static_cast<std::ptrdiff_t>(id) * static_cast<std::ptrdiff_t>(embedding_.columns);
        vector hidden(first, first + static_cast<std::ptrdiff_t>(width_));
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            const layer& part = layers_[i];
            const vector x = normalized(hidden, part.attention_norm);
            add(hidden,
                part.output * attended(part.query * x, part.key * x, part.value * x, position, policy, held[i]));
            const vector y = normalized(hidden, part.feed_forward_norm);
            vector gate = part.gate * y;
            const vector up = part.up * y;
            for (std::size_t j = 0; j < gate.size(); ++j) gate[j] = gate[j] / (1.0 + std::exp(-gate[j])) * up[j];
            add(hidden, part.down * gate);
        }
        return normalized(hidden, final_norm_);
    }

    [[nodiscard]] vector attended(const vector& query, const vector& key, const vector& value, std::size_t position,
                                  const naive_policy& policy, std::vector<std::vector<state>>& held) const {
        std::vector<vector> probabilities;  // of each query head
        vector out;
        for (std::size_t h = 0; h < heads_; ++h) {
            std::vector<state>& states = held[h * kv_heads_ / heads_];
            const std::size_t kv_head = h * kv_heads_ / heads_;
            if (h % (heads_ / kv_heads_) == 0) {
                const auto begin = value.begin() + static_cast<std::ptrdiff_t>(kv_head * value_dim_);
                states.push_back({position, rotated_head(key, kv_head, position),
                                  vector(begin, begin + static_cast<std::ptrdiff_t>(value_dim_))});
            }
            probabilities.push_back(attention(rotated_head(query, h, position), states));
            for (std::size_t j = 0; j < value_dim_; ++j) {
                double sum = 0;
                for (std::size_t i = 0; i < states.size(); ++i) sum += probabilities.back()[i] * states[i].value[j];
                out.push_back(sum);
            }
        }
        score(probabilities, policy.name, held);
        return out;
    }

    static vector attention(const vector& query, const std::vector<state>& states) {
        vector p;
        for (const state& each : states) {
            double product = 0;
            for (std::size_t j = 0; j < query.size(); ++j) product += query[j] * each.key[j];
            p.push_back(product / std::sqrt(static_cast<double>(query.size())));
        }
        const double greatest = *std::ranges::max_element(p);
        double sum = 0;
        for (double& each : p) sum += each = std::exp(each - greatest);
        for (double& each : p) each /= sum;
        return p;
    }

    static bool decides_per_head(const std::string& policy) { return policy == "h2o" || policy == "tova_head"; }

    /// h2o sums probabilities over heads and queries, tova takes the newest row's mean over heads.
    void score(const std::vector<vector>& probabilities, const std::string& policy,
               std::vector<std::vector<state>>& held) const {
        if (policy == "full" || policy == "window") return;
        const bool per_head = decides_per_head(policy);
        for (std::size_t kv_head = 0; kv_head < kv_heads_; ++kv_head) {
            for (std::size_t i = 0; i < held[kv_head].size(); ++i) {
                double sum = 0;
                double heads = 0;
                for (std::size_t h = 0; h < heads_; ++h) {
                    if (per_head && h * kv_heads_ / heads_ != kv_head) continue;
                    sum += probabilities[h][i];
                    heads += 1;
                }
                double& s = held[kv_head][i].score;
                if (policy == "h2o" || policy == "h2o_layer") {
                    s += sum;
                } else if (policy == "tova" || policy == "tova_head") {
                    s = sum / heads;
                } else {
                    throw std::invalid_argument("the naive model knows no policy " + policy);
                }
            }
        }
    }

    void forget(std::size_t step, const naive_policy& policy, memory& held, naive_result& result) const {
        if (policy.name == "full") return;
        const std::size_t own = policy.name == "h2o" || policy.name == "h2o_layer" ? policy.states / 2 : 0;
        const std::size_t recent = policy.recent.value_or(own);
        std::vector<naive_forgetting> gone;
        for (std::size_t i = 0; i < layers_.size(); ++i) {
            // Where the layer decides, all its heads hold the same scores and so decide the same.
            for (std::size_t kv_head = 0; kv_head < kv_heads_; ++kv_head) {
                std::vector<state>& states = held[i][kv_head];
                if (states.size() <= policy.states + policy.slack) continue;
                while (states.size() > policy.states) {
                    const std::size_t least = least_of(states, policy.sinks, recent);
                    if (policy.name != "window") note_margin(states, policy.sinks, recent, least, result);
                    gone.push_back({step, i, kv_head, states[least].position});
                    states.erase(states.begin() + static_cast<std::ptrdiff_t>(least));
                }
            }
        }
        std::ranges::sort(gone);  // a block forgets several at once, in no order that means anything
        result.forgotten.insert(result.forgotten.end(), gone.begin(), gone.end());
    }

    /// The first of the least, which is the oldest.
    static std::size_t least_of(const std::vector<state>& states, std::size_t sinks, std::size_t recent) {
        std::size_t least = sinks;
        for (std::size_t i = sinks; i < states.size() - recent; ++i) {
            if (states[i].score < states[least].score) least = i;
        }
        return least;
    }

    static void note_margin(const std::vector<state>& states, std::size_t sinks, std::size_t recent, std::size_t least,
                            naive_result& result) {
        for (std::size_t i = sinks; i < states.size() - recent; ++i) {
            if (i == least) continue;
            result.margin = std::min(result.margin, (states[i].score - states[least].score) / states[i].score);
        }
    }

    [[nodiscard]] double loss(const vector& hidden, std::int32_t target) const {
        const vector logits = output_ * hidden;
        const double greatest = *std::ranges::max_element(logits);
        double sum = 0;
        for (const double each : logits) sum += std::exp(each - greatest);
        return greatest + std::log(sum) - logits[static_cast<std::size_t>(target)];
    }

    static void add(vector& x, const vector& y) {
        for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    }

    std::size_t width_ = 0;
    std::size_t heads_ = 0;
    std::size_t kv_heads_ = 0;
    std::size_t key_dim_ = 0;
    std::size_t value_dim_ = 0;
    double epsilon_ = 0;
    vector frequencies_;
    double magnitude_ = 1;
    matrix embedding_;
    std::vector<layer> layers_;
    vector final_norm_;
    matrix output_;
};

}  // namespace demo
