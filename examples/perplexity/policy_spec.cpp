#include "policy_spec.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include "suggest.hpp"

namespace demo {

namespace {

[[noreturn]] void fail(std::string_view spec, const std::string& problem) {
    throw std::invalid_argument("policy '" + std::string(spec) + "': " + problem);
}

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

amount parse_amount(std::string_view spec, std::string_view text) {
    if (text.find('.') != std::string_view::npos) {
        if (const auto share = parse_number<double>(text); share && *share >= 0 && *share < 1) return *share;
    } else if (const auto count = parse_number<std::size_t>(text)) {
        return *count;
    }
    fail(spec, "'" + std::string(text) + "' is neither a number of states nor a share of k such as 0.25");
}

std::size_t count_of(const amount& a, std::size_t states) {
    if (const auto* count = std::get_if<std::size_t>(&a)) return *count;
    return static_cast<std::size_t>(std::floor(std::get<double>(a) * static_cast<double>(states) + 1e-9));
}

void parse_parameter(policy_spec& spec, std::string_view text) {
    static constexpr std::array<std::string_view, 2> known{"sinks", "recent"};
    const std::size_t equals = text.find('=');
    const std::string_view name = text.substr(0, equals);
    if (name != known[0] && name != known[1]) {
        fail(spec.text, "no parameter '" + std::string(name) + "'" + did_you_mean(name, known) +
                            " (known: " + listed(known) + ")");
    }
    if (equals == std::string_view::npos) fail(spec.text, "'" + std::string(name) + "' needs a value, as in recent=16");
    const amount value = parse_amount(spec.text, text.substr(equals + 1));
    (name == known[0] ? spec.sinks : spec.recent.emplace()) = value;
}

/// The pieces between commas that are not inside parentheses.
std::vector<std::string> pieces_of(std::string_view text) {
    std::vector<std::string> pieces(1);
    int depth = 0;
    for (const char c : text) {
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
        if (c == ',' && depth == 0) {
            pieces.emplace_back();
        } else if (c != ' ') {
            pieces.back() += c;
        }
    }
    return pieces;
}

policy_spec parse_policy(const std::string& text) {
    policy_spec spec;
    spec.text = text;
    const std::size_t open = text.find('(');
    const std::string head = text.substr(0, open);
    const std::size_t plus = head.find('+');
    const std::string name = head.substr(0, plus);
    const auto& names = ms::any_policy::names;
    if (std::find(names.begin(), names.end(), name) == names.end()) {
        throw std::invalid_argument("there is no policy '" + name + "'" + did_you_mean(name, names) + " (known: " +
                                    listed(names) + "; with sinks: window+4; with parameters: h2o(recent=16))");
    }
    spec.policy = ms::any_policy::named(name);
    if (plus != std::string::npos) {
        const auto sinks = parse_number<std::size_t>(head.substr(plus + 1));
        if (!sinks) fail(text, "after + stands the number of sinks, as in window+4");
        spec.sinks = *sinks;
    }
    if (open != std::string::npos) {
        if (text.back() != ')') fail(text, "the parenthesis is not closed");
        for (const std::string& parameter : pieces_of(text.substr(open + 1, text.size() - open - 2))) {
            parse_parameter(spec, parameter);
        }
    }
    if (spec.policy.forgets() == ms::per::never && name != text) {
        fail(text, "it forgets nothing and takes no parameters");
    }
    return spec;
}

}  // namespace

ms::shape policy_spec::guarded(ms::shape shape) const {
    shape.sinks = count_of(sinks, shape.states);
    if (recent) shape.recent = count_of(*recent, shape.states);
    return shape;
}

std::vector<policy_spec> parse_policies(std::string_view text) {
    std::vector<policy_spec> specs;
    for (const std::string& piece : pieces_of(text)) specs.push_back(parse_policy(piece));
    return specs;
}

}  // namespace demo
