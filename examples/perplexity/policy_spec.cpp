#include "policy_spec.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#include "parameters.hpp"
#include "suggest.hpp"

namespace demo {

namespace {

/// What every policy that forgets takes beside its own parameters.
constexpr std::array<std::string_view, 3> of_the_shape{"sinks", "recent", "slack"};

[[noreturn]] void fail(std::string_view spec, const std::string& problem) {
    throw std::invalid_argument("policy '" + std::string(spec) + "': " + problem);
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

/// Parses one spec.
class spec_parser {
  public:
    explicit spec_parser(const std::string& text) { spec_.text = text; }

    policy_spec parse() {
        const std::string& text = spec_.text;
        const std::size_t open = text.find('(');
        const std::string head = text.substr(0, open);
        const std::size_t plus = head.find('+');
        choose(head.substr(0, plus));
        if (spec_.policy.forgets() == ms::per::never && spec_.policy.name() != text) {
            fail(text, "it forgets nothing and takes no parameters");
        }
        if (plus != std::string::npos) {
            const auto sinks = parse_number<std::size_t>(head.substr(plus + 1));
            if (!sinks) fail(text, "after + stands the number of sinks, as in window+4");
            spec_.sinks = *sinks;
            given_.emplace_back("sinks");
        }
        if (open != std::string::npos) {
            if (text.back() != ')') fail(text, "the parenthesis is not closed");
            for (const std::string& one : pieces_of(std::string_view(text).substr(open + 1, text.size() - open - 2))) {
                parse_parameter(one);
            }
        }
        return spec_;
    }

    /// The pieces between commas that are not inside parentheses, without spaces. A space inside a word is an error:
    /// "recent=1 6" is not 16.
    static std::vector<std::string> pieces_of(std::string_view text) {
        constexpr std::string_view separators = ",()=+";
        std::vector<std::string> pieces(1);
        int depth = 0;
        bool space = false;
        for (const char c : text) {
            if (c == ' ') {
                space = true;
                continue;
            }
            std::string& piece = pieces.back();
            const bool separates = separators.find(c) != std::string_view::npos;
            if (space && !separates && !piece.empty() && separators.find(piece.back()) == std::string_view::npos) {
                fail(text, "a space divides '" + piece + "' from what follows");
            }
            space = false;
            depth += c == '(' ? 1 : c == ')' ? -1 : 0;
            if (c == ',' && depth == 0) {
                pieces.emplace_back();
            } else {
                piece += c;
            }
        }
        return pieces;
    }

  private:
    void choose(const std::string& name) {
        const std::vector<std::string> names = ms::any_policy::all_names();
        if (std::ranges::find(names, name) == names.end()) {
            throw std::invalid_argument("there is no policy '" + name + "'" + did_you_mean(name, names, 3) +
                                        " (--list-policies shows all; with sinks: window+4; with parameters: "
                                        "h2o(recent=16))");
        }
        spec_.policy = ms::any_policy::named(name);
    }

    void parse_parameter(std::string_view text) {
        const std::size_t equals = text.find('=');
        const std::string name(text.substr(0, equals));
        const std::vector<parameter_text> own = parameters_of(spec_.policy);
        std::vector<std::string> known;
        for (const parameter_text& each : own) known.push_back(each.name);
        known.insert(known.end(), of_the_shape.begin(), of_the_shape.end());
        const auto found = std::ranges::find(known, name);
        if (found == known.end()) {
            fail(spec_.text,
                 "no parameter '" + name + "'" + did_you_mean(name, known, 3) + " (known: " + listed(known) + ")");
        }
        const auto index = static_cast<std::size_t>(found - known.begin());
        if (equals == std::string_view::npos) {
            fail(spec_.text,
                 "'" + name + "' needs a value, as in " + name + "=" + (index < own.size() ? own[index].value : "16"));
        }
        if (std::ranges::find(given_, name) != given_.end()) fail(spec_.text, name + " is given twice");
        given_.push_back(name);
        set(name, index < own.size(), text.substr(equals + 1));
    }

    void set(const std::string& name, bool own, std::string_view value) {
        if (own) {
            if (const std::string problem = set_parameter(spec_.policy, name, value); !problem.empty()) {
                fail(spec_.text, problem);
            }
            spec_.own.emplace_back(name, value);
        } else if (name == "sinks") {
            spec_.sinks = parse_amount(spec_.text, value);
        } else {
            (name == "recent" ? spec_.recent : spec_.slack) = parse_amount(spec_.text, value);
        }
    }

    policy_spec spec_;
    std::vector<std::string> given_;
};

/// The spec with each policy that forgets in the place of `all`.
std::vector<std::string> expanded(const std::string& spec) {
    const std::string rest = spec.substr(std::min(spec.find_first_of("+("), spec.size()));
    if (spec.substr(0, spec.size() - rest.size()) != "all") return {spec};
    std::vector<std::string> specs;
    for (const std::string_view name : ms::any_policy::names) {
        if (ms::any_policy::named(name).forgets() != ms::per::never) specs.push_back(std::string(name) + rest);
    }
    return specs;
}

}  // namespace

std::size_t policy_spec::slack_at(std::size_t states) const { return slack ? count_of(*slack, states) : 0; }

ms::shape policy_spec::applied_to(ms::shape shape) const {
    shape.sinks = count_of(sinks, shape.states);
    if (recent) shape.recent = count_of(*recent, shape.states);
    shape.slack = slack_at(shape.states);
    return shape;
}

std::vector<policy_spec> parse_policies(std::string_view text) {
    std::vector<policy_spec> specs;
    for (const std::string& piece : spec_parser::pieces_of(text)) {
        for (const std::string& spec : expanded(piece)) specs.push_back(spec_parser(spec).parse());
    }
    return specs;
}

}  // namespace demo
