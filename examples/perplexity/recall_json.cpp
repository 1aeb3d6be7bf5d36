#include "recall_json.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>

#include <nlohmann/json.hpp>

namespace demo {

namespace {

using json = nlohmann::ordered_json;

json in_json(const setting& s) { return {{"policy", s.policy.text}, {"states", s.states}, {"codec", s.codec}}; }

json in_json(const recall_cell& cell, const setting& what, std::span<const recall_cell> control) {
    const auto full = std::ranges::find_if(control, [&](const recall_cell& c) { return same_place(c, cell); });
    json j = in_json(what);
    j["kind"] = recall_kind_names[static_cast<std::size_t>(cell.kind)];
    j["length"] = cell.length;
    j["depth"] = cell.depth;
    j["tries"] = cell.tries;
    j["score"] = cell.score;
    j["measurable"] = full != control.end() && full->score >= least_measurable;
    return j;
}

recall_cell cell_from(const json& j) {
    const auto kind = std::ranges::find(recall_kind_names, j.at("kind").get<std::string>());
    if (kind == recall_kind_names.end()) throw std::runtime_error("kind is " + j.at("kind").dump());
    return {.kind = static_cast<recall_kind>(kind - recall_kind_names.begin()),
            .length = j.at("length"),
            .depth = j.at("depth"),
            .tries = j.at("tries"),
            .score = j.at("score")};
}

json in_json(token_range r) { return {r.begin, r.end}; }
token_range range_from(const json& j) { return {j.at(0), j.at(1)}; }

void add_estimate(json& j, const std::string& name, const std::optional<ms::estimate>& e) {
    j[name] = e ? json(e->value) : json();
    j[name + "_error"] = e && e->error ? json(*e->error) : json();
}

/// The control says what it gains in any case: it is the reason why nothing else does.
json in_json(const repeat_group& group, const repeat_run& r, const repeat_run& control) {
    const auto scores = group.of(r), full = group.of(control);
    const bool judged = measurable(full), is_control = same(r.what, control.what);
    json j{{"within_trained", group.within}, {"passages", group.members.size()}, {"measurable", judged}};
    add_estimate(j, "gain", judged || is_control ? std::optional(gain_of(scores)) : std::nullopt);
    add_estimate(j, "again_above_full",
                 judged && !is_control ? std::optional(again_above(scores, full)) : std::nullopt);
    return j;
}

repeat_results repeats_from(const json& j, const provenance& about) {
    repeat_results all{.tokens = j.at("tokens"), .trained_context = j.at("trained_context"), .found = {}, .runs = {}};
    for (const json& r : j.at("passages")) {
        all.found.push_back({range_from(r.at("first")), range_from(r.at("again")), r.at("words"), r.at("text")});
    }
    for (const json& r : j.at("runs")) {
        all.runs.push_back({setting_from(r, about), {}});
        if (r.at("nll_first").size() != all.found.size() || r.at("nll_again").size() != all.found.size()) {
            throw std::runtime_error("nll_first, nll_again and passages differ in length");
        }
        for (std::size_t i = 0; i < all.found.size(); ++i) {
            all.runs.back().scores.push_back({r.at("nll_first")[i], r.at("nll_again")[i]});
        }
    }
    return all;
}

}  // namespace

setting setting_from(const json& j, const provenance& about) {
    return {.policy = parse_policies(j.at("policy").get<std::string>()).front(),
            .states = j.at("states"),
            .codec = j.at("codec"),
            .feeding = feeding_named(about.prefill),
            .block = about.block};
}

json in_json(const recall_results& all) {
    json cells = json::array();
    for (const recall_run& r : all.runs) {
        for (const recall_cell& cell : r.cells) cells.push_back(in_json(cell, r.what, all.runs.front().cells));
    }
    return {{"tries", all.tries}, {"tasks", all.tasks}, {"cells", cells}, {"repeats", in_json(all.repeats)}};
}

recall_results recall_from(const json& j, const provenance& about) {
    recall_results all{
        .tries = j.at("tries"), .tasks = j.at("tasks"), .runs = {}, .repeats = repeats_from(j.at("repeats"), about)};
    for (const json& cell : j.at("cells")) {
        const setting what = setting_from(cell, about);
        if (all.runs.empty() || !same(all.runs.back().what, what)) all.runs.push_back({what, {}});
        all.runs.back().cells.push_back(cell_from(cell));
    }
    return all;
}

json in_json(const repeat_results& all) {
    json found = json::array(), runs = json::array();
    for (const repeat& r : all.found) {
        found.push_back({{"text", r.text},
                         {"words", r.words},
                         {"first", in_json(r.first)},
                         {"again", in_json(r.again)},
                         {"distance", r.distance()}});
    }
    for (const repeat_run& r : all.runs) {
        json j = in_json(r.what);
        j["nll_first"] = j["nll_again"] = j["groups"] = json::array();
        for (const repeat_score& s : r.scores) {
            j["nll_first"].push_back(s.first);
            j["nll_again"].push_back(s.again);
        }
        for (const repeat_group& group : groups_of(all)) j["groups"].push_back(in_json(group, r, all.runs.front()));
        runs.push_back(j);
    }
    return {{"tokens", all.tokens},
            {"trained_context", all.trained_context},
            {"least_words", least_repeated_words},
            {"cue_words", cue_words},
            {"passages", found},
            {"runs", runs}};
}

}  // namespace demo
