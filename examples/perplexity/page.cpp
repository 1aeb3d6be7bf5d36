#include "page.hpp"

#include <algorithm>
#include <cmath>
#include <ostream>
#include <string_view>
#include <utility>

#include <multistate/evaluation/distribution.hpp>
#include <nlohmann/json.hpp>

#include "page_parts.hpp"
#include "recall_json.hpp"
#include "token_class.hpp"

namespace demo {

namespace {

using json = nlohmann::ordered_json;

/// JSON has no NaN.
json number(double x) { return std::isfinite(x) ? json(x) : json(); }
json number(const std::optional<double>& x) { return x ? number(*x) : json(); }

json describe(const outcome& m, const std::string& codec) {
    return {{"codec", codec},
            {"ppl", number(m.perplexity())},
            {"ppl_error", number(m.standard_error())},
            {"cache_bytes", m.bytes.cache},
            {"tokens_per_second", static_cast<double>(m.tokens()) / m.seconds}};
}

json describe(const run& r, const outcome& full) {
    json result = {{"policy", r.what.policy.text}, {"states", r.what.states}};
    result.update(describe(r.result, r.what.codec));
    const ms::estimate above = compare(r.result, full);
    result["percent"] = number(above.value);
    result["percent_error"] = number(above.error);
    if (r.result.fidelity) {
        const fidelity& f = *r.result.fidelity;
        result["kl_mean"] = number(f.kl.mean);
        result["kl_median"] = number(f.kl.median);
        result["kl_99"] = number(f.kl.percentile_99);
        result["same_top"] = number(f.same_top);
    }
    const std::size_t parts = std::min(r.result.nll_by_position.size(), full.nll_by_position.size());
    for (std::size_t i = 0; i < parts; ++i) {
        result["nll_above_full"].push_back(number(r.result.nll_by_position[i] - full.nll_by_position[i]));
    }
    return result;
}

/// The mean share of the possible steps, for each class of tokens.
std::vector<double> share_by_class(const ms::lifetimes& lives, std::span<const std::size_t> classes) {
    ms::mean_by_part mean({.parts = token_classes.size(), .places = token_classes.size()});
    for (std::size_t j = 0; j < classes.size(); ++j) {
        mean.add(classes[j], lives.held_share(static_cast<ms::position>(j)));
    }
    return mean.means();
}

/// [KV heads, tokens] of a layer; one row if all KV heads forget the same states.
json last_steps(const ms::lifetimes& lives, std::size_t layer) {
    const auto row = [&](std::size_t kv_head) {
        const auto last = lives.last_steps(layer, kv_head);
        return std::vector<ms::position>(last.begin(), last.end());
    };
    json rows = json::array({row(0)});
    for (std::size_t h = 1; h < lives.shape().kv_heads; ++h) rows.push_back(row(h));
    const bool same = std::ranges::all_of(rows, [&](const json& other) { return other == rows.front(); });
    return same ? json::array({row(0)}) : rows;
}

json describe(const retained& r, std::span<const std::size_t> classes) {
    json layers = json::array();
    for (std::size_t layer = 0; layer < r.lives.shape().layers; ++layer) layers.push_back(last_steps(r.lives, layer));
    json shares = json::array();
    for (const double share : share_by_class(r.lives, classes)) shares.push_back(number(share));
    return {{"policy", r.what.policy.text},
            {"states", r.what.states},
            {"codec", r.what.codec},
            {"class_share", shares},
            {"last_step", layers}};
}

json describe_map(const page_text& text) {
    std::vector<std::size_t> classes, count(token_classes.size());
    for (std::size_t j = 0; j < text.tokens.size(); ++j) {
        classes.push_back(token_class(text.tokens[j], j));
        ++count[classes.back()];
    }
    json names = json::array(), runs = json::array();
    for (std::size_t i = 0; i < count.size(); ++i) {
        names.push_back({{"name", token_classes[i]}, {"tokens", count[i]}});
    }
    for (const retained& r : text.lives) runs.push_back(describe(r, classes));
    return {{"tokens", text.tokens}, {"classes", names}, {"runs", runs}};
}

/// near: [layers, heads].
json describe(const head_shares& heads, std::size_t layers) {
    json rows = json::array();
    const std::size_t width = heads.near.size() / layers;
    for (std::size_t layer = 0; layer < layers; ++layer) {
        const auto row = std::span(heads.near).subspan(layer * width, width);
        rows.push_back(std::vector<float>(row.begin(), row.end()));
    }
    return {{"recent", heads.recent}, {"near", rows}};
}

/// scores: [kind, length, depth]; null where the first run, the full cache, finds too little.
json describe(const std::vector<recall_run>& recall) {
    const auto values = [&](auto member) {
        json list = json::array();
        for (const recall_cell& c : recall.front().cells) {
            if (std::ranges::find(list, json(member(c))) == list.end()) list.push_back(member(c));
        }
        return list;
    };
    const json kinds = values([](const recall_cell& c) { return recall_kind_names[static_cast<std::size_t>(c.kind)]; });
    const json lengths = values([](const recall_cell& c) { return c.length; });
    const json depths = values([](const recall_cell& c) { return c.depth; });
    json runs = json::array();
    for (const recall_run& r : recall) {
        json scores = json::array();
        for (std::size_t i = 0; i < r.cells.size(); ++i) {
            if (i % (lengths.size() * depths.size()) == 0) scores.push_back(json::array());
            if (i % depths.size() == 0) scores.back().push_back(json::array());
            const bool measurable = recall.front().cells[i].score >= least_measurable;
            scores.back().back().push_back(measurable ? json(r.cells[i].score) : json());
        }
        runs.push_back(
            {{"policy", r.what.policy.text}, {"states", r.what.states}, {"codec", r.what.codec}, {"scores", scores}});
    }
    return {{"kinds", kinds}, {"lengths", lengths}, {"depths", depths}, {"runs", runs}};
}

json describe(const results& all, const page_text& text) {
    const provenance& about = all.about;
    json runs = json::array(), shorter = json::array(), bins = json::array();
    for (const run& r : all.runs) (r.what.shorter ? shorter : runs).push_back(describe(r, *all.full));
    const std::size_t parts = all.full->nll_by_position.size();
    for (std::size_t i = 0; i < parts; ++i) bins.push_back((2 * i + 1) * about.context / (2 * parts));
    return {{"model", {{"name", about.model}, {"layers", about.layers}, {"kv_heads", about.kv_heads}}},
            {"text", {{"name", about.text}, {"tokens", all.full->tokens()}, {"sequences", all.full->sequences.size()}}},
            {"context", about.context},
            {"full", describe(*all.full, "f32")},
            {"shorter_context", shorter},
            {"position_bins", bins},
            {"runs", runs},
            {"recall", all.recall && !all.recall->runs.empty() ? describe(all.recall->runs) : json()},
            {"repeats", all.recall ? in_json(all.recall->repeats) : json()},
            {"map", describe_map(text)},
            {"heads", text.heads ? describe(*text.heads, about.layers) : json()},
            {"version", about.version},
            {"date", about.date},
            {"cpu", about.cpu},
            {"target", about.target},
            {"command", text.command}};
}

/// JSON in a script element: a text that closes the element, or opens a comment, must not be read as such.
std::string inside_script(const json& data) {
    std::string result;
    for (const char c : data.dump(-1, ' ', false, json::error_handler_t::replace)) {
        if (c == '<') {
            result += "\\u003c";
        } else {
            result += c;
        }
    }
    return result;
}

}  // namespace

retained retained_of(const setting& what, const measurement& m, const ms::lifetimes_shape& shape, std::size_t number) {
    retained result{what, ms::lifetimes(shape)};
    for (const forgetting& f : m.forgotten) {
        if (f.sequence != number) continue;
        result.lives.forget({.layer = f.layer, .kv_head = f.kv_head, .position = f.position, .step = f.step});
    }
    return result;
}

void write_page(std::ostream& out, const results& all, const page_text& text) {
    const auto fill = [&](std::string_view page, std::string_view place, std::string_view content) {
        const std::size_t at = page.find(place);
        out << page.substr(0, at) << content;
        return page.substr(at + place.size());
    };
    std::string_view rest = page_parts::html;
    rest = fill(rest, "@PAGE_STYLE@", page_parts::style);
    rest = fill(rest, "@PAGE_DATA@", inside_script(describe(all, text)));
    rest = fill(rest, "@PAGE_SCRIPT@", page_parts::script);
    out << rest;
}

}  // namespace demo
