#include "profile.hpp"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <ostream>
#include <stdexcept>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace demo {

namespace {

/// A policy that shows a profile every token that attends. Its cache has room for all states, so it forgets none.
struct observer {
    [[maybe_unused]] static constexpr std::string_view name = "observer";
    static constexpr ms::per forgets() noexcept { return ms::per::head; }
    head_profile* profile = nullptr;

    void on_attention(ms::rows probabilities, ms::view states) const noexcept {
        const ms::attention_profile::head head{states.shape.layer, states.shape.kv_head};
        profile->near.observe(head, probabilities, states.position);
        if (std::ranges::max(states.position) >= first_queries) {
            profile->first.observe(head, probabilities, states.position);
        }
    }
};
static_assert(ms::hooks_of<observer> == ms::hook::on_attention);

constexpr std::size_t block = 64;            // tokens that attend at once
constexpr std::size_t tokens_at_once = 256;  // tokens that are multiplied with the weights at once
constexpr float bar_width = 40;

std::size_t group_of(const llama_config& c) { return c.heads / c.kv_heads; }

void print_by_layer(std::ostream& out, const std::vector<float>& shares, std::size_t heads) {
    out << "      ";
    for (std::size_t head = 0; head < heads; ++head) out << std::setw(7) << head;
    for (std::size_t i = 0; i < shares.size(); ++i) {
        if (i % heads == 0) out << '\n' << std::setw(6) << i / heads;
        out << "  " << shares[i];
    }
    out << '\n';
}

}  // namespace

head_profile profile_heads(const llama& model, std::span<const sequence> sequences, const profile_setting& s,
                           const std::function<void(std::size_t tokens)>& progress) {
    const llama_config& c = model.config();
    const ms::profile_shape heads{.layers = c.layers, .heads = c.heads, .kv_heads = c.kv_heads};
    const std::size_t longest = std::ranges::max(sequences, {}, &sequence::size).size();
    head_profile profile{.near = ms::attention_profile(heads, {.sinks = 0, .recent = s.near}, s.own),
                         .first = ms::attention_profile(heads, {.sinks = 1, .recent = 0}),
                         .has_first = longest > static_cast<std::size_t>(first_queries)};
    ms::cache<observer> cache(model.cache_shape(longest, std::min(block, longest)), observer{&profile});
    llama running = model;
    matrix hidden;
    for (const sequence& tokens : sequences) {
        cache.clear();
        for (std::size_t done = 0; done < tokens.size();) {
            const std::size_t count = std::min(tokens_at_once, tokens.size() - done);
            if (!running.prefill(cache, std::span(tokens).subspan(done, count), static_cast<ms::position>(done),
                                 ms::prefill_mode::block, hidden)) {
                throw std::logic_error("the cache has fewer rows than the sequence has tokens");
            }
            done += count;
            if (progress) progress(count);
        }
    }
    return profile;
}

std::string meaning_of(const profile_setting& s) {
    const std::string tokens = s.near == 1 ? "token" : std::to_string(s.near) + " tokens";
    return s.own == ms::own_token::counted
               ? "the share of attention on the last " + tokens + ", the token itself included"
               : "the share of attention on the last " + tokens + " before the token itself, which is left out";
}

void print_profile(std::ostream& out, const head_profile& profile, const llama_config& config,
                   const profile_setting& s) {
    const auto flags = out.flags();
    out << "near: " << meaning_of(s) << ", from 0 to 1.\nQuery heads by rank, the nearest first\n\n"
        << "rank  layer  head  KV head   near\n"
        << std::fixed << std::setprecision(3);
    std::size_t rank = 0;
    for (const auto& each : profile.near.ranked()) {
        out << std::setw(4) << ++rank << std::setw(7) << each.layer << std::setw(6) << each.head << std::setw(9)
            << each.head / group_of(config) << "  " << each.recency << "  "
            << std::string(static_cast<std::size_t>(std::lround(each.recency * bar_width)), '#') << '\n';
    }
    out << "\nnear by layer (rows) and query head\n";
    print_by_layer(out, profile.near.recency(), config.heads);
    if (profile.has_first) {
        out << "\nfirst, by layer (rows) and query head: the share of attention on the first token,\nof queries from "
               "position "
            << first_queries << " on. A head with a large share uses it as an attention sink.\n";
        print_by_layer(out, profile.first.recency(), config.heads);
    }
    out.flags(flags);
}

void write_profile(std::ostream& out, const head_profile& profile, const llama_config& config, const profile_setting& s,
                   const std::string& model) {
    using nlohmann::json;
    json heads = json::array();
    const std::vector<float> first = profile.first.recency();
    for (const auto& each : profile.near.ranked()) {
        json& head = heads.emplace_back(json{{"layer", each.layer},
                                             {"head", each.head},
                                             {"kv_head", each.head / group_of(config)},
                                             {"near", each.recency}});
        if (profile.has_first) head["first"] = first[each.layer * config.heads + each.head];
    }
    const json result = {{"model", model},
                         {"near_tokens", s.near},
                         {"own_token", s.own == ms::own_token::counted ? "counted" : "left out"},
                         {"layers", config.layers},
                         {"query_heads", config.heads},
                         {"kv_heads", config.kv_heads},
                         {"version", MULTISTATE_VERSION},
                         {"heads", heads}};
    out << result.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
}

}  // namespace demo
