// Rules that accumulate attention over the life of a state, their relatives, and those that look at nothing.
#include "reference/rules.hpp"
#include "support/random.hpp"
#include "support/uniform.hpp"

namespace reference {

namespace {

/// sum over all tokens of weight(how many tokens came after it) * attention
template <class Weight>
std::vector<double> weighted_sums(const evidence& e, Weight weight) {
    std::vector<double> scores;
    for (const state& s : e.states()) {
        double sum = 0;
        for (std::size_t t = 0; t < e.past.size(); ++t) {
            sum += weight(e.past.size() - 1 - t) * e.attention(e.past[t], s.position);
        }
        scores.push_back(sum);
    }
    return scores;
}

std::vector<double> summed(const evidence& e) {
    return weighted_sums(e, [](std::size_t) { return 1.0; });
}

std::vector<double> decayed(const evidence& e) {
    const double decay = 0.98f;  // as the library holds it
    return weighted_sums(e, [=](std::size_t n) { return std::pow(decay, static_cast<double>(n)); });
}

std::vector<double> averaged(const evidence& e) {
    std::vector<double> scores = summed(e);
    for (std::size_t j = 0; j < scores.size(); ++j) {
        scores[j] /= e.past.back().position - e.states()[j].position + 1;
    }
    return scores;
}

std::vector<double> weighed_by_value(const evidence& e) {
    std::vector<double> scores = summed(e);
    for (std::size_t j = 0; j < scores.size(); ++j) {
        double norm = 0;
        for (std::size_t h = e.first_kv_head; h < e.first_kv_head + e.kv_heads; ++h) {
            for (const double x : e.held[h][j].value) norm += std::abs(x);
        }
        scores[j] *= norm;
    }
    return scores;
}

std::vector<double> current(const evidence& e) {
    std::vector<double> scores;
    for (const state& s : e.states()) scores.push_back(e.attention(e.past.back(), s.position));
    return scores;
}

/// How rarely each of the last 400 tokens gave the state less than its share.
std::vector<double> rarely_below_average(const evidence& e) {
    const auto heads = static_cast<double>(e.end_head() - e.first_head());
    std::vector<double> scores;
    for (const state& s : e.states()) {
        double low = 0;
        for (const token& t : e.newest(400)) {
            const auto seen = static_cast<double>(t.seen[e.first_kv_head].size());
            if (t.position < s.position || seen == 1) continue;
            const double mean = e.attention(t, s.position) / heads;
            e.compare(mean, 1 / seen);
            if (mean < 1 / seen) ++low;
        }
        scores.push_back(-low);
    }
    return scores;
}

std::size_t three_tenths(std::size_t states) { return states * 3 / 10; }
std::size_t ten_of_three_tenths(std::size_t states) { return std::min<std::size_t>(10, three_tenths(states)); }

/// Mean attention, beyond any mean for the states whose attention varies most.
std::vector<double> robust(const evidence& e) {
    const auto heads = static_cast<double>(e.end_head() - e.first_head());
    std::vector<double> means, variances;
    for (const state& s : e.states()) {
        std::vector<double> life;
        for (const token& t : e.past) {
            if (t.position >= s.position) life.push_back(e.attention(t, s.position) / heads);
        }
        double mean = 0, variance = 0;
        for (const double a : life) mean += a / static_cast<double>(life.size());
        for (const double a : life) variance += (a - mean) * (a - mean) / static_cast<double>(life.size());
        means.push_back(mean);
        variances.push_back(variance);
    }
    // All but (states - sinks - three tenths) cannot go: the guarded ones, and of the others those that vary most.
    const std::size_t held = means.size(), states = e.shape.states, sinks = e.shape.sinks;
    const std::size_t recent = e.shape.recent.value_or(ten_of_three_tenths(states));
    const std::size_t open = held - sinks - recent;
    std::size_t spared = three_tenths(states) + held - states;
    spared = spared > recent ? spared - recent : 0;
    spared = std::min(spared, open - (held - states));
    std::vector<double> ordered(variances.begin() + static_cast<std::ptrdiff_t>(sinks),
                                variances.end() - static_cast<std::ptrdiff_t>(recent));
    std::sort(ordered.rbegin(), ordered.rend());
    if (spared > 0) e.compare(ordered[spared - 1], ordered[spared]);
    for (std::size_t j = sinks; j < sinks + open; ++j) {
        if (variances[j] > ordered[spared]) means[j] += 2;
    }
    return means;
}

/// The numbers of library and reference must be the same, so the reference follows the library's words: each counter in
/// turn asks for the number of that index from the splitmix64 whose seed is what came before.
std::uint64_t hash(std::uint64_t bits, std::initializer_list<std::size_t> counters) {
    for (const std::uint64_t n : counters) bits = support::random_numbers(bits + n * 0x9e3779b97f4a7c15).next();
    return bits;
}

/// The token's attention after Gumbel noise on its logits. The evidence does not tell where the prompt ends, so the
/// temperature is 1.
token noisy(const token& t, std::size_t layer, std::size_t group) {
    token result{.position = t.position, .queries = {}, .seen = t.seen, .attention = t.attention};
    for (std::size_t i = 0; i < t.attention.size(); ++i) {
        const std::uint64_t draws = hash(0, {0, layer, i, static_cast<std::size_t>(t.position)});
        double total = 0;
        for (std::size_t j = 0; j < t.attention[i].size(); ++j) {
            const auto key = static_cast<std::uint32_t>(t.seen[i / group][j]);
            const double u = support::open_uniform(draws, key);
            // exp(log a + g) with g = -log(-log u)
            total += result.attention[i][j] /= -std::log(u);
        }
        for (double& a : result.attention[i]) a /= total;
    }
    return result;
}

std::vector<double> summed_with_noise(const evidence& e) {
    std::vector<double> scores(e.states().size());
    for (const token& t : e.past) {
        const token other = noisy(t, e.shape.layer, e.shape.group());
        for (std::size_t j = 0; j < scores.size(); ++j) scores[j] += e.attention(other, e.states()[j].position);
    }
    return scores;
}

std::vector<double> drawn_at_arrival(const evidence& e) {
    std::vector<double> scores;
    for (const state& s : e.states()) {
        const auto bits = hash(0, {0, e.shape.layer, e.first_kv_head, static_cast<std::size_t>(s.position)});
        scores.push_back(static_cast<double>(bits >> 40) / 16777216);
    }
    return scores;
}

std::size_t half(std::size_t states) { return states / 2; }
template <std::size_t most, std::size_t part>
std::size_t at_most(std::size_t states) {
    return std::min(most, states / part);
}

}  // namespace

const rule h2o_normalized{.name = "h2o_normalized",
                          .forgets = unit::layer,
                          .score = averaged,
                          .sinks = at_most<32, 8>,
                          .recent = at_most<128, 4>};
const rule h2o_decayed{.name = "h2o_decayed", .score = decayed, .recent = half};
const rule h2o_grace{.name = "h2o_grace", .score = decayed, .recent = at_most<16, 2>};
const rule h2o_local{.name = "h2o_local", .score = summed};
const rule tova_kvpress{
    .name = "tova_kvpress", .forgets = unit::layer, .score = current, .recent = [](std::size_t states) {
        return std::min<std::size_t>(1, states - 1);
    }};
const rule scissorhands{
    .name = "scissorhands", .score = rarely_below_average, .recent = at_most<10, 2>, .ties_are_exact = true};
const rule roco{.name = "roco", .score = robust, .recent = ten_of_three_tenths};
const rule keyformer{.name = "keyformer", .score = summed_with_noise, .recent = three_tenths};
const rule observed_attention{.name = "observed_attention", .score = averaged};
const rule vatp{.name = "vatp", .score = weighed_by_value, .sinks = at_most<20, 8>, .recent = half};
const rule random{.name = "random", .score = drawn_at_arrival, .ties_are_exact = true};
const rule given{.name = "given"};  // without scores the oldest goes

}  // namespace reference
