// Rules that score by attention alone: the seed policies.
#include "reference/rules.hpp"

namespace reference {

namespace {

std::size_t half(std::size_t states) { return states / 2; }

/// Sum over all tokens since the state's own.
std::vector<double> summed(const evidence& e) {
    std::vector<double> scores;
    for (const state& s : e.states()) {
        double sum = 0;
        for (const token& t : e.past) sum += e.attention(t, s.position);
        scores.push_back(sum);
    }
    return scores;
}

/// The newest token's only.
std::vector<double> current(const evidence& e) {
    std::vector<double> scores;
    for (const state& s : e.states()) scores.push_back(e.attention(e.past.back(), s.position));
    return scores;
}

}  // namespace

const rule full{.name = "full", .forgets = unit::never};
const rule window{.name = "window", .forgets = unit::layer};
const rule h2o{.name = "h2o", .score = summed, .recent = half};
const rule h2o_layer{.name = "h2o_layer", .forgets = unit::layer, .score = summed, .recent = half};
const rule tova{.name = "tova", .forgets = unit::layer, .score = current};
const rule tova_head{.name = "tova_head", .score = current};

}  // namespace reference
