#pragma once

// Who decodes beside us, on memory of their own that is as cold: a read and a copy of as many bytes, Eigen on elements
// as they are stored, and the library's reference on floats.
#include <algorithm>
#include <cmath>
#include <string>
#include <type_traits>

#include <multistate/reference_attention.hpp>

#include "decoder.hpp"
#include "eigen_attention.hpp"
#include "probe.hpp"

namespace bench {

/// For one shape of layers, n states, and keys and values that are both stored with Codec.
template <class Codec>
class rivals {
  public:
    using element = typename eigen_element<Codec>::type;

    rivals(const ms::shape& s, std::size_t n, std::size_t bytes)
        : memory(bytes),
          shape_(s),
          n_(n),
          stored_(pattern(), elements()),
          floats_(random_floats(pattern_size, 4), elements()),
          scales_(scaled ? n : 0, unit),
          out_(s.heads * s.head_dim),
          probabilities_(s.heads * n) {}

    /// Reading and copying what a step must read.
    probe memory;

    double eigen(std::span<const float> q) {
        const auto rows = stored_.next(elements());
        return seconds([&] {
            eigen_attention<element>(shape_, n_, q, rows.data(), rows.data() + rows.size() / 2, scales_, scales_, out_);
        });
    }
    double reference(std::span<const float> q) {
        const auto rows = floats_.next(elements());
        return seconds([&] {
            ms::reference_attention(shape_, n_, q, rows.first(rows.size() / 2), rows.last(rows.size() / 2), out_,
                                    probabilities_);
        });
    }

    /// Whether the two compute the same: a rival that is wrong would be fast for nothing. On few states, as floats.
    bool agree(std::span<const float> q) const {
        const std::size_t few = std::min<std::size_t>(n_, 8);  // not constexpr, or GCC 12 warns inside Eigen
        const std::size_t half = shape_.kv_heads * few * shape_.head_dim;
        std::vector<element> stored = pattern();
        stored.resize(std::max(stored.size(), 2 * half));
        const std::vector<float> scales(scaled ? few : 0, unit);
        std::vector<float> floats(2 * half), a(out_.size()), b(out_.size()), probabilities(shape_.heads * few);
        for (std::size_t i = 0; i < 2 * half; ++i) floats[i] = static_cast<float>(stored[i]) * unit;
        eigen_attention<element>(shape_, few, q, stored.data(), stored.data() + half, scales, scales, a);
        ms::reference_attention(shape_, few, q, std::span(floats).first(half), std::span(floats).last(half), b,
                                probabilities);
        return std::equal(a.begin(), a.end(), b.begin(), [](float x, float y) { return std::abs(x - y) < 1e-4f; });
    }

  private:
    static constexpr bool scaled = std::is_same_v<element, std::int8_t>;
    static constexpr float unit = scaled ? 1.0f / 127 : 1.0f;  // what a stored 1 means
    static constexpr std::size_t pattern_size = 1 << 16;

    std::size_t elements() const { return 2 * shape_.kv_heads * n_ * shape_.head_dim; }

    static std::vector<element> pattern() {
        const std::vector<float> floats = random_floats(pattern_size, 4);
        std::vector<element> result(floats.size());
        std::transform(floats.begin(), floats.end(), result.begin(),
                       [](float x) { return static_cast<element>(x / unit); });
        return result;
    }

    ms::shape shape_;
    std::size_t n_;
    cold_memory<element> stored_;
    cold_memory<float> floats_;
    std::vector<float> scales_, out_, probabilities_;
};

}  // namespace bench
