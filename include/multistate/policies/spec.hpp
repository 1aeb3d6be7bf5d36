#pragma once

// Policies as text, for command lines and configuration files:
//
//     tova    window+4    h2o(recent=64)    snapkv:class    h2o(recent=0.25, slack=8)|value_norm|pool(width=7)
//
//     const ms::policy_spec spec = ms::policy_spec::parse("h2o(sinks=4)|pool(width=7)|into_nearest");
//     ms::cache<ms::any_composed> cache(spec.applied_to(shape), spec.policy);
//
// Write NAME or NAME:PRESET (other defaults), +N for N sinks, and parameters in parentheses: the policy's own, and for
// every policy that forgets `sinks`, `recent`, `slack`. For these three, a whole number counts states; a number with a
// point is a share of the states, rounded down. Parts (any_composed.hpp) follow after |, and act in order.
//
// With budgets/any_budget.hpp, a budget may stand at the end: spec_with<any_budget>::parse("snapkv|pyramid(beta=20)").
//
// Names may be written as in papers: case and hyphens do not matter, and some have aliases (StreamingLLM is window+4).
// Errors are std::invalid_argument; they state the error and the valid alternatives. Allocates.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "multistate/core/shape.hpp"
#include "multistate/policies/any_composed.hpp"
#include "multistate/policies/spec_text.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// A number of states or a share of them.
using amount = std::variant<std::size_t, double>;

/// The budget of a spec that has none; any_budget has the same members.
struct no_budget {
    static constexpr std::array<std::string_view, 0> names{};
    static no_budget named(std::string_view) { return {}; }
    static std::string_view why_not_named(std::string_view) { return {}; }
    static std::string why_refused_for(const any_composed&) { return {}; }
};

/// A policy with a budget. `Budget` is no_budget or any_budget.
template <class Budget>
struct spec_with {
    std::string text;     ///< as written, without spaces, with the library's spelling of names
    any_composed policy;  ///< with its parameters set, and parts
    Budget budget;
    amount sinks = std::size_t{0};
    std::optional<amount> recent;
    std::optional<amount> slack;
    std::vector<std::pair<std::string, std::string>> own;  ///< the policy's own parameters in the text, with values

    /// Throws std::invalid_argument that states the error and the valid alternatives; `list` tells users where to find
    /// the names of all policies.
    [[nodiscard]] static spec_with parse(std::string_view text, std::string_view list = "any_policy::all_names()");

    /// The slack for this number of states; 0 unless the text sets it.
    [[nodiscard]] std::size_t slack_at(std::size_t states) const { return slack ? count_of(*slack, states) : 0; }
    /// The shape with this spec's guards and slack for its states.
    [[nodiscard]] multistate::shape applied_to(multistate::shape shape) const {
        shape.sinks = count_of(sinks, shape.states);
        if (recent) shape.recent = count_of(*recent, shape.states);
        shape.slack = slack_at(shape.states);
        return shape;
    }

  private:
    static std::size_t count_of(const amount& a, std::size_t states) {
        if (const auto* count = std::get_if<std::size_t>(&a)) return *count;
        return static_cast<std::size_t>(std::floor(std::get<double>(a) * static_cast<double>(states) + 1e-9));
    }
};

/// A policy without a budget.
using policy_spec = spec_with<no_budget>;

namespace detail {

/// The object whose parameters are set: the policy, or the i-th part.
struct part_of_spec {
    any_composed& policy;
    std::optional<std::size_t> part;

    template <class F>
    void for_each_parameter(F&& f) const {
        const auto all = [&](auto& one) { multistate::for_each_parameter(one, f); };
        part ? policy.get<part_list>().visit(*part, all) : all(policy.get<any_policy>());
    }
};

template <class Budget>
class spec_parser {
  public:
    spec_parser(std::string_view text, std::string_view list) : pieces_(split_spec(text, '|')), list_(list) { join(); }

    spec_with<Budget> parse() {
        parse_policy();
        for (std::size_t i = 1; i < pieces_.size(); ++i) parse_part(i);
        try_parts();
        return std::move(spec_);
    }

  private:
    [[noreturn]] void fail(const std::string& problem) const { refuse_spec(spec_.text, problem); }
    void join() {
        spec_.text.clear();
        for (const std::string& piece : pieces_) spec_.text += (&piece == pieces_.data() ? "" : "|") + piece;
    }

    void parse_policy() {
        choose();
        const auto [head, parameters] = split_parameters(spec_.text, pieces_.front());
        if (spec_.policy.forgets() == per::never && spec_.policy.name() != spec_.text) {
            fail("it forgets nothing and takes no parameters and no parts");
        }
        if (const std::size_t plus = head.find('+'); plus != std::string::npos) {
            const auto sinks = parse_number<std::size_t>(head.substr(plus + 1));
            if (!sinks) fail("after + stands the number of sinks, as in window+4");
            spec_.sinks = *sinks;
            given_.emplace_back("sinks");
        }
        for (const std::string& one : parameters) parse_parameter(part_of_spec{spec_.policy, {}}, one);
    }

    /// Replaces the name by the library's spelling.
    void choose() {
        std::string& text = pieces_.front();
        const std::size_t length = (std::min)(text.find_first_of("+("), text.size());
        const std::string given = text.substr(0, length), rest = text.substr(length);
        std::string name = folded(given);
        for (const policy_alias& alias : policy_aliases) {
            if (name != alias.name) continue;
            if (alias.spec.empty())
                refuse_spec("there is no policy '" + given + "': " + std::string(alias.explanation));
            const std::string spec(alias.spec);
            const std::size_t bar = (std::min)(spec.find('|'), spec.size());
            if (bar < spec.size() && Budget::names.empty()) {
                refuse_spec("there is no policy '" + given + "': it is " + spec +
                            ", with a budget of budgets/any_budget.hpp");
            }
            text = spec.substr(0, bar) + rest;
            if (bar < spec.size()) pieces_.push_back(spec.substr(bar + 1));
            join();
            return choose_named(spec.substr(0, (std::min)(bar, spec.find('+'))));
        }
        const std::vector<std::string> names = any_policy::all_names();
        if (std::ranges::find(part_list::names, name) != part_list::names.end()) {
            refuse_spec("there is no policy '" + given + "': it is a part, as in h2o|" + name);
        }
        if (std::ranges::find(names, name) == names.end()) {
            if (is_budget(name))
                refuse_spec("there is no policy '" + given + "': it is a budget, as in snapkv|" + name);
            refuse_spec("there is no policy '" + given + "'" + did_you_mean(given, names, 3) + " (" +
                        std::string(list_) + " shows all; with sinks: window+4; with parameters: h2o(recent=16))");
        }
        text = name + rest;
        join();
        choose_named(name);
    }
    void choose_named(std::string_view name) { spec_.policy = any_composed(any_policy::named(name)); }

    void parse_part(std::size_t i) {
        auto [head, parameters] = split_parameters(spec_.text, pieces_[i]);
        const std::string name = folded(head);
        if (is_budget(name)) return parse_budget(i, name, parameters);
        require_part(head, name);
        if (i > part_list::capacity) fail("more than " + std::to_string(part_list::capacity) + " parts");
        spec_.policy.add(name);
        pieces_[i].replace(0, head.size(), name);
        join();
        given_.clear();
        for (const std::string& one : parameters) parse_parameter(part_of_spec{spec_.policy, i - 1}, one);
    }
    void require_part(const std::string& head, const std::string& name) const {
        std::vector<std::string_view> known(part_list::names.begin(), part_list::names.end());
        const std::string parts = listed(known);
        known.insert(known.end(), Budget::names.begin(), Budget::names.end());
        const std::string budgets = Budget::names.empty() ? "" : "; budgets: " + listed(Budget::names);
        if (name.empty()) fail("a part must follow |, one of " + parts + budgets);
        if (std::ranges::find(part_list::names, name) != part_list::names.end()) return;
        fail("there is no part '" + head + "'" + did_you_mean(head, known, 3) + " (known: " + parts + budgets + ")");
    }
    static bool is_budget(std::string_view name) {
        return std::ranges::find(Budget::names, name) != Budget::names.end() || !Budget::why_not_named(name).empty();
    }
    void parse_budget(std::size_t i, const std::string& name, const std::vector<std::string>& parameters) {
        if (const std::string_view why = Budget::why_not_named(name); !why.empty()) {
            fail("the budget " + name + " cannot be given as text, as " + std::string(why));
        }
        if (i + 1 != pieces_.size()) fail(name + " is a budget, which stands last and only once");
        spec_.budget = Budget::named(name);
        pieces_[i].replace(0, (std::min)(pieces_[i].find('('), pieces_[i].size()), name);
        join();
        given_.clear();
        for (const std::string& one : parameters) parse_parameter(spec_.budget, one);
    }
    void try_parts() const {
        if (const std::string problem = spec_.policy.problem_of_parts(); !problem.empty()) fail(problem);
        if (const std::string problem = spec_.budget.why_refused_for(spec_.policy); !problem.empty()) fail(problem);
    }

    /// Whether sinks, recent and slack may stand beside the parameters.
    static constexpr bool takes_guards(const part_of_spec& of) { return !of.part; }
    static constexpr bool takes_guards(const auto&) { return false; }

    template <class Of>
    void parse_parameter(Of&& of, std::string_view text) {
        const std::size_t equals = text.find('=');
        const std::string name(text.substr(0, equals));
        const std::vector<parameter_text> own = parameters_of(of);
        std::vector<std::string> known;
        for (const parameter_text& each : own) known.push_back(each.name);
        if (takes_guards(of)) known.insert(known.end(), {"sinks", "recent", "slack"});
        const auto found = std::ranges::find(known, name);
        if (found == known.end()) {
            fail("no parameter '" + name + "'" + did_you_mean(name, known, 3) +
                 (known.empty() ? "" : " (known: " + listed(known) + ")"));
        }
        const auto index = static_cast<std::size_t>(found - known.begin());
        if (equals == std::string_view::npos) {
            fail("'" + name + "' needs a value, as in " + name + "=" + (index < own.size() ? own[index].value : "16"));
        }
        if (std::ranges::find(given_, name) != given_.end()) fail(name + " is given twice");
        given_.push_back(name);
        set(of, name, index < own.size(), text.substr(equals + 1));
    }
    template <class Of>
    void set(Of&& of, const std::string& name, bool own, std::string_view value) {
        if (own) {
            if (const std::string problem = set_parameter(of, name, value); !problem.empty()) fail(problem);
            if (takes_guards(of)) spec_.own.emplace_back(name, value);
        } else if (name == "sinks") {
            spec_.sinks = parse_amount(value);
        } else {
            (name == "recent" ? spec_.recent : spec_.slack) = parse_amount(value);
        }
    }
    amount parse_amount(std::string_view text) const {
        if (text.find('.') != std::string_view::npos) {
            if (const auto share = parse_number<double>(text); share && *share >= 0 && *share < 1) return *share;
        } else if (const auto count = parse_number<std::size_t>(text)) {
            return *count;
        }
        fail("'" + std::string(text) + "' is neither a number of states nor a share of k such as 0.25");
    }

    spec_with<Budget> spec_;
    std::vector<std::string> pieces_;  // the policy, the parts, the budget
    std::vector<std::string> given_;   // parameters of the current piece
    std::string_view list_;
};

}  // namespace detail

template <class Budget>
spec_with<Budget> spec_with<Budget>::parse(std::string_view text, std::string_view list) {
    return detail::spec_parser<Budget>(text, list).parse();
}

/// Specs separated by commas outside parentheses. `all` means every policy that forgets, as in all(slack=0.1).
template <class Spec = policy_spec>
[[nodiscard]] std::vector<Spec> parse_policies(std::string_view text,
                                               std::string_view list = "any_policy::all_names()") {
    std::vector<Spec> specs;
    for (const std::string& one : detail::split_spec(text, ',')) {
        const std::size_t length = (std::min)(one.find_first_of("+(|"), one.size());
        if (folded(one.substr(0, length)) != "all") {
            specs.push_back(Spec::parse(one, list));
            continue;
        }
        for (const std::string_view name : any_policy::names) {
            if (any_policy::named(name).forgets() == per::never) continue;
            specs.push_back(Spec::parse(std::string(name) + one.substr(length), list));
        }
    }
    return specs;
}

}}  // namespace multistate::MULTISTATE_TARGET
