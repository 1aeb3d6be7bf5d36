#pragma once

// A policy's rule as the references state it: scores of the states held, computed afresh from everything that happened,
// in double precision and without any memory of its own. Written from papers and documentation, not from the library.
// It stands in the policy's test, tests/policies/NAME.test.cpp:
//
//     namespace reference::tova {
//     const registered rule{{.name = "tova", .forgets = unit::layer, .score = current}};
//     }
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace reference {

struct setting {
    std::size_t heads = 1;
    std::size_t kv_heads = 1;
    std::size_t head_dim = 1;
    std::size_t value_dim = 1;
    std::size_t states = 1;
    std::size_t slack = 0;
    std::size_t sinks = 0;
    std::optional<std::size_t> recent = {};
    double scale = 1;
    double softcap = 0;
    std::size_t layer = 0;

    std::size_t group() const { return heads / kv_heads; }
};

struct state {
    int position;
    std::vector<double> key;
    std::vector<double> value;
};

/// What happened when a token attended.
struct token {
    int position;
    std::vector<std::vector<double>> queries;      ///< [query head][head_dim]
    std::vector<std::vector<double>> keys = {};    ///< [KV head][head_dim]: what it left behind, held or not
    std::vector<std::vector<double>> values = {};  ///< [KV head][value_dim]
    std::vector<std::vector<int>> seen;            ///< [KV head]: the positions attended to, ascending, its own last
    std::vector<std::vector<double>> attention;    ///< [query head][index in seen]
};

/// All that a rule may look at when one table (a layer, or a KV head of it) decides.
struct evidence {
    const setting& shape;
    std::size_t first_kv_head;  ///< the table's KV heads
    std::size_t kv_heads;
    const std::vector<std::vector<state>>& held;  ///< [KV head of the layer], ascending positions
    const std::vector<token>& past;               ///< every token since construction or clear, oldest first
    std::size_t last_arrival;  ///< how many of `past` came before the tokens that arrived together last
    /// Lowered by rules with comparisons of their own: the least relative distance of two numbers whose order matters.
    double& margin;

    /// The states that the table decides about; all its KV heads hold the same positions.
    const std::vector<state>& states() const { return held[first_kv_head]; }
    std::size_t first_head() const { return first_kv_head * shape.group(); }
    std::size_t end_head() const { return (first_kv_head + kv_heads) * shape.group(); }
    std::size_t end_kv_head() const { return first_kv_head + kv_heads; }

    /// What query head `head` gave to `position` when t attended; 0 where it did not see it.
    double attention(const token& t, std::size_t head, int position) const {
        const auto i = index(t, head / shape.group(), position);
        return i ? t.attention[head][*i] : 0;
    }
    /// The same, summed over the table's query heads.
    double attention(const token& t, int position) const {
        double sum = 0;
        for (std::size_t h = first_kv_head; h < first_kv_head + kv_heads; ++h) {
            const auto i = index(t, h, position);
            if (!i) continue;
            for (std::size_t head = h * shape.group(); head < (h + 1) * shape.group(); ++head) {
                sum += t.attention[head][*i];
            }
        }
        return sum;
    }
    /// Where t saw `position`, if it did.
    static std::optional<std::size_t> index(const token& t, std::size_t kv_head, int position) {
        if (position > t.position) return {};  // half of all questions
        const auto& seen = t.seen[kv_head];
        const auto found = std::lower_bound(seen.begin(), seen.end(), position);
        if (found == seen.end() || *found != position) return {};
        return static_cast<std::size_t>(found - seen.begin());
    }
    /// The newest tokens of `past`, at most `count`.
    std::span<const token> newest(std::size_t count) const {
        return std::span(past).last(std::min(count, past.size()));
    }
    /// Says that the order of a and b decides something.
    void compare(double a, double b) const {
        const double size = std::max(std::abs(a), std::abs(b));
        if (size > 0) margin = std::min(margin, std::abs(a - b) / size);
    }
};

enum class unit { layer, head, never };

struct rule {
    std::string_view name;
    unit forgets = unit::head;
    /// One score for each of e.states(); none where the oldest always goes.
    std::vector<double> (*score)(const evidence& e) = nullptr;
    std::size_t (*sinks)(std::size_t states) = [](std::size_t) { return std::size_t{0}; };
    std::size_t (*recent)(std::size_t states) = [](std::size_t) { return std::size_t{0}; };
    /// Equal scores are equal in float32, too (counts, maxima, random numbers): a tie is no doubt.
    bool ties_are_exact = false;
};

/// The rules of the tests that are linked into this program.
class registered {
  public:
    explicit registered(const rule& r) { all().push_back(r); }
    static std::vector<rule>& all() {
        static std::vector<rule> rules;
        return rules;
    }
};

/// In the order of their names.
inline std::vector<rule> every_rule() {
    std::vector<rule> rules = registered::all();
    std::ranges::sort(rules, {}, &rule::name);
    return rules;
}
/// Throws std::out_of_range if there is none.
inline rule rule_named(std::string_view name) {
    const auto& rules = registered::all();
    const auto found = std::ranges::find(rules, name, &rule::name);
    return rules.at(static_cast<std::size_t>(found - rules.begin()));
}

// Guards of a policy's own.
inline std::size_t half(std::size_t states) { return states / 2; }
template <std::size_t most, std::size_t part>
std::size_t at_most(std::size_t states) {
    return std::min(most, states / part);
}
/// All sinks where the policy's own are at_most<most, 8>.
inline std::size_t sinks_of(const evidence& e, std::size_t most) {
    return e.shape.sinks + std::min(most, e.shape.states / 8);
}

}  // namespace reference
