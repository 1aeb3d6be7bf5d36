#pragma once

// into_following: a forgotten state may add its value to the states that follow it in the text.
//
//     ms::composed<ms::h2o, ms::decayed, ms::into_following> policy;
//     policy.get<ms::into_following>().survivors = 16;        // the number of states that share a forgotten value
//
//   paper    "CaM: Cache Merging for Memory-efficient LLMs Inference", ICML 2024 (PMLR 235:58840)
//   rule     with probability min(1, score[i] / mean of score[j]): v_j = v_j + v_i / n, for the first n survivors j
//            after i in the text, n = `survivors`, or fewer if there are fewer
//   reads    the scores, which must be sums of attention as in h2o; stored values
//   cost     for each forgotten state: `survivors` values read and stored per KV head; 4 bytes per state
//   NaN      a spoiled state (see policy.hpp) is not merged. Nor is a state with a spoiled one among its followers
//   pitfall  values add up: merged values are merged again. If states go one by one for long, values grow and quality
//            falls (measured in examples/perplexity/README.md). Best for few decisions, as after a prompt.
//   differs  read in the authors' code and in kvpress, which disagree. The probability compares attention over the
//            whole life with the mean of the next 16 (streaming code) or 32 (kvpress), or attention of the last token
//            with all recent states (their other code). The authors divide by `survivors`; kvpress and this code divide
//            by the actual number. They draw from a generator; here the draw is a hash of seed, layer, KV head and
//            position, so it does not depend on blocks, threads or copies.
#include <algorithm>
#include <string_view>

#include "multistate/math/random.hpp"
#include "multistate/policy/composed.hpp"
#include "multistate/simd/elementwise.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct into_following {
    static constexpr std::string_view name = "into_following";
    static constexpr bool reads_scores = true;
    std::size_t survivors = 32;  ///< that share a forgotten value
    std::size_t seed = 0;
    static constexpr parameter<into_following> parameters[] = {
        {"survivors", &into_following::survivors, 1, 1024},
        {"seed", &into_following::seed, 0, static_cast<std::size_t>(-1)}};

    struct memory {
        per_state<float> share;       // scratch: the factor of a forgotten value in each survivor that it reaches
        per_table<float> sum, value;  // scratch
    };
    static void lay_out(memory& m, layout& l) noexcept {
        l(m.share);
        l(m.sum, l.shape().value_dim);
        l(m.value, l.shape().value_dim);
    }

    void merge(const editor& stored, std::span<const std::uint32_t> gone, view states) const noexcept {
        const auto order = states.by_position;
        const memory mine = states.memory(*this);
        bool any = false;
        for (std::size_t i = 0; i < order.size(); ++i) {
            if (!goes(order[i], gone)) continue;
            const float share = draw(order[i], order.subspan(i + 1), gone, states);
            mine.share[order[i]] = share;
            any = any || share > 0;
        }
        if (!any) return;
        for (std::size_t h = 0; h < stored.kv_heads; ++h) {
            std::size_t reach = 0;  // the number of next survivors that the newest merged state still reaches
            for (std::size_t i = 0; i < order.size(); ++i) {
                if (goes(order[i], gone)) {
                    if (mine.share[order[i]] > 0) reach = survivors;
                } else if (reach > 0) {
                    --reach;
                    gather(stored, h, order.first(i), order[i], gone, mine);
                }
            }
        }
    }

  private:
    static bool goes(std::uint32_t row, std::span<const std::uint32_t> gone) noexcept {
        return std::ranges::binary_search(gone, row);
    }

    /// The share of a row; 0 if it is not merged. `after` are the rows after it in the text.
    float draw(std::uint32_t row, std::span<const std::uint32_t> after, std::span<const std::uint32_t> gone,
               view states) const noexcept {
        float sum = 0;
        std::size_t count = 0;
        for (std::size_t i = 0; i < after.size() && count < survivors; ++i) {
            if (goes(after[i], gone)) continue;
            sum += states.score[after[i]];
            ++count;
        }
        if (count == 0) return 0;
        const float probability =
            states.score[row] * static_cast<float>(count) / sum;  // NaN if both are 0: then no merge
        const table_shape& s = states.shape;
        const float drawn = uniform(random_bits(seed, s.layer, s.kv_head, states.position[row]));
        return drawn < probability ? 1 / static_cast<float>(count) : 0;
    }

    /// Adds to the value of survivor `row` its shares of the forgotten values that reach it. They lie before it in the
    /// text, in the rows `before`.
    void gather(const editor& stored, std::size_t kv_head, std::span<const std::uint32_t> before, std::uint32_t row,
                std::span<const std::uint32_t> gone, const memory& mine) const noexcept {
        stored.value(kv_head, row, mine.sum);
        for (std::size_t i = before.size(), passed = 0; i-- > 0 && passed < survivors;) {
            if (!goes(before[i], gone)) {
                ++passed;
            } else if (const float share = mine.share[before[i]]; share > 0) {
                stored.value(kv_head, before[i], mine.value);
                simd::add_scaled(share, mine.value, mine.sum);
            }
        }
        stored.set_value(kv_head, row, mine.sum);
    }
};
static_assert(hooks_of<into_following> == hook::merge);

}}  // namespace multistate::MULTISTATE_TARGET
