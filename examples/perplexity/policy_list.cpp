#include "policy_list.hpp"

#include <algorithm>
#include <ostream>

namespace demo {

namespace {

constexpr std::size_t line_width = 120;
constexpr const char* indent = "    ";

std::string padded(std::string text, std::size_t width) {
    text.resize(std::max(text.size(), width), ' ');
    return text;
}

/// One column's width: that of its longest text.
std::size_t width_of(std::span<const policy_description> policies, std::string policy_description::*column,
                     std::size_t head) {
    for (const policy_description& p : policies) head = std::max(head, (p.*column).size());
    return head;
}

/// "decay=0.95 (from 0 to 1), ..." in lines that begin after the names do.
void print_parameters(std::ostream& out, std::span<const ms::parameter_text> parameters) {
    std::string line = indent;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
        const ms::parameter_text& p = parameters[i];
        std::string text = p.name + "=" + p.value + " (" + p.range + ")";
        if (i + 1 < parameters.size()) text += ',';
        if (i > 0 && line.size() + 1 + text.size() > line_width) {
            out << line << '\n';
            line = indent + text;
        } else {
            line += (i > 0 ? " " : "") + text;
        }
    }
    if (!parameters.empty()) out << line << '\n';
}

}  // namespace

std::vector<policy_description> describe_all_policies() {
    std::vector<policy_description> all;
    for (const std::string_view name : ms::any_policy::names) {
        all.push_back(describe(ms::any_policy::named(name)));
        all.back().presets = presets_of(name);
    }
    return all;
}

std::vector<std::string> presets_of(std::string_view policy) {
    const std::vector<ms::parameter_text> usual = ms::parameters_of(ms::any_policy::named(policy));
    std::vector<std::string> result;
    for (const std::string& name : ms::any_policy::all_names()) {
        if (!name.starts_with(std::string(policy) + ":")) continue;
        const std::vector<ms::parameter_text> own = ms::parameters_of(ms::any_policy::named(name));
        std::string others;
        for (std::size_t i = 0; i < own.size(); ++i) {
            if (own[i].value == usual[i].value) continue;
            others.append(others.empty() ? "" : ", ").append(own[i].name).append("=").append(own[i].value);
        }
        result.push_back(name + ": " + (others.empty() ? "the same" : others));
    }
    return result;
}

void print_policies(std::ostream& out, std::span<const policy_description> policies) {
    const std::size_t name = width_of(policies, &policy_description::name, 4);
    const std::size_t forgets = width_of(policies, &policy_description::forgets, 7);
    const std::size_t paper = width_of(policies, &policy_description::paper, 5);
    const auto print = [&](const policy_description& p) {
        out << padded(p.name, name) << "  " << padded(p.forgets, forgets) << "  " << padded(p.paper, paper) << "  "
            << p.reads << '\n';
        print_parameters(out, p.parameters);
        for (const std::string& preset : p.presets) out << indent << preset << '\n';
    };
    print({.name = "NAME", .forgets = "FORGETS", .paper = "PAPER", .reads = "READS", .parameters = {}});
    for (const policy_description& p : policies) print(p);
    std::vector<std::string> rotation;
    const ms::rope rope;
    ms::for_each_parameter(rope, [&](std::string_view each, const auto&...) { rotation.emplace_back(each); });
    out << "\n"
           "FORGETS for each layer, for each KV head, or never. Below a policy its parameters: NAME=DEFAULT (RANGE),\n"
           "and its presets, other defaults under a name of their own.\n"
           "All that forget also take sinks, recent and slack: whole numbers of states, or shares of k such as 0.25.\n"
           "Parts follow a policy after |, as in h2o|value_norm|pool(width=7):\n"
        << ms::listed(ms::part_list::names)
        << ".\n"
           "A budget stands last, as in snapkv|pyramid(beta=20); k is then the mean over layers, or over KV heads:\n";
    for (const std::string_view each : ms::any_budget::names) {
        out << each << ':';
        for (const ms::parameter_text& p : ms::parameters_of(ms::any_budget::named(each))) {
            out << ' ' << p.name << '=' << p.value << " (" << p.range << ')';
        }
        out << '\n';
    }
    out << "How keys are rotated (" << ms::listed(rotation) << ") is taken from the model unless given.\n";
}

}  // namespace demo
