#include "plan.hpp"

#include <algorithm>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>

#include "inputs.hpp"

namespace demo {

namespace {

std::vector<std::size_t> states_of(const options& o, std::size_t context) {
    std::vector<std::size_t> states;
    for (const state_count& k : o.states) {
        if (std::ranges::count(states, k.at(context)) == 0) states.push_back(k.at(context));
    }
    return states;
}

/// What never forgets is the same at every k. In f32 it is the baseline, which costs nothing.
bool measured_before(const std::vector<setting>& settings, const setting& s) {
    return !forgets(s) && s.codec != "f32" &&
           std::ranges::any_of(settings, [&](const setting& each) { return each.codec == s.codec; });
}

}  // namespace

std::vector<setting> plan(const options& o, const llama& model, std::size_t context, bool& skipped) {
    const std::vector<std::size_t> states = states_of(o, context);
    std::vector<setting> settings;
    if (o.shorter_context) {
        for (const std::size_t k : states) settings.push_back(shorter_context(k, o.block));
    }
    std::map<std::string, std::string> known;  // what a policy comes to at all k: how it was written first
    for (const policy_spec& policy : o.policies) {
        std::vector<setting> possible;
        std::vector<std::string> problems;
        std::string meaning;
        for (const std::size_t k : states) {
            setting s{.policy = policy, .states = k, .feeding = o.feeding(), .block = o.block};
            try {
                meaning += resolved(model, s) + '\n';
                for (const std::string& codec : o.codecs) {
                    s.codec = codec;
                    if (measured_before(possible, s)) continue;
                    possible.push_back(s);
                }
            } catch (const std::invalid_argument& problem) {
                meaning += std::string(policy.policy.name()) + ' ' + problem.what() + '\n';
                problems.push_back("skipped " + policy.text + " at " + problem.what());
            }
        }
        if (const auto [first, added] = known.emplace(meaning, policy.text); !added) {
            note(policy.text + (first->second == policy.text ? " is given twice" : " is the same as " + first->second) +
                 " and measured once");
            continue;
        }
        settings.insert(settings.end(), possible.begin(), possible.end());
        for (const std::string& problem : problems) std::cerr << "perplexity: " << problem << '\n';
        skipped = skipped || !problems.empty();
    }
    return settings;
}

}  // namespace demo
