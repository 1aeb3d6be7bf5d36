#include "policy_list.hpp"

#include <algorithm>
#include <ostream>

#include "terminal.hpp"

namespace demo {

namespace {

constexpr std::size_t indent = 4;
constexpr std::size_t least_reads = 13;  // columns for what a policy reads; with fewer, each policy is a paragraph

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

/// Below the name that it belongs to.
void print_indented(std::ostream& out, const std::string& text, std::size_t columns) {
    out << std::string(indent, ' ') << wrapped(text, {.width = columns, .indent = indent, .begun = indent}) << '\n';
}

/// "decay=0.95 (from 0 to 1), ..."
std::string parameters_text(std::span<const ms::parameter_text> parameters) {
    std::string text;
    for (const ms::parameter_text& p : parameters) {
        text += (text.empty() ? "" : ", ") + p.name + "=" + p.value + " (" + p.range + ")";
    }
    return text;
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

void print_policies(std::ostream& out, std::span<const policy_description> policies, std::size_t columns) {
    const std::size_t name = width_of(policies, &policy_description::name, 4);
    const std::size_t forgets = width_of(policies, &policy_description::forgets, 7);
    const std::size_t paper = width_of(policies, &policy_description::paper, 5);
    const auto print = [&](const policy_description& p) {
        const std::string begin =
            padded(p.name, name) + "  " + padded(p.forgets, forgets) + "  " + padded(p.paper, paper) + "  ";
        if (begin.size() + least_reads <= columns) {
            out << begin << wrapped(p.reads, {.width = columns, .indent = begin.size(), .begun = begin.size()}) << '\n';
        } else {
            out << p.name << '\n';
            print_indented(out, p.forgets + "; " + p.paper + "; " + p.reads, columns);
        }
        if (!p.parameters.empty()) print_indented(out, parameters_text(p.parameters), columns);
        for (const std::string& preset : p.presets) print_indented(out, preset, columns);
    };
    print({.name = "NAME", .forgets = "FORGETS", .paper = "PAPER", .reads = "READS", .parameters = {}});
    for (const policy_description& p : policies) print(p);
    const auto paragraph = [&](const std::string& text) {
        out << wrapped(text, {.width = columns, .indent = 2}) << '\n';
    };
    std::vector<std::string> rotation;
    const ms::rope rope;
    ms::for_each_parameter(rope, [&](std::string_view each, const auto&...) { rotation.emplace_back(each); });
    out << '\n';
    paragraph(
        "FORGETS for each layer, for each KV head, or never. Below a policy its parameters: NAME=DEFAULT (RANGE), "
        "and its presets, other defaults under a name of their own.");
    paragraph(
        "All that forget also take sinks, recent and slack: whole numbers of states, or shares of k such as 0.25.");
    paragraph("Parts follow a policy after |, as in h2o|value_norm|pool(width=7): " + ms::listed(ms::part_list::names) +
              ".");
    paragraph("A budget stands last, as in snapkv|pyramid(beta=20); k is then the mean over layers, or over KV heads:");
    for (const std::string_view each : ms::any_budget::names) {
        paragraph(std::string(each) + ": " + parameters_text(ms::parameters_of(ms::any_budget::named(each))));
    }
    paragraph("How keys are rotated (" + ms::listed(rotation) + ") is taken from the model unless given.");
}

}  // namespace demo
