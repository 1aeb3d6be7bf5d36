#pragma once

// random: forgets states at random. Every other policy must beat it.
//
//     ms::cache<ms::random> cache(shape, {.seed = 7});
//
//   paper    none: RandomPress of NVIDIA kvpress
//   rule     score[j] = a number in [0, 1) drawn when j comes, by a hash of seed, layer, KV head and position
//   reads    nothing
//   forgets  for each KV head
//   cost     one hash per state, one pass to decide
//   differs  kvpress draws new scores at each compression, and is repeatable only with a seed. Drawing a new
//            victim at each step would leave mostly recent states. A number for life leaves, at any time, a uniform
//            sample of the text: the states with the `states` greatest numbers (reservoir sampling).

#include "multistate/math/random.hpp"
#include "multistate/policy/policy.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

struct random {
    static constexpr std::string_view name = "random";
    static constexpr std::string_view paper = "NVIDIA kvpress";
    static constexpr per forgets() noexcept { return per::head; }

    std::size_t seed = 0;
    static constexpr parameter<random> parameters[] = {{"seed", &random::seed, 0, static_cast<std::size_t>(-1)}};

    void on_insert(rows, rows, view states, std::size_t row) const noexcept {
        const table_shape& s = states.shape;
        states.score[row] = uniform(random_bits(seed, s.layer, s.kv_head, states.position[row]));
    }
};
static_assert(policy<random> && hooks_of<random> == hook::on_insert);

}}  // namespace multistate::MULTISTATE_TARGET
