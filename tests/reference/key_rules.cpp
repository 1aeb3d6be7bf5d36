// Rules that look at keys, values and queries, and at no attention: written from the papers' formulas.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <numbers>
#include <numeric>
#include <vector>

#include "reference/rules.hpp"
#include "support/random.hpp"

namespace reference {

namespace {

using numbers = std::vector<double>;

double dot(const numbers& x, const numbers& y) { return std::inner_product(x.begin(), x.end(), y.begin(), 0.0); }
double norm(const numbers& x) { return std::sqrt(dot(x, x)); }
numbers scaled(numbers x, double factor) {
    for (double& one : x) one *= factor;
    return x;
}
void add(const numbers& x, numbers& sum) {
    sum.resize(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) sum[i] += x[i];
}
double mean(const numbers& x) { return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size()); }
/// With n - 1 in the denominator; 0 for one number.
double deviation(const numbers& x) {
    double squares = 0;
    for (const double one : x) squares += (one - mean(x)) * (one - mean(x));
    return std::sqrt(squares / std::max(1.0, static_cast<double>(x.size()) - 1));
}
numbers softmax(numbers x) {
    const double greatest = *std::max_element(x.begin(), x.end());
    double total = 0;
    for (double& one : x) total += one = std::exp(one - greatest);
    return scaled(x, 1 / total);
}

/// y with A y = x, by elimination.
numbers solve(std::vector<numbers> a, numbers x) {
    const std::size_t n = x.size();
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t r = 0; r < n; ++r) {
            if (r == i) continue;
            const double factor = a[r][i] / a[i][i];
            for (std::size_t c = 0; c < n; ++c) a[r][c] -= factor * a[i][c];
            x[r] -= factor * x[i];
        }
    }
    for (std::size_t i = 0; i < n; ++i) x[i] /= a[i][i];
    return x;
}

std::size_t sinks_of(const evidence& e, std::size_t most) { return e.shape.sinks + std::min(most, e.shape.states / 8); }
std::size_t end_of_kv_heads(const evidence& e) { return e.first_kv_head + e.kv_heads; }

/// What a model does to a vector at a position: neighbors form pairs, pair i of n turns by position * 10000^(-i / n).
struct rotation {
    numbers cosines, sines;

    rotation(int position, std::size_t head_dim) {
        const auto pairs = static_cast<double>(head_dim / 2);
        for (double i = 0; i < pairs; ++i) {
            const double angle = position * std::pow(10000, -i / pairs);
            cosines.push_back(std::cos(angle));
            sines.push_back(std::sin(angle));
        }
    }
    numbers done(const numbers& x) const {
        numbers result = x;
        for (std::size_t i = 0; i < cosines.size(); ++i) {
            result[2 * i] = cosines[i] * x[2 * i] - sines[i] * x[2 * i + 1];
            result[2 * i + 1] = cosines[i] * x[2 * i + 1] + sines[i] * x[2 * i];
        }
        return result;
    }
    /// The vector as it was before.
    numbers undone(const numbers& x) const {
        numbers result = x;
        for (std::size_t i = 0; i < cosines.size(); ++i) {
            result[2 * i] = cosines[i] * x[2 * i] + sines[i] * x[2 * i + 1];
            result[2 * i + 1] = cosines[i] * x[2 * i + 1] - sines[i] * x[2 * i];
        }
        return result;
    }
};

numbers minus_norms(const evidence& e) {
    numbers scores(e.states().size());
    for (std::size_t h = e.first_kv_head; h < end_of_kv_heads(e); ++h) {
        for (std::size_t j = 0; j < scores.size(); ++j) scores[j] -= norm(e.held[h][j].key);
    }
    return scores;
}

numbers unlike_the_mean(const evidence& e) {
    numbers scores(e.states().size());
    if (scores.size() == 2) return scores;  // each is as far from their mean as the other
    for (std::size_t h = e.first_kv_head; h < end_of_kv_heads(e); ++h) {
        numbers anchor;
        for (const state& s : e.held[h]) add(scaled(s.key, 1 / norm(s.key)), anchor);
        for (std::size_t j = 0; j < scores.size(); ++j) {
            scores[j] -= dot(e.held[h][j].key, anchor) / norm(e.held[h][j].key) / norm(anchor);
        }
    }
    return scores;
}

/// A^4 m, where m is the mean of the group's queries and A the sum of their q q^T.
numbers along_the_queries(const evidence& e) {
    numbers scores(e.states().size());
    const std::size_t group = e.shape.group();
    for (std::size_t h = e.first_kv_head; h < end_of_kv_heads(e); ++h) {
        std::vector<numbers> queries;
        for (const token& t : e.past) {
            for (std::size_t i = h * group; i < (h + 1) * group; ++i) queries.push_back(t.queries[i]);
        }
        numbers direction;
        for (const numbers& q : queries) add(q, direction);
        for (int step = 0; step < 4; ++step) {
            numbers next;
            for (const numbers& q : queries) add(scaled(q, dot(q, direction)), next);
            direction = scaled(next, 1 / norm(next));
        }
        for (std::size_t j = 0; j < scores.size(); ++j) scores[j] += dot(direction, e.held[h][j].key);
    }
    return scores;
}

/// Mean and covariance of the vectors.
struct distribution {
    numbers mean;
    std::vector<numbers> covariance;

    explicit distribution(const std::vector<numbers>& x, std::size_t dimension)
        : mean(dimension), covariance(dimension, numbers(dimension)) {
        const double share = 1 / static_cast<double>(x.size());
        for (const numbers& one : x) add(scaled(one, share), mean);
        for (const numbers& one : x) {
            for (std::size_t r = 0; r < dimension; ++r) {
                for (std::size_t c = 0; c < dimension; ++c) {
                    covariance[r][c] += share * (one[r] - mean[r]) * (one[c] - mean[c]);
                }
            }
        }
    }
};

/// Queries before rotation, those of the first four positions left out.
std::vector<std::vector<numbers>> queries_before_rotation(const evidence& e) {
    std::vector<std::vector<numbers>> result(e.shape.heads);
    for (const token& t : e.past) {
        if (t.position < 4) continue;
        const rotation turned(t.position, e.shape.head_dim);
        for (std::size_t i = 0; i < e.shape.heads; ++i) result[i].push_back(turned.undone(t.queries[i]));
    }
    return result;
}

/// The mean of the rotations to the next 512 positions.
rotation mean_rotation(int newest, std::size_t head_dim) {
    rotation sum(newest + 1, head_dim);
    for (int p = newest + 2; p <= newest + 512; ++p) {
        const rotation one(p, head_dim);
        add(one.cosines, sum.cosines);
        add(one.sines, sum.sines);
    }
    sum.cosines = scaled(sum.cosines, 1.0 / 512);
    sum.sines = scaled(sum.sines, 1.0 / 512);
    return sum;
}

numbers expected(const evidence& e) {
    const std::size_t n = e.states().size();
    const std::size_t sinks = sinks_of(e, 4);
    const auto queries = queries_before_rotation(e);
    const rotation future = mean_rotation(e.past.back().position, e.shape.head_dim);
    numbers scores(n);
    for (std::size_t i = e.first_head(); i < e.end_head(); ++i) {
        const auto& held = e.held[i / e.shape.group()];
        const distribution of(queries[i], e.shape.head_dim);
        numbers logits;
        for (std::size_t j = sinks; j < n; ++j) {
            const numbers key = future.undone(held[j].key);  // R^T k
            double variance = 0;
            for (std::size_t r = 0; r < key.size(); ++r) variance += key[r] * dot(of.covariance[r], key);
            logits.push_back(e.shape.scale * dot(of.mean, key) + e.shape.scale * e.shape.scale * variance / 2);
        }
        const numbers attention = softmax(logits);
        for (std::size_t j = sinks; j < n; ++j) {
            scores[j] += attention[j - sinks] / static_cast<double>(e.shape.group()) * norm(held[j].value);
        }
    }
    return scores;
}

numbers capacity(const evidence& e) {
    const std::size_t n = e.states().size(), d = e.shape.value_dim;
    const std::size_t sinks = sinks_of(e, 4);
    const auto queries = queries_before_rotation(e);
    const rotation future = mean_rotation(e.past.back().position, e.shape.head_dim);
    numbers scores(n);
    for (std::size_t i = e.first_head(); i < e.end_head(); ++i) {
        const auto& held = e.held[i / e.shape.group()];
        numbers mean(e.shape.head_dim);
        for (const numbers& q : queries[i]) add(scaled(q, 1 / static_cast<double>(queries[i].size())), mean);
        const numbers anchor = future.done(mean);
        numbers cosines(n, -1);
        for (std::size_t j = sinks; j < n; ++j) {
            const double lengths = norm(anchor) * norm(held[j].key);
            cosines[j] = lengths > 0 ? dot(anchor, held[j].key) / lengths : 0;
        }
        const double most = *std::max_element(cosines.begin() + static_cast<std::ptrdiff_t>(sinks), cosines.end());
        std::vector<numbers> a(d, numbers(d));
        for (std::size_t c = 0; c < d; ++c) a[c][c] = 1;
        for (std::size_t j = sinks; j < n; ++j) {
            const double weight = std::exp(5 * (cosines[j] - most)) + 1e-6;
            for (std::size_t c = 0; c < d; ++c) add(scaled(held[j].value, weight * held[j].value[c]), a[c]);
        }
        for (std::size_t j = sinks; j < n; ++j) {
            scores[j] += std::exp(5 * (cosines[j] - most)) * dot(held[j].value, solve(a, held[j].value)) /
                         static_cast<double>(e.shape.group());
        }
    }
    return scores;
}

/// As published: amplitudes, phases and distances of pairs, keys and queries before rotation.
numbers trigonometric(const evidence& e) {
    const std::size_t n = e.states().size(), pairs = e.shape.head_dim / 2;
    const int next = e.past.back().position + 1;
    const auto angle = [](const numbers& x, std::size_t f) { return std::atan2(x[2 * f + 1], x[2 * f]); };
    const auto length = [](const numbers& x, std::size_t f) { return std::hypot(x[2 * f + 1], x[2 * f]); };
    numbers scores(n, -std::numeric_limits<double>::infinity());
    for (std::size_t i = e.first_head(); i < e.end_head(); ++i) {
        numbers centre(e.shape.head_dim), lengths(pairs), found(n);
        for (const token& t : e.past) {
            const numbers query = rotation(t.position, e.shape.head_dim).undone(t.queries[i]);
            add(scaled(query, 1 / static_cast<double>(e.past.size())), centre);
            for (std::size_t f = 0; f < pairs; ++f) {
                lengths[f] += length(query, f) / static_cast<double>(e.past.size());
            }
        }
        for (std::size_t j = 0; j < n; ++j) {
            const state& s = e.held[i / e.shape.group()][j];
            const numbers key = rotation(s.position, e.shape.head_dim).undone(s.key);
            for (std::size_t f = 0; f < pairs; ++f) {
                const double frequency = std::pow(10000, -static_cast<double>(f) / static_cast<double>(pairs));
                double cosines = 0;
                for (int power = 0; power <= 16; ++power) {
                    const double distance = next - s.position + std::pow(2, power);
                    cosines += std::cos(frequency * distance + angle(centre, f) - angle(key, f)) / 17;
                }
                found[j] += length(centre, f) * length(key, f) * cosines;
                found[j] += (lengths[f] - length(centre, f)) * length(key, f);
            }
            if (e.shape.head_dim % 2 == 1) found[j] += centre.back() * s.key.back();  // not rotated
        }
        const auto first = found.begin() + static_cast<std::ptrdiff_t>(e.shape.sinks);
        const numbers free(first, found.end() - static_cast<std::ptrdiff_t>(e.shape.recent.value_or(0)));
        double squares = 0;
        for (const double x : free) squares += (x - mean(free)) * (x - mean(free));
        const double spread = std::sqrt(squares / static_cast<double>(free.size()));
        for (std::size_t j = 0; j < n; ++j) {
            const double z = (found[j] - mean(free)) / std::max(1e-6, spread);
            scores[j] = std::max(scores[j], free.size() == 2 ? std::round(z) : z);  // of two, 1 and -1
        }
    }
    return scores;
}

// Rules that score the text by chunks.

constexpr double waiting = std::numeric_limits<double>::infinity();

std::size_t chunk_length(const evidence& e, std::size_t wanted) {
    const std::size_t length = std::min(wanted, e.shape.states / 4);
    return length < 4 ? 1 : length;
}

/// The tokens of a chunk, from past[first] on.
struct chunk {
    const evidence& e;
    std::size_t first;
    std::size_t length;

    const token& operator[](std::size_t i) const { return e.past[first + i]; }
    /// Those held when past[last] attended.
    std::vector<std::size_t> held(std::size_t last) const {
        const auto& seen = e.past[last].seen[e.first_kv_head];
        std::vector<std::size_t> result;
        for (std::size_t i = 0; i < length; ++i) {
            if (std::ranges::find(seen, (*this)[i].position) != seen.end()) result.push_back(i);
        }
        return result;
    }
};

/// Asks for the scores of each chunk, one for each token, when it and `ahead` more have ended; the `skipped` first
/// tokens are in none.
numbers by_chunks(const evidence& e, std::size_t wanted, std::size_t skipped, std::size_t ahead,
                  const std::function<numbers(const chunk&)>& score) {
    const std::size_t length = chunk_length(e, wanted);
    std::map<int, double> found;
    for (std::size_t first = skipped; first + (1 + ahead) * length <= e.past.size(); first += length) {
        const chunk one{e, first, length};
        const numbers scores = length == 1 ? numbers{0} : score(one);
        for (std::size_t i = 0; i < length; ++i) found[one[i].position] = scores[i];
    }
    numbers result;
    for (const state& s : e.states()) result.push_back(found.contains(s.position) ? found[s.position] : waiting);
    return result;
}

numbers share_of_norms(const evidence& e) {
    return by_chunks(e, 16, 0, 0, [](const chunk& p) {
        numbers scores(p.length);
        for (std::size_t h = p.e.first_kv_head; h < end_of_kv_heads(p.e); ++h) {
            double keys = 0, values = 0;
            for (std::size_t i = 0; i < p.length; ++i) {
                keys += dot(p[i].keys[h], p[i].keys[h]);
                values += dot(p[i].values[h], p[i].values[h]);
            }
            for (std::size_t i = 0; i < p.length; ++i) {
                scores[i] += dot(p[i].keys[h], p[i].keys[h]) / keys * (dot(p[i].values[h], p[i].values[h]) / values);
            }
        }
        return scores;
    });
}

/// Softmax over the rows x of the deviation of their channels, each measured by its range in the rows that follow.
numbers lag_relative(const std::vector<numbers>& x, const std::vector<numbers>& next) {
    numbers deviations;
    for (const numbers& row : x) {
        numbers relative;
        for (std::size_t c = 0; c < row.size(); ++c) {
            double least = waiting, most = -waiting;
            for (const numbers& one : next) {
                least = std::min(least, one[c]);
                most = std::max(most, one[c]);
            }
            relative.push_back(most > least ? (row[c] - least) / (most - least) : 0);
        }
        deviations.push_back(deviation(relative));
    }
    return softmax(deviations);
}

numbers rank_of_lag(const evidence& e) {
    return by_chunks(e, 128, sinks_of(e, 4), 1, [](const chunk& p) {
        const chunk next{p.e, p.first + p.length, p.length};
        const auto held = p.held(next.first + next.length - 1), held_next = next.held(next.first + next.length - 1);
        numbers sums(held.size());
        for (std::size_t h = p.e.first_kv_head; h < end_of_kv_heads(p.e); ++h) {
            for (const auto of : {&token::keys, &token::values}) {
                std::vector<numbers> x, y;
                for (const std::size_t i : held) x.push_back((p[i].*of)[h]);
                for (const std::size_t i : held_next) y.push_back((next[i].*of)[h]);
                if (!x.empty()) add(lag_relative(x, y), sums);
            }
        }
        numbers sorted = sums, scores(p.length);
        std::ranges::sort(sorted);
        for (std::size_t i = 1; i < sorted.size(); ++i) p.e.compare(sorted[i - 1], sorted[i]);
        for (std::size_t i = 0; i < held.size(); ++i) {
            const auto rank = std::ranges::lower_bound(sorted, sums[i]) - sorted.begin();
            scores[held[i]] = static_cast<double>(rank) / static_cast<double>(held.size());
        }
        return scores;
    });
}

/// Sum over the chunk's queries of the softmax over all of the chunk, times the norm of the value, mean of three.
numbers asked_by_neighbors(const chunk& p) {
    numbers scores(p.length);
    for (std::size_t h = p.e.first_kv_head; h < end_of_kv_heads(p.e); ++h) {
        numbers sums(p.length);
        for (std::size_t i = h * p.e.shape.group(); i < (h + 1) * p.e.shape.group(); ++i) {
            for (std::size_t t = 0; t < p.length; ++t) {
                numbers logits;
                for (std::size_t j = 0; j < p.length; ++j) logits.push_back(dot(p[t].queries[i], p[j].keys[h]));
                add(softmax(logits), sums);
            }
        }
        for (std::size_t j = 0; j < p.length; ++j) sums[j] *= norm(p[j].values[h]);
        for (std::size_t j = 0; j < p.length; ++j) {
            numbers three{sums[j]};
            if (j > 0) three.push_back(sums[j - 1]);
            if (j + 1 < p.length) three.push_back(sums[j + 1]);
            scores[j] += mean(three);
        }
    }
    return scores;
}
numbers noncausal_attention(const evidence& e) { return by_chunks(e, 256, 0, 0, asked_by_neighbors); }

/// Gaussian number i of the random matrix: both uniform numbers come from a hash of seed 0, i and 0 or 1. The reference
/// follows the library's words, so that the numbers are the same: each counter in turn asks for the number of that
/// index from the splitmix64 whose seed is what came before.
double gaussian(std::size_t i) {
    const auto bits = [&](std::size_t which) {
        std::uint64_t result = 0;
        for (const std::uint64_t n : {std::size_t{0}, i, which}) {
            result = support::random_numbers(result + n * 0x9e3779b97f4a7c15).next();
        }
        return result;
    };
    const double open = (static_cast<double>(bits(0) >> 41) + 0.5) / 8388608;
    return std::sqrt(-2 * std::log(open)) *
           std::cos(2 * std::numbers::pi * static_cast<double>(bits(1) >> 40) / 16777216);
}

numbers leverages_of(const chunk& p) {
    const std::size_t d = p.e.shape.head_dim;
    const std::size_t columns = std::max<std::size_t>(1, std::min({std::size_t{48}, d, p.length / 2}));
    std::vector<numbers> sketch(columns);
    for (std::size_t i = 0; i < columns * d; ++i) {
        sketch[i / d].push_back(gaussian(i) / std::sqrt(static_cast<double>(columns)));
    }
    numbers scores(p.length);
    for (std::size_t h = p.e.first_kv_head; h < end_of_kv_heads(p.e); ++h) {
        std::vector<numbers> rows(p.length);
        numbers centre;
        for (std::size_t j = 0; j < p.length; ++j) {
            const numbers key = rotation(p[j].position, d).undone(p[j].keys[h]);
            for (const numbers& column : sketch) rows[j].push_back(dot(key, column));
            add(scaled(rows[j], 1 / static_cast<double>(p.length)), centre);
        }
        std::vector<numbers> squares(columns, numbers(columns));
        for (numbers& row : rows) {
            add(scaled(centre, -1), row);
            for (std::size_t c = 0; c < columns; ++c) add(scaled(row, row[c]), squares[c]);
        }
        for (std::size_t c = 0; c < columns; ++c) squares[c][c] += 0.01f;
        for (std::size_t j = 0; j < p.length; ++j) scores[j] += dot(rows[j], solve(squares, rows[j]));
    }
    return scores;
}
numbers leverage_scores(const evidence& e) { return by_chunks(e, 512, 0, 0, leverages_of); }

numbers blended(const evidence& e) {
    return by_chunks(e, 256, sinks_of(e, 8), 0, [](const chunk& p) {
        numbers scores(p.length);
        const auto held = p.held(p.first + p.length - 1);
        const auto add_z = [&](double weight, const numbers& x) {
            numbers of_held;
            for (const std::size_t i : held) of_held.push_back(x[i]);
            for (const std::size_t i : held) {
                scores[i] += weight * (x[i] - mean(of_held)) / std::max(1e-6, deviation(of_held));
            }
        };
        add_z(0.5, leverages_of(p));
        add_z(1, asked_by_neighbors(p));
        return scores;
    });
}

template <std::size_t most>
std::size_t few(std::size_t states) {
    return std::min(most, states / 8);
}

}  // namespace

// Equal scores are those of two states, of states that wait, and ranks.
const rule knorm{.name = "knorm", .score = minus_norms};
const rule keydiff{.name = "keydiff", .score = unlike_the_mean, .ties_are_exact = true};
const rule lagkv{.name = "lagkv", .score = rank_of_lag, .sinks = few<4>, .ties_are_exact = true};
const rule cur{.name = "cur", .score = share_of_norms, .sinks = few<4>, .ties_are_exact = true};
const rule q_filters{.name = "q_filters", .score = along_the_queries};
const rule expected_attention{.name = "expected_attention", .score = expected, .sinks = few<4>};
const rule capkv{.name = "capkv", .score = capacity, .sinks = few<4>};
const rule triattention{.name = "triattention", .score = trigonometric, .ties_are_exact = true};
const rule leverage{.name = "leverage", .score = leverage_scores, .ties_are_exact = true};
const rule noncausal{.name = "noncausal", .score = noncausal_attention, .ties_are_exact = true};
const rule compactor{.name = "compactor", .score = blended, .sinks = few<8>, .recent = few<4>, .ties_are_exact = true};

}  // namespace reference
