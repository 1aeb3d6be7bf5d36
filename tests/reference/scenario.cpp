#include "reference/scenario.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <ostream>
#include <string>
#include <utility>

#include <gtest/gtest.h>
#include <multistate/multistate.hpp>

#include "reference/lockstep.hpp"
#include "support/any_policy.hpp"

namespace reference {

namespace {

setting setting_of(const scenario& s) {
    const multistate::shape& shape = s.shape;
    return {
        .heads = shape.heads,
        .kv_heads = shape.kv_heads,
        .head_dim = shape.head_dim,
        .value_dim = shape.value_dim == 0 ? shape.head_dim : shape.value_dim,
        .states = shape.states,
        .slack = shape.slack,
        .sinks = shape.sinks,
        .recent = shape.recent,
        .scale = shape.scale ? static_cast<double>(*shape.scale) : 1 / std::sqrt(static_cast<double>(shape.head_dim)),
        .softcap = static_cast<double>(shape.softcap),
        .layer = shape.layers - 1};  // the one in use, see lockstep.hpp
}

}  // namespace

std::size_t tokens_of(const std::vector<operation>& operations) {
    std::size_t sum = 0;
    for (const operation& o : operations) {
        if (o.what <= operation::block) sum += o.tokens;
    }
    return sum;
}

std::ostream& operator<<(std::ostream& out, const scenario& s) {
    const multistate::shape& shape = s.shape;
    out << s.forgets_by.name << " states " << shape.states << " block " << shape.block << " slack " << shape.slack
        << " sinks " << shape.sinks << " recent " << (shape.recent ? std::to_string(*shape.recent) : "default")
        << " heads " << shape.heads << "/" << shape.kv_heads << " dims " << shape.head_dim << "/" << shape.value_dim
        << " softcap " << shape.softcap << " seed " << s.seed << " operations";
    static constexpr const char* kinds[] = {"step", "exact", "block", "forget", "clear", "clone", "skip"};
    for (std::size_t i = 0; i < std::min<std::size_t>(s.operations.size(), 40); ++i) {
        out << " " << kinds[s.operations[i].what] << ":" << s.operations[i].tokens;
    }
    return out;
}

void PrintTo(const rule& r, std::ostream* out) { *out << r.name; }

std::vector<rule> first_rules() {
    std::vector<rule> result;
    for (const char* name : {"full", "window", "h2o", "h2o_layer", "tova", "tova_head"}) {
        result.push_back(rule_named(name));
    }
    return result;
}
bool is_first(const rule& r) {
    return std::ranges::any_of(first_rules(), [&](const rule& one) { return one.name == r.name; });
}
std::vector<rule> further_rules() {
    std::vector<rule> result;
    std::ranges::remove_copy_if(every_rule(), std::back_inserter(result), is_first);
    return result;
}

bool guards_fit(const rule& forgets_by, const multistate::shape& s) {
    if (forgets_by.forgets == unit::never) return true;
    return s.sinks + forgets_by.sinks(s.states) + s.recent.value_or(forgets_by.recent(s.states)) < s.states;
}

expectation::expectation(const scenario& s, const support::stream& tokens)
    : model_(s.forgets_by, setting_of(s)), shape_(s.shape) {
    std::size_t token = 0;
    int position = 0;
    for (const operation& o : s.operations) {
        answers.push_back(apply(o, tokens, token, position));
        if (o.what <= operation::block) token += o.tokens;
        position = o.what == operation::clear ? 0 : position + advance(o);
    }
    sequences_.push_back(model_.decisions());
}

int expectation::advance(const operation& o) {
    return o.what <= operation::block || o.what == operation::skip ? static_cast<int>(o.tokens) : 0;
}

int expectation::decided_by(std::size_t i, std::size_t kv_head, int position) const {
    const auto& decisions = sequences_[answers[i].sequence];
    const auto found = decisions.find({kv_head, position});
    return found == decisions.end() ? -1 : found->second;
}

answer expectation::apply(const operation& o, const support::stream& tokens, std::size_t token, int position) {
    answer result;
    if (o.what == operation::step || o.what == operation::exact) {
        for (std::size_t t = 0; t < o.tokens; ++t) {
            const auto out = model_.step(position + static_cast<int>(t), tokens.q(token + t), tokens.k(token + t),
                                         tokens.v(token + t));
            result.out.insert(result.out.end(), out.begin(), out.end());
        }
    } else if (o.what == operation::block) {
        result.out = model_.block(position, o.tokens, tokens.q(token, o.tokens), tokens.k(token, o.tokens),
                                  tokens.v(token, o.tokens));
    } else if (o.what == operation::forget) {
        model_.forget();
    } else if (o.what == operation::clear) {
        sequences_.push_back(model_.decisions());
        model_.clear();
    }
    if (o.what <= operation::block) forgotten_already_ = false;
    if (o.what == operation::forget || o.what == operation::clear) forgotten_already_ = true;
    for (std::size_t h = 0; h < shape_.kv_heads; ++h) {
        result.present.push_back(forgotten_already_ ? model_.held(h) : model_.attended(h));
    }
    result.sequence = sequences_.size();
    return result;
}

prepared prepare(const scenario& s, const std::function<void(support::stream&)>& change, double margin) {
    for (std::uint64_t attempt = 0;; ++attempt) {
        support::stream tokens(s.shape, tokens_of(s.operations), s.seed + 1000003 * attempt);
        if (change) change(tokens);
        expectation expected(s, tokens);
        if (attempt == 50) ADD_FAILURE() << "no tie-free input found for " << s;
        if (attempt == 50 || expected.margin() >= margin) return {s, std::move(tokens), std::move(expected)};
    }
}

void run(const scenario& s) {
    const prepared p = prepare(s);
    multistate::cache<multistate::any_policy> cache(s.shape, multistate::any_policy::named(s.forgets_by.name));
    lockstep(cache, p).run();
}

}  // namespace reference
