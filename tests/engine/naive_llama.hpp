// A Llama in double precision, one token after the other, that really erases what it forgets: what the demo must equal.
//
//     const demo::gguf file("model.gguf");
//     const demo::naive_llama naive(file);
//     const auto result = naive.run(tokens, {.name = "h2o", .states = 16});
//     result.nll;        // of tokens[1], tokens[2], …, in nats
//     result.forgotten;  // step, layer, KV head and position of each state forgotten
//     result.margin;     // of the closest decision
//
// Heads that a recurrent cell serves (architecture recurformer) are computed as examples/recurformer/README.md says.
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
            return static_cast<std::size_t>(file.integer(prefix_of(file) + key, fallback));
        };
        width_ = size("embedding_length", 0);
        heads_ = size("attention.head_count", 0);
        kv_heads_ = size("attention.head_count_kv", heads_);
        key_dim_ = size("attention.key_length", width_ / heads_);
        value_dim_ = size("attention.value_length", width_ / heads_);
        epsilon_ = file.real(prefix_of(file) + "attention.layer_norm_rms_epsilon");
        read_frequencies(file, size("rope.dimension_count", key_dim_));
        embedding_ = read(file, "token_embd");
        for (std::size_t i = 0; i < size("block_count", 0); ++i) {
            const std::string name = "blk." + std::to_string(i) + ".";
            const std::vector<bool> replaced = replaced_heads(file, i);
            const bool attends = std::ranges::find(replaced, false) != replaced.end();
            const auto attention = [&](const char* which) { return attends ? read(file, name + which) : matrix{}; };
            layers_.push_back({read(file, name + "attn_norm").values, read(file, name + "ffn_norm").values,
                               attention("attn_q"), attention("attn_k"), attention("attn_v"),
                               read(file, name + "attn_output"), read(file, name + "ffn_gate"),
                               read(file, name + "ffn_up"), read(file, name + "ffn_down"), replaced,
                               read_cell(file, i)});
        }
        final_norm_ = read(file, "output_norm").values;
        output_ = file.find_tensor("output.weight") != nullptr ? read(file, "output") : embedding_;
    }

    [[nodiscard]] std::size_t vocabulary() const { return embedding_.rows; }

    /// Decides after each of the `blocks`, which are lengths; after each token where those end.
    [[nodiscard]] naive_result run(std::span<const std::int32_t> tokens, const naive_policy& policy,
                                   std::span<const std::size_t> blocks = {}) const {
        naive_result result;
        memory held{std::vector(layers_.size(), std::vector<std::vector<state>>(kv_heads_)),
                    std::vector<cell_state>(layers_.size())};
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

    /// The cell of a layer, by the names of its tensors.
    struct cell {
        bool selective = false;
        std::size_t states = 0;
        matrix input, convolution, selection, delta, decay, skip, output;  // selective
        matrix gate, candidate;                                            // min_gru
    };
    struct cell_state {
        std::vector<vector> window;  ///< of the convolution, the newest last
        std::vector<vector> h;       ///< [unit][state]; of min_gru one number each
    };

    struct layer {
        vector attention_norm, feed_forward_norm;
        matrix query, key, value, output, gate, up, down;
        std::vector<bool> replaced;  ///< [heads]
        cell serving;
    };

    struct state {
        std::size_t position;
        vector key;
        vector value;
        double score = 0;
    };
    struct memory {
        std::vector<std::vector<std::vector<state>>> held;  ///< [layer][kv_head], in order of arrival
        std::vector<cell_state> cells;                      ///< [layer]
    };

    static std::string prefix_of(const gguf& file) { return std::string(file.string("general.architecture")) + "."; }

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

    [[nodiscard]] std::vector<bool> replaced_heads(const gguf& file, std::size_t i) const {
        std::vector<bool> replaced(heads_);
        if (!file.has("recurformer.replaced_heads.heads")) return replaced;
        for (const std::int64_t head : file.integers("recurformer.replaced_heads.heads")) {
            const auto h = static_cast<std::size_t>(head);
            if (h / heads_ == i) replaced[h % heads_] = true;
        }
        return replaced;
    }

    static cell read_cell(const gguf& file, std::size_t i) {
        const std::string name = "blk." + std::to_string(i) + ".replaced.";
        cell c;
        if (file.find_tensor(name + "output.weight") != nullptr) {
            c.selective = true;
            c.states = static_cast<std::size_t>(file.integer("recurformer.replaced_heads.state_size"));
            c.input = read(file, name + "input");
            c.convolution = read(file, name + "convolution");
            c.selection = read(file, name + "selection");
            c.delta = read(file, name + "delta");
            c.decay = read(file, name + "decay");
            c.skip = read(file, name + "skip");
            c.output = read(file, name + "output");
        } else if (file.find_tensor(name + "gate.weight") != nullptr) {
            c.gate = read(file, name + "gate");
            c.candidate = read(file, name + "candidate");
        }
        return c;
    }

    static double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

    /// What the cell of a layer writes for its heads.
    static vector served(const cell& c, const vector& x, cell_state& state) {
        if (c.selective) return served_selectively(c, x, state);
        const vector gate = c.gate * x;
        const vector candidate = c.candidate * x;
        state.h.resize(gate.size(), vector(1));
        vector out;
        for (std::size_t i = 0; i < gate.size(); ++i) {
            const double z = sigmoid(gate[i]);
            state.h[i][0] = (1.0 - z) * state.h[i][0] + z * candidate[i];
            out.push_back(state.h[i][0]);
        }
        return out;
    }
    static vector served_selectively(const cell& c, const vector& x, cell_state& state) {
        const std::size_t units = c.convolution.rows;
        const std::size_t taps = c.convolution.columns;
        const vector both = c.input * x;
        state.window.resize(taps, vector(units));
        state.window.erase(state.window.begin());
        state.window.emplace_back(both.begin(), both.begin() + static_cast<std::ptrdiff_t>(units));
        state.h.resize(units, vector(c.states));
        vector u(units);
        for (std::size_t i = 0; i < units; ++i) {
            double sum = c.convolution.bias[i];
            for (std::size_t j = 0; j < taps; ++j) sum += c.convolution.values[i * taps + j] * state.window[j][i];
            u[i] = sum * sigmoid(sum);
        }
        const vector selected = c.selection * u;
        const std::size_t rank = selected.size() - 2 * c.states;
        const vector delta = c.delta * vector(selected.begin(), selected.begin() + static_cast<std::ptrdiff_t>(rank));
        vector y(units);
        for (std::size_t i = 0; i < units; ++i) {
            const double step = std::log1p(std::exp(delta[i]));
            y[i] = c.skip.values[i] * u[i];
            for (std::size_t n = 0; n < c.states; ++n) {
                double& h = state.h[i][n];
                h = std::exp(-step * std::exp(c.decay.values[i * c.states + n])) * h + step * selected[rank + n] * u[i];
                y[i] += selected[rank + c.states + n] * h;
            }
            y[i] *= both[units + i] * sigmoid(both[units + i]);
        }
        return c.output * y;
    }

    /// A pair turns `turns` times within the original length. YaRN keeps pairs that turn often, stretches those that
    /// turn seldom, and goes from one to the other in a straight line over the pairs between.
    void read_frequencies(const gguf& file, std::size_t rope_dim) {
        constexpr double circle = 6.283185307179586;
        const std::string rope = prefix_of(file) + "rope.";
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
            const auto length = static_cast<double>(file.integer(rope + "scaling.original_context_length",
                                                                 file.integer(prefix_of(file) + "context_length", 0)));
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
            vector of_cell;
            if (std::ranges::find(part.replaced, true) != part.replaced.end()) {
                of_cell = served(part.serving, x, held.cells[i]);
            }
            add(hidden, part.output * attended(part, part.query * x, part.key * x, part.value * x, of_cell, position,
                                               policy, held.held[i]));
            const vector y = normalized(hidden, part.feed_forward_norm);
            vector gate = part.gate * y;
            const vector up = part.up * y;
            for (std::size_t j = 0; j < gate.size(); ++j) gate[j] = gate[j] / (1.0 + std::exp(-gate[j])) * up[j];
            add(hidden, part.down * gate);
        }
        return normalized(hidden, final_norm_);
    }

    /// The query heads of a group that attend.
    [[nodiscard]] std::size_t kept(const layer& part, std::size_t kv_head) const {
        const std::size_t group = heads_ / kv_heads_;
        const auto first = part.replaced.begin() + static_cast<std::ptrdiff_t>(kv_head * group);
        return static_cast<std::size_t>(std::count(first, first + static_cast<std::ptrdiff_t>(group), false));
    }

    /// Projections have the heads that attend, and KV heads that serve one of them; of_cell has the others.
    [[nodiscard]] vector attended(const layer& part, const vector& query, const vector& key, const vector& value,
                                  const vector& of_cell, std::size_t position, const naive_policy& policy,
                                  std::vector<std::vector<state>>& held) const {
        std::vector<vector> probabilities(heads_);  // of each query head; empty: replaced
        vector out;
        std::size_t queries = 0;
        std::size_t keys = 0;
        std::size_t served_heads = 0;
        for (std::size_t h = 0; h < heads_; ++h) {
            const std::size_t kv_head = h * kv_heads_ / heads_;
            std::vector<state>& states = held[kv_head];
            if (h % (heads_ / kv_heads_) == 0 && kept(part, kv_head) > 0) {
                const auto begin = value.begin() + static_cast<std::ptrdiff_t>(keys * value_dim_);
                states.push_back({position, rotated_head(key, keys++, position),
                                  vector(begin, begin + static_cast<std::ptrdiff_t>(value_dim_))});
            }
            if (part.replaced[h]) {
                const auto begin = of_cell.begin() + static_cast<std::ptrdiff_t>(served_heads++ * value_dim_);
                out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(value_dim_));
                continue;
            }
            probabilities[h] = attention(rotated_head(query, queries++, position), states);
            for (std::size_t j = 0; j < value_dim_; ++j) {
                double sum = 0;
                for (std::size_t i = 0; i < states.size(); ++i) sum += probabilities[h][i] * states[i].value[j];
                out.push_back(sum);
            }
        }
        score(part, probabilities, policy.name, held);
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

    /// h2o sums probabilities over heads and queries, tova takes the newest row's mean over heads. Groups that lost
    /// different numbers of heads decide apart.
    void score(const layer& part, const std::vector<vector>& probabilities, const std::string& policy,
               std::vector<std::vector<state>>& held) const {
        if (policy == "full" || policy == "window") return;
        const bool per_head = decides_per_head(policy);
        for (std::size_t kv_head = 0; kv_head < kv_heads_; ++kv_head) {
            for (std::size_t i = 0; i < held[kv_head].size(); ++i) {
                double sum = 0;
                double heads = 0;
                for (std::size_t h = 0; h < heads_; ++h) {
                    const std::size_t other = h * kv_heads_ / heads_;
                    if (part.replaced[h] || (per_head && other != kv_head)) continue;
                    if (kept(part, other) != kept(part, kv_head)) continue;
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
                std::vector<state>& states = held.held[i][kv_head];
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
