#pragma once

// Who decodes beside us, on memory of their own that is as cold: a read and a copy of as many bytes, Eigen on elements
// as they are stored, and the library's reference on floats.
#include <algorithm>
#include <type_traits>

#include "decoder.hpp"
#include "eigen_attention.hpp"
#include "probe.hpp"

namespace bench {

/// For one shape of layers, n states, and keys and values that are both stored with Codec. Its programs are compiled
/// once, in rivals.cpp.
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

    double eigen(std::span<const float> q);
    double reference(std::span<const float> q);
    /// Whether the two compute the same: a rival that is wrong would be fast for nothing. On few states, as floats.
    bool agree(std::span<const float> q) const;

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
