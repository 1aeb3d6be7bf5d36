// Random numbers that depend on the seed alone, with every compiler.
//
//     training::random_source random(seed);
//     const float x = random.normal();
//     const std::size_t token = random.below(16);
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>

#include <multistate/math/random.hpp>

namespace training {

class random_source {
  public:
    /// Sources with different streams are independent.
    explicit random_source(std::uint64_t seed, std::uint64_t stream = 0) noexcept
        : bits_(multistate::random_bits(seed, stream)) {}

    std::uint64_t next() noexcept { return multistate::random_bits_after(bits_, count_++); }
    /// In (0, 1).
    float uniform() noexcept { return multistate::open_uniform(next()); }
    /// 0 … n - 1. The bias is below n / 2^64.
    std::size_t below(std::size_t n) noexcept { return static_cast<std::size_t>(next() % n); }
    /// Mean 0, deviation 1 (Box-Muller).
    float normal() noexcept {
        const float radius = std::sqrt(-2.0f * std::log(uniform()));
        return radius * std::cos(2.0f * std::numbers::pi_v<float> * uniform());
    }

  private:
    std::uint64_t bits_;
    std::uint64_t count_ = 0;
};

}  // namespace training
