// Choosing states, on random scores in cache:
//
//     least/<n>   the one to forget, beside std::min_element and Eigen's minCoeff, which know neither positions nor NaN
//     top_k/<n>   the n / 8 to keep, beside std::nth_element over indices
//
// and a read and a copy of the same scores.
#include <algorithm>
#include <array>
#include <initializer_list>
#include <numeric>
#include <string>

#include <Eigen/Core>
#include <multistate/math/select.hpp>

#include "names.hpp"
#include "rows_in_cache.hpp"

namespace {

namespace ms = multistate;

using bench::total;

struct table_like {
    std::vector<float> scores = bench::random_floats(total, 1);
    std::vector<ms::position> positions = shuffled();

    static std::vector<ms::position> shuffled() {
        std::vector<ms::position> result(total);
        std::iota(result.begin(), result.end(), 0);
        std::shuffle(result.begin(), result.end(), std::mt19937(2));
        return result;
    }
};

/// One turn: `select` on each row of n scores and positions; it returns something that depends on its choice. Done
/// twice and the second time counts: after a long scalar turn a processor may need some microseconds before its widest
/// vectors run at full speed.
template <class Select>
double turn(const table_like& table, std::size_t n, Select select, std::size_t& checksum) {
    const auto all_rows = [&] {
        checksum = 0;
        for (std::size_t i = 0; i < total; i += n) {
            checksum += select(std::span(table.scores).subspan(i, n), std::span(table.positions).subspan(i, n));
        }
    };
    all_rows();
    return bench::seconds(all_rows);
}

/// Those who choose, by turns; each must choose as the first does. Ratios are named <rival>/ours.
class contest {
  public:
    contest(benchmark::State& state, std::size_t n) : state_(state), n_(n) {}

    void run(auto ours, auto... rivals) {
        std::size_t checksum = 0;
        for (auto _ : state_) {
            ours_.push_back(turn(table_, n_, ours, checksum));
            const std::size_t expected = checksum;
            std::size_t i = 0;
            (..., (rivals_[i++].push_back(turn(table_, n_, rivals, checksum)), agreed_ &= checksum == expected));
            reads_.push_back(memory_.read());
            copies_.push_back(memory_.copy());
            state_.SetIterationTime(ours_.back());
        }
    }

    void report(std::initializer_list<const char*> ratios) {
        if (!agreed_) return state_.SkipWithError("they chose differently");
        state_.counters["ns/element"] = 1e9 * bench::median(ours_) / total;
        std::size_t i = 0;
        for (const char* ratio : ratios) state_.counters[ratio] = bench::median_ratio(rivals_[i++], ours_);
        state_.counters["read/ours"] = bench::median_ratio(reads_, ours_);
        state_.counters["memcpy/ours"] = bench::median_ratio(copies_, ours_);
    }

  private:
    benchmark::State& state_;
    std::size_t n_;
    table_like table_;
    bench::rows_in_cache memory_{n_};
    bench::turns ours_, reads_, copies_;
    std::array<bench::turns, 2> rivals_;
    bool agreed_ = true;
};

void least(benchmark::State& state, std::size_t n) {
    contest all(state, n);
    all.run(
        [](std::span<const float> scores, std::span<const ms::position> positions) {
            return ms::least(scores, positions);
        },
        [](std::span<const float> scores, std::span<const ms::position>) {
            return static_cast<std::size_t>(std::min_element(scores.begin(), scores.end()) - scores.begin());
        },
        [](std::span<const float> scores, std::span<const ms::position>) {
            Eigen::Index row = 0;
            Eigen::Map<const Eigen::ArrayXf>(scores.data(), static_cast<Eigen::Index>(scores.size())).minCoeff(&row);
            return static_cast<std::size_t>(row);
        });
    all.report({"min_element/ours", "eigen/ours"});
}

void top_k(benchmark::State& state, std::size_t n) {
    std::vector<std::int32_t> workspace(n);
    std::vector<std::uint32_t> kept(n), rows(n);
    const std::size_t k = n / 8;
    const auto sum = [k](const std::vector<std::uint32_t>& chosen) {  // the rows in any order
        return std::accumulate(chosen.begin(), chosen.begin() + static_cast<std::ptrdiff_t>(k), std::size_t{0});
    };
    contest all(state, n);
    all.run(
        [&](std::span<const float> scores, std::span<const ms::position> positions) {
            ms::top_k(scores, positions, k, workspace, kept);
            return sum(kept);
        },
        [&](std::span<const float> scores, std::span<const ms::position>) {
            std::iota(rows.begin(), rows.end(), 0u);
            std::nth_element(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(k), rows.end(),
                             [scores](std::uint32_t i, std::uint32_t j) { return scores[i] > scores[j]; });
            return sum(rows);
        });
    all.report({"nth_element/ours"});
}

void add(const std::string& name, std::size_t n, void (*run)(benchmark::State&, std::size_t)) {
    benchmark::RegisterBenchmark(bench::joined(name, n).c_str(), run, n)->UseManualTime();
}

[[maybe_unused]] const bool added = [] {
    constexpr std::size_t sizes[] = {64, 512, 4096, 16384, 65536};
    for (const std::size_t n : sizes) add("least", n, least);
    for (const std::size_t n : sizes) add("top_k", n, top_k);
    return true;
}();

}  // namespace
