#include "recall_json.hpp"

#include <algorithm>
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
    return {{"tries", all.tries}, {"tasks", all.tasks}, {"cells", cells}};
}

recall_results recall_from(const json& j, const provenance& about) {
    recall_results all{.tries = j.at("tries"), .tasks = j.at("tasks"), .runs = {}};
    for (const json& cell : j.at("cells")) {
        const setting what = setting_from(cell, about);
        if (all.runs.empty() || !same(all.runs.back().what, what)) all.runs.push_back({what, {}});
        all.runs.back().cells.push_back(cell_from(cell));
    }
    return all;
}

}  // namespace demo
