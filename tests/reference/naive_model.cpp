#include "reference/naive_model.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace reference {

naive_model::naive_model(const rule& forgets_by, const setting& s)
    : rule_(forgets_by), setting_(s), held_(s.kv_heads), tables_(forgets_by.forgets == unit::head ? s.kv_heads : 1) {}

std::vector<double> naive_model::step(int position, std::span<const float> q, std::span<const float> k,
                                      std::span<const float> v) {
    return block(position, 1, q, k, v);
}

std::vector<double> naive_model::block(int first, std::size_t tokens, std::span<const float> q,
                                       std::span<const float> k, std::span<const float> v) {
    const setting& s = setting_;
    std::vector<double> out;
    last_arrival_ = past_.size();
    for (std::size_t t = 0; t < tokens; ++t) {
        const int position = first + static_cast<int>(t);
        place(position, k.subspan(t * s.kv_heads * s.head_dim), v.subspan(t * s.kv_heads * s.value_dim));
        attend(position, q.subspan(t * s.heads * s.head_dim), out);
    }
    shrink(s.states + s.slack);
    return out;
}

void naive_model::clear() {
    for (auto& head : held_) head.clear();
    past_.clear();
    decided_by_.clear();
}

std::vector<int> naive_model::held(std::size_t kv_head) const {
    std::vector<int> result;
    for (const state& one : held_[kv_head]) result.push_back(one.position);
    return result;
}
std::vector<int> naive_model::attended(std::size_t kv_head) const {
    return past_.empty() ? std::vector<int>{} : past_.back().seen[kv_head];
}
void naive_model::place(int position, std::span<const float> k, std::span<const float> v) {
    const setting& s = setting_;
    for (std::size_t h = 0; h < s.kv_heads; ++h) {
        const auto key = k.subspan(h * s.head_dim, s.head_dim);
        const auto value = v.subspan(h * s.value_dim, s.value_dim);
        held_[h].push_back({position, {key.begin(), key.end()}, {value.begin(), value.end()}});
    }
}

void naive_model::attend(int position, std::span<const float> q, std::vector<double>& out) {
    const setting& s = setting_;
    token now{.position = position, .queries = {}, .keys = {}, .values = {}, .seen = {}, .attention = {}};
    for (std::size_t h = 0; h < s.kv_heads; ++h) {
        now.keys.push_back(held_[h].back().key);
        now.values.push_back(held_[h].back().value);
        now.seen.push_back(held(h));
    }
    for (std::size_t i = 0; i < s.heads; ++i) {
        const auto query = q.subspan(i * s.head_dim, s.head_dim);
        const auto& held = held_[i / s.group()];
        now.queries.emplace_back(query.begin(), query.end());
        now.attention.push_back(probabilities(query, held));
        for (std::size_t c = 0; c < s.value_dim; ++c) {
            double sum = 0;
            for (std::size_t j = 0; j < held.size(); ++j) sum += now.attention.back()[j] * held[j].value[c];
            out.push_back(sum);
        }
    }
    past_.push_back(std::move(now));
}

std::vector<double> naive_model::probabilities(std::span<const float> q, const std::vector<state>& held) const {
    std::vector<double> p;
    for (const state& one : held) {
        double dot = 0;
        for (std::size_t c = 0; c < q.size(); ++c) dot += static_cast<double>(q[c]) * one.key[c];
        const double logit = setting_.scale * dot;
        p.push_back(setting_.softcap == 0 ? logit : setting_.softcap * std::tanh(logit / setting_.softcap));
    }
    const double greatest = *std::max_element(p.begin(), p.end());
    double total = 0;
    for (double& x : p) total += x = std::exp(x - greatest);
    for (double& x : p) x /= total;
    return p;
}

void naive_model::shrink(std::size_t most) {
    if (rule_.forgets == unit::never) return;
    for (std::size_t table = 0; table < tables_; ++table) {
        if (held_[table].size() > most) decide(table);
    }
}

void naive_model::decide(std::size_t table) {
    const setting& s = setting_;
    const std::size_t heads = s.kv_heads / tables_;
    const std::size_t first = table * heads;
    const std::size_t sinks = s.sinks + rule_.sinks(s.states);
    const std::size_t recent = s.recent.value_or(rule_.recent(s.states));
    std::vector<double> scores = ask({setting_, first, heads, held_, past_, last_arrival_, margin_});
    double worst = 0;
    while (scores.size() > s.states) {
        std::size_t least = sinks;
        for (std::size_t j = sinks; j + recent < scores.size(); ++j) {
            if (scores[j] < scores[least]) least = j;  // ties go to the oldest
        }
        worst = scores[least];
        const auto i = static_cast<std::ptrdiff_t>(least);
        scores.erase(scores.begin() + i);
        for (std::size_t h = first; h < first + heads; ++h) {
            decided_by_[{h, held_[h][least].position}] = past_.back().position;
            held_[h].erase(held_[h].begin() + i);
        }
    }
    for (std::size_t j = sinks; j + recent < scores.size(); ++j) compare(scores[j], worst);
}

std::vector<double> naive_model::ask(const evidence& e) const {
    if (rule_.score == nullptr) return std::vector<double>(e.states().size());
    std::vector<double> scores = rule_.score(e);
    if (scores.size() != e.states().size()) fail("gives not one score for each state", past_.back().position);
    for (std::size_t j = 0; j < scores.size(); ++j) {
        if (std::isnan(scores[j])) fail("gives a score that is not a number", e.states()[j].position);
    }
    return scores;
}
void naive_model::fail(const char* what, int position) const {
    throw std::domain_error("the reference of " + std::string(rule_.name) + " " + what + ", position " +
                            std::to_string(position));
}

void naive_model::compare(double a, double b) {
    const double size = std::max(std::abs(a), std::abs(b));
    if (size == 0 || std::isinf(size) || (a == b && rule_.ties_are_exact)) return;  // in float32 as here
    margin_ = std::min(margin_, std::abs(a - b) / size);
}

}  // namespace reference
